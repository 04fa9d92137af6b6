"""The helper process: it survives whatever a decoder does, and never mixes up its users."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from hf_videolang.video import VideoDecodingError, decode_video, decoding_helper
from hf_videolang.video.decoding_helper import HelperStream
from tests.video.making import picture, write_video

NUM_FRAMES, WIDTH, HEIGHT = 12, 640, 480  # pictures of 0.9 MB, more than a pipe holds


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    pictures = [picture(i, WIDTH, HEIGHT) for i in range(NUM_FRAMES)]
    return write_video(tmp_path_factory.mktemp("helper") / "video.mp4", pictures)


def first_frame(video: Path, number: int = 3) -> np.ndarray:
    return decode_video(video, [number]).frames[0].permute(1, 2, 0).numpy()


def assert_decodes(video: Path) -> None:
    np.testing.assert_array_equal(first_frame(video), picture(3, WIDTH, HEIGHT))


def idle_helpers() -> list[int]:
    return [process.pid for process in decoding_helper._idle]


def ends(pid: int, seconds: float) -> bool:
    """Whether a process, ours or not, is gone in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def run_script(tmp_path: Path, text: str) -> subprocess.CompletedProcess:
    script = tmp_path / "script.py"
    script.write_text(text)
    source = Path(sys.modules["hf_videolang"].__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{Path(__file__).parents[2]}"}
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=environment)


def test_one_helper_serves_one_video_after_the_other(video, tmp_path):
    assert_decodes(video)
    before = idle_helpers()
    broken = tmp_path / "text.mp4"
    broken.write_text("no video")
    with pytest.raises(VideoDecodingError, match="Invalid data"):
        decode_video(broken, [0])
    with pytest.raises(IndexError):
        decode_video(video, [NUM_FRAMES])
    assert_decodes(video)
    assert before and idle_helpers() == before


def test_it_does_not_load_torch(video):
    assert_decodes(video)
    libraries = Path(f"/proc/{idle_helpers()[0]}/maps").read_text()
    assert "avcodec" in libraries and "libtorch" not in libraries


def test_the_same_error_as_in_this_process(video, tmp_path):
    truncated = tmp_path / "truncated.mp4"
    whole = write_video(tmp_path / "whole.mp4", 40, container_options={"movflags": "faststart"})
    truncated.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    errors = []
    for timeout in (None, 60.0):
        with pytest.raises(VideoDecodingError) as raised:
            decode_video(truncated, lambda cut: [cut.num_frames - 1], timeout=timeout)
        errors.append((raised.value.path, raised.value.reason, raised.value.timestamp))
    assert errors[0] == errors[1] and errors[0][2] > 0


def test_a_decoder_that_hangs_in_c_code_is_stopped(tmp_path, video):
    """FFmpeg opens a pipe that nobody writes to and waits in a system call for ever. The interpreter still ends."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    run = run_script(
        tmp_path,
        f"""
from hf_videolang.video import VideoDecodingError, decode_video, decoding_helper
decode_video({str(video)!r}, [0])
pid = decoding_helper._idle[0].pid
try:
    decoding_helper.HelperStream({str(pipe)!r}, "the pipe", 1, limit=0.5)
except VideoDecodingError as error:
    print(pid, error)
