"""Which kept batches are used again, and which folders are refused."""

import os
import shutil

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset

from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.evaluation.batch_parts import BatchParts

THIRD = 1 / 3  # needs every bit


@pytest.fixture
def dataset(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "videos", tmp_path / "videos")
    return load_dataset("videofolder", tmp_path / "videos", "test")[0]


def open_parts(tmp_path, dataset, batch_size=2, skipping=False, **provenance):
    return BatchParts(tmp_path / "parts", dataset, batch_size, Accelerator(cpu=True), provenance, skipping)


def encoded(rows, broken=0):
    index = torch.tensor(rows)
    return {
        "video_index": index,
        "video_embeds": index[:, None] * THIRD + torch.tensor([THIRD, 1e-30]),
        "caption_index": 2 * index,
        "text_embeds": index[:, None] - torch.tensor([THIRD, 0]),
        "num_broken_videos": torch.tensor([broken]),
        "halves": index[:, None, None].bfloat16() / 3,
        "nothing": torch.zeros(0, 5, dtype=torch.bool),
    }


def test_batches_come_back_to_the_bit(tmp_path, dataset):
    parts = open_parts(tmp_path, dataset)
    assert parts.missing == [0, 2, 4] and parts.stored == []
    parts.write(2, encoded([2, 3]))
    parts.write(4, encoded([4]))
    again = open_parts(tmp_path, dataset)
    assert again.missing == [0]
    for part, written in zip(again.stored, (encoded([2, 3]), encoded([4])), strict=True):
        torch.testing.assert_close(part, written, rtol=0, atol=0)
    again.remove()
    assert not (tmp_path / "parts").exists()


def test_a_part_holds_the_arrays_themselves(tmp_path, dataset):
    """Lists of numbers would take twice the bytes, and 41 ms a batch."""
    embeds = torch.randn(200, 512)
    open_parts(tmp_path, dataset).write(0, {"text_embeds": embeds, "num_broken_videos": torch.zeros(1)})
    (part,) = (tmp_path / "parts").glob("*.parquet")
    assert embeds.nbytes < os.path.getsize(part) < embeds.nbytes + 10_000


def test_batches_with_changed_or_skipped_videos_are_encoded_again(tmp_path, dataset):
    parts = open_parts(tmp_path, dataset)
    parts.write(1, encoded([1], broken=1))  # row 0 is broken, but the batch begins with it
    parts.write(3, encoded([2, 3]))
    assert open_parts(tmp_path, dataset, skipping=True).missing == [4]
    assert open_parts(tmp_path, dataset).missing == [0, 4]
    os.utime(dataset[3]["video"]["path"], ns=(1, 1))
    assert open_parts(tmp_path, dataset, skipping=True).missing == [2, 4]


def test_a_changed_picture_in_a_frame_folder_is_a_changed_video(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    pictures = [folder / f"frames_{number:03d}.jpg" for number in range(3)]
    for picture in pictures:
        picture.write_bytes(b"old")
    dataset = Dataset.from_dict(
        {"video": [{"path": str(folder), "bytes": None}], "video_id": ["frames"], "captions": [["a"]]}
    )
    open_parts(tmp_path, dataset).write(0, encoded([0]))
    assert open_parts(tmp_path, dataset).missing == []
    pictures[1].write_bytes(b"new!")  # in place, so the date of the folder stays
    assert open_parts(tmp_path, dataset).missing == [0]


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_damaged_part_is_encoded_again(tmp_path, dataset, kept):
    parts = open_parts(tmp_path, dataset)
    parts.write(0, encoded([0, 1]))
    parts.write(3, encoded([2, 3]))
    file = tmp_path / "parts" / "00000002.parquet"
    file.write_bytes(file.read_bytes()[:kept])
    again = open_parts(tmp_path, dataset)
    assert again.missing == [2, 4] and len(again.stored) == 1
    again.write(2, encoded([2, 3]))
    assert open_parts(tmp_path, dataset).missing == [4]


def test_another_provenance_is_refused(tmp_path, dataset):
    open_parts(tmp_path, dataset, model="a")
    with pytest.raises(ValueError, match="model: 'a' there, 'b' now"):
        open_parts(tmp_path, dataset, model="b")
    with pytest.raises(ValueError, match="batch_size: 2 there, 3 now"):
        open_parts(tmp_path, dataset, batch_size=3, model="a")
    with pytest.raises(ValueError, match="annotations: .*records: 5 there, 4 now"):
        open_parts(tmp_path, dataset.select(range(4)), model="a")
    other = dataset.map(lambda row: {"captions": [text.upper() for text in row["captions"]]})
    with pytest.raises(ValueError, match="annotations: '.*' there"):
        open_parts(tmp_path, other, model="a")
