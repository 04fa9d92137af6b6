"""Re-encode one video as H.264 with fewer frames, a smaller picture and a key frame every few frames."""

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hf_videolang.atomic_files import atomic_file
from hf_videolang.video.decode import Stream, with_stream

ENCODER = "libx264"
# x264's default quality; a key frame at least every 24 frames (g), so that a frame in the middle is reached quickly.
# Without cpu-independent, the bytes differ from run to run.
OPTIONS = {"crf": "23", "preset": "medium", "g": "24", "x264-params": "cpu-independent=1", "flags": "+frame_duration"}
CLOCK = 90_000  # ticks a second in the new file; 1/24, 1/25, 1/30 and 1001/30000 s are whole numbers of ticks
ROUNDING = 1e-3  # seconds by which containers round time stamps (Matroska rounds to milliseconds)


def reencode_video(
    source: Path, target: Path, frames_per_second: float | None = None, shortest_edge: int | None = None
) -> None:
    """
    Write a smaller version of a video, completely or not at all. Sound and other streams are dropped.

    Frames keep their time stamps, so that seconds in an annotation still hold. Pictures are turned upright.

    Args:
        source: a video file.
        target: the .mp4 to write.
        frames_per_second (*optional*): see [`choose_frames`]; by default all frames are kept.
        shortest_edge (*optional*): pixels of the shorter side. The aspect ratio is kept, and small pictures are not
            enlarged. Sides are rounded to even numbers, which H.264 needs.

    Raises:
        VideoDecodingError: the video is broken.
    """
    import av

    def encode(stream: Stream) -> io.BytesIO:
        times, width, height = stream.whole.seconds, stream.info.width, stream.info.height
        assert times is not None and stream.whole.duration is not None  # only folders of pictures have no times
        end = times[0] + stream.whole.duration
        chosen = choose_frames(times, end, frames_per_second)
        scale = min(1.0, (shortest_edge or math.inf) / min(width, height))
        width, height = (max(2, round(side * scale / 2) * 2) for side in (width, height))
        # The end gives the last frame its length, or a segment at the end would have no frame.
        ticks = np.rint((np.append(times[chosen], end) - min(times[0], 0)) * CLOCK).astype(np.int64)
        steps = np.arange(len(ticks))
        ticks = np.maximum.accumulate(ticks - steps) + steps  # a finer clock's ticks may round to the same tick
        file = io.BytesIO()  # FFmpeg does not report every failed write to a disk; Python does
        with av.open(file, "w", format="mp4") as container:
            video: Any = container.add_stream(ENCODER, options=OPTIONS)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            video.codec_context.time_base = Fraction(1, CLOCK)
            video.codec_context.thread_count = 1  # other videos keep the other cores busy
            for picture, tick, length in zip(stream.pictures(chosen), ticks.tolist(), np.diff(ticks).tolist()):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture))
                frame = frame.reformat(width, height, "yuv420p", interpolation="BICUBIC")
                frame.pts, frame.duration, frame.time_base = tick, length, Fraction(1, CLOCK)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        return file

    content = with_stream(encode, source).getbuffer()
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as temporary:
        temporary.write_bytes(content)


def choose_frames(timestamps: ArrayLike, end: float, frames_per_second: float | None) -> list[int]:
    """
    The frames that are visible at 0, 1/rate, 2/rate, … seconds after the first frame, each once.

    Args:
        timestamps: seconds at which the frames appear, ascending.
        end: second at which the last frame disappears.
        frames_per_second: the rate. `None`, or a rate above the video's own, keeps all frames.
    """
    times = np.asarray(timestamps)
    if frames_per_second is None:
        return list(range(len(times)))
    count = math.ceil((end - times[0] - ROUNDING) * frames_per_second)
    instants = times[0] + np.arange(max(1, count)) / frames_per_second
    return np.unique(np.searchsorted(times, instants + ROUNDING, side="right") - 1).tolist()
