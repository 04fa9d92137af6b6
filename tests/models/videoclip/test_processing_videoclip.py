"""Texts, videos and features in one call; folders that neighbouring libraries load."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor

from hf_videolang.data.moving_shapes import write_video
from hf_videolang.models.videoclip.processing_videoclip import VideoCLIPProcessor
from hf_videolang.models.videoclip.video_processing_videoclip import VideoCLIPVideoProcessor
from tests.common.tiny.videoclip import SECONDS, VOCABULARY, tiny_model, tiny_processor


def unit_rows(seconds: int, dtype=np.float16) -> np.ndarray:
    rows = np.random.default_rng(seconds).standard_normal((seconds, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


def ids(*entries: str) -> list[int]:
    return [VOCABULARY.index(entry) for entry in entries]


def test_text_is_plain_bert_and_padded_to_the_longest():
    batch = tiny_processor()(text=["Ab c", "a"])
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].tolist() == [
        ids("[CLS]", "a", "##b", "c", "[SEP]"),
        ids("[CLS]", "a", "[SEP]", "[PAD]", "[PAD]"),
    ]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1] * 3 + [0] * 2]


def test_long_text_is_cut_and_keeps_its_end():
    processor = tiny_processor()
    found = processor(text="a b c d e f g h i j k l m")["input_ids"][0].tolist()
    assert len(found) == 12 and found[-1] == VOCABULARY.index("[SEP]")
    assert processor(text="a b c d", max_length=4)["input_ids"].shape == (1, 4)
    assert VideoCLIPProcessor(VideoCLIPVideoProcessor(), processor.tokenizer).max_length == 63


def test_features_are_cut_padded_and_masked():
    rows = [unit_rows(9), torch.from_numpy(unit_rows(2))]
    batch = tiny_processor()(video_features=rows, text="a")
    assert batch["video_features"].shape == (2, SECONDS, 16) and batch["video_features"].dtype == torch.float32
    assert batch["video_attention_mask"].tolist() == [[1] * 6, [1, 1, 0, 0, 0, 0]]
    assert torch.equal(batch["video_features"][0], torch.from_numpy(rows[0][:6]).float())
    assert not batch["video_features"][1, 2:].any() and "input_ids" in batch
    alone = tiny_processor()(video_features=rows[0])
    assert torch.equal(alone["video_features"][0], batch["video_features"][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"video_features": 3 * unit_rows(4)}, r"norms from 3 to 3; .*rows of norm 1. Divide each row"),
        ({"video_features": np.nan * unit_rows(4)}, "norms from nan to nan"),
        ({"video_features": unit_rows(4)[0]}, r"shape \(16,\); expected \[seconds, width\]"),
        ({"video_features": unit_rows(4)[:0]}, r"shape \(0, 16\)"),
        ({"video_features": unit_rows(4), "videos": "a.mp4"}, "pass one of them"),
    ],
)
def test_wrong_features_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor()(text="a", **arguments)


def test_a_model_of_raw_rows_takes_them():
    assert tiny_processor(unit_features=False)(video_features=3 * unit_rows(4))["video_features"].shape == (1, 4, 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videoclip")
    tiny_model(with_s3d=True).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = np.random.default_rng(0).integers(0, 256, (30, 40, 60, 3), np.uint8)
    return str(write_video(tmp_path_factory.mktemp("video") / "lesson.mp4", frames, 12))


@torch.no_grad()
def test_four_lines(folder, video):
    processor, model = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder)
    assert type(processor) is VideoCLIPProcessor
    assert type(AutoVideoProcessor.from_pretrained(folder)) is VideoCLIPVideoProcessor
    assert processor.to_dict() == tiny_processor().to_dict()
    inputs = processor(videos=video, text=["ab", "c"], return_tensors="pt")
    shares = model(**inputs).logits_per_video.softmax(-1)
    assert shares.shape == (1, 2) and torch.allclose(shares.sum(), torch.tensor(1.0))
    # What the model makes of the video, it makes of the rows that were made beforehand.
    rows = torch.nn.functional.normalize(
        model.s3d(inputs["pixel_values_videos"], inputs["video_attention_mask"]).video_features[0], dim=-1
    )
    stored = processor(video_features=rows.half(), text=["ab", "c"])
    torch.testing.assert_close(model(**stored).video_embeds, model(**inputs).video_embeds, atol=2e-3, rtol=0)
