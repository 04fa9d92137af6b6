"""Decoding with PyAV, which brings its own FFmpeg."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .decoded_video import VideoDecodingError
from .video_sources import lacks_presentation_times
from .video_stream import VideoStream

SLICES = (1, 2, 5)  # types of units that begin a coded picture
START_CODE = b"\0\0\1"


class PyAVStream(VideoStream):
    """
    Args:
        path: a local file.
        name: the source as text, for errors.
        num_threads: threads over the slices of a picture. Never over pictures (FFmpeg's frame threads): after an
            error in a damaged file such a decoder may wait for ever.

    Raises:
        VideoDecodingError: no readable video stream.
    """

    def __init__(self, path: str, name: str, num_threads: int = 1):
        self._av = _import_av()
        self.name = name
        self.failures = (self._av.FFmpegError, OSError, ValueError, RuntimeError)
        self._path, self._num_threads = path, num_threads
        self._container: Any = None
        self._layout: tuple | None = None
        self._wanted: set[float] | None = None  # seconds of the pictures asked for; None: decode every one
        with self._named_failures():
            try:
                self._read_facts()
            except BaseException:
                self.close()
                raise

    def _read_facts(self) -> None:
        self._open()
        packets = []
        for packet in self._container.demux(self._stream):
            if packet.size and not packet.is_discard:  # discarded: outside the file's edit list
                packets.append((packet.pts, packet.is_keyframe, packet.duration or 0))
        timed = not lacks_presentation_times(self._path) and all(packet[0] is not None for packet in packets)
        if timed:
            packets.sort()
        self._open()  # afresh: not every format can be rewound
        frame = self._set_index(
            [self._seconds(packet[0]) if timed else 0.0 for packet in packets],
            [packet[1] for packet in packets],
            self._seconds(packets[-1][2]) if packets else 0.0,
            None if timed else float(self._stream.average_rate or self._stream.guessed_rate or 25),
        )
        self.info = self._facts(frame, self._stream.codec_context.codec.canonical_name, self._stream.index)
        # Of an interlaced file a packet may hold one field, and the decoder would pair it with that of another picture.
        self._may_leave_out = self.info.codec == "h264" and not self._counted and not frame.interlaced_frame

    def _seconds(self, ticks: int) -> float:
        return ticks * self._base[0] / self._base[1]  # as torchcodec computes them, to the last bit

    def _open(self) -> None:
        self.close()
        self._container = self._av.open(self._path, metadata_errors="ignore")
        self._stream = self._container.streams.best("video")
        if self._stream is None:
            raise VideoDecodingError(self.name, "it has no video stream")
        if self._stream.codec_context is None:
            raise VideoDecodingError(self.name, "FFmpeg has no decoder for its video stream")
        self._base = self._stream.time_base.as_integer_ratio()
        self._stream.codec_context.thread_type = "NONE" if self._num_threads == 1 else "SLICE"
        self._stream.codec_context.thread_count = self._num_threads

    def pictures(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        if self._may_leave_out:
            self._wanted = set(self.timestamps[list(numbers)].tolist())
        return super().pictures(numbers)

    def _frame(self, number: int) -> Any:
        try:
            return super()._frame(number)
        except (VideoDecodingError, *self.failures):
            if self._wanted is None:
                raise
        # Damage, of which every picture may tell, or a picture that an earlier request left out: now decode all, from
        # the key frame before it.
        self._wanted = None
        self._open()
        self._frames, self._next_number = self._decode(), 0
        return super()._frame(number)

    def _decode(self) -> Iterator[tuple[float, Any]]:
        """
        Of H.264, pictures that nobody asked for and no other picture refers to, about half of a usual file, are left
        out: the others are the same to the bit, since only references reach them.
        """
        decoder = self._stream.codec_context
        for packet in self._container.demux(self._stream):
            is_wanted = self._wanted is None or packet.pts is None or self._seconds(packet.pts) in self._wanted
            decoder.skip_frame = "DEFAULT" if is_wanted or is_reference(packet) else "NONREF"
            for frame in packet.decode():
                if self._wanted is not None and frame.is_corrupt:
                    raise VideoDecodingError(self.name, "it is damaged", self._reached)
                yield (0.0 if frame.pts is None else self._seconds(frame.pts)), frame

    def _seek(self, seconds: float) -> None:
        self._container.seek(round(seconds * self._base[1] / self._base[0]), stream=self._stream)

    def _picture(self, frame: Any) -> np.ndarray:
        layout = (frame.width, frame.height, frame.format.name)
        if layout != self._layout:
            self._graph, self._layout = self._rgb_graph(frame), layout
        self._graph.vpush(frame)
        return np.rot90(self._graph.vpull().to_ndarray(), self.info.rotation // 90)

    def close(self) -> None:
        self._frames = iter(())  # a suspended decoding loop keeps the container alive
        if self._container is not None:
            self._container.close()

    def _rgb_graph(self, frame: Any) -> Any:
        """FFmpeg's own conversion to RGB, the same as torchcodec's to the last bit.

        `VideoFrame.to_ndarray` differs from it in where it takes colour samples to lie, which shows in 10-bit,
        interlaced and odd-sized pictures.
        """
        graph = self._av.filter.Graph()
        if hasattr(graph, "threads"):  # PyAV 18; before, the conversion starts a thread per core
            graph.threads = 1
        size = {"width": frame.width, "height": frame.height}
        source = graph.add_buffer(**size, format=frame.format, time_base=frame.time_base)
        graph.link_nodes(source, graph.add("format", "pix_fmts=rgb24"), graph.add("buffersink")).configure()
        return graph


def is_reference(packet: Any) -> bool:
    """
    Whether other pictures may refer to the one in a packet of H.264: `nal_ref_idc` of its first slice (H.264, 7.3.1).
    True where none is found, so that the decoder tells what is wrong.
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


def _import_av() -> Any:
    try:  # transformers asks for packages that remote code imports outside of `try`, even in functions
        import av
    except ImportError as error:
        raise ImportError("decoding with PyAV needs `pip install av`, which brings FFmpeg.") from error
    return av
