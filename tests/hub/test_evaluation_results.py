"""Measured results in a card: metadata and table, in memory and in a folder."""

import yaml
from huggingface_hub import EvalResult, ModelCard

from hf_videolang.hub.evaluation_results import add_evaluation, write_evaluation
from hf_videolang.hub.model_card import BEGIN, END, build_model_card, write_model_card
from tests.common.tiny.clip_vip import tiny_config, tiny_model

SCORES = {
    "raw": {
        "text_to_video": {"R1": 0.5, "R5": 0.75, "MedianR": 1.5, "MeanR": 2.25},
        "video_to_text": {"R1": 0.4567891, "R5": 1.0, "MedianR": 1.0, "MeanR": 1.0},
    },
    "DSL": {"text_to_video": {"R1": 0.625, "R5": 0.875, "MedianR": 1.0, "MeanR": 2.0}},
}
EVALUATION = {
    "dataset": "msrvtt-1ka",
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


def test_raw_and_post_processed_scores_have_separate_rows_and_entries():
    card = tiny_card()
    assert "Nothing has been measured yet." in card.text
    add_evaluation(card, **EVALUATION)
    protocol = "frames 12, ties original"
    assert table(card) == [
        [
            "dataset",
            "split",
            "protocol",
            "direction",
            "post-processing",
            "R@1",
            "R@5",
            "median rank",
            "mean rank",
        ],
        ["msrvtt-1ka", "test", protocol, "text to video", "raw", "50.0", "75.0", "1.5", "2.25"],
        ["msrvtt-1ka", "test", protocol, "video to text", "raw", "45.7", "100.0", "1", "1"],
        ["msrvtt-1ka", "test", protocol, "text to video", "DSL", "62.5", "87.5", "1", "2"],
    ]
    (index,) = yaml.safe_load(card.data.to_yaml())["model-index"]
    text_to_video = next(entry for entry in index["results"] if entry["task"]["type"] == "text-to-video-retrieval")
    assert text_to_video["dataset"] == {
        "name": "msrvtt-1ka",
        "type": "msrvtt-1ka",
        "split": "test",
        "args": {"frames": 12, "ties": "original"},
    }
    assert [(m["name"], m["value"], m["args"]) for m in text_to_video["metrics"] if m["type"] == "recall_at_1"] == [
        ("R@1 (raw)", 50.0, {"post_processing": "raw"}),
        ("R@1 (DSL)", 62.5, {"post_processing": "DSL"}),
    ]


def test_chance_stands_below_the_raw_scores_and_beside_each_entry():
    card = tiny_card()
    chance = {"text_to_video": {"R1": 0.25, "R5": 1.0, "MedianR": 2.5, "MeanR": 2.5}}
    raw = {"text_to_video": SCORES["raw"]["text_to_video"]}
    add_evaluation(card, **{**EVALUATION, "scores": {"raw": raw, "DSL": SCORES["DSL"], "chance": chance}})
    assert [row[4:6] for row in table(card)[1:]] == [["raw", "50.0"], ["chance", "25.0"], ["DSL", "62.5"]]
    entries = [(entry.metric_name, entry.metric_args) for entry in card.data.eval_results]
    assert ("R@1 (DSL)", {"post_processing": "DSL", "chance": 25.0}) in entries
    assert not any("chance" in name for name, _ in entries)


def test_text_after_a_missing_end_mark_stays():
    card = tiny_card()
    card.text = card.text.replace(END, "My words.")
    add_evaluation(card, **EVALUATION)
    assert "My words." in card.text and len(table(card)) == 4


def test_results_of_others_stay_in_the_metadata_but_not_in_our_table():
    card = tiny_card()
    other = {"task_type": "asr", "dataset_type": "cv", "dataset_name": "CV", "metric_type": "wer"}
    card.data.eval_results = [EvalResult(**other, metric_value="20.0 ± 1.2")]
    add_evaluation(card, **EVALUATION)
    assert len(table(card)) == 4 and all("CV" not in row for row in table(card))
    assert card.data.eval_results[0].metric_value == "20.0 ± 1.2"


def test_a_second_evaluation_replaces_the_same_split_and_keeps_others(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    write_model_card(tmp_path / "model")
    again = {"raw": {"text_to_video": {"R1": 0.125}}}
    write_evaluation(tmp_path / "model", **EVALUATION)
    write_evaluation(tmp_path / "model", **{**EVALUATION, "split": "validation", "scores": again})
    write_evaluation(tmp_path / "model", **{**EVALUATION, "scores": again})
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert [(row[1], row[-1]) for row in table(card)[1:]] == [("validation", "12.5"), ("test", "12.5")]
    assert card.data.model_name == "model" and len(card.data.eval_results) == 2


def test_results_are_named_after_the_repository_if_there_is_one(tmp_path):
    tiny_model().save_pretrained(tmp_path / "out")
    for repo_id, name in ((None, "out"), ("me/kitchens", "kitchens"), (None, "kitchens")):
        write_evaluation(tmp_path / "out", repo_id, **EVALUATION)
        assert ModelCard.load(tmp_path / "out" / "README.md").data.model_name == name


def test_a_folder_without_card_gets_one_and_a_foreign_card_a_section(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    write_evaluation(tmp_path, **EVALUATION)
    assert len(table(ModelCard.load(tmp_path / "README.md"))) == 4

    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n\nWords.\n")
    write_evaluation(tmp_path, **EVALUATION)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.text.strip().startswith("# Mine\n\nWords.\n\n## Measured with hf_videolang")
    assert card.data.license == "mit" and len(table(card)) == 4


def test_names_from_data_change_nothing_but_their_cell():
    card = tiny_card()
    name = f"mine {END} | <b>\n| x"
    for _ in range(2):  # the second replaces the first
        add_evaluation(card, **{**EVALUATION, "dataset": name})
    rows = table(card)
    assert len(rows) == 4 and card.text.count(END) == 1
    assert rows[1][0] == "mine &lt;!-- end of measured results --&gt; &#124; &lt;b&gt; &#124; x"