print(list(decode_video({str(video)!r}, [0]).frames.shape))
""",
    )
    pid, _, message = run.stdout.partition(" ")
    assert message.startswith("cannot decode the pipe: it hangs: nothing came within 0.5 s (`timeout`)"), run.stderr
    assert message.splitlines()[1] == f"[1, 3, {HEIGHT}, {WIDTH}]"
    assert run.returncode == 0
    assert ends(int(pid), 0.1)


def test_a_decoder_that_stops_between_two_frames(video):
    stream = HelperStream(str(video), "a video", 1, limit=0.5)
    pictures = stream.pictures(range(NUM_FRAMES))
    np.testing.assert_array_equal(next(pictures), picture(0, WIDTH, HEIGHT))
    stream._process.send_signal(signal.SIGSTOP)
    with pytest.raises(VideoDecodingError, match="it hangs") as raised:
        list(pictures)
    assert 0 <= raised.value.timestamp < (NUM_FRAMES - 1) / 10
    stream.close()
    assert stream._process.poll() == -signal.SIGKILL and stream._process.pid not in idle_helpers()
    assert_decodes(video)


def test_a_decoder_that_crashes(video):
    stream = HelperStream(str(video), "a video", 1, limit=60)
    pictures = stream.pictures(range(NUM_FRAMES))
    next(pictures)
    stream._process.send_signal(signal.SIGSEGV)
    with pytest.raises(VideoDecodingError, match=rf"the decoder crashed \(exit status {-signal.SIGSEGV}\)"):
        list(pictures)
    stream.close()
    assert_decodes(video)


def test_an_idle_helper_that_died_is_replaced(video):
    assert_decodes(video)
    for process in decoding_helper._idle:
        process.kill()
        process.wait()
    assert_decodes(video)


def test_a_helper_with_unread_frames_is_stopped(video):
    stream = HelperStream(str(video), "a video", 1, limit=60)
    next(stream.pictures(range(NUM_FRAMES)))
    stream.close()
    assert stream._process.poll() == -signal.SIGKILL and stream._process.pid not in idle_helpers()


def test_a_helper_whose_last_frame_was_read_is_kept(video):
    """The reader need not ask once more, as `zip` and `next` do not."""
    stream = HelperStream(str(video), "a video", 1, limit=60)
    pictures = stream.pictures(range(NUM_FRAMES))
    for number in range(NUM_FRAMES):
        np.testing.assert_array_equal(next(pictures), picture(number, WIDTH, HEIGHT))
    stream.close()
    assert stream._process.pid in idle_helpers()
    assert_decodes(video)


def test_helpers_end_with_a_process_that_was_killed(tmp_path, video):
    """The idle helper sees that its pipe was closed; an alarm ends the one that hangs in FFmpeg after the limit."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    run = run_script(
        tmp_path,
        f"""
import os, signal, threading, time
from hf_videolang.video.decoding_helper import HelperStream
from hf_videolang.video import decoding_helper
lower_limit = "import decoding.decoding_helper as helper; helper.START_LIMIT = 0.5\\nserve()"
decoding_helper._BOOTSTRAP = decoding_helper._BOOTSTRAP.replace("serve()", lower_limit)
streams = [HelperStream({str(video)!r}, "a video", 1, 60.0) for _ in range(2)]
for stream in streams:
    print(stream._process.pid, flush=True)
    stream.close()
arguments = ({str(pipe)!r}, "the pipe", 1, 1.0)
threading.Thread(target=HelperStream, args=arguments, daemon=True).start()
time.sleep(0.5)
assert len(decoding_helper._idle) == 1
os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    pids = [int(line) for line in run.stdout.split()]
    assert run.returncode == -signal.SIGKILL and len(pids) == 2, run.stderr
    assert all(ends(pid, 10) for pid in pids)


class Frames(Dataset):
    def __init__(self, video: Path):
        self.video = video

    def __len__(self) -> int:
        return NUM_FRAMES

    def __getitem__(self, number: int) -> tuple[int, np.ndarray]:
        return number, first_frame(self.video, number)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_workers_have_their_own(video):
    assert_decodes(video)
    before = idle_helpers()
    loader = DataLoader(Frames(video), batch_size=None, num_workers=2, multiprocessing_context="fork")
    for number, frame in loader:
        assert_decodes(video)  # the parent's helper is at work meanwhile
        np.testing.assert_array_equal(torch.as_tensor(frame), picture(int(number), WIDTH, HEIGHT))
    assert idle_helpers() == before


class Truncated(Frames):
    def __getitem__(self, number: int) -> torch.Tensor:
        return decode_video(self.video, lambda cut: [cut.num_frames - 1]).frames


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_error_of_a_worker_keeps_its_facts(tmp_path):
    truncated = tmp_path / "truncated.mp4"
    whole = write_video(tmp_path / "whole.mp4", 40, container_options={"movflags": "faststart"})
    truncated.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    errors = []
    for workers in (0, 1):
        with pytest.raises(VideoDecodingError) as raised:
            list(DataLoader(Truncated(truncated), num_workers=workers))
        errors.append(raised.value)
    assert (errors[1].path, errors[1].reason) == (str(truncated), errors[0].reason)
    assert errors[1].timestamp == pytest.approx(errors[0].timestamp, abs=1e-3) and errors[0].timestamp > 0


def test_threads_have_their_own(video):
    numbers = [i % NUM_FRAMES for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for number, frame in zip(numbers, pool.map(lambda i: first_frame(video, i), numbers), strict=True):
            np.testing.assert_array_equal(frame, picture(number, WIDTH, HEIGHT))
    assert 1 <= len(idle_helpers()) <= 5


def test_no_pipe_can_be_enlarged(video, monkeypatch):
    """An ordinary user may hold 64 MiB in enlarged pipes, as many as 64 helpers have."""
    decoding_helper._stop_idle_helpers()
    calls = []

    def refuse(*arguments):
        calls.append(arguments)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("fcntl.fcntl", refuse)
    assert_decodes(video)
    assert calls


def test_no_helper_can_be_started(video, monkeypatch):
    def refuse(*arguments, **options):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    decoding_helper._stop_idle_helpers()
    monkeypatch.setattr("subprocess.Popen", refuse)
    with pytest.raises(VideoDecodingError, match="its decoding process cannot be started: .*temporarily unavailable"):
        decode_video(video, [0])


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_pyav_is_not_installed(video, tmp_path, monkeypatch, timeout):
    (tmp_path / "av.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "av")
    decoding_helper._stop_idle_helpers()
    with pytest.raises(ImportError, match="`pip install av`, which brings FFmpeg"):
        decode_video(video, [0], timeout=timeout)
    decoding_helper._stop_idle_helpers()


def test_counting_may_take_longer_than_the_limit(tmp_path, monkeypatch):
    """The frames of this codec are counted by decoding them. The limit is for a few frames, not for all."""
    path = write_video(tmp_path / "video.mkv", 60, codec="mpeg4", pixel_format="yuv420p")
    slowly = """
