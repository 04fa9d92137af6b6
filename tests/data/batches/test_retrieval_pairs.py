"""Batches for a pair scorer: one row a caption, negatives of other videos, draws by seed, epoch and caption alone."""

import pytest
import torch
from torch.utils.data import DataLoader

from hf_videolang.data.batches.retrieval_pairs import CaptionRows, RetrievalPairCollator
from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.data.moving_shapes import write_moving_shapes
from tests.common.tiny.clipbert import tiny_processor


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Videos with two, one and three captions, each naming its video."""
    folder = write_moving_shapes(tmp_path_factory.mktemp("shapes") / "videos", num_train=12, num_test=3, num_frames=8)
    dataset = load_dataset("videofolder", folder, "test")[0]
    found = dataset.to_list()
    for letter, record, count in zip("abc", found, (2, 1, 3)):
        record["captions"] = [f"{letter} {other}" for other in "xyz"[:count]]
    return type(dataset).from_list(found, features=dataset.features)


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(num_clips=2, fps=8, size={"longest_edge": 32})


def words(processor, batch):
    return processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)


def test_a_row_is_a_caption(records):
    rows = CaptionRows(records)
    assert len(rows) == 6
    assert [row["captions"] for row in rows] == [["a x"], ["a y"], ["b x"], ["c x"], ["c y"], ["c z"]]
    assert [row["video_id"] for row in rows] == [records[i]["video_id"] for i in (0, 0, 1, 2, 2, 2)]


def test_each_caption_comes_with_captions_of_other_videos(records, processor):
    collator = RetrievalPairCollator(processor, records, num_negatives=3)
    rows = CaptionRows(records)
    seen = {letter: set() for letter in "abc"}
    for epoch in range(30):
        collator.set_epoch(epoch)
        batch = collator([rows[1], rows[2], rows[5]])
        texts = words(processor, batch)
        assert texts[::4] == ["a y", "b x", "c z"]
        for video, letter in enumerate("abc"):
            others = texts[4 * video + 1 : 4 * video + 4]
            assert all(text[0] != letter for text in others)
            seen[letter] |= set(others)
    assert seen == {
        "a": {"b x", "c x", "c y", "c z"},
        "b": {"a x", "a y", "c x", "c y", "c z"},
        "c": {"a x", "a y", "b x"},
    }
    assert batch["pixel_values_videos"].shape == (3, 2, 2, 3, 32, 32)
    assert batch["labels"].tolist() == [1, 0, 0, 0] * 3
    assert batch["video_index"].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_draws_depend_on_seed_epoch_and_caption_alone(records, processor):
    def batches(seed=1, epoch=0, order=(3, 4), workers=0):
        collator = RetrievalPairCollator(processor, records, num_negatives=2, seed=seed)
        collator.set_epoch(epoch)
        rows = CaptionRows(records)
        loader = DataLoader([rows[i] for i in order], batch_size=2, collate_fn=collator, num_workers=workers)
        return next(iter(loader))

    first = batches()
    again, other_order = batches(workers=1), batches(order=(4, 3))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(first["pixel_values_videos"].flip(0), other_order["pixel_values_videos"])
    assert torch.equal(first["input_ids"][:3], other_order["input_ids"][3:])
    # two captions of one video see other clips of it
    assert not torch.equal(first["pixel_values_videos"][0], first["pixel_values_videos"][1])
    for other in (batches(seed=2), batches(epoch=1)):
        assert not torch.equal(first["pixel_values_videos"], other["pixel_values_videos"])


def test_a_broken_video_and_its_caption_are_replaced_together(records, processor, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    broken = records.to_list()
    broken[0]["video"]["path"] = str(tmp_path / "broken.mp4")
    broken = type(records).from_list(broken, features=records.features)
    batch = RetrievalPairCollator(processor, broken, on_broken_video="replace")([CaptionRows(broken)[0]])
    assert words(processor, batch)[0][0] in "bc" and batch["num_broken_videos"].tolist() == [1]
    assert words(processor, batch)[1][0] != words(processor, batch)[0][0]


def test_one_video_has_no_negatives(records, processor):
    with pytest.raises(ValueError, match="1 video to train on"):
        RetrievalPairCollator(processor, records.select([0]))
