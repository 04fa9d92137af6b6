"""`hf-videolang data shard`: every reader gets the same records, and a killed run ends with the same bytes."""

import json
import os
import shutil
import signal
import time

import pytest
from datasets import Video, load_dataset

from hf_videolang import cli
from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.data.shards.open_shards import find_shards
from hf_videolang.data.shards.write_shards import write_shards
from hf_videolang.video import VideoDecodingError
from tests.training.tiny_run import start


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """11 videos to train (one of them twice, cut), 1 to validate, 2 to test."""
    folder = write_moving_shapes(tmp_path_factory.mktemp("shapes") / "shapes", num_train=12, num_test=2)
    metadata = folder / "train" / "metadata.jsonl"
    rows = [json.loads(line) | {"subtitle": None} for line in metadata.read_text().splitlines()]
    rows[0] |= {"subtitle": "Grüße, “you”", "start": 0.5, "end": 1.5}
    rows.append(rows[0] | {"caption": "another time", "start": 1.0, "end": None})
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def records(folder):
    """A list, with the videos' bytes."""
    (shard,) = find_shards(folder)
    return [with_bytes(shard[row]) for row in range(len(shard))]


def with_bytes(record):
    path = record["video"]["path"]
    return {**record, "video": {"path": path, "bytes": open(path, "rb").read()}}


def test_segments_that_share_a_file_are_counted_before_the_work(tmp_path, caplog):
    (tmp_path / "long.mp4").touch()
    os.truncate(tmp_path / "long.mp4", 4_000_000)
    record = {"video": {"path": str(tmp_path / "long.mp4"), "bytes": None}, "video_id": "long"}
    with pytest.raises(VideoDecodingError):
        write_shards([record | {"start": start, "end": start + 1} for start in range(2501)], tmp_path / "shards")
    assert "2501 records are segments of 1 videos." in caplog.text and "takes 10.0 GB more" in caplog.text


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def test_every_reader_gives_the_records(folder, records, tmp_path, capsys):
    command = ["data", "shard", "--data-dir", str(folder), "--output-dir", str(tmp_path / "out")]
    assert cli.main([*command, "--records-per-shard", "5"]) == 0
    printed = capsys.readouterr().out
    assert "12 records in 3 shards" in printed and "(3 written now, 0 before)" in printed
    out = tmp_path / "out"
    assert sorted(files(out)) == [
        "test-00000-of-00001.tar",
        *(f"train-0000{i}-of-00003.tar" for i in range(3)),
        "validation-00000-of-00001.tar",
    ]

    def plain(record):
        """Without the path and without None, which JSON leaves out."""
        return {k: v for k, v in record.items() if v is not None} | {"video": record["video"]["bytes"]}

    shards = find_shards(out)
    assert [len(shard) for shard in shards] == [5, 5, 2]
    ours = [shard[row] for shard in shards for row in range(len(shard))]
    assert [plain(record) for record in ours] == [plain(record) for record in records]
    assert ours[0]["subtitle"] == "Grüße, “you”" and ours[0]["start"] == 0.5

    theirs = load_dataset(
        "webdataset", data_files=str(out / "train-*.tar"), split="train", cache_dir=tmp_path / "cache"
    )
    theirs = theirs.cast_column("mp4", Video(decode=False))
    assert [
        {k: v for k, v in row["json"].items() if v is not None} | {"video": row["mp4"]["bytes"]} for row in theirs
    ] == [plain(record) for record in records]
    by_name = load_dataset(
        str(out), split="test", streaming=True
    )  # hidden files are not data, and the split is recognised
    assert [row["json"]["video_id"] for row in by_name.decode(False)] == ["test/test0000", "test/test0001"]

    # A second run writes nothing; packing bytes instead of files gives the same shards.
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert cli.main([*command, "--records-per-shard", "5"]) == 0
    assert "(0 written now, 3 before)" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    write_shards(records, tmp_path / "again", 5)
    assert files(tmp_path / "again").items() <= files(out).items()


def test_other_records_are_refused(records, tmp_path):
    write_shards(records[:4], tmp_path, 2)
    both = (
        r"holds train-00000-of-00002\.tar, train-00001-of-00002\.tar, made of other records or with another records_"
    )
    for others, size in ((records[1:5], 2), (records[:5], 2), (records[:4], 1)):
        with pytest.raises(ValueError, match=both):
            write_shards(others, tmp_path, size)
    with pytest.raises(ValueError, match=r"holds train-00000-of-00002\.tar, train-0"):  # as many shards, otherwise cut
        write_shards(records[:4], tmp_path, 3)
    write_shards(records[:5], tmp_path, 2, name="dev")
    (tmp_path / "mine-0.tar").touch()
    with pytest.raises(ValueError, match=r"holds mine-0\.tar, made of other records"):
        write_shards(records[:4], tmp_path, 2, name="mine")


