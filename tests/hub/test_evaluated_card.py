"""An evaluation in the card of a folder: replaced, kept, written where there was none."""

from huggingface_hub import ModelCard

from hf_videolang.hub.evaluated_card import write_evaluation
from hf_videolang.hub.model_card import write_model_card
from tests.common.tiny.clip_vip import tiny_model
from tests.hub.test_evaluation_results import EVALUATION, table


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


def test_a_folder_without_card_gets_one_and_a_foreign_card_a_section(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    write_evaluation(tmp_path, **EVALUATION)
    assert len(table(ModelCard.load(tmp_path / "README.md"))) == 4

    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n\nWords.\n")
    write_evaluation(tmp_path, **EVALUATION)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.text.strip().startswith("# Mine\n\nWords.\n\n## Measured with hf_videolang")
    assert card.data.license == "mit" and len(table(card)) == 4
