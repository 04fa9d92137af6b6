"""Cards of a user's own models: they say what the saved folder says, and nothing else."""

import pytest
from datasets import Dataset
from huggingface_hub import ModelCard
from transformers import Trainer, TrainingArguments

from hf_videolang.hub.model_card import build_model_card, write_model_card, write_training_card
from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel
from tests.common.hub_stand_in import metadata_errors
from tests.common.tiny.clip_vip import tiny_config, tiny_model, tiny_processor

VIDEO_PROCESSOR = {
    "num_frames": 32,
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 200, "width": 208},
    "resample": 2,
    "antialias": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}


def rows(card: ModelCard) -> dict[str, str]:
    """Two-column table of input and output: name → text."""
    section = card.text.partition("## Input and output")[2].partition("\n## ")[0]
    cells = [
        line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ") and line != "| | |"
    ]
    return dict(cells)


def test_the_card_tells_what_was_saved(tmp_path):
    folder = tmp_path / "my-model"
    tiny_model().save_pretrained(folder)
    tiny_processor(max_length=40).save_pretrained(folder)
    write_model_card(folder, license="mit", base_model="org/clip-vip-b16")
    card = ModelCard.load(folder / "README.md")

    assert card.data.to_dict() == {
        "base_model": "org/clip-vip-b16",
        "language": "en",
        "library_name": "transformers",
        "license": "mit",
        "metrics": ["recall"],
        "pipeline_tag": "feature-extraction",
        "tags": ["hf_videolang", "clip-vip", "video-text-retrieval", "arxiv:2209.06430"],
    }
    assert card.text.strip().startswith("# my-model\n")
    table = rows(card)
    assert table["frames"].startswith("4, spread evenly over the clip")
    assert table["frame size"].startswith("32 × 32, resized without keeping the aspect ratio")
    assert table["interpolation"] == "bicubic, without antialiasing"
    assert "at most 40 tokens" in table["text"]
    assert table["video tower"].startswith("patches of 8 × 8 on 32 × 32, 4 proxy tokens, temporal embedding of 4 rows")
    assert "32 numbers" in table["output"]
    assert str(tmp_path) not in card.content  # a card is published, so it must not show paths of this machine


def test_other_options_give_other_rows():
    card = build_model_card(
        tiny_config(frame_fusion="mean_pooling"),
        {"video_processor": VIDEO_PROCESSOR, "max_length": 32},
        "me/pooled",
    )
    table = rows(card)
    assert table["frame size"] == "shortest edge 224, then the centre 200 × 208"
    assert table["interpolation"] == "bilinear, with antialiasing"
    assert table["video tower"] == "patches of 8 × 8 on 32 × 32"
    assert "mean pooling" in card.text and "proxy tokens" not in table["video tower"]
    by_rate = {"video_processor": {**VIDEO_PROCESSOR, "fps": 2.0}}
    card = build_model_card(tiny_config(), by_rate, "me/by-rate")
    assert rows(card)["frames"] == "2.0 per second" and "A clip is seen as 2.0 frames a second:" in card.text


def test_a_model_without_tokenizer_says_so(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_processor().video_processor.save_pretrained(tmp_path)
    table = rows(ModelCard.load(write_model_card(tmp_path)))
    assert table["frames"].startswith("4, spread evenly")
    assert table["text"].startswith("no tokenizer was saved")


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"'clip_vip_text_model'; expected one of \['clip_vip'"):
        build_model_card(tiny_config().text_config, None, "me/tower")


def test_license_is_not_invented():
    assert "license" not in build_model_card(CLIPViPConfig(), None, "me/model").data.to_dict()


class CardTrainer(Trainer):
    def create_model_card(self, **kwargs) -> None:
        write_training_card(self, **kwargs)


def test_training_writes_its_settings_into_the_card(tmp_path):
    arguments = TrainingArguments(
        str(tmp_path / "run"),
        learning_rate=2.5e-6,
        seed=7,
        hub_model_id="me/run",
        report_to="none",
        use_cpu=True,
    )
    trainer = CardTrainer(tiny_model(), arguments, processing_class=tiny_processor())
    trainer.save_model()
    trainer.create_model_card(dataset="my kitchen", finetuned_from="org/clip-vip-b16", tags="cooking")
    card = ModelCard.load(tmp_path / "run" / "README.md")
    assert card.data.base_model == "org/clip-vip-b16"
    assert {"cooking", "generated_from_trainer", "video-text-retrieval"} <= set(card.data.tags)
    assert "Fine-tuned from `org/clip-vip-b16` on my kitchen" in card.text
    assert "- learning_rate: 2.5e-06" in card.text and "- seed: 7" in card.text
    assert 'from_pretrained("me/run")' in card.text
    assert "Compute" not in card.text  # it has not trained


def test_records_without_a_hub_dataset_and_a_local_start_are_named_but_not_linked(tmp_path):
    """`builder_name` of records made in memory is None, and a path is no `base_model`."""
    tiny_model().save_pretrained(tmp_path / "start")
    model = CLIPViPModel.from_pretrained(tmp_path / "start")
    arguments = TrainingArguments(str(tmp_path / "run"), report_to="none", use_cpu=True)
    records = Dataset.from_dict({"video_id": ["one"], "captions": [["a red square"]]})
    trainer = CardTrainer(model, arguments, train_dataset=records, processing_class=tiny_processor())
    trainer.state.log_history = [{"train_runtime": 150.0}]
    trainer.save_model()
    trainer.create_model_card(dataset="kitchen (videofolder)")
    card = ModelCard.load(tmp_path / "run" / "README.md")
    assert metadata_errors(card.content) == [] and not {"datasets", "base_model"} & card.data.to_dict().keys()
    assert "Fine-tuned from `start` (a local folder) on kitchen (videofolder) with" in card.text
    assert "Compute: 1 × CPU, 2.5 minutes" in card.text and str(tmp_path) not in card.content


def test_the_stand_in_refuses_what_the_hub_refuses():
    assert metadata_errors("---\ndatasets:\n- null\ntags: [1]\nlanguage: en\n---\n# Mine\n") == [
        '"tags" must be a string or a list of strings, not [1]',
        '"datasets" must be a string or a list of strings, not [null]',
    ]
    results = "model-index: [{results: [{dataset: {type: my folder}}, {dataset: {type: me/it-1.0}}]}]"
    assert metadata_errors(f"---\n{results}\n---\n") == ["\"dataset.type\" is 'my folder'"]
