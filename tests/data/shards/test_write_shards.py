"""`hf-videolang data shard`: every reader gets the same records, and a killed run ends with the same bytes."""

import filecmp
import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
from datasets import Video, load_dataset

from hf_videolang import cli
from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.data.records import clip_of
from hf_videolang.data.shards import tar_shard
from hf_videolang.data.shards.open_shards import find_shards
from hf_videolang.data.shards.tar_shard import TarShard
from hf_videolang.data.shards.write_shards import write_shards
from hf_videolang.video import VideoDecodingError, decode_video
from hf_videolang.video.video_inputs import video_source
from tests.common.forks import Fork


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 videos to train, of which two are cut, 1 to validate, 2 to test."""
    folder = write_moving_shapes(tmp_path_factory.mktemp("shapes") / "shapes", num_train=12, num_test=2)
    metadata = folder / "train" / "metadata.jsonl"
    rows = [json.loads(line) | {"subtitle": None} for line in metadata.read_text().splitlines()]
    rows[0] |= {"subtitle": "Grüße, “you”", "start": 0.5, "end": 1.5}
    shutil.copy(folder / "test" / "test0000.mp4", folder / "train" / "another.mp4")
    rows.append(rows[0] | {"file_name": "another.mp4", "caption": "another time", "start": 1.0, "end": None})
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


def decoded(shards):
    """video_id → frames of each record."""
    frames = {}
    for row in (shard[row] for shard in shards for row in range(len(shard))):
        source, start, end = video_source(clip_of(row, row["video_id"]))
        frames[row["video_id"]] = decode_video(source, start=start, end=end, timeout=None).frames
    return frames


def segments(folder, number=30):
    """So many segments of two videos, in turns."""
    paths = [str(folder / "train" / f"train000{video}.mp4") for video in (1, 2)]
    return [
        {
            "video": {"path": paths[row % 2], "bytes": None},
            "video_id": f"{row % 2}#{row}",
            "start": row / 100,
            "end": row / 100 + 0.5,
        }
        for row in range(number)
    ]


def test_segments_share_their_video(folder, tmp_path, monkeypatch):
    records = segments(folder)
    sizes = [os.path.getsize(record["video"]["path"]) for record in records]
    report = write_shards(records, tmp_path / "out")
    (shard,) = report.shards
    assert "28 records are links to the video of another record" in str(report)
    assert "28 records are links" in str(write_shards(records, tmp_path / "out"))  # nothing is written now
    # A record adds three blocks of 512 bytes: headers of link and JSON, and the JSON. A tar fills records of 10,240.
    assert os.path.getsize(shard.path) < sum(sizes[:2]) + 30 * 3 * 512 + 2 * 10_240 < sum(sizes) / 2
    assert [shard[row]["video_id"] for row in range(30)] == [f"{v}#{row}" for v in (0, 1) for row in range(v, 30, 2)]

    (tmp_path / "copies").mkdir()
    for row, record in enumerate(records):  # a tar with the video of each record, by another program
        shutil.copy(record["video"]["path"], tmp_path / "copies" / f"{row:09d}.mp4")
    subprocess.run(["tar", "-xf", shard.path, "-C", tmp_path / "copies", "--wildcards", "*.json"], check=True)
    subprocess.run(["tar", "-cf", tmp_path / "copies.tar", "--sort=name", "-C", tmp_path / "copies", "."], check=True)
    assert os.path.getsize(tmp_path / "copies.tar") > sum(sizes)
    expected = decoded([TarShard(str(tmp_path / "copies.tar"))])
    assert len(expected) == 30
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", shard.path, "-C", tmp_path / "unpacked"], check=True)
    for row, record in enumerate(records):
        assert filecmp.cmp(tmp_path / "unpacked" / f"{row:09d}.mp4", record["video"]["path"], shallow=False)
    monkeypatch.setattr(tar_shard, "LARGE", 1000)
    in_place = decoded([shard])
    monkeypatch.undo()
    for found in (decoded([shard]), in_place):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_records_of_one_video_stay_in_one_shard_where_they_fit(folder, tmp_path):
    def packed(out, size, records):
        shards = write_shards(records, tmp_path / out, size).shards
        return [[shard[row]["video_id"][0] for row in range(len(shard))] for shard in shards]

    records = segments(folder, 6)
    assert packed("two", 4, records) == [["0"] * 3, ["1"] * 3]
    assert packed("all", 6, records) == [["0"] * 3 + ["1"] * 3]
    assert packed("more", 2, records) == [["0"] * 2, ["0"], ["1"] * 2, ["1"]]
    again = write_shards([with_bytes(record) for record in records], tmp_path / "bytes", 4)
    assert files(tmp_path / "bytes") == files(tmp_path / "two") and again.num_written == 2
    os.remove(again.shards[1].path)
    assert write_shards(records, tmp_path / "bytes", 4).num_written == 1
    assert files(tmp_path / "bytes") == files(tmp_path / "two")


def test_a_broken_video_of_many_records_leaves_no_empty_shard(folder, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    records = segments(folder, 6)
    for record in records[::2]:
        record["video"] = {"path": str(broken), "bytes": None}
    report = write_shards(records, tmp_path / "out", 3, on_broken_video="skip")
    assert (len(report.shards), report.num_records) == (1, 3) and report.left_out == ["0#0", "0#2", "0#4"]
    with pytest.raises(VideoDecodingError):
        write_shards(records, tmp_path / "raise", 3)


def test_shards_are_packed_again_without_copies(folder, tmp_path, monkeypatch):
    (shard,) = write_shards(segments(folder), tmp_path / "out").shards
    for limit in (tar_shard.LARGE, 1000):
        monkeypatch.setattr(tar_shard, "LARGE", limit)
        (again,) = write_shards(shard, tmp_path / str(limit)).shards
        assert os.path.getsize(again.path) == os.path.getsize(shard.path)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def test_every_reader_gives_the_records(folder, records, tmp_path, capsys):
    command = ["data", "shard", "--data-dir", str(folder), "--output-dir", str(tmp_path / "out")]
    assert cli.main([*command, "--records-per-shard", "5"]) == 0
    printed = capsys.readouterr().out
    assert "links" not in printed
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
        {**record, "video": {"path": f"{i}.mp4", "bytes": b"no video" * (9 + i)}} if i in (1, 4) else record
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

    process = Fork(*command("killed"))
    shards = [tmp_path / "killed" / f"train-{i:05d}-of-00014.tar" for i in range(14)]  # 6 are held out
    while not shards[1].exists():
        assert process.poll() is None, process.communicate()[0]
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
