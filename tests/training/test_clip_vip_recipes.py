"""Every recipe of CLIP-ViP parses and has the values of clip_vip §4."""

import re

import pytest
import yaml

from hf_videolang.data.load_dataset import BENCHMARKS
from hf_videolang.training.pretraining_arguments import PretrainingArguments, PretrainingTrainingArguments
from hf_videolang.training.recipes import RECIPES, parse_recipe
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments

FOLDER = RECIPES / "clip_vip"
PRETRAINING = ("pretraining_b16", "pretraining_b32")


def parse(name, tmp_path):
    """The value of every key, and the values that the recipe gives."""
    types = (RetrievalArguments, RetrievalTrainingArguments)
    data = ("--data_dir", "videos")
    if name in PRETRAINING:
        types, data = (PretrainingArguments, PretrainingTrainingArguments), ("--sources", "clips")
    arguments, training_args, given = parse_recipe(types, [f"clip_vip/{name}", *data, "--output_dir", str(tmp_path)])
    return vars(training_args) | vars(arguments), given


# clip_vip §4: epochs, batch a GPU, learning rate, weight decay, clipping, frames, text, factor on logit_scale.
TABLE = {
    "pretraining_b32": (5, 32, 5e-6, 0.05, 5.0, 12, 70, 1),
    "pretraining_b16": (5, 16, 5e-6, 0.05, 5.0, 12, 70, 1),
    "msrvtt_b32": (100, 16, 1e-6, 0.2, 1.0, 12, 50, 1),
    "msrvtt_b16": (100, 16, 1e-6, 0.2, 1.0, 12, 50, 1),
    "didemo_b32": (20, 16, 1e-6, 0.2, 1.0, 12, 50, 1),
    "didemo_b16": (20, 16, 1e-6, 0.2, 1.0, 12, 70, 10),
    "lsmdc_b32": (10, 16, 1e-6, 0.2, 1.0, 12, 50, 1),
    "lsmdc_b16": (10, 16, 1e-6, 0.2, 1.0, 12, 50, 1),
    "activitynet_b32": (20, 16, 1e-6, 0.2, 1.0, 32, 70, 1),
    "activitynet_b16": (20, 8, 1e-6, 0.2, 1.0, 32, 70, 1),
}
COLUMNS = (
    "num_train_epochs",
    "per_device_train_batch_size",
    "learning_rate",
    "weight_decay",
    "max_grad_norm",
    "num_frames",
    "max_length",
    "lr_multipliers",
)
# clip_vip §4, "Common", and §3, §6 for clamp, loss and evaluation.
COMMON = {
    "max_logit_scale": 5.298317366548036,
    "seed": 42,
    "warmup_steps": 0.01,
    "lr_scheduler_type": "cosine",
    "optim": "decay_last_adamw",
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "dataloader_num_workers": 8,
    "gradient_accumulation_steps": 1,
    "eval_strategy": "steps",
}
FINETUNING = {"loss": "contrastive", "eval_steps": 100, "eval_on_start": True, "load_best_model_at_end": True}
PRETRAINING_ONLY = {  # §5.1 and §6 for texts and loss
    "loss": "vsc_fc",
    "video_text": "subtitle",
    "on_broken_video": "replace",
    "eval_steps": 1000,
    "save_steps": 0.01,  # 100 saves
    "load_best_model_at_end": False,
}
# clip_vip §9: text to video R@1, R@5, R@10, and after DSL.
PUBLISHED = {
    "msrvtt_b32": ("50.1 / 74.8 / 84.6", "55.9 / 77.0 / 86.8"),
    "msrvtt_b16": ("54.2 / 77.2 / 84.8", "57.7 / 80.5 / 88.2"),
    "didemo_b32": ("48.6 / 77.1 / 84.4", "53.8 / 79.6 / 86.5"),
    "didemo_b16": ("50.5 / 78.4 / 87.1", "55.3 / 82.0 / 89.3"),
    "lsmdc_b32": ("25.6 / 45.3 / 54.4", "26.0 / 46.4 / 54.9"),
    "lsmdc_b16": ("29.4 / 50.6 / 59.0", "30.7 / 51.4 / 60.6"),
    "activitynet_b32": ("51.1 / 78.4 / 88.3", "59.1 / 83.9 / 91.3"),
    "activitynet_b16": ("53.4 / 81.4 / 90.0", "61.4 / 85.7 / 92.6"),
}
OURS = ("vatex_b32", "youcook2_b32", "my_videos")


@pytest.mark.parametrize("name", TABLE)
def test_recipes_have_the_published_values(name, tmp_path):
    values, _ = parse(name, tmp_path)
    *row, factor = TABLE[name]
    expected = dict(zip(COLUMNS, [*row, None if factor == 1 else {"logit_scale": factor}], strict=True)) | COMMON
    expected |= PRETRAINING_ONLY if name in PRETRAINING else FINETUNING
    assert {key: values[key] for key in expected} == expected
    data, size = name.split("_")
    assert values["model"] == f"clip-vip-{'start-' if data == 'pretraining' else ''}{size}"
    text = (FOLDER / f"{name}.yaml").read_text()
    if name in PUBLISHED:
        assert values["dataset"] == ("msrvtt-1ka" if data == "msrvtt" else data)
        assert "R@1 / R@5 / R@10 {}, after DSL {} (clip_vip §9)".format(*PUBLISHED[name]) in text
        assert f"pretrain_clipvip_base_{size[1:]}.pt" in text


@pytest.mark.parametrize("name", [*PUBLISHED, *OURS])
def test_validation_chooses_the_checkpoint(name, tmp_path):
    values, given = parse(name, tmp_path)
    assert values["select_on"] == "validation" and values["train_split"] == "train" and given["data_dir"] == "videos"
    assert values["metric_for_best_model"] == "text_to_video_R1" and values["eval_steps"] == values["save_steps"]
    assert values["dataset"] in (*BENCHMARKS, "videofolder")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_names_its_output_folder_and_itself(path):
    text = path.read_text()
    if path.stem in (*PUBLISHED, *PRETRAINING, "vatex_b32", "youcook2_b32"):
        assert yaml.safe_load(text)["output_dir"] == path.stem and f"clip_vip/{path.name}" in text
    if path.stem in OURS:
        assert "Published" not in text and not re.search(r"\[(config|paper)\]", text)


def test_there_is_a_recipe_for_every_row_and_nothing_else():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*TABLE, *OURS, "finetuning", "pretraining"}
