"""What the tests of pre-training share: a tiny model folder, tar shards of real videos, a recipe."""

from pathlib import Path

from tests.common.tiny.clip_vip import tiny_model, tiny_processor
from tests.data.shards.making_shards import write_clip_shards

RECIPE = """
per_device_train_batch_size: 8
per_device_eval_batch_size: 3
learning_rate: 1.0e-4
num_train_epochs: 4
save_steps: 3
logging_steps: 1
report_to: none
disable_tqdm: true
"""


def write_tiny_pretraining(folder: Path) -> Path:
    """`folder/model`, `folder/shards` (26 clips in 4 tars), `folder/videos` (the same as a folder) and `folder/recipe.yaml`."""
    tiny_model().save_pretrained(folder / "model")
    tiny_processor(60).save_pretrained(folder / "model")
    write_clip_shards(folder)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def words(tiny_pretraining: Path, output_dir: Path, *more) -> list[str]:
    data = ["--model", tiny_pretraining / "model", "--sources", tiny_pretraining / "shards"]
    return [str(word) for word in (tiny_pretraining / "recipe.yaml", *data, "--output_dir", output_dir, *more)]
