"""What a packet of H.264 says without being decoded (sections of ITU-T H.264)."""

from typing import Any

SLICES = (1, 2, 5)  # types of units that begin a coded picture
START_CODE = b"\0\0\1"


def is_reference(packet: Any) -> bool:
    """Whether other pictures may be predicted from the one in a packet: `nal_ref_idc` of its first slice (7.3.1).

    True if the packet has no slice, so that the decoder gets it and reports what is wrong.
    """
    data, extradata = bytes(packet), packet.stream.codec_context.extradata or b""
    if extradata[:1] == b"\1":  # lengths before the units, as in MP4 and Matroska
        size, start = (extradata[4] & 3) + 1, 0
        while start + size < len(data):
            header = data[start + size]
            if header & 31 in SLICES:
                return header & 0x60 != 0
            start += size + int.from_bytes(data[start : start + size])
        return True
    start = data.find(START_CODE)
    while 0 <= start < len(data) - len(START_CODE):
        header = data[start + len(START_CODE)]
        if header & 31 in SLICES:
            return header & 0x60 != 0
        start = data.find(START_CODE, start + 1)
    return True
