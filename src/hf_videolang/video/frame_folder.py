"""A video as a folder of pictures: `<name>_000.jpg`, `<name>_001.jpg`, … (or `.png`)."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .decoded_video import Cut, VideoDecodingError, VideoInfo

# Any beginning, which all pictures of a folder share, and the number of the frame.
PICTURE = re.compile(r"(|.*\D)(\d{3,})\.(?:jpe?g|png)", re.IGNORECASE | re.DOTALL)
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # of the EXIF standard


def is_picture_of_a_frame(name: str) -> bool:
    """Whether a file of this name is a frame of its folder."""
    return PICTURE.fullmatch(name) is not None and not name.startswith(".")


def list_pictures(folder: str, name: str | None = None) -> list[str]:
    """File names of the frames of a folder, in their order.

    Args:
        folder: its path.
        name: what errors call it; its path by default.

    Raises:
        VideoDecodingError: the folder has no such pictures, their names begin differently, or their numbers are not
            0, 1, 2, …
    """
    name = name or folder
    found: dict[int, str] = {}
    beginnings: dict[str, str] = {}
    for file in sorted(os.listdir(folder)):
        if file.startswith(".") or not (match := PICTURE.fullmatch(file)):
            continue
        beginning, number = match[1], int(match[2])
        beginnings.setdefault(beginning, file)
        if len(beginnings) > 1:
            raise VideoDecodingError(
                name, f"its pictures belong to several videos: {' and '.join(beginnings.values())}"
            )
        if number in found:
            raise VideoDecodingError(name, f"frame {number} is there twice: {found[number]} and {file}")
        found[number] = file
    if not found:
        reason = "it is not a regular file, nor a folder of pictures named <name>_000.jpg, <name>_001.jpg, …"
        raise VideoDecodingError(name, reason)
    absent = next((number for number in range(len(found)) if number not in found), None)
    if absent is not None:
        last = found[max(found)]
        picture = f"{next(iter(beginnings))}{absent:03d}{os.path.splitext(last)[1]}"
        reason = f"frame {absent} is absent ({picture}): its {len(found)} pictures go up to {last}, and count from 000"
        if max(found) - min(found) + 1 == len(found):  # FFmpeg's default is to begin with 1
            reason += "; rename them, or write them with ffmpeg's -start_number 0"
        raise VideoDecodingError(name, reason)
    return [found[number] for number in range(len(found))]


def rgb_array(image: Image.Image) -> np.ndarray:
    """The picture as RGB, `[height, width, 3]`. Grey is repeated, alpha is dropped.

    It is uint8, the upper eight bits where the picture has 16. Pillow's 32-bit integers and floats keep their type and
    range.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    grey = np.asarray(image)  # Pillow's conversion would clip it to 0..255
    if image.mode.startswith("I;16"):
        grey = (grey >> 8).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


class FrameFolderStream:
    """The frames of a folder, with the interface of a `VideoStream`. Only wanted pictures are opened.

    Pictures are turned upright by their EXIF orientation and become RGB. Their frame rate is unknown, so that `whole`
    has no times.

    Args:
        path: the folder.
        name: the source as text, for errors.

    Raises:
        VideoDecodingError: as `list_pictures` does, or the header of the first picture cannot be read.
    """

    def __init__(self, path: str, name: str):
        self.name = name
        self._folder = path
        self._files = list_pictures(path, name)
        with self._open(0) as first:
            width, height = first.size
            if first.getexif().get(ORIENTATION) in SIDEWAYS:
                width, height = height, width
            codec = str(first.format).lower()
        self.info = VideoInfo(len(self._files), None, None, width, height, 0, codec, 0)
        self.whole = Cut(len(self._files))

    def pictures(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """As `VideoStream.pictures`; also raises if a picture has another size than the first."""
        for number in numbers:
            with self._open(number) as image:
                try:
                    ImageOps.exif_transpose(image, in_place=True)
                    picture = rgb_array(image)
                except Exception as error:  # OSError, SyntaxError, zlib.error …: each format has its own kinds
                    raise self._broken(number, error) from error
            height, width, _ = picture.shape
            if (width, height) != (self.info.width, self.info.height):
                raise VideoDecodingError(
                    self.name,
                    f"frame {number} ({self._files[number]}) has {width}x{height} pixels, the first one "
                    f"{self.info.width}x{self.info.height}",
                )
            yield picture

    def close(self) -> None:
        """No file stays open."""

    def _open(self, number: int) -> Any:
        try:
            return Image.open(os.path.join(self._folder, self._files[number]), formats=("JPEG", "PNG"))
        except Exception as error:
            raise self._broken(number, error) from error

    def _broken(self, number: int, error: Exception) -> VideoDecodingError:
        reason = f"frame {number} ({self._files[number]}) is no readable picture: {error}"
        return VideoDecodingError(self.name, reason)
