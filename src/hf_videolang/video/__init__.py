"""A file becomes frames: probe, sample, decode. No other code touches a codec."""

from .decode import check_video, decode_video, probe_video
from .decoded_video import Cut, DecodedVideo, VideoDecodingError, VideoInfo
from .sampling import uniform_indices

__all__ = [
    "Cut",
    "DecodedVideo",
    "VideoDecodingError",
    "VideoInfo",
    "check_video",
    "decode_video",
    "probe_video",
    "uniform_indices",
]
