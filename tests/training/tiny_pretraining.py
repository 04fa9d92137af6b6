"""A tiny model folder, tar shards of real videos and a recipe, for the tests of pre-training."""

from pathlib import Path

from tests.common.tiny.clip_vip import tiny_model, tiny_processor
from tests.data.shards.making_shards import write_clip_shards

RECIPE = """
per_device_train_batch_size: 8
per_device_eval_batch_size: 3
optim: decay_last_adamw
learning_rate: 1.0e-4
lr_scheduler_type: cosine
warmup_steps: 0.01
weight_decay: 0.05
adam_beta2: 0.98
adam_epsilon: 1.0e-6
max_grad_norm: 5.0
num_train_epochs: 4
save_steps: 3
logging_steps: 1
report_to: none
disable_tqdm: true
"""


def write_tiny_pretraining(folder: Path) -> Path:
    """Write `model`, `shards` (26 clips in 4 tars), `videos` (the same clips as a folder) and `recipe.yaml`."""
    tiny_model().save_pretrained(folder / "model")
    tiny_processor(60).save_pretrained(folder / "model")
    write_clip_shards(folder)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def words(tiny_pretraining: Path, output_dir: Path, *more) -> list[str]:
    data = ["--model", tiny_pretraining / "model", "--sources", tiny_pretraining / "shards"]
    return [str(word) for word in (tiny_pretraining / "recipe.yaml", *data, "--output_dir", output_dir, *more)]
