"""A path, URL, bytes or open file becomes a local file or folder, which is all that the decoder needs to know."""

import http.client
import os
import string
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from .decoded_video import VideoDecodingError
from .limits import DOWNLOAD_DEADLINE, MAX_DOWNLOAD, SUBFILE

VIDEO_EXTENSIONS = (
    *(".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif", ".m4v", ".mpg", ".mpeg", ".wmv"),
    *(".3gp", ".3gpp", ".3g2", ".mts", ".m2ts", ".asf", ".divx", ".qt"),  # among the Flickr uploads of DiDeMo
)


@dataclass(frozen=True)
class FilePart:
    """A video that lies within a larger file, such as a tar, and is read there. It stands where bytes may stand.

    Args:
        path: a local file.
        start: of the video in the file, in bytes.
        size: of the video, in bytes.
    """

    path: str
    start: int
    size: int

    def __len__(self) -> int:
        return self.size

    def open(self) -> BinaryIO:
        """The file at the first byte of the video."""
        file = open(self.path, "rb")  # noqa: SIM115  the caller closes it
        file.seek(self.start)
        return file

    @property
    def url(self) -> str:
        """As FFmpeg opens it."""
        return f"{SUBFILE},start,{self.start},end,{self.start + self.size},,:{os.path.abspath(self.path)}"


@contextmanager
def local_file(source: Any, timeout: float | None) -> Iterator[tuple[str, str]]:
    """Absolute path of the video, which may be a folder of pictures or a `FilePart`'s URL, and its name for errors.

    Bytes and downloads are written to a temporary file, which lives as long as the context.

    Args:
        source: path (str or Path), http(s) URL, any other URL that fsspec knows (`zip://a.mp4::videos.zip`, `hf://…`,
            `s3://…`), bytes, a `FilePart`, or an open binary file, which is read from its start.
        timeout: seconds without a byte after which an http(s) download is given up (None: 60).

    Raises:
        VideoDecodingError: there is no such file, or the download failed.
        TypeError: `source` is anything else, or a file opened in text mode.
    """
    if isinstance(source, FilePart):
        yield source.url, source.url
        return
    is_bytes, is_file = isinstance(source, (bytes, bytearray, memoryview)), hasattr(source, "read")
    if not (is_bytes or is_file or isinstance(source, (str, os.PathLike))):
        raise TypeError(f"{type(source).__name__} is no video source; pass a path, URL, bytes or a binary file.")
    is_url = isinstance(source, str) and "://" in source
    if not (is_bytes or is_file or is_url):
        # Made absolute, so that FFmpeg cannot take a name like "concat:a|b" for one of its protocols.
        path = os.path.abspath(source)
        if not source or not (os.path.isfile(path) or os.path.isdir(path)):  # a pipe or a device would block FFmpeg
            reason = "it is not a regular file" if os.path.exists(path) else "there is no such file"
            raise VideoDecodingError(os.fspath(source), reason)
        yield path, os.fspath(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "video")
        if is_url:
            is_web = source.lower().startswith(("http://", "https://")) and "::" not in source
            _download(source, path, timeout) if is_web else _fetch(source, path)
            yield path, source
            return
        if is_file and hasattr(source, "seek"):
            source.seek(0)
        content = source.read() if is_file else source
        with open(path, "wb") as file:
            file.write(content)
        yield path, str(getattr(source, "name", f"<{len(content)} bytes>"))


def _download(url: str, path: str, timeout: float | None) -> None:
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    ascii_url = quote(parts._replace(netloc=host).geturl(), safe=string.punctuation)
    request = urllib.request.Request(ascii_url, headers={"User-Agent": "hf_videolang"})
    try:
        with urllib.request.urlopen(request, timeout=timeout or 60) as response, open(path, "wb") as file:
            _copy(response, file, url)
            expected, got = response.headers.get("Content-Length"), file.tell()
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise VideoDecodingError(url, f"the download failed: {error}") from error
    if expected is not None and got != int(expected):
        raise VideoDecodingError(url, f"the download broke off after {got} of {expected} bytes")


def _copy(remote: Any, file: Any, url: str) -> None:
    read = getattr(remote, "read1", remote.read)  # what has come, however little, so that the deadline is seen
    deadline = time.monotonic() + DOWNLOAD_DEADLINE
    while content := read(1 << 20):
        file.write(content)
        if file.tell() > MAX_DOWNLOAD:
            raise VideoDecodingError(url, f"it is larger than {MAX_DOWNLOAD:,} bytes, the most that is downloaded")
        if time.monotonic() > deadline:
            raise VideoDecodingError(url, f"the download took longer than {DOWNLOAD_DEADLINE} s")


def _fetch(url: str, path: str) -> None:
    """Through fsspec, with the credentials and settings that its file systems have."""
    import fsspec

    try:
        with fsspec.open(url, "rb") as remote, open(path, "wb") as file:
            _copy(remote, file, url)
    except (ImportError, VideoDecodingError):  # the first names the package to install
        raise
    except Exception as error:  # each file system has its own kinds
        raise VideoDecodingError(url, f"it cannot be fetched: {error}") from error
