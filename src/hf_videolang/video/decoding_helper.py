"""Decoding in a helper process, because only a process can be stopped when a decoder hangs in C code.

A helper starts in 0.15 s, holds 60 MB, and serves one video after the other; pictures come over a pipe. If the decoder
crashes, only the helper is lost, and the video is reported as undecodable.
"""

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from .decoded_video import UnconfirmedIndexError, VideoDecodingError, from_facts, to_facts
from .limits import HELPER_MEMORY
from .video_stream import VideoStream, import_av

ERRORS = {kind.__name__: kind for kind in (VideoDecodingError, UnconfirmedIndexError, ImportError)}  # to pass on
START_LIMIT = 120.0  # seconds for a helper to load its libraries, however small the limit on decoding
PIPE_SIZE = 1 << 20

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


class HelperStream:
    """A `VideoStream` in a helper process, with the same `name`, `info`, `whole`, `pictures` and `close`.

    Args:
        path, name, num_threads, count: as for `VideoStream`.
        limit: seconds that opening the file, and then each wanted frame, may take. While frames are counted, the limit
            applies to every few of them.

    Raises:
        VideoDecodingError: as `VideoStream` does; also after the limit, when the decoder crashes, and when the helper
            cannot be started.
    """

    def __init__(self, path: str, name: str, num_threads: int, limit: float, count: bool = False):
        self.name = name
        self._limit = limit
        self._reached: float | None = None
        try:
            self._process = _take_helper()
        except OSError as error:
            raise VideoDecodingError(name, f"its decoding process cannot be started: {error}") from error
        self._busy = True  # answers are still to come
        try:
            self._ask({"open": [path, name, num_threads, count], "limit": limit})
            self._answer(max(limit, START_LIMIT))  # the libraries are loaded
            answer, ticks = self._answer(limit)
            while "counting" in answer:
                answer, ticks = self._answer(limit)
        except BaseException:
            self.close()
            raise
        self._busy = False
        self.info, self.whole = from_facts(answer, np.frombuffer(ticks, np.int64))

    def pictures(self, numbers: Sequence[int], size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """As `VideoStream.pictures`."""
        self._busy = len(numbers) > 0
        self._ask({"read": list(map(int, numbers)), "size": size})
        seconds = self.whole.seconds
        for place, number in enumerate(numbers, 1):
            answer, pixels = self._answer(self._limit)
            self._busy = place < len(numbers)  # nobody need ask once more after the last picture
            self._reached = None if seconds is None else float(seconds[number])
            yield np.frombuffer(pixels, np.uint8).reshape(answer["shape"])

    def close(self) -> None:
        """Keep the helper for the next video, or stop it if it is still at work on this one."""
        if self._busy:
            _stop(self._process)
        else:
            self._ask({"close": True})
            _idle.append(self._process)

    def _ask(self, request: dict) -> None:
        with suppress(BrokenPipeError):  # the helper died; its missing answer raises the error
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
        if "error" in answer:
            self._busy = False  # nothing more comes
            if answer["error"] == "MemoryError":
                reason = f"decoding it takes more than {HELPER_MEMORY >> 30} GiB of memory"
                raise VideoDecodingError(self.name, reason, self._reached)
            raise ERRORS.get(answer["error"], RuntimeError)(*answer["arguments"])
        return answer, content


def serve() -> None:
    """The helper's side: do what `HelperStream` asks on standard input, until that is closed."""
    requests = os.fdopen(0, "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not get among the answers
    with suppress(ImportError, ValueError, OSError):  # not on Windows; or the user has set a lower limit
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (HELPER_MEMORY, HELPER_MEMORY))
    stream: VideoStream | None = None
    limit = 0.0

    def report() -> None:
        _send(answers, {"counting": True})
        _end_if_orphaned(limit)

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
                for picture in stream.pictures(request["read"], request["size"]):
                    signal.setitimer(signal.ITIMER_REAL, 0)  # who takes the pictures may have other work in between
                    _send(answers, {"shape": picture.shape}, np.ascontiguousarray(picture))
                    _end_if_orphaned(limit)
                continue
            if stream is not None:
                stream.close()
                stream = None
            if "open" in request:
                import_av()
                _send(answers, {"loaded": True})
                path, name, num_threads, count = request["open"]
                stream = VideoStream(path, name, num_threads, count, report)
                _send(answers, to_facts(stream.info, stream.whole), stream.whole.ticks)
        except Exception as error:
            kind = type(error).__name__
            _send(answers, {"error": kind, "arguments": error.args if kind in ERRORS else [traceback.format_exc()]})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _end_if_orphaned(limit: float) -> None:
    # The process that started this helper stops it in time. If that process was killed, the alarm ends this one later.
    signal.setitimer(signal.ITIMER_REAL, limit + START_LIMIT)


def _take_helper() -> subprocess.Popen:
    with suppress(IndexError):  # no helper is idle
        # `poll` is None only for a living helper of this very process, not of the process that it was forked from.
        while (process := _idle.pop()).poll() is not None:
            pass
        return process
    folder = os.path.dirname(os.path.abspath(__file__))
    process = subprocess.Popen(
        [sys.executable, "-c", _BOOTSTRAP, json.dumps([sys.path, folder])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a helper must not hold the error stream of a process that has ended
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C reaches the user's process, which then ends this one
        bufsize=0,  # without a buffer, waiting for the pipe is waiting for an answer
    )
    with suppress(ImportError, AttributeError, OSError):  # faster, but only on Linux, and up to a limit for each user
        import fcntl

        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_SIZE)  # type: ignore[union-attr]
    return process


def _stop(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in filter(None, (process.stdin, process.stdout)):
        pipe.close()


def _send(pipe: Any, message: dict, content: Any = b"") -> None:
    """One message: two lengths, a JSON object, raw bytes."""
    text = json.dumps(message, default=str).encode()  # a Fraction as "30000/1001"
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
