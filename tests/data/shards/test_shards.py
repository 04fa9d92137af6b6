"""Shards return the records that `tarfile`, `datasets` and pyarrow wrote, and errors name shard and sample."""

import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import threading

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value, Video, load_dataset
from torch.utils.data import DataLoader

from hf_videolang.data.records import clip_of
from hf_videolang.data.shards import tar_shard
from hf_videolang.data.shards.open_shards import count_clips, find_shards
from hf_videolang.video import VideoDecodingError
from tests.common.hub_stand_in import Handler, HubStandIn, Repository

SAMPLES = {
    "000": {"mp4": b"first video", "json": {"subtitle": "hello", "caption": "a cat", "video_id": "cat.1"}},
    "b.1/001": {"WEBM": b"second" * 500, "txt": "Grüße".encode(), "jpg": b"picture"},
    "002": {"mp4": b"third", "json": {"start": 1.5}},
}
EXPECTED = [
    {"video": b"first video", "subtitle": "hello", "caption": "a cat", "video_id": "cat.1"},
    {"video": b"second" * 500, "txt": "Grüße", "jpg": b"picture", "video_id": "b.1/001"},
    {"video": b"third", "start": 1.5, "video_id": "002"},
]


def write_tar(path, members):
    """`members`: name → bytes."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def members(samples=SAMPLES):
    return {
        f"{key}.{field}": json.dumps(value).encode() if field == "json" else value
        for key, sample in samples.items()
        for field, value in sample.items()
    }


def contents(shard):
    """Records in which bytes replace {"path", "bytes"}."""
    rows = [shard[row] for row in range(len(shard))]
    return [{k: v["bytes"] if isinstance(v, dict) else v for k, v in row.items()} for row in rows]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hf_videolang" / "shard_indices"


def identity(rows):
    return rows


def test_tar_gives_what_was_put_in(tmp_path):
    path = write_tar(
        tmp_path / "clips-7.tar",
        {"b/.hidden.mp4": b"x", "plain": b"x"}
        | members()
        | {"b/" + "long" * 60 + ".mp4": b"a name that needs its own header"},
    )
    (shard,) = find_shards(path)
    assert (shard.name, len(shard)) == ("clips-7", 4)
    assert contents(shard)[:3] == EXPECTED
    assert shard[3]["video"]["bytes"] == b"a name that needs its own header"
    assert shard[0]["video"]["path"] == f"{path}/000.mp4"
    assert contents(shard)[2] == contents(find_shards(tmp_path)[0])[2]  # any row first
    for row in (-1, 4):
        with pytest.raises(IndexError):
            shard[row]
    again = pickle.loads(pickle.dumps(shard))  # noqa: S301
    assert contents(again) == contents(shard) and len(pickle.dumps(shard)) < 500
    loader = DataLoader(shard, 1, collate_fn=identity, num_workers=2)
    assert [rows[0] for rows in loader] == [shard[row] for row in range(4)]


def test_only_headers_and_then_only_the_wanted_bytes_are_read(tmp_path, monkeypatch):
    large = {f"{i}.mp4": bytes([i]) * 2_000_000 for i in range(3)}
    path = str(write_tar(tmp_path / "large.tar", large))
    read = []

    class Counted(io.FileIO):
        def readinto(self, buffer):
            count = super().readinto(buffer)
            read.append(count)
            return count

        def read(self, size=-1):
            content = super().read(size)
            read.append(len(content))
            return content

    def open_counted(path, mode="rb", **_):
        return Counted(path, mode.replace("b", ""))

    monkeypatch.setattr(fsspec.filesystem("file"), "_open", open_counted)
    monkeypatch.setattr(tar_shard, "open", open_counted, raising=False)
    (shard,) = find_shards(path)
    assert len(shard) == 3 and 0 < sum(read) < 100_000
    read.clear()
    assert shard[1]["video"]["bytes"] == large["1.mp4"]
    assert 2_000_000 <= sum(read) < 2_100_000


def test_the_index_is_made_once_and_again_when_the_tar_changes(tmp_path, cache):
    path = write_tar(tmp_path / "a.tar", members())
    index = tmp_path / ".a.tar.index.parquet"
    assert len(find_shards(path)[0]) == 3
    made = index.stat().st_mtime_ns
    assert contents(find_shards(path)[0]) == EXPECTED and index.stat().st_mtime_ns == made
    assert find_shards(tmp_path)[0].path == str(path) and len(find_shards(tmp_path)) == 1  # the index is not a shard

    size = path.stat().st_size
    other = {**SAMPLES, "000": {**SAMPLES["000"], "mp4": b"other video"}, "003": {"mp4": b"fourth"}}
    write_tar(path, members(other))
    os.utime(path, ns=(1, 1))  # tars grow by 20 blocks of 512 bytes, so the size may stay equal
    assert path.stat().st_size == size
    assert [row["video"] for row in contents(find_shards(path)[0])] == [
        b"other video",
        b"second" * 500,
        b"third",
        b"fourth",
    ]
    index.write_bytes(b"no parquet")
    assert len(find_shards(path)[0]) == 4 and index.read_bytes() != b"no parquet"
    assert not cache.exists()


def test_shards_are_counted_at_once_and_a_bad_one_is_named(tmp_path, monkeypatch):
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", {f"{i}.mp4": b"x" for i in range(number + 1)})
    meeting, index_samples = threading.Barrier(3, timeout=60), tar_shard.index_samples

    def meet_and_index(file, path):
        meeting.wait()  # comes to nothing if one waits for another to end
        return index_samples(file, path)

    monkeypatch.setattr(tar_shard, "index_samples", meet_and_index)
    assert count_clips(find_shards(tmp_path)) == [1, 2, 3]
    assert count_clips(find_shards(tmp_path)) == [1, 2, 3]  # by the indices, without the others
    (tmp_path / "1.tar").write_bytes(b"no tar")
    monkeypatch.setattr(tar_shard, "index_samples", index_samples)
    with pytest.raises(ValueError, match=r"1\.tar is not a readable tar"):
        count_clips(find_shards(tmp_path))


def test_a_tar_that_was_replaced_unseen_is_not_read_at_wrong_places(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.mp4": b"a" * 10, "b.mp4": b"b" * 20})
    (shard,) = find_shards(path)
    assert [row["video"] for row in contents(shard)] == [b"a" * 10, b"b" * 20]
    time = path.stat().st_mtime_ns
    write_tar(path, {"b.mp4": b"b" * 20, "a.mp4": b"a" * 10})
    os.utime(path, ns=(time, time))
    for again in (shard, find_shards(path)[0]):  # a process at work, and one that comes later
        with pytest.raises(ValueError, match=r"a\.tar: b is not where the index says.*\.a\.tar\.index\.parquet"):
            again[1]
    (tmp_path / ".a.tar.index.parquet").unlink()
    assert [row["video"] for row in contents(find_shards(path)[0])] == [b"b" * 20, b"a" * 10]
    path.write_bytes(path.read_bytes()[:1030])
    with pytest.raises(ValueError, match="a is not where"):
        shard[1]


def test_only_hard_links_to_earlier_members_are_followed(tmp_path):
    def linked(kind, target, then=()):
        path = write_tar(tmp_path / "a.tar", {"a.mp4": b"a" * 600, "c.mp4": b"c"})
        with tarfile.open(path, "a") as tar:
            for name, linked in (("b.mp4", target), *then):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = kind, linked
                tar.addfile(link)
        return find_shards(path)[0]

    hard = linked(tarfile.LNKTYPE, "a.mp4", [("d.mp4", "b.mp4")])
    assert [row["video"]["bytes"] for row in hard] == [b"a" * 600, b"c", b"a" * 600, b"a" * 600]
    for kind, target in ((tarfile.SYMTYPE, "a.mp4"), (tarfile.LNKTYPE, "b.mp4"), (tarfile.LNKTYPE, "/etc/passwd")):
        shard = linked(kind, target)
        with pytest.raises(ValueError, match=r"a\.tar: b\.mp4 is .* a link to what .*--hard-dereference"):
            len(shard)


def test_a_large_video_stays_in_its_tar(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_shard, "LARGE", 1000)
    video, fields = os.urandom(3000), {"video_id": "long"}
    path = write_tar(tmp_path / "a.tar", members() | {"z.mp4": video, "z.json": json.dumps(fields).encode()})
    (shard,) = find_shards(path)
    row = shard[3]
    part = pickle.loads(pickle.dumps(row["video"]["bytes"]))  # noqa: S301
    assert row["video_id"] == "long" and clip_of(row, "z")["bytes"] == part and len(part) == 3000
    with part.open() as file:
        assert file.read(3000) == video
    with open(path, "r+b") as file:  # the tar is replaced
        file.seek(part.start - 512)
        file.write(bytes(512))
    with pytest.raises(ValueError, match="z is not where the index says"):
        shard[3]


def test_index_goes_to_the_cache_where_the_folder_is_closed(tmp_path, cache):
    path = write_tar(tmp_path / "a.tar", members())
    (tmp_path / ".a.tar.index.parquet").mkdir()  # root may write everywhere but here
    assert contents(find_shards(path)[0]) == EXPECTED
    (index,) = cache.iterdir()
    made = index.stat().st_mtime_ns
    assert contents(find_shards(path)[0]) == EXPECTED and index.stat().st_mtime_ns == made


def test_remote_shards(tmp_path, cache):
    files = fsspec.filesystem("memory")
    (local,) = find_shards(write_tar(tmp_path / "a.tar", members()))
    len(local)  # makes the index
    for name in ("a", "b"):
        files.pipe(f"/bucket/{name}.tar", (tmp_path / "a.tar").read_bytes())
    files.pipe("/bucket/.a.tar.index.parquet", (tmp_path / ".a.tar.index.parquet").read_bytes())
    shards = find_shards("memory://bucket/*.tar")
    assert [shard.name for shard in shards] == ["a", "b"]
    for shard, num_cached in zip(shards, (1, 2)):  # "a" came with an index, which is copied
        assert contents(shard) == EXPECTED
        assert len(list(cache.glob("*.parquet"))) == num_cached
    files.pipe("/bucket/c.parquet", parquet(tmp_path).read_bytes())
    assert contents(find_shards("memory://bucket/c.parquet")[0])[3] == {
        "video": b"video 3",
        "video_id": "id3",
        "caption": "c3",
    }
    files.rm("/bucket", recursive=True)


def pax_header(*facts):
    """An extended header for the member that follows."""
    text = b"".join(b"%d %s\n" % (len(fact) + 4, fact) for fact in facts)
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, len(text)
    return member.tobuf(tarfile.USTAR_FORMAT) + text.ljust(512, b"\0")


WRONG = {
    "twice": ({**members(), "000.mov": b"x"}, "these keys occur twice: 000.*data shard"),
    "two": (
        {"v.4.mp4": b"x", "v.5.mp4": b"y"},
        r"sample v has 2 videos among v\.\{4.mp4, 5.mp4\}.*first dot",
    ),
    "none": ({"v.json": b"{}"}, "sample v has no video"),
    "doubled": ({"v.mp4": b"x", "v.MP4": b"y"}, "sample v has 2 videos"),
    "empty": ({"README.md": b"x"}, "sample README has no video"),
    "nothing": ({}, "holds no samples"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_samples_are_named(tmp_path, name):
    entries, message = WRONG[name]
    path = write_tar(tmp_path / f"{name}.tar", entries)
    with pytest.raises(ValueError, match=rf"{name}\.tar.*{message}"):
        len(find_shards(path)[0])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[:1124], "truncated"),  # in a header
        (lambda data: data[:600], "unexpected end of data"),  # in a video
        (lambda data: data[:1024], "truncated or damaged: byte 1024"),  # between two members
        (lambda data: data[:1024] + b"\xff" * 512 + data[1536:], "truncated or damaged: byte 1024"),
        (lambda data: b"", "empty file"),
        (lambda data: pax_header(b"path=\xff.mp4", b"hdrcharset=BINARY") + data, "can't encode"),
        (lambda data: b"\x1f\x8b" + data[2:], "Unpack it if it is compressed"),
    ],
)
def test_damaged_tars_are_named(tmp_path, damage, message):
    path = write_tar(tmp_path / "bad.tar", members())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"bad\.tar.*{message}"):
        len(find_shards(path)[0])
    assert os.listdir(tmp_path) == ["bad.tar"]


@pytest.mark.parametrize(
    "text, message",
    [
        (b"{", "Expecting property name"),
        (b"[1]", r"it is \[1\]"),
        (b'{"video": 1}', "without"),
        (b'{"video_id": 7}', "must be a text"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_wrong_json_is_named(tmp_path, text, message):
    (shard,) = find_shards(write_tar(tmp_path / "a.tar", members() | {"x.mp4": b"x", "x.json": text}))
    assert len(shard) == 4 and shard[0]["subtitle"] == "hello"
    with pytest.raises(VideoDecodingError, match=rf"a\.tar/x: its text cannot be read: .*{message}"):
        shard[3]


def test_a_member_does_not_replace_the_video_or_its_id(tmp_path):
    for field in ("video", "video_id"):
        path = write_tar(tmp_path / f"{field}.tar", {"x.mp4": b"x", f"x.{field}": b"{}"})
        with pytest.raises(VideoDecodingError, match=rf"x: .* a member is called x\.{field}"):
            find_shards(path)[0][0]


def test_half_an_emoji_and_text_that_is_not_utf8(tmp_path):
    text = json.dumps({"subtitle": "a \U0001f642 b \U0001f642"})[:-8] + '", "video_id": "кошка"}'
    (shard,) = find_shards(write_tar(tmp_path / "a.tar", {"x.mp4": b"x", "x.json": text.encode()}))
    assert (shard[0]["subtitle"], shard[0]["video_id"]) == ("a \U0001f642 b ?", "кошка")
    (shard,) = find_shards(write_tar(tmp_path / "b.tar", {"x.mp4": b"x", "x.txt": b"\xff"}))
    with pytest.raises(VideoDecodingError, match=r"b\.tar/x: its text cannot be read: 'utf-8'"):
        shard[0]


def parquet(folder, columns=("video", "video_id", "caption"), rows=7, name="train-00000-of-00001"):
    """Written by `datasets`, in row groups of three."""
    kinds = {"video": Video(), "clip": Video(), "video_id": Value("string"), "caption": Value("string")}
    values = {
        "video": [{"bytes": f"video {i}".encode(), "path": f"{i}.mp4"} for i in range(rows)],
        "clip": [{"bytes": f"clip {i}".encode(), "path": None} for i in range(rows)],
        "video_id": [f"id{i}" for i in range(rows)],
        "caption": [f"c{i}" for i in range(rows)],
    }
    features = Features({column: kinds[column] for column in columns})
    path = folder / f"{name}.parquet"
    Dataset.from_dict({column: values[column] for column in columns}, features=features).to_parquet(path, batch_size=3)
    return path


def test_parquet_gives_what_datasets_wrote(tmp_path):
    path = parquet(tmp_path)
    (shard,) = find_shards(tmp_path)
    assert (shard.name, len(shard)) == ("train-00000-of-00001", 7)
    expected = load_dataset("parquet", data_files=str(path), split="train", cache_dir=tmp_path / "cache")
    expected = expected.cast_column("video", Video(decode=False))
    for row in (6, 0, 3, 2):
        assert shard[row] == expected[row]
    assert pickle.loads(pickle.dumps(shard))[4] == expected[4]  # noqa: S301
    with pytest.raises(IndexError):
        shard[7]
    (shard,) = find_shards(parquet(tmp_path, ("clip", "caption"), name="other"))
    assert shard[5] == {
        "video": {"bytes": b"clip 5", "path": f"{shard.path}/00000005"},
        "video_id": "other/00000005",
        "caption": "c5",
    }


def test_wrong_parquet_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.parquet has the columns \['caption'\]; expected a column 'video'"):
        len(find_shards(parquet(tmp_path, ("caption",), name="none"))[0])
    path = parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train-00000-of-00001\.parquet is not a Parquet file"):
        len(find_shards(path)[0])
    Dataset.from_dict({"video": [None]}, features=Features({"video": Video()})).to_parquet(tmp_path / "empty.parquet")
    empty = find_shards(tmp_path / "empty.parquet")[0][0]
    with pytest.raises(VideoDecodingError, match="cannot decode empty/00000000: its row holds no video"):
        clip_of(empty, empty["video_id"])


def test_a_parquet_file_that_was_cut_while_it_is_read_is_named(tmp_path):
    path = parquet(tmp_path)
    (shard,) = find_shards(path)
    assert shard[0]["video_id"] == "id0"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VideoDecodingError, match="its row cannot be read: .* is not a Parquet file"):
        shard[6]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"00001\.parquet"):
        shard[6]


def test_rows_of_parquet_do_not_choose_what_is_fetched_or_read(tmp_path, monkeypatch):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "inside.mp4").touch()
    (tmp_path / "shards" / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    paths = [str(tmp_path / "shards" / "inside.mp4"), "http://localhost/a.mp4", "/etc/passwd", "link.mp4"]
    paths[3] = str(tmp_path / "shards" / "link.mp4")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})  # `datasets` would pack the files
    videos = pa.array([{"path": path, "bytes": None} for path in paths], kind)
    pq.write_table(pa.table({"video": videos}), tmp_path / "shards" / "0.parquet")
    (shard,) = find_shards(tmp_path / "shards" / "0.parquet")
    assert shard[0]["video"]["path"] == paths[0]
    for row in (1, 2, 3):
        with pytest.raises(
            VideoDecodingError, match=f"0.parquet/0000000{row}: .*{paths[row]} leads outside of .*shards"
        ):
            shard[row]
    monkeypatch.setenv("HF_VIDEOLANG_TRUST_DATA", "1")
    assert [shard[row]["video"]["path"] for row in range(4)] == paths


@pytest.mark.parametrize(
    "fields",
    [
        {"start": float("nan"), "end": 2.0},
        {"end": float("inf")},
        {"start": "1"},
        {"video": {"path": 5, "bytes": None}},
        {"video": {"path": None, "bytes": "text"}},
    ],
)
def test_a_row_with_wrong_values_is_a_bad_clip(fields):
    with pytest.raises(VideoDecodingError, match="cannot decode x: its row"):
        clip_of({"video": {"path": "a.mp4", "bytes": None}, **fields}, "x")


def test_finding(tmp_path):
    for name in (
        "train-1.tar",
        "train-0.tar",
        "test-0.tar",
        "validation-0.parquet",
        ".hidden.tar",
        "notes.txt",
    ):
        (tmp_path / name).touch()
    names = {split: [s.name for s in find_shards(tmp_path, split)] for split in ("train", "validation", "test")}
    assert names == {"train": ["train-0", "train-1"], "validation": ["validation-0"], "test": ["test-0"]}
    assert [shard.name for shard in find_shards(f"{tmp_path}/t*-0.tar")] == ["test-0", "train-0"]
    with pytest.raises(ValueError, match="has no split 'dev'; it has train, validation, test"):
        find_shards(tmp_path, "dev")
    for source in (tmp_path / "none.tar", f"{tmp_path}/x*.tar", "nonesuch", "memory://nothing/*.tar"):
        with pytest.raises(FileNotFoundError, match="No such|matches no|does not exist"):
            find_shards(source)

    for folder in ("one", "two"):
        (tmp_path / "deep" / folder).mkdir(parents=True)
        (tmp_path / "deep" / folder / "0.tar").touch()
    assert [shard.name for shard in find_shards(tmp_path / "deep")] == ["one-0", "two-0"]
    (tmp_path / "deep" / "one" / "0.parquet").touch()
    with pytest.raises(ValueError, match="1 names belong to several shards: one-0"):
        find_shards(tmp_path / "deep")
    (tmp_path / "deep" / "two" / "0.tar").unlink()
    with pytest.raises(ValueError, match="1 names belong to several shards: 0"):
        find_shards(tmp_path / "deep")
    (tmp_path / "packed").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds neither shards \(\.tar, \.parquet\) nor videos"):
        find_shards(tmp_path / "packed")
    (tmp_path / "packed" / "a.tar.gz").touch()
    for source in (tmp_path / "packed", tmp_path / "packed" / "a.tar.gz", tmp_path / "packed" / "*"):
        with pytest.raises(FileNotFoundError, match=r"unpack .*a\.tar\.gz"):
            find_shards(source)

    odd = write_tar(tmp_path / "packed" / "clips[1].tar", {"a.mp4": b"a"})
    assert len(find_shards(odd)[0]) == 1
    (odd.parent / "metadata.parquet").touch()
    for source in (odd.parent, f"{odd.parent}/*"):  # neither an index nor metadata is a shard
        assert [shard.name for shard in find_shards(source)] == ["clips[1]"]


def test_video_folder_is_one_shard(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = [
        {"file_name": f"{name}.mp4", "subtitle": f"says {name}", "split": split, "start": start}
        for name, split, start in (("a", "train", None), ("b", "train", 2.0), ("c", "validation", None))
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (shard,) = find_shards(folder)
    assert (shard.name, len(shard)) == ("mine-train", 2)
    assert [shard[0], shard[1]] == [
        {"video": {"path": f"{folder}/a.mp4", "bytes": None}, "video_id": "a", "captions": [], "subtitle": "says a"},
        {
            "video": {"path": f"{folder}/b.mp4", "bytes": None},
            "video_id": "b",
            "captions": [],
            "subtitle": "says b",
            "start": 2.0,
            "end": None,
        },
    ]
    assert find_shards(folder, "validation")[0].name == "mine-validation"
    with pytest.raises(ValueError, match="no split 'test'; it has train, validation"):
        find_shards(folder, "test")
    (folder / "metadata.jsonl").unlink()
    (folder / "c.mp4").touch()
    (shard,) = find_shards(folder)  # all videos
    assert (shard.name, shard[0]["video_id"]) == ("mine-train", "c")


class DatasetHandler(Handler):
    """Serves the stand-in's repositories as datasets, and ranges of files."""

    def handle_request(self):
        self.path = self.path.replace("/api/datasets/", "/api/models/").replace("/datasets/", "/")
        super().handle_request()

    do_GET = do_HEAD = do_POST = handle_request

    def resolve(self, repo_id, revision, path):
        found, wanted = self.snapshot(repo_id, revision), self.headers.get("Range")
        if not (found and wanted and path in found[1]):
            return super().resolve(repo_id, revision, path)
        first, last = (int(number) for number in re.findall(r"\d+", wanted))
        content = found[1][path]
        part = content[first : last + 1]
        self.hub.ranges.append((path, first, len(part)))
        span = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        self.answer(206, part, Content_Range=span, X_Repo_Commit=found[0])


