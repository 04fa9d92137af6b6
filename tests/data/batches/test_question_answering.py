"""Batches of questions: what is drawn depends on seed, epoch and question alone; a video is read once."""

import logging

import numpy as np
import pytest
import torch

from hf_videolang.data import load_dataset
from hf_videolang.data.batches.question_answering import QuestionAnsweringCollator
from hf_videolang.data.moving_shapes import write_video
from hf_videolang.video import VideoDecodingError
from tests.common.questions import WORDS, choices_of, write_question_folder, write_questions
from tests.common.tiny.clipbert import tiny_processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four seconds of grey that grows lighter, so that each frame shows its time."""
    folder = write_question_folder(tmp_path_factory.mktemp("questions") / "folder")
    for name in WORDS:
        grey = np.linspace(0, 250, 48).round().astype(np.uint8)
        write_video(folder / f"{name}.mp4", [np.full((48, 64, 3), value) for value in grey])
    return folder


def records_of(folder, rows):
    write_questions(folder, rows)
    return load_dataset(str(folder))[0].sort("question_id")


def collate(records, rows=None, training=True, head="open", answers=WORDS, clips=2, epoch=0, **options):
    processor = tiny_processor(num_clips=clips, size={"longest_edge": 32}, **options.pop("processor", {}))
    collator = QuestionAnsweringCollator(processor, records, training, head, answers, **options)
    collator.set_epoch(epoch)
    return collator([records[row] for row in (rows if rows is not None else range(len(records)))])


OPEN = [
    {"file_name": f"{n}.mp4", "question": f"{word} is it?", "answer": n} for n in WORDS for word in ("what", "who")
]


def test_draws_depend_on_epoch_and_question_alone(folder):
    records = records_of(folder, OPEN)
    batch = collate(records)
    assert batch["pixel_values_videos"].shape == (8, 2, 2, 3, 32, 32)
    assert batch["labels"].tolist() == [WORDS.index(answer) for answer in records["answer"]]
    alone = collate(records, rows=[5])
    assert torch.equal(alone["pixel_values_videos"][0], batch["pixel_values_videos"][5])
    assert not torch.equal(batch["pixel_values_videos"][4], batch["pixel_values_videos"][5])  # of one video
    assert not torch.equal(collate(records, epoch=1)["pixel_values_videos"], batch["pixel_values_videos"])


def test_in_evaluation_a_video_is_read_once(folder):
    records = records_of(folder, OPEN)
    batch = collate(records, rows=[0, 1, 2, 5], training=False)
    assert batch["pixel_values_videos"].shape[0] == 3 and batch["input_ids"].shape[0] == 4
    ids = [records[row]["video_id"] for row in (0, 1, 2, 5)]
    assert batch["video_index"].tolist() == [0, 0, 1, 2] and ids[0] == ids[1]
    assert batch["question_index"].tolist() == [0, 1, 2, 5]
    assert torch.equal(
        batch["pixel_values_videos"], collate(records, [0, 1, 2, 5], False, epoch=1)["pixel_values_videos"]
    )


def test_labels_of_each_head(folder):
    soft = [{"file_name": "red.mp4", "question": "?", "answers": {"red": 1, "blue": 0.3, "pink": 0.9}}]
    assert collate(records_of(folder, soft), head="soft")["labels"].tolist() == [[1, 0, pytest.approx(0.3), 0]]
    assert collate(records_of(folder, soft), head="open")["labels"].tolist() == [0]
    count = [{"file_name": "red.mp4", "question": "?", "answer": 3}]
    assert collate(records_of(folder, count), head="count")["labels"].tolist() == [3.0]
    rows = [choices_of("blue"), {**choices_of("red"), "choices": ["blue", "red"]}]
    batch = collate(records_of(folder, rows), head="multiple_choice")
    assert batch["labels"].tolist() == [2, 1] and batch["input_ids"].shape[:2] == (2, 4)
    assert batch["attention_mask"][1].any(dim=-1).tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="some training questions have no answer that the model can give"):
        collate(records_of(folder, [{"file_name": "red.mp4", "question": "?", "answer": "pink"}]))


def test_broken_and_very_wide_videos_are_replaced_in_training(folder):
    (folder / "broken.mp4").write_bytes(b"no video")
    write_video(folder / "wide.mp4", [np.zeros((16, 96, 3), np.uint8)] * 12)
    rows = [*OPEN[:4], *({"file_name": f"{n}.mp4", "question": "?", "answer": "red"} for n in ("broken", "wide"))]
    records = records_of(folder, rows)
    broken = records["question_id"].index("broken#q1")
    with pytest.raises(VideoDecodingError, match=r"broken\.mp4"):
        collate(records)
    with pytest.raises(VideoDecodingError, match="beyond an aspect ratio of 5:1"):
        collate(records, rows=[records["question_id"].index("wide#q1")])
    batch = collate(records, rows=[broken, records["question_id"].index("wide#q1"), 1], on_broken_video="replace")
    assert batch["num_broken_videos"].tolist() == [2] and len(batch["labels"]) == 3
    left = collate(records, training=False, on_broken_video="skip")
    assert broken not in left["question_index"] and len(left["question_index"]) == 5  # the wide one is read
    nothing = collate(records, rows=[broken], training=False, on_broken_video="skip")
    assert nothing["question_index"].tolist() == [] and nothing["input_ids"].shape[0] == 1
    assert nothing["pixel_values_videos"].shape == (1, 2, 1, 3, 32, 32)


def test_questions_that_are_cut_are_counted(folder, caplog):
    logging.Logger.warning_once.cache_clear()
    rows = [{"file_name": "red.mp4", "question": q, "answer": "red"} for q in ("what is it?", "what is it? " * 9)]
    records = records_of(folder, rows)
    assert collate(records)["num_cut_questions"].tolist() == [1]
    assert collate(records, training=False)["question_is_cut"].tolist() == [0, 1]
    assert caplog.text.count("questions are cut at max_length, 12 tokens") == 1
