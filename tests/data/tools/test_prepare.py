"""`hf-videolang data prepare`: which frames, what is written, metadata, errors, a full disk and a kill."""

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

from hf_videolang.cli import main
from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.data.tools.reencode import choose_frames
from hf_videolang.video import decode_video, probe_video
from tests.common.forks import Fork
from tests.video.making import picture, write_frames, write_video

SIX = ("--frames-per-second", 6)


def prepare(source, target, *options) -> int:
    return main(["data", "prepare", *map(str, ("--data-dir", source, "--output-dir", target, *options))])


def tree(folder: Path) -> dict[str, bytes]:
    """Every file, also hidden ones."""
    files = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def which_pictures(frames: np.ndarray) -> list[int]:
    """The number of the picture that each frame `[3, height, width]` shows."""
    known = np.stack([picture(number).astype(int) for number in range(60)])
    return [int(abs(known - frame.transpose(1, 2, 0)).mean((1, 2, 3)).argmin()) for frame in frames]


def test_a_rate_takes_the_visible_frames_and_none_twice():
    at = lambda rate, count: [i / rate for i in range(count)]  # noqa: E731
    assert choose_frames(at(30, 30), 1.0, 6) == [0, 5, 10, 15, 20, 25]
    assert choose_frames(at(25, 25), 1.0, 6) == [0, 4, 8, 12, 16, 20]  # 0, 1/6 … 5/6 s times 25, rounded down
    assert choose_frames(at(6, 13), 13 / 6, 6) == list(range(13))
    assert choose_frames(at(4, 5), 1.25, 6) == [0, 1, 2, 3, 4]  # fewer per second: each of them once
    rounded = [round(1.5 + seconds, 3) for seconds in at(30, 30)]  # as Matroska writes them, and not from zero
    assert choose_frames(rounded, 2.5, 6) == [0, 5, 10, 15, 20, 25]
    assert choose_frames([0, 0.1, 0.2, 1.0, 1.1], 1.2, 6) == [0, 1, 2, 3, 4]  # 0, 1/6, 2/6 …, 6/6, 7/6 s
    assert choose_frames([3.0], 3.04, 6) == [0]
    assert choose_frames(at(30, 3), 0.1, None) == [0, 1, 2]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four readable videos, one in a sub-folder, a broken one, metadata, a text file, and a folder of frames."""
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
    write_frames(folder / "pictures", 1)
    return folder


def test_a_folder_at_six_frames_a_second(videos, tmp_path, capsys):
    before = tree(videos)
    assert prepare(videos, tmp_path / "out", *SIX) == 1  # one is broken
    printed = capsys.readouterr().out
    assert "4 of 5 videos are prepared (4 now)" in printed and "broken.avi: cannot decode" in printed
    assert tree(videos) == before
    assert set(tree(tmp_path / "out")) == {
        *("fast.mp4", "sub/slow.mp4", "late.mp4", "turned.mp4"),
        *("metadata.jsonl", "list.txt", "preparation.json"),
    }
    facts = json.loads((tmp_path / "out" / "preparation.json").read_text())
    assert facts["frames_per_second"] == 6 and facts["encoder"] == "libx264" and facts["ffmpeg"]

    expected = {
        "fast.mp4": (list(range(0, 60, 5)), [i / 6 for i in range(12)]),
        "sub/slow.mp4": (list(range(8)), [i / 4 for i in range(8)]),
        "late.mp4": ([0, 4, 8, 12, 16, 20], [1.5 + i / 25 for i in (0, 4, 8, 12, 16, 20)]),
    }
    for name, (pictures, seconds) in expected.items():
        video = decode_video(tmp_path / "out" / name)
        assert which_pictures(video.frames.numpy()) == pictures
        assert video.timestamps == pytest.approx(seconds, abs=1e-5)
    for name, end, last in (("fast.mp4", 2.0, 11 / 6), ("sub/slow.mp4", 2.0, 7 / 4)):
        ending = decode_video(tmp_path / "out" / name, start=end - 0.01, end=end)
        assert ending.timestamps == pytest.approx([last], abs=1e-5)  # the last frame is visible to the end
    turned = decode_video(tmp_path / "out" / "turned.mp4")
    assert (turned.info.rotation, turned.info.width, turned.info.height) == (0, 48, 64)
    assert which_pictures(np.rot90(turned.frames.numpy(), -1, (2, 3))) == [0, 2, 4, 6, 8, 10]
    dataset, _ = load_dataset(str(tmp_path / "out"))
    found = {record["captions"][0]: Path(record["video"]["path"]).name for record in dataset}
    assert found["é sub/slow.mkv"] == "slow.mp4" and len(found) == 4


def test_without_sound_in_even_sizes_with_many_key_frames(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    with av.open(str(source / "a.mp4"), "w") as container:
        video = container.add_stream("libx264rgb", rate=10)
        video.width, video.height, video.pix_fmt = 65, 49, "rgb24"
        sound = container.add_stream("aac", rate=8000)
        for number in range(30):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(number, 65, 49), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        for packet in (*sound.encode(frame), *sound.encode(None), *video.encode(None)):
            container.mux(packet)
    for options, size in ((("--shortest-edge", 24), (32, 24)), (("--shortest-edge", 90), (64, 48)), ((), (64, 48))):
        out = tmp_path / f"out{len(os.listdir(tmp_path))}"
        assert prepare(source, out, *options) == 0
        with av.open(str(out / "a.mp4")) as container:
            assert [stream.type for stream in container.streams] == ["video"]
            assert (container.streams.video[0].width, container.streams.video[0].height) == size
            keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
        assert len(keys) == 30 and all(any(keys[first : first + 24]) for first in range(7)) and sum(keys) > 1
        assert probe_video(out / "a.mp4").num_frames == 30


def test_other_metadata_formats_and_absolute_names(tmp_path):
    from pyarrow import table
    from pyarrow.parquet import read_table, write_table

    for part in ("x", "y"):
        (tmp_path / "in" / part).mkdir(parents=True)
        write_video(tmp_path / "in" / part / "v.webm", 2, codec="libvpx", pixel_format="yuv420p")
    (tmp_path / "in" / "x" / "metadata.csv").write_text('file_name,caption\n./v.webm,"a, b"\nw.webm,c\n')
    names = ["v.webm", str(tmp_path / "in" / "x" / "v.webm")]
    write_table(table({"file_name": names, "caption": ["d", "e"]}), tmp_path / "in" / "y" / "metadata.parquet")
    assert prepare(tmp_path / "in", tmp_path / "out", *SIX) == 0
    with open(tmp_path / "out" / "x" / "metadata.csv", newline="") as file:
        assert list(csv.reader(file)) == [["file_name", "caption"], ["v.mp4", "a, b"], ["w.webm", "c"]]
    assert read_table(tmp_path / "out" / "y" / "metadata.parquet").to_pylist() == [
        {"file_name": "v.mp4", "caption": "d"},
        {"file_name": "../x/v.mp4", "caption": "e"},
    ]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_of_broken_videos_are_left_out_until_they_are_mended(kind, tmp_path):
    from pyarrow import table
    from pyarrow.parquet import write_table

    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_video(source / "a.mp4", 2)
    (source / "b.mp4").write_bytes(b"no video")
    rows = [{"file_name": f"{name}.mp4", "caption": f"video {name}", "split": "test"} for name in "ab"]
    if kind == "jsonl":
        (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        (source / "metadata.csv").write_text(
            "\n".join(",".join(row) for row in (rows[0], *(r.values() for r in rows)))
        )
    else:
        write_table(table({name: [row[name] for row in rows] for name in rows[0]}), source / "metadata.parquet")
    assert prepare(source, out) == 1
    dataset, protocol = load_dataset(str(out))
    assert dataset["captions"][:] == [["video a"]] and protocol.counts["videos"] == 1
    write_video(source / "b.mp4", 2)
    assert prepare(source, out) == 0
    assert load_dataset(str(out))[0]["captions"][:] == [["video a"], ["video b"]]


def test_unusual_names(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = ("\u4e2d" * 80, "line\u2028next\x85", os.fsdecode(b"latin\xe9"), "x" * 240, "a.b")
    for name in names:
        write_video(source / f"{name}.mp4", 2)
    (source / os.fsdecode(b"dangling\xe9.mp4")).symlink_to("nowhere.mp4")
    assert prepare(source, out) == 1
    assert "dangling\\udce9.mp4: cannot decode" in capsys.readouterr().out
    assert {*os.listdir(out)} == {*(f"{name}.mp4" for name in names), "preparation.json"}


def test_errors(videos, tmp_path, capsys):
    def error_of(source, target, *options) -> str:
        assert prepare(source, target, *options) == 2
        return capsys.readouterr().err

    inside = videos / "sub" / "out"
    assert f"{inside} lies in {videos}" in error_of(videos, inside) and not inside.exists()
    assert "No folder" in error_of(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.tex").write_text("")
    assert "holds thesis.tex but no preparation.json" in error_of(videos, tmp_path / "own")
    (tmp_path / "twins").mkdir()
    for name in ("a.mp4", "a.mkv"):
        (tmp_path / "twins" / name).write_bytes(b"")
    assert f"Several videos would become {tmp_path / 'out' / 'a.mp4'}" in error_of(
        tmp_path / "twins", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()
    (tmp_path / "twins" / "metadata.csv").write_text("file_name,caption\na.mp4,a, b\n")
    (tmp_path / "twins" / "a.mkv").unlink()
    assert f"{tmp_path / 'twins' / 'metadata.csv'} is not in the layout of a metadata file" in error_of(
        tmp_path / "twins", tmp_path / "out"
    )


def test_a_second_run_encodes_only_what_is_missing_or_changed(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_video(source / "a.mp4", 12, rate=12)
    (source / "b.mp4").write_bytes(b"no video")
    assert prepare(source, out, *SIX) == 1
    assert prepare(source, out, "--frames-per-second", 3) == 2
    assert "made with other settings (frames_per_second: 6.0 there, 3.0 now)" in capsys.readouterr().err
    before, written = tree(out), (out / "a.mp4").stat().st_mtime_ns
    assert prepare(source, out, *SIX) == 1
    assert tree(out) == before and (out / "a.mp4").stat().st_mtime_ns == written
    write_video(source / "b.mp4", 12, rate=12)
    assert prepare(source, out, *SIX) == 0
    assert "2 of 2 videos are prepared (1 now)" in capsys.readouterr().out
    assert (out / "a.mp4").stat().st_mtime_ns == written
    assert (out / "a.mp4").read_bytes() == (out / "b.mp4").read_bytes()
    (source / "a.mp4").write_bytes(b"no longer a video")
    assert prepare(source, out, *SIX) == 1
    assert not (out / "a.mp4").exists()  # it showed the earlier file


def test_a_full_disk_leaves_no_half_file(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_video(source / "a.mp4", [picture(number, 16, 16) for number in range(3)])
    noise = np.random.default_rng(0).integers(0, 256, (3, 240, 320, 3), np.uint8)
    write_video(source / "b.mp4", list(noise))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, limits[1]))  # a file that grows larger is an OSError
    try:
        assert prepare(source, out, "--num-workers", 1) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in capsys.readouterr().err
    assert set(tree(out)) == {"a.mp4", "preparation.json"}
    assert prepare(source, out) == 0 and (out / "b.mp4").exists()


def test_a_killed_run_continues_to_the_same_bytes(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(8):
        write_video(source / f"v{number}.mp4", [picture(100 * number + i, 320, 240) for i in range(12)], rate=12)
    assert prepare(source, tmp_path / "uninterrupted") == 0
    whole = tree(tmp_path / "uninterrupted")

    words = ("data", "prepare", "--data-dir", source, "--output-dir", out, "--num-workers", 2)
    process = Fork("hf_videolang.cli", *words)
    deadline = time.monotonic() + 120
    while not list(out.glob("[!.]*.mp4")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.communicate()[0]
    finished = {path: path.stat().st_mtime_ns for path in out.glob("[!.]*.mp4")}
    assert 1 <= len(finished) < 8 and all(whole[path.name] == path.read_bytes() for path in finished)
    (out / ".v7.12345678.part.mp4").write_text("v")  # what a kill may leave behind
    assert prepare(source, out) == 0
    assert tree(out) == whole
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