FROM_THE_HUB = """
import json
from hf_videolang.data.shards.open_shards import find_shards
shards = find_shards("me/videos")
counts = [len(shard) for shard in shards]
print("first sample", flush=True)
record = shards[1][0]
print(json.dumps([[shard.name for shard in shards], counts, record["subtitle"], record["video"]["bytes"].decode()]))
try:
    find_shards("me/videos", "dev")
except ValueError as error:
    print(error)
"""


def test_data_set_on_the_hub(tmp_path):
    path = write_tar(tmp_path / "train-0.tar", members())
    len(find_shards(path)[0])
    index = (tmp_path / ".train-0.tar.index.parquet").read_bytes()
    hub = HubStandIn()
    hub.ranges = []
    hub.server.RequestHandlerClass = type("DatasetHandlerOfHub", (DatasetHandler,), {"hub": hub})
    files = {f"train-{i}.tar": path.read_bytes() for i in (0, 1)} | {
        ".train-0.tar.index.parquet": index,
        "test-0.tar": b"",
    }
    with hub:
        hub.repositories["me/videos"] = Repository()
        hub.repositories["me/videos"].commit(files)
        run = subprocess.run(
            [sys.executable, "-c", FROM_THE_HUB],
            env=os.environ | hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
        )
    assert run.returncode == 0, run.stderr
    _, found, missing = run.stdout.splitlines()
    assert json.loads(found) == [["train-0", "train-1"], [3, 3], "hello", "first video"]
    assert missing == "me/videos has no split 'dev'; it has train, test."
    # train-0 came with its index, so nothing of it was read. Of train-1, the headers were read, then one sample: a
    # header, a video of one block, the header of the .json, and the .json.
    assert {name for name, *_ in hub.ranges} == {".train-0.tar.index.parquet", "train-1.tar"}
    size = len(json.dumps(SAMPLES["000"]["json"]))
    assert hub.ranges[-1] == ("train-1.tar", 0, 1536 + size)


