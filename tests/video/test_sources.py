"""Every kind of source becomes a local file: paths, URLs, bytes, open files, and what fsspec reads."""

import io
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_videolang.video import VideoDecodingError, decode_video, sources
from tests.video.making import picture, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", 8)


def assert_decodes(source: Any) -> None:
    frames = decode_video(source, [5], timeout=None).frames
    np.testing.assert_array_equal(frames[0].permute(1, 2, 0), picture(5))


def test_every_kind_of_source(video):
    content = video.read_bytes()
    with open(video, "rb") as file:
        file.read(100)  # the file is still read from its start
        for source in (video, str(video), content, bytearray(content), io.BytesIO(content), file):
            assert_decodes(source)
    with pytest.raises(TypeError, match="int is no video source; pass a path, URL, bytes or a binary file"):
        decode_video(3, [0])
    with pytest.raises(VideoDecodingError, match="it is not a regular file"):
        decode_video("", [0])  # the working directory, if it were made absolute
    with (
        open(video, encoding="latin-1") as file,
        pytest.raises(TypeError, match="bytes-like object is required, not 'str'"),
    ):
        decode_video(file, [0])


def test_a_relative_path_is_not_taken_for_a_protocol(video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "concat:a|b.mp4").write_bytes(video.read_bytes())
    assert_decodes("concat:a|b.mp4")


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/stalls.mp4":
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            time.sleep(5)
        elif self.path == "/breaks_off.mp4":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"\x00" * 1000)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(video):
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(video.parent)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_urls(server):
    assert_decodes(f"{server}/video.mp4")
    for page, reason in [
        ("missing.mp4", "the download failed: .*404"),
        ("breaks_off.mp4", "the download broke off after 1000 of 1000000 bytes"),
        ("stalls.mp4", "the download failed: .*timed out"),
    ]:
        with pytest.raises(VideoDecodingError, match=reason) as raised:
            decode_video(f"{server}/{page}", [0], timeout=0.5)
        assert raised.value.path == f"{server}/{page}"


def test_a_download_has_a_limit_of_bytes_and_a_deadline(server, video, tmp_path, monkeypatch):
    for name, limit, reason in [
        ("MAX_DOWNLOAD", 1000, "it is larger than 1,000 bytes"),
        ("DOWNLOAD_DEADLINE", -1, "the download took longer than -1 s"),
    ]:
        for url in (f"{server}/video.mp4", f"file://{video}"):
            with monkeypatch.context() as patch, pytest.raises(VideoDecodingError, match=reason):
                patch.setattr(sources, name, limit)
                decode_video(url, [0])


def test_urls_beyond_ascii(server, video):
    """The server finds the file only if the URL reaches it percent-encoded."""
    named = video.with_name("ein Vidéo 100% 動画.mp4")
    named.write_bytes(video.read_bytes())
    assert_decodes(f"{server}/ein Vidéo 100%25 動画.mp4")
    assert_decodes(f"{server}/ein%20Vid%C3%A9o%20100%25%20動画.mp4?größe=1 2")


def test_paths_of_fsspec(video, tmp_path):
    """`datasets` gives such paths for videos in archives and on the Hub."""
    with zipfile.ZipFile(tmp_path / "videos.zip", "w") as archive:
        archive.write(video, "folder/clip.mp4")
    assert_decodes(f"zip://folder/clip.mp4::{tmp_path}/videos.zip")
    assert_decodes(f"zip://folder/clip.mp4::file://{tmp_path}/videos.zip")
    assert_decodes(f"file://{video}")
    for path, reason in [
        (f"zip://absent.mp4::{tmp_path}/videos.zip", "absent.mp4"),
        ("nosuchscheme://bucket/video.mp4", "Protocol not known"),
    ]:
        with pytest.raises(VideoDecodingError, match=f"it cannot be fetched: .*{reason}") as raised:
            decode_video(path)
        assert raised.value.path == path
