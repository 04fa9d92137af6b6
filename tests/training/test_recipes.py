"""Every recipe and every accelerate YAML that comes with the package can be read by what reads it."""

import re

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from hf_videolang.data.retrieval_datasets import BENCHMARKS
from hf_videolang.training.recipe_arguments import RECIPES, parse_recipe
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments

RECIPE_FILES = sorted(RECIPES.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_recipe_parses_and_states_its_sources(path, tmp_path):
    words = [path.name, "--data_dir", "videos", "--output_dir", str(tmp_path)]
    arguments, training_args, given = parse_recipe((RetrievalArguments, RetrievalTrainingArguments), words)
    assert arguments.dataset in (*BENCHMARKS, "videofolder") and arguments.select_on == "validation"
    assert (
        training_args.learning_rate == 1e-6
        and training_args.adam_beta2 == 0.98
        and given["data_dir"] == "videos"
    )
    values = [line for line in path.read_text().splitlines() if re.match(r"\w+:", line)]
    assert len(values) == len(given) - 1  # data_dir comes from the command line
    for line in values:
        assert re.search(r"# \[(config|paper|ours)\]", line), f"no source: {line}"


def test_msrvtt_recipes_hold_the_published_values(tmp_path):
    words = ["--data_dir", "videos", "--output_dir", str(tmp_path)]
    for size in ("b16", "b32"):
        parsed = parse_recipe(
            (RetrievalArguments, RetrievalTrainingArguments), [f"msrvtt_clip_vip_{size}", *words]
        )
        given = parsed[-1]
        published = {  # SPEC §4, the row of MSR-VTT and "Common"
            "num_train_epochs": 100, "per_device_train_batch_size": 16, "learning_rate": 1e-6, "weight_decay": 0.2,
            "max_grad_norm": 1.0, "num_frames": 12, "max_length": 50, "lr_multiplier": 1.0, "loss": "contrastive",
            "seed": 42, "warmup_steps": 0.01, "lr_scheduler_type": "cosine", "adam_beta1": 0.9, "adam_beta2": 0.98,
            "adam_epsilon": 1e-6, "dataloader_num_workers": 8, "gradient_accumulation_steps": 1, "eval_steps": 100,
        }  # fmt: skip
        assert {key: given[key] for key in published} == published


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
