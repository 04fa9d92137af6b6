"""Every fine-tuning recipe and every accelerate YAML of the package can be read by what reads it, and says what clip_vip §4 says."""

import re

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from hf_videolang.data.load_dataset import BENCHMARKS, find_dataset
from hf_videolang.training.recipes import RECIPES, parse_recipe
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments

RECIPE_FILES = sorted(
    path for path in (RECIPES / "clip_vip").glob("*.yaml") if not path.stem.startswith("pretraining_")
)
ids = {"ids": lambda value: getattr(value, "stem", value)}


def parse(name, tmp_path):
    words = [f"clip_vip/{name}", "--data_dir", "videos", "--output_dir", str(tmp_path)]
    return parse_recipe((RetrievalArguments, RetrievalTrainingArguments), words)


@pytest.mark.parametrize("path", RECIPE_FILES, **ids)
def test_recipe_parses_and_states_its_sources(path, tmp_path):
    arguments, training_args, given = parse(path.stem, tmp_path)
    assert arguments.dataset in (*BENCHMARKS, "videofolder") and arguments.select_on == "validation"
    assert training_args.learning_rate == 1e-6 and training_args.adam_beta2 == 0.98 and given["data_dir"] == "videos"
    values = [line for line in path.read_text().splitlines() if re.match(r"\w+:", line)]
    assert len(values) == len(given) - 1  # data_dir comes from the command line
    for line in values:
        assert re.search(r" # \[(config|paper|ours)\]", line), f"no source: {line}"
    if arguments.dataset != "videofolder":
        assert yaml.safe_load(path.read_text())["output_dir"] == path.stem
        command = path.read_text().partition("\n#   ")[2].split("\n#\n")[0]
        assert re.search(rf" clip_vip/{path.name} \\\n#       --data_dir /data/\w+( |$)", command), command
        assert {arguments.train_split, arguments.select_on} < set(find_dataset(arguments.dataset, "data").splits)


# clip_vip §4, row by row: epochs, batch a GPU, learning rate, weight decay, clipping, frames, text, factor on logit_scale.
TABLE = {
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
    "lr_multiplier",
)
# clip_vip §4, "Common", and §3, §6 for clamp, loss and evaluation.
COMMON = {
    "loss": "contrastive",
    "max_logit_scale": 5.298317366548036,
    "seed": 42,
    "warmup_steps": 0.01,
    "lr_scheduler_type": "cosine",
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "dataloader_num_workers": 8,
    "gradient_accumulation_steps": 1,
    "eval_steps": 100,
    "eval_on_start": True,
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


@pytest.mark.parametrize("name", TABLE)
def test_recipes_hold_the_published_values(name, tmp_path):
    arguments, training_args, given = parse(name, tmp_path)
    expected = dict(zip(COLUMNS, TABLE[name], strict=True)) | COMMON
    assert {key: given[key] for key in expected} == expected
    reached = {key: getattr(training_args, key, getattr(arguments, key, None)) for key in expected}
    assert reached == expected
    # The prefix is empty in every other configuration; the factor then concerns nothing.
    assert given.get("lr_multiplier_name", "") == ("logit_scale" if name == "didemo_b16" else "")
    data, size = name.split("_")[0], name[-3:]
    assert arguments.dataset == ("msrvtt-1ka" if data == "msrvtt" else data)
    assert given["model"] == f"clip-vip-{size}"
    text = (RECIPES / "clip_vip" / f"{name}.yaml").read_text()
    assert "R@1 / R@5 / R@10 {}, after DSL {} (clip_vip §9)".format(*PUBLISHED[name]) in text
    assert f"pretrain_clipvip_base_{size[1:]}.pt" in text
    gpus = 128 // expected["per_device_train_batch_size"]  # the global batch of fine-tuning
    assert f"x {gpus} GPUs = 128 pairs" in text


@pytest.mark.parametrize("name", ["vatex_b32", "youcook2_b32"])
def test_what_was_not_published_is_marked_as_ours(name):
    text = (RECIPES / "clip_vip" / f"{name}.yaml").read_text()
    assert "Published" not in text and not re.search(r"\[(config|paper)\]", text)


def test_there_is_a_recipe_for_every_row_and_nothing_else():
    assert {path.stem for path in RECIPE_FILES} == {
        *TABLE,
        "vatex_b32",
        "youcook2_b32",
        "my_videos",
    }


@pytest.mark.parametrize(
    ("name", "kind", "processes"),
    [
        ("cpu", DistributedType.MULTI_GPU, 2),
        ("single_gpu", DistributedType.NO, 1),
        ("multi_gpu", DistributedType.MULTI_GPU, 8),
        ("fsdp2", DistributedType.FSDP, 8),
        ("multi_node", DistributedType.MULTI_GPU, 16),
    ],
)
def test_accelerate_yaml(name, kind, processes):
    config = load_config_from_file(str(RECIPES / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type == kind and config.num_processes == processes
    if name == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2