def header(size, kind=tarfile.REGTYPE, name="x.mp4"):
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    return bytes(block)


def pax(text):
    return header(len(text), tarfile.XHDTYPE) + text + bytes(-len(text) % 512)


HOSTILE = {
    "a negative size": header(-1024) + bytes(2048),
    "a negative size of an extension": header(-1024, tarfile.XHDTYPE) + bytes(2048),
    "a negative size in an extension": pax(b"14 size=-1024\n") + header(0) + bytes(1024),
    "a terabyte": header(1 << 40) + bytes(2048),
    "a terabyte of a name": header(1 << 40, tarfile.GNUTYPE_LONGNAME) + bytes(2048),
    "a long extension": pax(b"1" * 250_000) + header(0) + bytes(1024),
    "extensions of extensions": pax(b"10 path=x\n") * 2000 + header(0) + bytes(1024),
    "a sparse map without end": pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n") + header(0) + bytes(1024),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_named_at_once(tmp_path, name):
    """They would loop for ever, take a minute, or fill the memory."""
    (tmp_path / "a.tar").write_bytes(HOSTILE[name])
    (shard,) = find_shards(tmp_path / "a.tar")
    with pytest.raises(ValueError, match="a.tar is not a readable tar"):
        len(shard)


def test_an_index_that_came_with_the_tar_does_not_choose_what_is_read(tmp_path):
    (shard,) = find_shards(write_tar(tmp_path / "a.tar", members()))
    path, stamp = tar_shard.find_index(shard.path)
    table = [tar_shard._read_row(path, 0)]
    table[0]["offsets"], table[0]["sizes"] = [512, 2048], [11, 1 << 40]
    tar_shard._write_index(tmp_path / ".a.tar.index.parquet", pa.Table.from_pylist(table), stamp)
    with pytest.raises(ValueError, match="a.tar: 000 lies outside; remove the index"):
        shard[0]


def test_an_index_with_other_columns_is_made_again(tmp_path):
    (shard,) = find_shards(write_tar(tmp_path / "a.tar", members()))
    path, stamp = tar_shard.find_index(shard.path)
    expected = list(tar_shard.TarShard(shard.path))
    for change in ({"sizes": ["1"]}, {"more": 1}):
        row = {**tar_shard._read_row(path, 0), **change}
        tar_shard._write_index(tmp_path / ".a.tar.index.parquet", pa.Table.from_pylist([row]), stamp)
        assert list(tar_shard.TarShard(shard.path)) == expected


def test_each_row_is_found_whatever_the_groups_of_the_index(tmp_path, monkeypatch):
    """Only the rows around it are read, so a process keeps no index in memory."""
    samples = {f"{number:03d}.mp4": bytes([number] * (1 + number % 7)) for number in range(50)}
    for size in (7, 50, 1000):
        monkeypatch.setattr(tar_shard, "ROWS_READ", size)
        folder = tmp_path / str(size)
        folder.mkdir()
        (shard,) = find_shards(write_tar(folder / "a.tar", samples))
        assert [row["video"]["bytes"] for row in shard] == list(samples.values())
