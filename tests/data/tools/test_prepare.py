"""Preparing a folder of videos: literal frame choices, real files, refusals, a full disk and a kill."""

import csv
import json
import os
import resource
import signal
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from hf_videolang.cli import main
from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.data.tools.reencode import choose_frames
from hf_videolang.video import decode_video, probe_video, uniform_indices
from tests.training.tiny_run import start
from tests.video.making import picture, write_video

FACTS = ("frames_before", "frames_after", "error")


def prepare(source, target, *options) -> int:
    folders = ("--data-dir", source, "--output-dir", target, "--num-workers", 0)
    return main(["data", "prepare", *map(str, (*folders, *options))])


def report(folder: Path) -> tuple[dict, dict[str, dict]]:
    facts, *rows = [json.loads(line) for line in (folder / "preparation.jsonl").read_text().splitlines()]
    return facts, {row["file"]: row for row in rows}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones included."""
    files = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def which_pictures(frames: np.ndarray) -> list[int]:
    """The number of the picture that each frame `[3, height, width]` shows."""
    known = np.stack([picture(number).astype(int) for number in range(60)])
    return [int(abs(known - frame.transpose(1, 2, 0)).mean((1, 2, 3)).argmin()) for frame in frames]


# ---- which frames ----


def test_a_rate_takes_the_frames_on_show_and_none_twice():
    at = lambda rate, count: [i / rate for i in range(count)]  # noqa: E731
    assert choose_frames(at(30, 30), 1.0, 6) == [0, 5, 10, 15, 20, 25]
    assert choose_frames(at(25, 25), 1.0, 6) == [0, 4, 8, 12, 16, 20]  # 0, 1/6 … 5/6 s times 25, rounded down
    assert choose_frames(at(6, 13), 13 / 6, 6) == list(range(13))
    assert choose_frames(at(4, 5), 1.25, 6) == [0, 1, 2, 3, 4]  # fewer a second: all of them, once each
    rounded = [round(1.5 + time, 3) for time in at(30, 30)]  # as Matroska writes them, and not from zero on
    assert choose_frames(rounded, 1.0, 6) == [0, 5, 10, 15, 20, 25]
    assert choose_frames([0, 0.1, 0.2, 1.0, 1.1], 1.2, 6) == [0, 1, 2, 3, 4]  # 0, 1/6, 2/6 …, 6/6, 7/6 s
    assert choose_frames([3.0], 0.04, 6) == [0]


def test_short_videos_keep_a_least_number():
    times = [i / 30 for i in range(60)]
    assert choose_frames(times, 2.0, 6, min_frames=12) == list(range(0, 60, 5))
    assert choose_frames(times, 2.0, 6, min_frames=20) == uniform_indices(60, 20).tolist()
    assert choose_frames(times[:7], 7 / 30, 6, min_frames=20) == list(range(7))


def test_a_number_of_frames_is_evenly_spaced_in_time():
    assert choose_frames([i / 10 for i in range(10)], 1.0, num_frames=4) == [0, 3, 6, 9]
    for count in (32, 33, 100, 451):
        chosen = choose_frames([i / 25 for i in range(count)], count / 25, num_frames=32)
        assert chosen == uniform_indices(count, 32).tolist()  # at a constant rate: the rule of the models
    # 0, 2/3, 4/3 and 2 s: frame 3 is on show twice, frame 2 steps in
    assert choose_frames([0, 0.1, 0.2, 0.3, 2.0], 2.1, num_frames=4) == [0, 2, 3, 4]
    assert choose_frames([0, 0.1], 0.2, num_frames=4) == [0, 1]


# ---- what is written ----


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four readable videos, in a sub-folder too, a broken one, metadata, and a file that is neither."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sub").mkdir()
    write_video(folder / "fast.mp4", 60, rate=30)
    write_video(folder / "sub" / "slow.mkv", 8, rate=4)
    write_video(folder / "late.mkv", 25, rate=25, times=[round(1.5 + i / 25, 3) for i in range(25)])
    write_video(folder / "turned.mov", 12, rate=12, rotation=90)
    (folder / "broken.avi").write_bytes(b"no video")
    names = ("fast.mp4", "sub/slow.mkv", "late.mkv", "turned.mov")
    rows = [{"file_name": name, "caption": f"é {name}"} for name in names]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "list.txt").write_text("fast")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "pictures_000.jpg").write_text("")  # frames already
    return folder


def test_a_folder_at_six_frames_a_second(videos, tmp_path, capsys):
    before = tree(videos)
    assert prepare(videos, tmp_path / "out", "--preset", "msrvtt") == 1  # one is broken
    printed = capsys.readouterr().out
    assert "documented: MSR-VTT re-encoded at 6 frames a second" in printed and "ours: H.264" in printed
    assert "4 of 5 videos" in printed and "frames: 105 before, 32 after" in printed
    assert "2 annotation files copied, 1 left behind" in printed and "broken.avi: cannot decode" in printed
    assert tree(videos) == before
    assert set(tree(tmp_path / "out")) == {
        *("fast.mp4", "sub/slow.mp4", "late.mp4", "turned.mp4"),
        *("metadata.jsonl", "list.txt", "preparation.jsonl"),
    }
    facts, rows = report(tmp_path / "out")
    assert facts["frames_per_second"] == 6 and facts["preset"] == "msrvtt" and facts["ffmpeg"]
    assert facts["written as"] == "libx264 crf=23 preset=medium x264-params=cpu-independent=1"
    assert [rows["fast.mp4"][fact] for fact in FACTS] == [60, 12, None]
    assert rows["broken.avi"]["error"].startswith("cannot decode") and rows["broken.avi"]["frames_after"] is None
    assert rows["fast.mp4"]["bytes_after"] == (tmp_path / "out" / "fast.mp4").stat().st_size

    expected = {
        "fast.mp4": (list(range(0, 60, 5)), [i / 6 for i in range(12)]),
        "sub/slow.mp4": (list(range(8)), [i / 4 for i in range(8)]),
        "late.mp4": ([0, 4, 8, 12, 16, 20], [1.5 + i / 25 for i in (0, 4, 8, 12, 16, 20)]),
    }
    for name, (pictures, seconds) in expected.items():
        video = decode_video(tmp_path / "out" / name, range)
        assert which_pictures(video.frames.numpy()) == pictures
        assert video.timestamps == pytest.approx(seconds, abs=1e-5)
    for name, end, last in (("fast.mp4", 2.0, 11 / 6), ("sub/slow.mp4", 2.0, 7 / 4)):
        ending = decode_video(tmp_path / "out" / name, range, start=end - 0.01, end=end)
        assert ending.timestamps == pytest.approx([last], abs=1e-5)  # its picture is on show to the end
    turned = decode_video(tmp_path / "out" / "turned.mp4", range)
    assert (turned.info.rotation, turned.info.width, turned.info.height) == (0, 48, 64)
    assert which_pictures(np.rot90(turned.frames.numpy(), -1, (2, 3))) == [0, 2, 4, 6, 8, 10]
    dataset, _ = load_dataset(str(tmp_path / "out"))
    found = {record["captions"][0]: Path(record["video"]["path"]).name for record in dataset}
    assert found["é sub/slow.mkv"] == "slow.mp4" and len(found) == 4


def test_sound_is_dropped_and_sizes_are_kept_even(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    with av.open(str(source / "a.mp4"), "w") as container:
        video = container.add_stream("libx264rgb", rate=10)
        video.width, video.height, video.pix_fmt = 65, 49, "rgb24"
        sound = container.add_stream("aac", rate=8000)
        for number in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(number, 65, 49), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        for packet in (*sound.encode(frame), *sound.encode(None), *video.encode(None)):
            container.mux(packet)
    for options, size in (
        (["--shortest-edge", 24], (32, 24)),
        (["--size", "30x40"], (30, 40)),
        ([], (64, 48)),
    ):
        out = tmp_path / f"out{size[0]}"
        assert prepare(source, out, "--num-frames", 4, *options) == 0
        with av.open(str(out / "a.mp4")) as container:
            assert [stream.type for stream in container.streams] == ["video"]
            assert (container.streams.video[0].width, container.streams.video[0].height) == size
        assert probe_video(out / "a.mp4").num_frames == 4


def test_frame_folders(videos, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(videos, out, "--preset", "activitynet") == 1
    assert "288x180 bicubic (a sister project; the exact" in capsys.readouterr().out
    names = [f"fast_{number:03d}.jpg" for number in range(20)]
    assert sorted(os.listdir(out / "fast")) == names
    assert sorted(os.listdir(out / "sub" / "slow"))[-1] == "slow_007.jpg"
    assert report(out)[1]["late.mkv"]["frames_after"] == 20
    chosen = uniform_indices(60, 20)
    for number, name in zip(chosen, names):
        with Image.open(out / "fast" / name) as image:
            assert image.size == (288, 180) and image.format == "JPEG"
            small = np.asarray(image.resize((64, 48), Image.Resampling.BOX)).transpose(2, 0, 1)
        assert which_pictures(small[None]) == [number]
    assert '"file_name": "sub/slow"' in (out / "metadata.jsonl").read_text()
    dataset, _ = load_dataset(str(out))
    assert decode_video(dataset[0]["video"]["path"], range).frames.shape == (20, 3, 180, 288)


def test_other_metadata_formats_name_the_new_files(tmp_path):
    from pyarrow import table
    from pyarrow.parquet import read_table, write_table

    for part in ("x", "y"):
        (tmp_path / "in" / part).mkdir(parents=True)
        write_video(tmp_path / "in" / part / "v.webm", 2, codec="libvpx", pixel_format="yuv420p")
    (tmp_path / "in" / "x" / "metadata.csv").write_text('file_name,caption\n./v.webm,"a, b"\nw.webm,c\n')
    write_table(table({"file_name": ["v.webm"], "caption": ["d"]}), tmp_path / "in" / "y" / "metadata.parquet")
    assert prepare(tmp_path / "in", tmp_path / "out", "--frames-per-second", 6) == 0
    with open(tmp_path / "out" / "x" / "metadata.csv", newline="") as file:
        assert list(csv.reader(file)) == [["file_name", "caption"], ["v.mp4", "a, b"], ["w.webm", "c"]]
    assert read_table(tmp_path / "out" / "y" / "metadata.parquet").to_pylist() == [
        {"file_name": "v.mp4", "caption": "d"}
    ]


@pytest.mark.parametrize("options", [["--preset", "msrvtt"], ["--preset", "activitynet"]])
def test_odd_files_and_names_stop_nothing(tmp_path, capsys, options):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_video(source / "a.mp4", 4, rate=12)
    video = (source / "a.mp4").read_bytes()
    names = ("\u4e2d" * 80, "line\u2028next\x85", os.fsdecode(b"latin\xe9"), "x" * 240)
    for name in names:
        (source / f"{name}.mp4").write_bytes(video)
    (source / os.fsdecode(b"dangling\xe9.mp4")).symlink_to("nowhere.mp4")
    for _ in range(2):  # the second time from the report
        assert prepare(source, out, *options) == 1
        assert "dangling\\udce9.mp4: cannot decode" in capsys.readouterr().out
        rows = report(out)[1]
        assert {name for name in rows if not rows[name]["error"]} == {f"{name}.mp4" for name in ("a", *names)}
        ending = "" if "activitynet" in options else ".mp4"
        assert {*os.listdir(out)} == {f"{name}{ending}" for name in ("a", *names)} | {"preparation.jsonl"}


def test_a_name_without_room_for_numbers_and_a_picture_without_room_for_h264_are_broken(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    write_video(source / "a.mp4", 4, rate=12)
    (source / ("x" * 250 + ".mp4")).write_bytes((source / "a.mp4").read_bytes())
    assert prepare(source, tmp_path / "frames", "--num-frames", 2, "--frames") == 1
    rows = report(tmp_path / "frames")[1]
    assert rows["a.mp4"]["error"] is None and "File name too long" in rows["x" * 250 + ".mp4"]["error"]
    (source / ("x" * 250 + ".mp4")).unlink()
    with av.open(str(source / "dot.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=1)
        stream.width, stream.height, stream.pix_fmt = 1, 1, "rgb24"
        for frame in (av.VideoFrame.from_ndarray(picture(0, 1, 1), format="rgb24"), None):
            container.mux(stream.encode(frame))
    assert prepare(source, tmp_path / "out", "--num-frames", 2) == 1
    rows = report(tmp_path / "out")[1]
    assert rows["a.mp4"]["error"] is None and "1x1 pixels are too few for H.264" in rows["dot.mp4"]["error"]


def test_absolute_names_name_the_prepared_videos(tmp_path):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mov", 4, rate=12)
    row = {"file_name": str(tmp_path / "in" / "a.mov"), "caption": "a"}
    (tmp_path / "in" / "metadata.jsonl").write_text(json.dumps(row))
    assert prepare(tmp_path / "in", tmp_path / "out", "--preset", "msrvtt") == 0
    dataset, _ = load_dataset(str(tmp_path / "out"))
    assert dataset[0]["video"]["path"] == str(tmp_path / "out" / "a.mp4")


# ---- refusals ----


def test_refusals_come_before_any_work(videos, tmp_path, capsys):
    def refused(source, target, *options) -> str:
        assert prepare(source, target, *options) == 2
        return capsys.readouterr().err

    inside = videos / "sub" / "out"
    assert "one in the other" in refused(videos, inside, "--preset", "msrvtt") and not inside.exists()
    assert "one in the other" in refused(videos / "sub", videos, "--preset", "msrvtt")
    assert "say what to do" in refused(videos, tmp_path / "out")
    assert "even sides" in refused(videos, tmp_path / "out", "--size", "31x32")
    assert "must be positive" in refused(videos, tmp_path / "out", "--frames-per-second", 0)
    assert "No folder" in refused(tmp_path / "absent", tmp_path / "out", "--preset", "msrvtt")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.tex").write_text("")
    assert "holds no preparation.jsonl" in refused(videos, tmp_path / "own", "--preset", "msrvtt")
    assert "No videos in" in refused(tmp_path / "own", tmp_path / "out", "--preset", "msrvtt")
    (tmp_path / "twins" / "a").mkdir(parents=True)
    for name in ("a.mp4", "a.mkv", "a/b.mp4"):
        (tmp_path / "twins" / name).write_bytes(b"")
    assert "a.mkv and a.mp4" in refused(tmp_path / "twins", tmp_path / "out", "--preset", "msrvtt")
    (tmp_path / "twins" / "a.mkv").unlink()
    assert "folder of other files would have one name: a." in refused(
        tmp_path / "twins", tmp_path / "out", "--preset", "activitynet"
    )
    (tmp_path / "twins" / "a" / "b.mp4").rename(tmp_path / "twins" / "a" / "subtitles.srt")
    assert (
        "folder of other files would have one name: a."
        in refused(  # the pictures would take the place of the subtitles
            tmp_path / "twins", tmp_path / "out", "--preset", "activitynet"
        )
    )
    assert "num_workers is -1" in refused(videos, tmp_path / "out", "--preset", "msrvtt", "--num-workers", -1)
    assert "--min-frames goes with a rate" in refused(videos, tmp_path / "out", "--num-frames", 4, "--min-frames", 2)
    with pytest.raises(SystemExit):
        prepare(videos, tmp_path / "out", "--size", "288")
    assert "--size: '288' is no WIDTHxHEIGHT, such as 288x180" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "options", "told"),
    [
        ("metadata.jsonl", b'{"file_name": "a.mp4"', [], "Expecting ',' delimiter"),
        ("metadata.jsonl", b'["a.mp4"]', [], "dictionary update"),
        ("metadata.jsonl", b'{"file_name": "\xe9"}', [], "can't decode byte 0xe9"),
        ("metadata.csv", b"file_name,caption\na.mp4,a, b\n", [], "more cells than the header"),
        ("metadata.parquet", b"no", [], "Parquet"),
        ("metadata.jsonl", b'{"file_name": "a.mp4", "caption": "c", "start": 1}', ["--frames"], "in seconds"),
    ],
)
def test_metadata_that_cannot_be_carried_along_are_named(tmp_path, name, content, options, told, capsys):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mp4", 4, rate=12)
    (tmp_path / "in" / name).write_bytes(content)
    assert prepare(tmp_path / "in", tmp_path / "out", "--num-frames", 2, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'in' / name}: ") and told in error and error.count("\n") == 1
    (tmp_path / "in" / name).unlink()
    assert prepare(tmp_path / "in", tmp_path / "out", "--num-frames", 2, *options) == 0


def test_a_damaged_report_is_named(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mp4", 4, rate=12)
    assert prepare(tmp_path / "in", tmp_path / "out", "--num-frames", 2) == 0
    for text in ("", "no\n"):
        (tmp_path / "out" / "preparation.jsonl").write_text(text)
        assert prepare(tmp_path / "in", tmp_path / "out", "--num-frames", 2) == 2
        assert f"{tmp_path / 'out' / 'preparation.jsonl'} is damaged" in capsys.readouterr().err


def test_other_settings_are_refused_a_finished_run_does_nothing_and_a_mended_video_is_done(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_video(source / "a.mp4", 12, rate=12)
    (source / "b.mp4").write_bytes(b"no video")
    assert prepare(source, out, "--preset", "msrvtt") == 1
    assert prepare(source, out, "--preset", "didemo") == 2
    error = capsys.readouterr().err
    assert "frames_per_second: 6.0 there, None now; num_frames: None there, 32 now" in error and "ours" not in error
    before, stamps = tree(out), {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert prepare(source, out, "--frames-per-second", 6) == 1  # the same settings in other words
    assert tree(out) == before and (out / "a.mp4").stat().st_mtime_ns == stamps[out / "a.mp4"]
    write_video(source / "b.mp4", 12, rate=12)
    assert prepare(source, out, "--preset", "msrvtt") == 0
    assert (out / "a.mp4").stat().st_mtime_ns == stamps[out / "a.mp4"]
    assert (out / "a.mp4").read_bytes() == (out / "b.mp4").read_bytes()
    (source / "a.mp4").write_bytes(b"no video any more")
    assert prepare(source, out, "--preset", "msrvtt") == 1
    assert not (out / "a.mp4").exists()  # what was made of the file before it broke


# ---- interruptions ----


@pytest.mark.parametrize("options", [["--num-frames", "32"], ["--num-frames", "32", "--frames"]])
def test_a_full_disk_leaves_nothing_half(tmp_path, capsys, options):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_video(source / "a.mp4", [picture(number, 16, 16) for number in range(3)])
    write_video(
        source / "b.mp4", [np.random.default_rng(n).integers(0, 256, (240, 320, 3), np.uint8) for n in range(3)]
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, limits[1]))  # a file that grows larger is an OSError
    try:
        assert prepare(source, out, *options) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert "File too large. 1 of 2 videos are done and stay" in error
    assert {name.split("/")[0] for name in tree(out)} == {
        "a" if "--frames" in options else "a.mp4",
        "preparation.jsonl",
    }
    assert prepare(source, out, *options) == 0 and not report(out)[1]["b.mp4"]["error"]


def test_killed_at_work_it_continues_to_the_same_bytes(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(8):
        pictures = [picture(100 * number + i, 320, 240) for i in range(12)]
        write_video(source / f"v{number}.mp4", pictures, rate=12)
    (source / "broken.mp4").write_bytes(b"no video")
    options = ("--frames-per-second", 6)
    (source / "lists").mkdir()
    (source / "lists" / "train.txt").write_text("v0")
    assert prepare(source, tmp_path / "unbroken", *options) == 1
    whole = tree(tmp_path / "unbroken")

    command = ("hf_videolang.cli", "data", "prepare", "--data-dir", source, "--output-dir", out, *options)
    process = start(*command, "--num-workers", 2)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (out / "preparation.jsonl").is_file() and len((out / "preparation.jsonl").read_text().splitlines()) > 3:
            break
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.stdout.read()
    process.stdout.close()
    time.sleep(1)  # workers end with their main process; what they had begun stays hidden
    there = {name: content for name, content in tree(out).items() if Path(name).suffix == ".mp4" and name[0] != "."}
    assert 1 <= len(there) < 8 and all(whole[name] == content for name, content in there.items())
    (out / "preparation.jsonl").open("a").write('{"file": "v')  # as a kill in the middle of a line would
    (out / "lists" / ".train.12345678.part.txt").write_text("v")  # or of a list

    done = [
        row["file"]
        for row in map(json.loads, (out / "preparation.jsonl").read_text().splitlines()[1:-1])
        if not row["error"]
    ]
    stamps = {name: (out / name).stat().st_mtime_ns for name in done}
    assert prepare(source, out, *options) == 1
    assert tree(out) == whole
    assert {name: (out / name).stat().st_mtime_ns for name in done} == stamps
