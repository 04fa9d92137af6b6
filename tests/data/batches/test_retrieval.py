import logging
import threading

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from hf_videolang.data import load_dataset
from hf_videolang.data.batches.clip_reader import LEAD, read_ahead
from hf_videolang.data.batches.retrieval import RetrievalCollator
from hf_videolang.data.moving_shapes import write_moving_shapes, write_video
from hf_videolang.video import VideoDecodingError, decode_video
from tests.common.tiny.clip_vip import NUM_FRAMES, tiny_processor

CAPTIONS = [f"caption {i}" for i in range(6)]


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(max_length=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_moving_shapes(tmp_path_factory.mktemp("shapes") / "shapes", num_train=12, num_test=4)
    (folder / "test" / "broken.mp4").write_bytes((folder / "test" / "test0003.mp4").read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def dataset(folder):
    """Twelve videos with one to six captions each."""
    found, _ = load_dataset(str(folder), split="train+validation")
    return found.map(lambda row, index: {"captions": CAPTIONS[: 1 + index % 6]}, with_indices=True)


@pytest.fixture
def broken(folder, dataset):
    """Row 1 of three does not decode."""
    rows = [
        dataset[0],
        {**dataset[1], "video": {"path": str(folder / "test" / "broken.mp4"), "bytes": None}},
        dataset[2],
    ]
    return Dataset.from_list([{**row, "video_id": str(i)} for i, row in enumerate(rows)])


def rows_of(dataset):
    return [dataset[i] for i in range(len(dataset))]


def drawn(processor, batch):
    texts = processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    return ["caption " + text.replace(" ", "")[-1] for text in texts]  # the tiny tokenizer has no merges


def test_evaluation_takes_every_caption_and_says_whose_it_is(processor, dataset):
    collate = RetrievalCollator(processor, dataset, training=False)
    records = [dataset[i] for i in (9, 2)]  # 4 and 3 captions
    batch = collate(records)
    assert drawn(processor, batch) == CAPTIONS[:4] + CAPTIONS[:3]
    assert batch["video_index"].tolist() == [9, 2]
    assert batch["caption_video_index"].tolist() == [9] * 4 + [2] * 3
    # rows 0..5 have 1 + 2 + ... + 6 captions, rows 6, 7, 8 have 1 + 2 + 3; row 2 comes after 1 + 2
    assert batch["caption_index"].tolist() == [27, 28, 29, 30, 3, 4, 5]
    assert batch["num_broken_videos"].tolist() == [0]
    expected = processor(videos=[record["video"]["path"] for record in records], text=["x"])
    torch.testing.assert_close(batch["pixel_values_videos"], expected["pixel_values_videos"], rtol=0, atol=0)
    again = collate(records)
    assert all(torch.equal(batch[key], again[key]) for key in batch)


def test_training_draws_one_caption_and_jitters_frames(processor, dataset):
    collate = RetrievalCollator(processor, dataset, training=True, seed=7)
    batches = []
    for epoch in range(40):
        collate.set_epoch(epoch)
        batches.append(collate([dataset[5]]))
    assert {text for batch in batches for text in drawn(processor, batch)} == set(CAPTIONS)
    assert batches[0].keys() == {"input_ids", "attention_mask", "pixel_values_videos", "num_broken_videos"}
    # Which frames were they? 24 frames, 4 taken, step 24 // 3 = 8 (clip_vip §5.2): first of 0..8, last of 15..23.
    frames = processor(videos=[dataset[5]["video"]["path"]], num_frames=24)["pixel_values_videos"][0]
    firsts, lasts = set(), set()
    for batch in batches:
        distances = torch.cdist(batch["pixel_values_videos"][0].flatten(1), frames.flatten(1))
        indices = distances.argmin(1).numpy()
        assert distances.min(1).values.max() == 0
        np.testing.assert_array_equal(indices, np.linspace(indices[0], indices[-1], NUM_FRAMES).astype(int))
        firsts.add(int(indices[0]))
        lasts.add(int(indices[-1]))
    assert firsts <= set(range(9)) and len(firsts) > 4
    assert lasts <= set(range(15, 24)) and len(lasts) > 4


@pytest.mark.parametrize("num_workers, batch_size", [(2, 5), (0, 2)])
def test_draws_depend_on_seed_epoch_and_video_alone(processor, dataset, num_workers, batch_size):
    """Neither on workers nor on the company in the batch; `set_epoch` reaches workers that live on."""
    collate = RetrievalCollator(processor, dataset, training=True, seed=7)
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )
    epochs = []
    for epoch in (0, 1):
        collate.set_epoch(epoch)
        batches = list(loader)
        epochs.append(
            {key: torch.cat([batch[key] for batch in batches]) for key in ("input_ids", "pixel_values_videos")}
        )
        alone = RetrievalCollator(processor, dataset, training=True, seed=7)
        alone.set_epoch(epoch)
        singles = [alone([record]) for record in rows_of(dataset)]
        for key, value in epochs[-1].items():
            assert torch.equal(value, torch.cat([single[key] for single in singles]))
    assert not torch.equal(epochs[0]["input_ids"], epochs[1]["input_ids"])
    assert not torch.equal(epochs[0]["pixel_values_videos"], epochs[1]["pixel_values_videos"])
    other = RetrievalCollator(processor, dataset, training=True, seed=8)([dataset[i] for i in range(12)])
    assert not torch.equal(other["input_ids"], epochs[0]["input_ids"])


def test_segments_are_cut(processor, folder):
    video = {"path": str(folder / "test" / "test0000.mp4"), "bytes": None}
    common = {"video": video, "captions": ["x"]}
    records = [
        {**common, "video_id": "a", "start": 1.0, "end": None},
        {**common, "video_id": "b", "start": 0.5, "end": 1.0},
    ]
    batch = RetrievalCollator(processor, Dataset.from_list(records), training=False)(records)
    # 12 frames a second: frames 12..23, and frames 6..11
    for clip, indices in zip(batch["pixel_values_videos"], ([12, 15, 19, 23], [6, 7, 9, 11])):
        frames = decode_video(video["path"], indices).frames
        expected = processor(videos=[frames], do_sample_frames=False)["pixel_values_videos"][0]
        torch.testing.assert_close(clip, expected, rtol=0, atol=0)


def test_bytes_in_the_record(processor, dataset):
    record = dataset[3]
    with open(record["video"]["path"], "rb") as file:
        in_memory = {**record, "video": {"path": None, "bytes": file.read()}}
    collate = RetrievalCollator(processor, dataset, training=False)
    assert torch.equal(collate([record])["pixel_values_videos"], collate([in_memory])["pixel_values_videos"])


def test_one_frame_has_no_jitter(dataset):
    processor = tiny_processor()
    processor.video_processor.num_frames = 1
    batch = RetrievalCollator(processor, dataset, training=True)([dataset[0]])
    assert batch["pixel_values_videos"].shape[:2] == (1, 1)


def test_broken_video_raises(processor, broken):
    collate = RetrievalCollator(processor, broken, training=True)
    with pytest.raises(VideoDecodingError, match="broken.mp4"):
        collate(rows_of(broken))
    with pytest.raises(VideoDecodingError, match="^cannot decode .*broken.mp4"):  # out of a worker as well
        list(DataLoader(broken, batch_size=3, collate_fn=collate, num_workers=1))


@pytest.mark.parametrize("training", [True, False])
def test_broken_video_is_skipped_and_counted(processor, broken, training, caplog):
    collate = RetrievalCollator(processor, broken, training, on_broken_video="skip")
    with caplog.at_level(logging.WARNING):
        batch = collate(rows_of(broken))
    assert batch["num_broken_videos"].tolist() == [1] and "Skipping a clip: cannot decode" in caplog.text
    assert "broken.mp4" in caplog.text
    whole = RetrievalCollator(processor, broken, training)([broken[0], broken[2]])
    for key in whole.keys() - {"num_broken_videos"}:
        assert torch.equal(batch[key], whole[key])
    if not training:
        assert batch["caption_index"].tolist() == [
            0,
            3,
            4,
            5,
        ]  # one, two (of the broken video) and three captions
    if training:
        with pytest.raises(ValueError, match="All 2 videos of a batch are broken"):
            collate([broken[1], broken[1]])
        return
    nothing = collate([broken[1]])  # a stand-in of the usual shapes for the model, and no index
    assert [len(nothing[f"{name}_index"]) for name in ("video", "caption", "caption_video")] == [0, 0, 0]
    assert nothing["pixel_values_videos"].shape[2:] == batch["pixel_values_videos"].shape[2:]
    assert nothing["num_broken_videos"].tolist() == [1] and len(nothing["input_ids"]) == 1


def test_broken_video_is_replaced_and_counted(processor, broken, dataset, caplog):
    collate = RetrievalCollator(processor, broken, training=True, on_broken_video="replace")
    with caplog.at_level(logging.WARNING):
        batch = collate([broken[0], broken[1]])
    assert batch["num_broken_videos"].tolist() == [1] and "Replacing a clip: cannot decode" in caplog.text
    # only row 2 is left to take its place: one caption of its three, its colour in the frames
    assert len(batch["input_ids"]) == len(batch["pixel_values_videos"]) == 2
    colours = [clip.amax((0, 2, 3)) for clip in batch["pixel_values_videos"]]
    third = collate([broken[2]])["pixel_values_videos"][0].amax((0, 2, 3))
    assert (colours[1] - third).abs().max() < 0.2 < (colours[0] - third).abs().max()
    again = collate([broken[0], broken[1]])
    assert all(torch.equal(batch[key], again[key]) for key in batch)
    with pytest.raises(VideoDecodingError, match="broken.mp4"):  # nobody is left
        collate(rows_of(broken))


def test_the_replacement_does_not_depend_on_the_others_in_the_batch(processor, folder, dataset):
    rows = rows_of(dataset)
    rows[0] = {**rows[0], "video": {"path": str(folder / "test" / "broken.mp4"), "bytes": None}}
    collate = RetrievalCollator(processor, Dataset.from_list(rows), training=True, on_broken_video="replace", seed=1)
    replacements = [collate([rows[0], other])["pixel_values_videos"][0] for other in rows[1:]]
    equal = [sum(torch.equal(one, another) for another in replacements) for one in replacements]
    assert max(equal) >= len(replacements) - 1  # but where the first choice is itself in the batch


def test_clips_are_made_ahead_but_few_at_a_time():
    made = []

    def work(number):
        made.append(number)
        if number == 7:
            raise KeyError(number)
        return -number

    threads, seen = threading.active_count(), []
    with pytest.raises(KeyError, match="7"):
        for result in read_ahead(work, range(20)):
            seen.append(result)
            assert len(made) <= len(seen) + LEAD
    assert seen == [0, -1, -2, -3, -4, -5, -6] and threading.active_count() == threads
    results = read_ahead(work, range(5))
    assert next(results) == 0
    results.close()
    assert threading.active_count() == threads
    assert list(read_ahead(work, range(2))) == [0, -1] and list(read_ahead(work, [])) == []


def test_records_without_captions(processor, dataset):
    with pytest.raises(ValueError, match=rf"{dataset[0]['video_id']} has no caption, or only blank ones: \['', ' '\]"):
        RetrievalCollator(processor, dataset, training=True)([{**dataset[0], "captions": ["", " "]}])


def test_a_dataset_without_captions(processor, dataset):
    with pytest.raises(ValueError, match=r"columns \['video', 'video_id'\]; retrieval needs captions"):
        RetrievalCollator(processor, dataset.remove_columns("captions"), training=True)


def test_pictures_four_pixels_wide_are_no_channels(processor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 4, 4, 3), dtype=np.uint8)
    path = str(write_video(tmp_path / "small.mp4", list(pixels)))
    row = {"video": {"path": path, "bytes": None}, "video_id": "small", "captions": ["a few pixels"]}
    batch = RetrievalCollator(processor, Dataset.from_list([row]), training=False)([row])
    expected = processor(videos=[path], text=["a few pixels"])
    assert torch.equal(batch["pixel_values_videos"], expected["pixel_values_videos"])