import time
from decoding import video_stream
def decode(self, fast=video_stream.VideoStream._decode):
    for frame in fast(self):
        time.sleep(0.05)
        yield frame
video_stream.VideoStream._decode, video_stream.FRAMES_A_REPORT = decode, 8
serve()"""
    monkeypatch.setattr(decoding_helper, "_BOOTSTRAP", decoding_helper._BOOTSTRAP.replace("\nserve()", slowly))
    decoding_helper._stop_idle_helpers()
    stream = HelperStream(str(path), "a video", 1, limit=2.0)
    assert stream.info.num_frames == 60
    stream.close()
    decoding_helper._stop_idle_helpers()


def test_a_video_that_needs_too_much_memory_ends_alone(tmp_path, video, monkeypatch):
    limited = "from decoding import decoding_helper as helper\nhelper.HELPER_MEMORY = 100 << 20\nhelper.serve()\n"
    monkeypatch.setattr(
        decoding_helper, "_BOOTSTRAP", decoding_helper._BOOTSTRAP.partition("from decoding.")[0] + limited
    )
    decoding_helper._stop_idle_helpers()
    large = write_video(tmp_path / "large.mp4", [np.zeros((3000, 3000, 3), np.uint8)], options={"preset": "ultrafast"})
    with pytest.raises(VideoDecodingError, match="memory"):
        decode_video(large)
    assert_decodes(video)
    decoding_helper._stop_idle_helpers()
