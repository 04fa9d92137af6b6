"""One video becomes a smaller one: fewer frames, chosen by time, as H.264 or as a folder of pictures."""

import errno
import io
import math
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from hf_videolang.atomic_files import atomic_file, remove
from hf_videolang.video import VideoDecodingError
from hf_videolang.video.decoding_helper import HelperStream

# x264's own defaults, and the same bytes on every machine: its fast code for macroblock trees varies from run to run.
X264 = {"crf": "23", "preset": "medium", "x264-params": "cpu-independent=1"}
MPEG4 = {"qscale": "3"}  # where FFmpeg was built without x264
JPEG_QUALITY = 90
CLOCK = 90_000  # ticks a second of the written video; 1/24, 1/25, 1/30 and 1001/30000 s are whole numbers of them
ROUNDING = 1e-3  # seconds by which containers round time stamps (Matroska: to milliseconds)
TIMEOUT = 60.0  # seconds that opening, and then each frame, may take


@dataclass(frozen=True)
class FrameSettings:
    """
    What to keep of a video.

    Attributes:
        frames_per_second, num_frames, min_frames: see `choose_frames`; without the first two every frame is kept.
        size: width and height in pixels, whatever the shape of the picture was.
        shortest_edge: pixels of the shorter side, the shape kept; smaller pictures are not enlarged.
        frames: write a folder of JPEG pictures instead of an .mp4.
    """

    frames_per_second: float | None = None
    num_frames: int | None = None
    min_frames: int = 1
    size: tuple[int, int] | None = None
    shortest_edge: int | None = None
    frames: bool = False


def encoder() -> tuple[str, dict[str, str]]:
    """FFmpeg's name of the video encoder, and its options."""
    try:
        import av
    except ImportError as error:
        raise ImportError("Writing videos needs PyAV: pip install av") from error
    return ("libx264", X264) if "libx264" in av.codecs_available else ("mpeg4", MPEG4)


def choose_frames(
    timestamps: Sequence[float],
    duration: float,
    frames_per_second: float | None = None,
    num_frames: int | None = None,
    min_frames: int = 1,
) -> list[int]:
    """
    Positions of the frames to keep, ascending, none twice.

    `frames_per_second`: the frames on show at 0, 1/rate, 2/rate, … seconds after the first one; of a video with fewer
    frames a second, every frame. If these are fewer than `min_frames`, then that many by the next rule.
    `num_frames`: the frames on show at as many instants, evenly spaced from the first frame to the last; where one is
    on show at several of them, the next frames step in. A video with fewer frames keeps all it has.

    Args:
        timestamps: seconds of the frames, ascending.
        duration: seconds from the first frame to the end of the last.
    """
    times = np.asarray(timestamps) - timestamps[0]
    if frames_per_second is not None:
        instants = np.arange(max(1, math.ceil((duration - ROUNDING) * frames_per_second))) / frames_per_second
        chosen = np.unique(_on_show(times, instants))
        if len(chosen) >= min(min_frames, len(times)):
            return chosen.tolist()
        num_frames = min_frames
    if num_frames is None or num_frames >= len(times):
        return list(range(len(times)))
    steps = np.arange(num_frames)
    chosen = _on_show(times, np.linspace(0, times[-1], num_frames))
    chosen = np.maximum.accumulate(chosen - steps) + steps  # each later than the one before
    return np.minimum(chosen, len(times) - num_frames + steps).tolist()


def _on_show(times: np.ndarray, instants: np.ndarray) -> np.ndarray:
    return np.searchsorted(times, instants + ROUNDING, side="right") - 1


def reencode_video(source: Path, target: Path, settings: FrameSettings) -> dict[str, Any]:
    """
    Write `target`, whole or not at all: the kept frames, upright, at their own times; nothing else of the file.

    The time stamps stay, so that seconds in an annotation still hold; a folder of pictures has none.

    Args:
        source: a video file.
        target: the .mp4, or the folder for `<name>_000.jpg`, `<name>_001.jpg`, …; replaced if it is there, and removed
            if the video is broken.

    Returns:
        `frames_before`, `frames_after`, `bytes_before`, `bytes_after` and `error`: None, or why the video is broken.

    Raises:
        OSError: `target` cannot be written.
    """
    row = {"frames_before": None, "frames_after": None, "bytes_before": file_size(source)}
    try:
        with closing(HelperStream("pyav", str(source), source.name, 1, TIMEOUT)) as stream:
            chosen = choose_frames(
                stream.timestamps.tolist(),
                stream.info.duration or 0.0,  # None is for folders of pictures only
                settings.frames_per_second,
                settings.num_frames,
                settings.min_frames,
            )
            row |= {"frames_before": len(stream.timestamps), "frames_after": len(chosen)}
            pictures = _resized(stream, chosen, settings)
            target.parent.mkdir(parents=True, exist_ok=True)
            if settings.frames:
                _write_pictures(target, pictures)
            else:
                end = stream.timestamps[0] + (stream.info.duration or 0.0)
                _write_video(target, pictures, np.append(stream.timestamps[chosen], end))
    except Exception as error:  # whatever a strange file brings about is a fact about this file
        if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
            raise
        remove(target)  # made of an earlier file of this name
        reason = str(error) if isinstance(error, VideoDecodingError) else f"{type(error).__name__}: {error}"
        return row | {"frames_after": None, "bytes_after": None, "error": reason}
    return row | {"bytes_after": _bytes(target), "error": None}


