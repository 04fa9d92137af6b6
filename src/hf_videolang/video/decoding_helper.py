"""Decoding in a helper process, because only a process can be stopped when a decoder hangs in C code.

A helper starts in 0.15 s and holds 60 MB with PyAV (3 s and 700 MB with torchcodec, which loads torch), and serves one
video after the other; pictures come over a pipe. A decoder that crashes costs only the helper, and is an error as well.
"""

import atexit
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from .decoded_video import VideoDecodingError, VideoInfo
from .video_stream import VideoStream

START_LIMIT = 120.0  # seconds for a helper to load its libraries, however small the limit on decoding

# The helper imports the modules beside this one under another name: the package around them would load torch.
_BOOTSTRAP = """
import json, sys, types
sys.path[:], folder = json.loads(sys.argv[1])
sys.modules["decoding"] = types.ModuleType("decoding")
sys.modules["decoding"].__path__ = [folder]
from decoding.decoding_helper import serve
serve()
"""

_idle: list[subprocess.Popen] = []


def open_stream(engine: str, path: str, name: str, num_threads: int) -> VideoStream:
    """The best video stream of a file, decoded in this process with "pyav" or "torchcodec"."""
    if engine == "pyav":
        from .pyav_stream import PyAVStream

        return PyAVStream(path, name, num_threads)
    from .torchcodec_stream import TorchCodecStream

    return TorchCodecStream(path, name, num_threads)


class HelperStream:
    """`open_stream` in a helper process, with the same `name`, `info`, `timestamps`, `pictures` and `close`.

    Args:
        engine, path, name, num_threads: as for `open_stream`.
        limit: seconds that opening the file, and then each wanted frame, may take.

    Raises:
        VideoDecodingError: as `open_stream` does; also after the limit, and when the decoder crashes.
    """

    def __init__(self, engine: str, path: str, name: str, num_threads: int, limit: float):
        self.name = name
        self._limit = limit
        self._reached: float | None = None
        self._process = _take_helper()
        self._busy = True  # answers are still to come
        try:
            self._ask({"open": [engine, path, name, num_threads], "limit": limit})
            self._answer(max(limit, START_LIMIT))  # the libraries are loaded
            facts, _ = self._answer(limit)
        except BaseException:
            self.close()
            raise
        self._busy = False
        self.info = VideoInfo(**facts["info"])
        self.timestamps = np.array(facts["timestamps"], np.float64)

    def pictures(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """As `VideoStream.pictures`."""
        self._busy = True
        self._ask({"read": list(numbers)})
        for number in numbers:
            answer, pixels = self._answer(self._limit)
            self._reached = float(self.timestamps[number])
            yield np.frombuffer(pixels, np.uint8).reshape(answer["shape"])
        self._busy = False

    def close(self) -> None:
        """Keep the helper for the next video, or stop it if it is still at work on this one."""
        if self._busy:
            _stop(self._process)
        else:
            self._ask({"close": True})
            _idle.append(self._process)

    def _ask(self, request: dict) -> None:
        with suppress(BrokenPipeError):  # of a helper that died; the missing answer will tell
            _send(self._process.stdin, request)

    def _answer(self, limit: float) -> tuple[dict, memoryview]:
        try:
            answer, content = _receive(self._process.stdout, limit)
        except TimeoutError:
            _stop(self._process)
            reason = f"it hangs: nothing came within {limit:g} s (`timeout`), so the decoder was stopped"
            raise VideoDecodingError(self.name, reason, self._reached) from None
        except EOFError:
            reason = f"the decoder crashed (exit status {self._process.wait()})"
            raise VideoDecodingError(self.name, reason, self._reached) from None
        if {"undecodable", "missing", "failed"} & answer.keys():
            self._busy = False  # nothing more comes
        if "undecodable" in answer:
            raise VideoDecodingError(self.name, answer["undecodable"], answer["reached"])
        if "missing" in answer:
            raise ImportError(answer["missing"])
        if "failed" in answer:
            raise RuntimeError(f"the decoding helper failed:\n{answer['failed']}")
        return answer, content


def serve() -> None:
    """The helper's side: do what `HelperStream` asks on standard input, until that is closed."""
    requests = os.fdopen(0, "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not get among the answers
    stream: VideoStream | None = None
    limit = 0.0
    while True:
        try:
            request, _ = _receive(requests)
        except EOFError:
            return
        limit = request.get("limit", limit)
        _end_if_orphaned(limit)
        try:
            if "read" in request:
                assert stream is not None
                for picture in stream.pictures(request["read"]):
                    _send(answers, {"shape": picture.shape}, np.ascontiguousarray(picture))
                    _end_if_orphaned(limit)
                continue
            if stream is not None:
                stream.close()
                stream = None
            if "open" in request:
                engine, path, name, num_threads = request["open"]
                importlib.import_module("av" if engine == "pyav" else "torchcodec.decoders")
                _send(answers, {"loaded": engine})
                stream = open_stream(engine, path, name, num_threads)
                _send(answers, {"info": asdict(stream.info), "timestamps": stream.timestamps.tolist()})
        except VideoDecodingError as error:
            _send(answers, {"undecodable": error.reason, "reached": error.timestamp})
        except ImportError as error:
            _send(answers, {"missing": str(error)})
        except Exception:
            _send(answers, {"failed": traceback.format_exc()})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _end_if_orphaned(limit: float) -> None:
    # Whoever started this helper stops it in time; if it was killed itself, the alarm does so later.
    signal.setitimer(signal.ITIMER_REAL, limit + START_LIMIT)


def _take_helper() -> subprocess.Popen:
    while _idle:
        try:
            process = _idle.pop()
        except IndexError:  # another thread took the last one
            break
        # None only for a living one that this process started, and not one that this was forked from
        if process.poll() is None:
            return process
    folder = os.path.dirname(os.path.abspath(__file__))
    return subprocess.Popen(
        [sys.executable, "-c", _BOOTSTRAP, json.dumps([sys.path, folder])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a helper must not keep the error stream of a process that has ended open
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C is for the user's process, which then ends this one
        bufsize=0,  # no buffers: whether an answer has begun to come is asked of the pipe
        pipesize=1 << 20,
    )


def _stop(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _send(pipe: Any, message: dict, content: Any = b"") -> None:
    """One message: two lengths, a JSON object, raw bytes."""
    text = json.dumps(message).encode()
    content = memoryview(content).cast("B")
    for part in (struct.pack("<QQ", len(text), len(content)), text, content):
        rest = memoryview(part)
        while rest:
            rest = rest[pipe.write(rest) :]


def _receive(pipe: Any, limit: float | None = None) -> tuple[dict, memoryview]:
    """The next message; TimeoutError when nothing comes for `limit` seconds, EOFError when the pipe was closed."""
    text_length, content_length = struct.unpack("<QQ", _read(pipe, 16, limit))
    return json.loads(bytes(_read(pipe, text_length, limit))), _read(pipe, content_length, limit)


def _read(pipe: Any, length: int, limit: float | None) -> memoryview:
    content = rest = np.empty(length, np.uint8).data
    while rest:
        if not wait([pipe], limit):
            raise TimeoutError
        count = pipe.readinto(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return content


@atexit.register
def _stop_idle_helpers() -> None:
    while _idle:
        _stop(_idle.pop())
