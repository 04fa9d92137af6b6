import csv
import json
import os
import subprocess
import sys

import av
import numpy as np
import pytest

from hf_videolang.cli import main
from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.data.tools import worker_processes
from hf_videolang.data.tools.check import _in_processes, check_data
from tests.common.forks import FORKS
from tests.data.tools.crashing import dies_or_not
from tests.parity.cases import SHARED
from tests.video.making import write_frames, write_video


def run(*arguments):
    """The command as users type it, and what it prints."""
    command = [sys.executable, "-m", "hf_videolang.cli", "data", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def run_here(capsys):
    """The same in this process: exit code, output, errors."""

    def run(*arguments):
        try:
            code = main(["data", "check", *map(str, arguments), "--num-workers", "0"])
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_moving_shapes(tmp_path_factory.mktemp("shapes") / "shapes", num_train=12, num_test=4)


@pytest.fixture
def folder(shapes, tmp_path):
    """Four videos and their rows, to be spoilt."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.mp4").write_bytes((shapes / "train" / f"train{i:04d}.mp4").read_bytes())
    write_rows(folder, rows())
    return folder


def rows():
    return [{"file_name": f"{i}.mp4", "captions": [f"video {i}", f"clip {i}"], "split": "test"} for i in range(4)]


def write_rows(folder, rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def problems(*arguments, **options):
    """kind -> what it is about"""
    found = check_data(*map(str, arguments), num_workers=0, **options).problems
    return {
        problem.kind: [p.video_id or os.path.basename(p.path) for p in found if p.kind == problem.kind]
        for problem in found
    }


def test_clean_folder(shapes, run_here):
    code, printed, _ = run_here(shapes)
    assert code == 0
    assert "16 video files, no problems" in printed
    assert "(videofolder), test: 4 videos, one caption a video" in printed


def test_every_kind_of_problem(folder, run_here):
    (folder / "1.mp4").write_bytes((folder / "1.mp4").read_bytes()[:900])
    (folder / "3.mp4").write_bytes((folder / "2.mp4").read_bytes())
    (folder / "nobody.mp4").write_bytes((folder / "0.mp4").read_bytes())
    spoilt = rows()
    spoilt[0]["captions"] = ["once", "", "once"]
    spoilt[2]["captions"] = [" "]
    spoilt += [{"file_name": "gone.mp4", "captions": ["x"], "split": "train"}]
    spoilt += [{"file_name": "0.mp4", "captions": ["x"], "split": "train"}]
    write_rows(folder, spoilt)
    result = run(folder, "--json", "--num-workers", 1)
    assert result.returncode == 1, result.stderr
    report = json.loads(result.stdout)
    found = {
        (p["kind"], p["split"], p["video_id"], p["path"] and os.path.basename(p["path"])) for p in report["problems"]
    }
    train, held_out = (
        next(s["split"] for s in report["splits"] if s["split"] == name) for name in ("train", "validation")
    )
    gone = {p["split"] for p in report["problems"] if p["video_id"] == "gone"}
    assert gone < {train, held_out}  # one of two training videos is held out
    assert found == {
        ("missing_video", *gone, "gone", "gone.mp4"),
        ("undecodable_video", "test", "1", "1.mp4"),
        ("duplicate_id", None, "0", None),
        ("duplicate_file", "test", None, "2.mp4"),
        ("duplicate_caption", "test", "0", None),
        ("empty_caption", "test", "0", None),
        ("no_caption", "test", "2", None),
        ("unnamed_video", None, None, "nobody.mp4"),
    }
    assert len(report["problems"]) == len(found) and report["num_files"] == 4
    code, printed, _ = run_here(folder, "--ignore", "duplicate_id", "no_caption")
    assert code == 1
    assert "missing_video: 1 (the file that an annotation names is absent)" in printed
    assert "1.mp4" in printed and "duplicate_id" not in printed and "6 problems" in printed


def test_a_folder_without_metadata_is_checked_all_the_same(folder, run_here):
    (folder / "metadata.jsonl").unlink()
    code, printed, _ = run_here(folder)
    assert code == 1 and "4 video files, 1 problem\n" in printed and "no_metadata: 1" in printed
    assert run_here(folder, "--ignore", "no_metadata")[0] == 0
    assert run_here(folder, "--split", "test")[0] == 2
    (folder / "1.mp4").write_bytes((folder / "1.mp4").read_bytes()[:900])
    (folder / "3.mp4").write_bytes((folder / "2.mp4").read_bytes())
    (folder / "4.mp4").symlink_to("nowhere.mp4")
    code, printed, _ = run_here(folder, "--json")
    found = {
        (p["kind"], p["split"], p["path"] and os.path.basename(p["path"])) for p in json.loads(printed)["problems"]
    }
    assert code == 1 and found == {
        ("no_metadata", None, None),
        ("undecodable_video", None, "1.mp4"),
        ("duplicate_file", None, "2.mp4"),
        ("missing_video", None, "4.mp4"),
    }


def test_all_frames_or_three(folder):
    """A damaged packet far from the frames that are looked at: only --decode-all meets it."""
    path = folder / "2.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", 12, {"g": "10"})  # a key frame every 10 frames
        stream.width = stream.height = 64
        for picture in np.random.default_rng(0).integers(0, 255, (90, 64, 64, 3)).astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        position, size = [(packet.pos, packet.size) for packet in container.demux(video=0)][33]
    content = bytearray(path.read_bytes())
    content[position : position + size] = bytes(size)
    path.write_bytes(content)
    assert problems(folder) == {}  # frames 0, 45 and 89
    assert problems(folder, decode_all=True) == {"undecodable_video": ["2"]}


def test_half_a_download(folder):
    """Half of a Matroska file is a shorter video without an error; only its header tells the duration."""
    whole = write_video(folder / "2.mkv", 60, codec="libx264", pixel_format="yuv420p").read_bytes()
    (folder / "2.mkv").write_bytes(whole[: len(whole) // 2])
    (folder / "2.mkv").rename(folder / "2.mp4")
    assert problems(folder) == {"undecodable_video": ["2"]}


def test_segments_are_decoded(folder):
    write_rows(
        folder,
        [*rows(), {"file_name": "3.mp4", "captions": ["late"], "split": "test", "start": 50, "end": 60}],
    )
    assert problems(folder) == {"undecodable_video": ["3#t=50,60"]}


def test_folders_of_pictures(tmp_path, run_here):
    """Their number against the annotation, equal ones, broken ones, and one that no row names."""
    for name, count in (("a", 5), ("b", 6), ("c", 5), ("d", 5), ("e", 5), ("nobody", 3)):
        write_frames(tmp_path / "frames" / name, count)
    rows = [{"clip_id": name, "text": name, "num_frame": 5} for name in "abcde"]
    (tmp_path / "val1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "frames" / "e" / "Thumbs.db").write_text("no frame")  # e still equals a
    (tmp_path / "frames" / "c" / "c_002.png").write_bytes(b"broken")
    (tmp_path / "frames" / "d" / "d_004.png").unlink()
    (tmp_path / "frames" / "d" / "d_000.png").unlink()  # found once, as not decoding
    words = ("activitynet", "--data-dir", tmp_path, "--split", "test", "--ignore", "wrong_count", "--json")
    code, printed, _ = run_here(*words)
    found = {(p["kind"], p["video_id"] or os.path.basename(p["path"])) for p in json.loads(printed)["problems"]}
    assert code == 1 and found == {
        ("wrong_frame_count", "b"),
        ("undecodable_video", "c"),
        ("undecodable_video", "d"),
        ("duplicate_file", "a"),
    }
    assert "6 pictures, the annotation says 5" in printed

    rows = [{"file_name": f"frames/{name}", "caption": name, "split": "test"} for name in "be"]
    write_rows(tmp_path, rows)
    found = problems(tmp_path)
    assert sorted(found.pop("unnamed_video")) == ["a", "c", "d", "nobody"] and found == {}


def test_seconds_outside_the_video(folder):
    moment = {"text": "a", "start": 0.0, "end": 1.5}
    length = 2.0  # of the shapes' videos, in seconds
    late = [{**moment, "end": length + 0.9}, {**moment, "end": length + 1.1}]
    write_rows(
        folder,
        [
            {"file_name": "0.mp4", "moments": [moment]},
            {"file_name": "1.mp4", "moments": late},
            {"file_name": "2.mp4", "moments": [{**moment, "end": 2}], "start": 0.0, "end": 0.5},
        ],
    )
    assert problems(folder, split="train+validation") == {"outside_video": ["1", "2"]}
    question = {"question": "what?", "choices": ["a", "b"], "answer": 0, "answer_start": 1.0}
    rows = [{"file_name": f"{i}.mp4", **question, "answer_end": end} for i, end in enumerate((1.5, 9.0))]
    write_rows(folder, rows)
    (found,) = problems(folder, split="train+validation").items()
    assert found == ("outside_video", ["1#q1"])


def test_published_sizes(folder, run_here):
    """A cut list is told from the published one; a split can be checked alone."""
    for i in range(3):
        (folder / f"{i}.mp4").rename(folder / f"video702{i}.mp4")
    with open(folder / "MSRVTT_JSFUSION_test.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["key", "vid_key", "video_id", "sentence"], *(["r", "m", f"video702{i}", "x"] for i in range(2))]
        )
    code, printed, _ = run_here("msrvtt-1ka", "--data-dir", folder, "--split", "test")
    assert code == 1
    assert "test: 2 videos, published are 1000" in printed and "unnamed" not in printed
    assert run_here("msrvtt-1ka", "--data-dir", folder)[0] == 2  # no training list


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("msrvtt-2k",), "No dataset 'msrvtt-2k'"),
        (("msrvtt-1ka",), "data_dir None: expected a benchmark"),
        (("EMPTY",), "No metadata.jsonl"),
        (("EMPTY", "--split", "x", "--ignore", "noise"), "invalid choice: 'noise'"),
    ],
)
def test_wrong_usage(tmp_path, arguments, message, run_here):
    code, printed, errors = run_here(*(argument.replace("EMPTY", str(tmp_path)) for argument in arguments))
    assert (code, printed) == (2, "") and message in errors


def test_annotations_that_are_no_text_are_one_line(tmp_path, run_here):
    (tmp_path / "msrvtt_test.jsonl").write_text('\n{"clip_id": "video3", "text": [1, null]}\n')
    code, printed, errors = run_here("msrvtt-1ka", "--data-dir", tmp_path, "--split", "test")
    assert (code, printed) == (2, "") and "[1, None]" in errors


def test_a_crash_costs_one_file(monkeypatch):
    monkeypatch.setattr(worker_processes, "get_context", lambda method: FORKS)  # three pools start at once
    tasks = [("good0", []), ("bad0", []), ("dies0", []), *((f"good{i}", []) for i in range(1, 10)), ("bad1", [])]
    found = {task[0]: error for task, error in _in_processes(dies_or_not, tasks, num_workers=1)}
    assert found.keys() == {name for name, _ in tasks}
    for name, error in found.items():
        expected = {"good": None, "bad0": "bad", "bad1": "bad"}
        assert error == expected.get(name[:4], (0, "the decoder crashed its process", None))


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the broken files are in ../shared/data")
def test_really_broken_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_VIDEOLANG_TRUST_DATA", "1")  # links lead outside
    names = sorted(file.name for file in (SHARED / "data" / "video" / "broken").iterdir())
    for name in names:
        (tmp_path / name).symlink_to(SHARED / "data" / "video" / "broken" / name)
    write_rows(tmp_path, [{"file_name": name, "video_id": name, "text": name} for name in names])
    found = {problem.video_id for problem in check_data(str(tmp_path), num_workers=0).problems}
    # The two others are cut off and decode as far as they go
    assert found >= {*names} - {"truncated.gif", "truncated.mkv"}