def test_broken_and_missing_videos_are_named(records, tmp_path, capsys):
    broken = [
        {**record, "video": {"path": f"{i}.mp4", "bytes": b"no video" * 9}} if i in (1, 4) else record
        for i, record in enumerate(records[:6])
    ]
    with pytest.raises(VideoDecodingError):
        write_shards(broken, tmp_path / "out", 2)
    assert files(tmp_path / "out") == {}
    fewer = write_shards(records[:3], tmp_path / "out", 2, name="train")  # nothing refuses the next try
    assert fewer.num_written == 2
    for shard in fewer.shards:
        os.remove(shard.path)
    report = write_shards(broken, tmp_path / "out", 2, on_broken_video="skip")
    ids = [record["video_id"] for record in records]
    assert report.left_out == [ids[1], ids[4]] and report.num_records == 4
    assert "2 broken videos left out: " + ", ".join(report.left_out) in str(report)
    kept = [shard[row]["video_id"] for shard in find_shards(tmp_path / "out") for row in range(len(shard))]
    assert kept == [ids[0], ids[2], ids[3], ids[5]]
    again = write_shards(broken, tmp_path / "out", 2, on_broken_video="skip")
    assert (again.num_written, again.left_out) == (0, report.left_out)
    with pytest.raises(ValueError, match="All 1 videos in rows 1 to 1 are broken"):
        write_shards(broken, tmp_path / "single", 1, on_broken_video="skip")

    gone = {**records[0], "video": {"path": str(tmp_path / "gone.mp4"), "bytes": None}}
    for wrong, message in (
        ([records[1], gone], r"gone\.mp4 cannot be packed"),
        ([{**records[0], "extra": {1, 2}}], "fields that JSON can hold"),
        ([{**records[0], "extra": "\ud800"}], "fields that JSON can hold"),
        ([{**records[0], "video": {"path": "x.txt", "bytes": b"x"}}], r"x\.txt cannot be packed"),
        (
            [records[1], {**records[0], "video": {"path": str(tmp_path), "bytes": None}}],
            "Encode folders of frames",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            write_shards(wrong, tmp_path / "wrong", 1)
        assert not (tmp_path / "wrong").exists()
    assert cli.main(["data", "shard", "--data-dir", str(tmp_path / "none"), "--output-dir", str(tmp_path)]) == 2
    assert "error: No folder" in capsys.readouterr().err
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "gone.mp4", "caption": "x"}')
    assert cli.main(["data", "shard", "--data-dir", str(tmp_path), "--output-dir", str(tmp_path / "shards")]) == 2
    assert "error: 1 of 1 annotated videos have no file: gone." in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()


def test_absent_videos_are_skipped_and_counted(folder, tmp_path, capsys):
    shutil.copytree(folder / "test", tmp_path / "videos")
    (tmp_path / "videos" / "test0000.mp4").unlink()
    command = ["data", "shard", "--data-dir", str(tmp_path / "videos"), "--output-dir", str(tmp_path / "shards")]
    whole = [*command, "--split", "train+validation", "--on-broken-video"]
    assert cli.main([*whole, "raise"]) == 2 and cli.main([*whole, "skip"]) == 0
    printed = capsys.readouterr().out
    assert "train+validation: 1 of 2 videos" in printed and "1 records in 1 shards" in printed


def test_the_next_try_keeps_the_shards_before_a_broken_video(records, tmp_path):
    broken = {**records[4], "video": {"path": "4.mp4", "bytes": b"no video"}}
    with pytest.raises(VideoDecodingError):
        write_shards([*records[:4], broken, records[5]], tmp_path, 2)
    left = files(tmp_path)
    assert sorted(left) == ["train-00000-of-00003.tar", "train-00001-of-00003.tar"]
    for repaired in (records[:6], [*records[:4], records[5]]):  # the video is mended, or left out of the annotation
        report = write_shards(repaired, tmp_path, 2)
        assert report.num_written == 1 and files(tmp_path).items() >= left.items()
        os.remove(report.shards[2].path)


def test_a_killed_run_continues_to_the_same_bytes(folder, tmp_path, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    source = (folder / "train" / "train0001.mp4").read_bytes()
    with open(videos / "metadata.jsonl", "w") as metadata:
        for i in range(60):
            (videos / f"{i:03d}.mp4").write_bytes(source)
            metadata.write(json.dumps({"file_name": f"{i:03d}.mp4", "caption": str(i), "split": "train"}) + "\n")

    def command(out):
        return [
            "hf_videolang.cli",
            "data",
            "shard",
            "--data-dir",
            videos,
            "--split",
            "train",
            "--output-dir",
            tmp_path / out,
            "--records-per-shard",
            4,
        ]

    process = start(*command("killed"))
    shards = [tmp_path / "killed" / f"train-{i:05d}-of-00014.tar" for i in range(14)]  # 6 are held out
    while not shards[1].exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = [path for path in shards if path.exists()]
    assert 2 <= len(left) < 14
    made = {path: path.stat().st_mtime_ns for path in left}

    (tmp_path / "killed" / ".train-00012-of-00014.12345678.part.tar").write_bytes(b"half")
    assert cli.main([str(word) for word in command("killed")[1:]]) == 0
    output = capsys.readouterr().out
    assert "54 records in 14 shards" in output
    assert f"({14 - len(left)} written now, {len(left)} before)" in output
    assert {path: path.stat().st_mtime_ns for path in left} == made
    assert not list((tmp_path / "killed").glob(".*.part.tar"))
    assert cli.main([str(word) for word in command("unbroken")[1:]]) == 0
    assert files(tmp_path / "killed") == files(tmp_path / "unbroken")
    assert sum(len(shard) for shard in find_shards(tmp_path / "killed")) == 54
