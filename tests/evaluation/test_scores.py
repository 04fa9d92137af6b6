"""Scores for people and for logs."""

from hf_videolang.data.protocol import Protocol
from hf_videolang.evaluation.scores import flat_scores, higher_is_better, mean_rank_beside, protocol_line, score_table

SCORES = {
    "raw": {
        "text_to_video": {"R1": 0.25, "R10": 1.0, "MedianR": 2.0, "MeanR": 2.125},
        "video_to_text": {"R1": 0.5, "R10": 1.0, "MedianR": 1.5, "MeanR": 1.5},
    },
    "QB-Norm": {
        "text_to_video": {"R1": 0.125, "R10": 0.9, "MedianR": 3.0, "MeanR": 12.0},
        "video_to_text": {"R1": 1.0, "R10": 1.0, "MedianR": 1.0, "MeanR": 1.0},
    },
}


def test_the_table_shows_shares_in_per_cent_and_ranks_as_they_are():
    assert score_table({**SCORES, "chance": SCORES["raw"]}).splitlines() == [
        "                            raw  QB-Norm   chance",
        "text to video R1           25.0     12.5     25.0",
        "              R10         100.0     90.0    100.0",
        "              MedianR       2.0      3.0      2.0",
        "              MeanR         2.1     12.0      2.1",
        "video to text R1           50.0    100.0     50.0",
        "              R10         100.0    100.0    100.0",
        "              MedianR       1.5      1.0      1.5",
        "              MeanR         1.5      1.0      1.5",
    ]


def test_names_in_a_log():
    flat = flat_scores({**SCORES, "chance": SCORES["raw"]}, "eval_")
    assert len(flat) == 16
    assert flat["eval_text_to_video_R1"] == 0.25 and flat["eval_text_to_video_R1_QB-Norm"] == 0.125
    lower = {name for name in flat if not higher_is_better(name)}
    assert lower == {name for name in flat if "MedianR" in name or "MeanR" in name}


def test_the_mean_rank_beside_a_metric():
    names = flat_scores(SCORES)
    assert mean_rank_beside("text_to_video_R1") == "text_to_video_MeanR"
    assert {mean_rank_beside(name) for name in names} == {name for name in names if "MeanR" in name}
    assert mean_rank_beside("eval_loss") == "eval_loss"


def test_the_line_names_dataset_and_settings():
    protocol = Protocol("my videos", "retrieval", "test", {"videos": 5, "captions": 10}, {}, "metadata.jsonl")
    assert protocol_line(protocol, {"frames": 4, "ties": "original"}) == f"{protocol}; frames: 4; ties: original"
