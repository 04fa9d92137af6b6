"""A video as a folder of pictures: `<name>_000.jpg`, `<name>_001.jpg`, … (or `.png`)."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps

from .decoded_video import Cut, VideoDecodingError, VideoInfo
from .limits import MAX_PIXELS

# A prefix, which all pictures of a folder share, and the number of the frame. Hidden files are no pictures.
PICTURE = re.compile(r"(?!\.)(|.*\D)(\d{3,})\.(?:jpe?g|png)", re.IGNORECASE | re.DOTALL)


def is_picture_of_a_frame(name: str) -> bool:
    """Whether a file of this name is a frame of its folder."""
    return PICTURE.fullmatch(name) is not None


def list_pictures(folder: str, name: str | None = None) -> list[str]:
    """File names of the frames of a folder, in the order of their numbers.

    Args:
        folder: its path.
        name: the source as text, for errors; by default the path.

    Raises:
        VideoDecodingError: the folder has no such pictures, their prefixes differ, or their numbers are not 0, 1, 2, …
    """
    name = name or folder
    matches = [match for match in map(PICTURE.fullmatch, sorted(os.listdir(folder))) if match]
    if not matches:
        reason = "it is not a regular file, nor a folder of pictures named <name>_000.jpg, <name>_001.jpg, …"
        raise VideoDecodingError(name, reason)
    found: dict[int, str] = {}
    for match in matches:
        other = found.setdefault(int(match[2]), match[0])
        if match[1] != matches[0][1]:
            raise VideoDecodingError(name, f"its pictures belong to several videos: {matches[0][0]} and {match[0]}")
        if other != match[0]:
            raise VideoDecodingError(name, f"frame {int(match[2])} is there twice: {other} and {match[0]}")
    for number in range(len(found)):
        if number not in found:
            reason = (
                f"frame {number} is absent: its {len(found)} pictures go up to {found[max(found)]}; count from 000"
            )
            if number == 0:
                reason += ", in FFmpeg with -start_number 0"
            raise VideoDecodingError(name, reason)
    return [found[number] for number in range(len(found))]


def rgb_array(image: Image.Image) -> np.ndarray:
    """The picture as RGB, `[height, width, 3]`. Grey is repeated, alpha is dropped.

    The result is uint8. Of 16 bits, the upper eight are kept. Pillow's 32-bit integers and floats keep type and range.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    grey = np.asarray(image)  # Pillow's conversion would clip it to 0..255
    if image.mode.startswith("I;16"):
        grey = (grey >> 8).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


class FrameFolderStream:
    """The frames of a folder, with the interface of a `VideoStream`. Only wanted pictures are opened.

    Pictures are turned upright by their EXIF orientation and become RGB. Their frame rate is unknown, so `whole` has
    no times.

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
        with self._opened(0) as first:
            self.info = VideoInfo(len(self._files), None, None, *first.size, 0, str(first.format).lower(), 0)
        self.whole = Cut(len(self._files))

    def pictures(self, numbers: Sequence[int], size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """As `VideoStream.pictures`; also raises if a picture has another size than the first."""
        for number in numbers:
            with self._opened(number) as image:
                picture = rgb_array(image)
            height, width, _ = picture.shape
            if (width, height) != (self.info.width, self.info.height):
                raise VideoDecodingError(
                    self.name,
                    f"frame {number} ({self._files[number]}) has {width}x{height} pixels, the first one "
                    f"{self.info.width}x{self.info.height}",
                )
            yield picture if size is None else np.asarray(Image.fromarray(picture).resize(size))  # bicubic

    def close(self) -> None:
        """No file stays open."""

    @contextmanager
    def _opened(self, number: int) -> Iterator[Image.Image]:
        """The upright picture. Pillow decodes it later, and then raises the same error."""
        path = os.path.join(self._folder, self._files[number])
        try:
            if not os.path.isfile(path):
                raise ValueError("it is not a regular file")  # a pipe would never end
            with Image.open(path, formats=("JPEG", "PNG")) as image:
                if image.width * image.height > MAX_PIXELS:
                    allowed = f"HF_VIDEOLANG_MAX_PIXELS allows {MAX_PIXELS:,}"
                    raise ValueError(f"it has {image.width}x{image.height} pixels; {allowed}")
                ImageOps.exif_transpose(image, in_place=True)
                yield image
        except Exception as error:  # OSError, SyntaxError, zlib.error …: each format has its own kinds
            reason = f"frame {number} ({self._files[number]}) cannot be read as a picture: {error}"
            raise VideoDecodingError(self.name, reason) from error
