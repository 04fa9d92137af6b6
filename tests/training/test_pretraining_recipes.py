"""The recipes of post-pretraining parse, state where each value is from, and hold the published values."""

import re

import pytest

from hf_videolang.training.pretraining_arguments import PretrainingArguments, PretrainingTrainingArguments
from hf_videolang.training.recipes import RECIPES, parse_recipe


@pytest.mark.parametrize(("size", "batch"), [("b32", 32), ("b16", 16)])
def test_recipe_holds_the_published_values(size, batch, tmp_path):
    words = [f"clip_vip/pretraining_{size}", "--sources", "clips", "--output_dir", str(tmp_path)]
    _, args, given = parse_recipe((PretrainingArguments, PretrainingTrainingArguments), words)
    published = {  # clip_vip §4, the row of pre-training and "Common"; §5.1 and §6 for texts and loss
        "num_train_epochs": 5,
        "per_device_train_batch_size": batch,
        "learning_rate": 5e-6,
        "weight_decay": 0.05,
        "max_grad_norm": 5.0,
        "num_frames": 12,
        "max_length": 70,
        "lr_multiplier": 1.0,
        "loss": "vsc_fc",
        "seed": 42,
        "video_text": "subtitle",
        "on_broken_video": "replace",
        "warmup_steps": 0.01,
        "lr_scheduler_type": "cosine",
        "adam_beta1": 0.9,
        "adam_beta2": 0.98,
        "adam_epsilon": 1e-6,
        "dataloader_num_workers": 8,
        "gradient_accumulation_steps": 1,
        "eval_steps": 1000,
        "save_steps": 0.01,
    }
    assert {key: given[key] for key in published} == published
    assert args.max_grad_norm == 5.0 and args.save_steps == 0.01  # 100 saves
    text = (RECIPES / f"clip_vip/pretraining_{size}.yaml").read_text()
    values = [line for line in text.splitlines() if re.match(r"\w+:", line)]
    assert len(values) == len(given) - 1  # sources come from the command line
    for line in values:
        assert re.search(r"# \[(config|paper|ours)\]", line), f"no source: {line}"
