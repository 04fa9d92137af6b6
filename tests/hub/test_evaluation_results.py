"""Measured results in a card: metadata, table, replacement, post-processing apart."""

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard

from hf_videolang.hub.evaluation_results import BEGIN, END, add_evaluation
from hf_videolang.hub.model_card import build_model_card
from tests.common.tiny.clip_vip import tiny_config

SCORES = {
    "raw": {
        "text_to_video": {"R1": 0.5, "R5": 0.75, "MedianR": 1.5, "MeanR": 2.25},
        "video_to_text": {"R1": 0.4567891, "R5": 1.0, "MedianR": 1.0, "MeanR": 1.0},
    },
    "DSL": {"text_to_video": {"R1": 0.625, "R5": 0.875, "MedianR": 1.0, "MeanR": 2.0}},
}
EVALUATION = {
    "dataset": "msrvtt-1ka",
    "dataset_name": "MSR-VTT 1k-A",
    "split": "test",
    "scores": SCORES,
    "protocol": {"frames": 12, "ties": "original"},
}


def table(card: ModelCard) -> list[list[str]]:
    block = card.text.partition(BEGIN)[2].partition("<!--")[0]
    return [line.strip("| ").split(" | ") for line in block.strip().splitlines() if not line.startswith("| ---")]


def tiny_card() -> ModelCard:
    card = build_model_card(tiny_config(), None, "me/tiny")
    card.data.model_name = "tiny"
    return card


def test_raw_and_post_processed_scores_are_rows_and_entries_of_their_own():
    card = tiny_card()
    assert "Nothing has been measured yet." in card.text
    add_evaluation(card, **EVALUATION)
    protocol = "frames 12, ties original"
    assert table(card) == [
        [
            "data set",
            "split",
            "protocol",
            "direction",
            "post-processing",
            "R@1",
            "R@5",
            "median rank",
            "mean rank",
        ],
        ["MSR-VTT 1k-A", "test", protocol, "text to video", "raw", "50.0", "75.0", "1.5", "2.25"],
        ["MSR-VTT 1k-A", "test", protocol, "video to text", "raw", "45.7", "100.0", "1", "1"],
        ["MSR-VTT 1k-A", "test", protocol, "text to video", "DSL", "62.5", "87.5", "1", "2"],
    ]
    (index,) = yaml.safe_load(card.data.to_yaml())["model-index"]
    text_to_video = next(entry for entry in index["results"] if entry["task"]["type"] == "text-to-video-retrieval")
    assert text_to_video["dataset"] == {
        "name": "MSR-VTT 1k-A",
        "type": "msrvtt-1ka",
        "split": "test",
        "args": {"frames": 12, "ties": "original"},
    }
    assert [(m["name"], m["value"], m["args"]) for m in text_to_video["metrics"] if m["type"] == "recall_at_1"] == [
        ("R@1 (raw)", 50.0, {"post_processing": "raw"}),
        ("R@1 (DSL)", 62.5, {"post_processing": "DSL"}),
    ]


def test_words_behind_a_lost_mark_stay():
    card = tiny_card()
    card.text = card.text.replace(END, "My words.")
    add_evaluation(card, **EVALUATION)
    assert "My words." in card.text and len(table(card)) == 4


def test_what_others_measured_stays_in_the_metadata_and_is_not_ours():
    card = tiny_card()
    other = {"task_type": "asr", "dataset_type": "cv", "dataset_name": "CV", "metric_type": "wer"}
    card.data.eval_results = [EvalResult(**other, metric_value="20.0 ± 1.2")]
    add_evaluation(card, **EVALUATION)
    assert len(table(card)) == 4 and all("CV" not in row for row in table(card))
    assert card.data.eval_results[0].metric_value == "20.0 ± 1.2"


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"'recall'.*R<k>, MedianR, MeanR"):
        add_evaluation(tiny_card(), **{**EVALUATION, "scores": {"raw": {"text_to_video": {"recall": 1.0}}}})
