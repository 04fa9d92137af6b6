"""Every published clip, unusual file and broken file of the shared set, in a child process that has to come back."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.parity.cases import REPOSITORY, SHARED

VIDEOS = SHARED / "data" / "video"
pytestmark = pytest.mark.skipif(not VIDEOS.exists(), reason="needs the shared video set, ../shared/data/video")

DECODE_ALL = """
import hashlib, json, sys
from hf_videolang.video import VideoDecodingError, decode_video

folder, options = sys.argv[1], json.loads(sys.argv[2])
for line in sys.stdin:
    file, numbers = json.loads(line)
    record = {}
    try:
        decoded = decode_video(f"{folder}/{file}", numbers, **options)
        record["info"] = vars(decoded.info)
        record["timestamps"] = decoded.timestamps
        record["hashes"] = [hashlib.sha256(frame.contiguous().numpy()).hexdigest() for frame in decoded.frames]
    except VideoDecodingError as error:
        record["error"] = [error.reason, error.timestamp]
    print(json.dumps(record), flush=True)
"""
# PyAV in the helper, as is the default; torchcodec in the child itself.
OPTIONS = {"pyav": {"backend": "pyav"}, "torchcodec": {"backend": "torchcodec", "timeout": None}}


def decode_all(backend: str, requests: list[tuple[str, list[int]]]) -> list[dict]:
    run = subprocess.run(
        [sys.executable, "-c", DECODE_ALL, str(VIDEOS), json.dumps(OPTIONS[backend])],
        input="\n".join(map(json.dumps, requests)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # FFmpeg complains about the broken ones
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
    )
    assert run.returncode == 0
    return [json.loads(line) for line in run.stdout.splitlines()]


def sound_files() -> list[dict]:
    manifest = json.loads((VIDEOS / "manifest.json").read_text()) if VIDEOS.exists() else {}
    entries = [*manifest.get("clips", []), *manifest.get("edge", [])]
    for entry in entries:
        if entry["file"] == "clips/video26.mp4":  # the manifest describes its first stream, not the best
            entry["media"].update(coded_width=480, coded_height=270, frames_decoded=390, last_pts=None)
    return entries


@pytest.fixture(scope="module")
def sound() -> dict[str, list[dict]]:
    """By back end: the first frame, one amid the video and, of the smaller files, the last."""
    from hf_videolang.video.torchcodec_stream import torchcodec_problem

    requests = []
    for entry in sound_files():
        count = entry["media"]["frames_decoded"]
        numbers = {0, count // 2, count - 1} if entry["bytes"] < 700_000 else {0, count // 4}
        requests.append((entry["file"], sorted(numbers)))
    backends = ["pyav"] if torchcodec_problem() else ["pyav", "torchcodec"]
    return {backend: decode_all(backend, requests) for backend in backends}


def test_sound_files_are_what_the_manifest_says(sound):
    for records in sound.values():
        assert len(records) == len(sound_files()) >= 45
        for entry, record in zip(sound_files(), records, strict=True):
            media, info = entry["media"], record["info"]
            rotation = media["rotation_metadata"] % 360
            size = (media["coded_width"], media["coded_height"])
            assert info["num_frames"] == media["frames_decoded"], entry["file"]
            assert (info["codec"], info["rotation"]) == (media["codec"], rotation), entry["file"]
            assert (info["width"], info["height"]) == (size[::-1] if rotation in (90, 270) else size), entry["file"]
            if media["last_pts"] is not None and media["container"] != "avi":
                assert record["timestamps"][0] == pytest.approx(media["first_pts"], abs=2e-3), entry["file"]
                if entry["bytes"] < 700_000:
                    assert record["timestamps"][-1] == pytest.approx(media["last_pts"], abs=2e-3), entry["file"]


def test_sound_files_are_the_same_in_both_back_ends(sound):
    if len(sound) < 2:
        pytest.skip("torchcodec cannot decode here")
    for entry, first, second in zip(sound_files(), sound["pyav"], sound["torchcodec"], strict=True):
        assert first["hashes"] == second["hashes"], entry["file"]
        assert first["timestamps"] == second["timestamps"], entry["file"]


NO_VIDEO, INVALID = "no video stream|No valid video stream", "Invalid data found when processing input"
# file, frames asked for, expected reason and timestamp of the error (None: the frames come)
BROKEN = [
    ("audio_only.mp4", [0], NO_VIDEO, None),
    ("no_streams.mp4", [0], NO_VIDEO, None),
    ("undecodable.avi", [0], "its video stream has no frames|Could not seek", None),
    ("truncated_index_missing.mp4", [0], INVALID, None),
    ("empty.mp4", [0], INVALID, None),
    ("text.mp4", [0], INVALID, None),
    ("corrupted_middle.mp4", [0, 27], None, None),
    ("corrupted_middle.mp4", [0, 28], f"{INVALID}|Failed to send packet", 2.7),
    ("corrupted_middle.mp4", [0, 49], f"{INVALID}|Failed to send packet", 2.7),
    ("truncated_index_present.mp4", [0, 40, 77], None, None),
    ("truncated_index_present.mp4", [0, 40, 80], f"{INVALID}|Failed to send packet", 2.5693),
    ("truncated.mkv", [0, 20, 46], None, None),
    ("truncated.gif", [0, 10, 14], None, None),
]
NUM_FRAMES = {
    "corrupted_middle.mp4": 50,  # packets; 28 decode
    "truncated_index_present.mp4": 81,  # the header promises 287; 78 decode
    "truncated.mkv": 47,
    "truncated.gif": 16,
}
# What the system's FFmpeg 5 does differently from PyAV's FFmpeg 8.
WITH_TORCHCODEC = {
    "truncated.mkv": "Could not seek",  # it cannot rewind the file
    "truncated.gif": 15,  # it does not give out the last packet, which is cut
}


@pytest.mark.parametrize("backend", ["pyav", "torchcodec"])
def test_broken_files_give_their_frames_or_an_error(backend, request):
    if backend == "torchcodec":
        request.getfixturevalue("torchcodec")
    records = decode_all(backend, [(f"broken/{file}", numbers) for file, numbers, _, _ in BROKEN])
    for (file, numbers, reason, timestamp), record in zip(BROKEN, records, strict=True):
        differs = WITH_TORCHCODEC.get(file) if backend == "torchcodec" else None
        if isinstance(differs, str):
            reason = differs
        if reason is None:
            assert record["info"]["num_frames"] == (differs or NUM_FRAMES[file]), file
            assert len(record["hashes"]) == len(set(record["hashes"])) == len(numbers), file
        else:
            assert re.search(reason, record["error"][0]), (file, record)
            assert record["error"][1] == pytest.approx(timestamp, abs=1e-3), file
