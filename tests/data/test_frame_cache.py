"""The cache changes no batch, stays within its limit, and never stands in the way of training."""

import errno
import logging
import os
import shutil
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from hf_videolang.data.batches.retrieval import RetrievalCollator
from hf_videolang.data.frame_cache import FrameCache
from hf_videolang.data.moving_shapes import write_moving_shapes
from tests.common.tiny.clip_vip import tiny_processor

FRAME_BYTES = 128 + 4 * 64 * 64 * 3  # of one entry: header, 4 frames of 64x64 pixels


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(max_length=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_moving_shapes(tmp_path_factory.mktemp("shapes") / "shapes", num_train=12, num_test=1)


@pytest.fixture(scope="module")
def dataset(folder):
    """Six videos as files, one of them cut, and two as bytes."""
    files = sorted((folder / "train").glob("*.mp4"))[:6]
    rows = [{"video": {"path": str(file), "bytes": None}, "start": None, "end": None} for file in files]
    rows[1]["start"], rows[1]["end"] = 0.5, 1.5
    for row in rows[4:]:
        path = row["video"]["path"]
        row["video"] = {"path": f"shard.tar/{os.path.basename(path)}", "bytes": Path(path).read_bytes()}
    captions = [f"caption {i}" for i in range(5)]
    return Dataset.from_list([{**row, "video_id": f"v{i}", "captions": captions} for i, row in enumerate(rows)])


def batches(collate, dataset, epoch, workers=0):
    collate.set_epoch(epoch)
    return list(DataLoader(dataset, 3, collate_fn=collate, num_workers=workers))


def same(left, right, keys=None):
    return all(
        torch.equal(one[key], other[key])
        for one, other in zip(left, right, strict=True)
        for key in keys or one.keys() | other.keys()
    )


def entries(cache):
    return sorted(file.name for file in cache.folder.glob("??/*.npy"))


def test_batches_are_equal_to_the_bit(processor, dataset, tmp_path, monkeypatch):
    cache = FrameCache(tmp_path / "cache", num_draws=2)
    plain = RetrievalCollator(processor, dataset, training=True, seed=3)
    cached = RetrievalCollator(processor, dataset, training=True, seed=3, frame_cache=cache)
    expected = [batches(plain, dataset, epoch) for epoch in range(4)]
    for epoch in (0, 1):
        assert same(batches(cached, dataset, epoch), expected[epoch])
        assert len(entries(cache)) == 6 * (epoch + 1)
    assert not same(expected[0], expected[1], ["pixel_values_videos"])

    def refuse(*_):
        raise AssertionError("a video was decoded again")

    monkeypatch.setattr(type(processor.video_processor), "fetch_videos", refuse)
    # The draws of frames come round again, those of the captions do not.
    for epoch in (0, 1, 2, 3):
        again = batches(cached, dataset, epoch)
        assert same(again, expected[epoch % 2], ["pixel_values_videos"])
        assert same(again, expected[epoch], ["input_ids"])
    for one, other in pairwise(expected):
        assert not same(one, other, ["input_ids"])


def test_evaluation_finds_what_evaluation_left(processor, dataset, tmp_path):
    cache = FrameCache(tmp_path / "cache")
    plain = batches(RetrievalCollator(processor, dataset, training=False), dataset, 0)
    for _ in range(2):
        cached = RetrievalCollator(processor, dataset, training=False, frame_cache=cache)
        assert same(batches(cached, dataset, 0), plain)
        assert len(entries(cache)) == 6
    more_frames = tiny_processor(max_length=20)
    more_frames.video_processor.num_frames = 5
    plain = batches(RetrievalCollator(more_frames, dataset, training=False), dataset, 0)
    cached = RetrievalCollator(more_frames, dataset, training=False, frame_cache=cache)
    assert same(batches(cached, dataset, 0), plain)


def test_a_changed_video_is_another(processor, folder, tmp_path):
    path = tmp_path / "video.mp4"
    row = {"video": {"path": str(path), "bytes": None}, "video_id": "v", "captions": ["x"]}
    cache = FrameCache(tmp_path / "cache")
    seen = []
    for number in (0, 1):
        shutil.copy(folder / "train" / f"train000{number}.mp4", path)
        os.utime(path, ns=(number, number))
        collate = RetrievalCollator(processor, Dataset.from_list([row]), training=False, frame_cache=cache)
        seen.append(collate([row])["pixel_values_videos"])
        assert torch.equal(
            seen[-1],
            RetrievalCollator(processor, Dataset.from_list([row]), False)([row])["pixel_values_videos"],
        )
    assert not torch.equal(*seen)


def test_what_cannot_be_read_is_decoded_anew(processor, dataset, tmp_path, caplog):
    cache = FrameCache(tmp_path / "cache")
    cached = RetrievalCollator(processor, dataset, training=False, frame_cache=cache)
    expected = batches(cached, dataset, 0)
    first, second, *_ = sorted(cache.folder.glob("??/*.npy"))
    first.write_bytes(first.read_bytes()[:1000])
    second.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert same(batches(cached, dataset, 0), expected)
    assert caplog.text.count("cannot read") == 2 and str(first) in caplog.text
    assert first.stat().st_size == second.stat().st_size == FRAME_BYTES


def test_the_limit_holds_and_is_told_once(processor, dataset, tmp_path, caplog):
    cache = FrameCache(tmp_path / "cache", max_gigabytes=2.5 * FRAME_BYTES / 1e9)
    cached = RetrievalCollator(processor, dataset, training=False, frame_cache=cache)
    plain = batches(RetrievalCollator(processor, dataset, training=False), dataset, 0)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert same(batches(cached, dataset, 0), plain)
    assert len(entries(cache)) == 2 and cache.used_gigabytes() == 2 * FRAME_BYTES / 1e9
    assert caplog.text.count("takes no more clips") == 1 and "has reached its" in caplog.text
    assert "GB used, 1 draw of frames" in str(cache)


def test_a_full_disk_does_not_stop_training(processor, dataset, tmp_path, caplog, monkeypatch):
    cached = RetrievalCollator(processor, dataset, training=False, frame_cache=FrameCache(tmp_path / "cache"))

    def save(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", save)
    with caplog.at_level(logging.WARNING):
        batch = batches(cached, dataset, 0)
    assert same(batch, batches(RetrievalCollator(processor, dataset, training=False), dataset, 0))
    assert caplog.text.count("No space left on device") == 1
    assert not list((tmp_path / "cache").rglob("*.npy"))


def fill(folder, videos, barrier):
    cache = FrameCache(folder)
    barrier.wait()
    for number, video in enumerate(videos):
        frames = torch.full((4, 64, 64, 3), number, dtype=torch.uint8).permute(0, 3, 1, 2)
        assert torch.equal(cache.frames(video, ["settings"], lambda frames=frames: frames), frames)


def test_many_processes_share_a_folder(processor, dataset, tmp_path):
    cache = FrameCache(tmp_path / "cache")
    cached = RetrievalCollator(processor, dataset, training=True, frame_cache=cache)
    plain = RetrievalCollator(processor, dataset, training=True)
    for _ in range(2):
        assert same(batches(cached, dataset, 0, workers=2), batches(plain, dataset, 0))
    assert len(entries(cache)) == 6 and cache.used_gigabytes() == 6 * FRAME_BYTES / 1e9

    # Two processes that write the same entries at the same time, and one another's next ones.
    videos = [{"bytes": bytes([number])} for number in range(100)]
    context = get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=fill, args=(tmp_path / "both", videos, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    both = FrameCache(tmp_path / "both")  # which counts again
    assert len(entries(both)) == 100 and both.used_gigabytes() == 100 * FRAME_BYTES / 1e9
    leftover = both.folder / "aa" / ".dead.1234.part.npy"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    (both.folder / "bytes").write_bytes(b"%20d" % 10**15)  # of processes that were killed before they wrote
    assert FrameCache(tmp_path / "both").used_gigabytes() == both.used_gigabytes() == 100 * FRAME_BYTES / 1e9
    assert not leftover.exists()


def test_wrong_settings(tmp_path):
    with pytest.raises(ValueError, match="max_gigabytes=0, num_draws=1; expected"):
        FrameCache(tmp_path, max_gigabytes=0)
    with pytest.raises(ValueError, match="num_draws=0"):
        FrameCache(tmp_path, num_draws=0)