def file_size(path: Path) -> int | None:
    """Bytes; None where a link leads nowhere."""
    return path.stat().st_size if path.exists() else None


def _bytes(target: Path) -> int:
    return sum(file.stat().st_size for file in (target.iterdir() if target.is_dir() else [target]))


def _resized(stream: HelperStream, chosen: list[int], settings: FrameSettings) -> Iterable[Image.Image]:
    width, height = stream.info.width, stream.info.height
    whole = 1 if settings.frames else 2  # H.264 with half as many colour samples has even sides
    if settings.size is not None:
        size = settings.size
    elif settings.shortest_edge is not None and settings.shortest_edge < min(width, height):
        scale = settings.shortest_edge / min(width, height) / whole
        size = (round(width * scale) * whole, round(height * scale) * whole)
    else:
        size = (width, height)
    if min(size) < whole:
        raise ValueError(f"{size[0]}x{size[1]} pixels are too few for H.264; --frames takes them.")
    for number, pixels in zip(chosen, stream.pictures(chosen)):
        if pixels.shape[:2] != (height, width):
            found = f"{pixels.shape[1]}x{pixels.shape[0]}"
            reason = f"its picture changes from {width}x{height} to {found}"
            raise VideoDecodingError(stream.name, reason, float(stream.timestamps[number]))
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        if size != (width, height):
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        # a last odd row or column is cut off
        yield picture.crop((0, 0, picture.width // whole * whole, picture.height // whole * whole))


def _write_video(target: Path, pictures: Iterable[Image.Image], seconds: np.ndarray) -> None:
    """
    `seconds`: of the pictures, and at which the last one ends, lest a segment there have no frame. (If the last picture
    is not coded last, MP4 gives it the length of another one.)
    """
    import av

    name, options = encoder()
    ticks = np.rint((seconds - min(seconds[0], 0)) * CLOCK).astype(np.int64)
    steps = np.arange(len(ticks))
    ticks = np.maximum.accumulate(ticks - steps) + steps  # time stamps that come twice, in damaged files
    file = io.BytesIO()  # FFmpeg does not tell every failure to write; Python does
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(name, options=options | {"flags": "+frame_duration"})
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, CLOCK)
        stream.codec_context.thread_count = 1  # the same bytes everywhere; the processes keep the cores busy
        for tick, length, picture in zip(ticks.tolist(), np.diff(ticks).tolist(), pictures):
            if tick == ticks[0]:
                stream.width, stream.height = picture.size
                graph = _conversion(*picture.size)
            graph.vpush(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24"))
            frame = graph.vpull()
            frame.pts, frame.duration, frame.time_base = tick, length, Fraction(1, CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with atomic_file(target) as temporary:
        temporary.write_bytes(file.getbuffer())


def _conversion(width: int, height: int) -> Any:
    """RGB to the encoder's format in one thread, as decoding does it the other way."""
    import av.filter

    graph: Any = av.filter.Graph()
    if hasattr(graph, "threads"):  # PyAV 18
        graph.threads = 1
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=Fraction(1, CLOCK))
    graph.link_nodes(source, graph.add("format", "pix_fmts=yuv420p"), graph.add("buffersink")).configure()
    return graph


def _write_pictures(target: Path, pictures: Iterable[Image.Image]) -> None:
    """A finished folder gets its name; until then it is hidden."""
    temporary = target.with_name(f".{target.name[:40]}.{uuid4().hex[:8]}.part")
    temporary.mkdir()
    try:
        for number, picture in enumerate(pictures):
            picture.save(temporary / f"{target.name}_{number:03d}.jpg", quality=JPEG_QUALITY)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
