"""Small real videos, files and folders of pictures, whose every frame is known to the last bit."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """RGB noise in blocks of 8 pixels that belongs to this number only, uint8 `[height, width, 3]`."""
    blocks = np.random.default_rng(number).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)[:height, :width]


def write_frames(folder: Path, pictures: Sequence[np.ndarray] | int, extension: str = ".png") -> Path:
    """Pictures, or that many numbered ones, as `<folder>/<its name>_000.png` and so on; lossless as PNG."""
    pictures = [picture(i) for i in range(pictures)] if isinstance(pictures, int) else pictures
    folder.mkdir(parents=True)
    for number, rgb in enumerate(pictures):
        Image.fromarray(rgb).save(folder / f"{folder.name}_{number:03d}{extension}")
    return folder


def write_video(
    path: Path,
    pictures: Sequence[np.ndarray] | int,
    *,
    rate: int = 10,
    times: Sequence[float] | None = None,
    codec: str = "libx264rgb",
    pixel_format: str = "rgb24",
    key_frame_distance: int = 12,
    b_frames: int = 2,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """
    Pictures, or that many numbered ones, as a video; lossless with the default codec.

    Args:
        times: seconds of each frame, in whole milliseconds; evenly spaced by default.
        rotation: degrees counter-clockwise by which a player is to turn the picture.
    """
    pictures = [picture(i) for i in range(pictures)] if isinstance(pictures, int) else pictures
    with av.open(str(path), "w", options=container_options or {}) as container:
        # lossless, and no other key frames
        lossless = {"qp": "0", "sc_threshold": "0"} if codec == "libx264rgb" else {}
        options = {**lossless, **(options or {})}
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = key_frame_distance
        stream.codec_context.max_b_frames = b_frames
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, rgb in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
