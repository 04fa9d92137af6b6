"""A file becomes frames: probe, sample, decode. The only code that touches a codec."""

from .decoded_video import DecodedVideo, VideoDecodingError, VideoInfo
from .sampling import interval_indices, uniform_indices
from .video_decoding import decode_video, probe_video

__all__ = [
    "DecodedVideo",
    "VideoDecodingError",
    "VideoInfo",
    "decode_video",
    "interval_indices",
    "probe_video",
    "uniform_indices",
]
