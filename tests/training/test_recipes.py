"""Recipe and command line: which wins, types, recipes that extend, and errors that say what to do."""

import re
from dataclasses import dataclass, field

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from hf_videolang.training.arguments import VideoTrainingArguments
from hf_videolang.training.recipes import RECIPES, RecipeError, parse_recipe, shipped_recipes
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments


@dataclass(kw_only=True)
class Toy:
    model: str = field(metadata={"help": "where to start"})
    learning_rate: float = 1.0
    num_frames: int | None = None
    shuffle: bool = True
    names: list[str] | None = None
    options: dict | str | None = field(default=None, metadata={"help": "further settings"})
    eval_strategy: str = "steps"


def parse(*words, recipe=None, tmp_path=None):
    if recipe is not None:
        (tmp_path / "toy.yaml").write_text(recipe)
        words = (str(tmp_path / "toy.yaml"), *words)
    return parse_recipe((Toy,), words, module="toy")


def test_command_line_wins_over_recipe_over_default(tmp_path):
    recipe = "model: clip\nlearning_rate: 1e-6\nnum-frames: 12\nshuffle: no\nnames: [a, b]\noptions: {k: 5}\n"
    toy, given = parse("--num_frames", "32", "--shuffle", recipe=recipe, tmp_path=tmp_path)
    expected = {
        "model": "clip",
        "learning_rate": 1e-6,  # YAML reads 1e-6 as text
        "num_frames": 32,
        "shuffle": True,
        "names": ["a", "b"],
        "options": {"k": 5},
    }
    assert toy == Toy(**expected) and given == expected
    words = ("--model=m", "--no_shuffle", "--learning-rate=-2", "--options", '{"k": [1, 2]}')
    toy, given = parse(*words, "--eval_strategy", "steps")
    assert toy == Toy(model="m", learning_rate=-2.0, shuffle=False, options={"k": [1, 2]})
    expected = {"model": "m", "learning_rate": -2.0, "shuffle": False, "options": {"k": [1, 2]}}
    assert given == expected | {"eval_strategy": "steps"}  # the default, but typed


def test_a_recipe_extends_another(tmp_path):
    (tmp_path / "common.yaml").write_text("model: common\nnum_frames: 12\nlearning_rate: 0.5\nshuffle: false\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "middle.yaml").write_text("extends: ../common.yaml\nnum_frames: 6\n")
    recipe = "extends: folder/middle.yaml\nmodel: own\nlearning_rate:\n"
    toy, given = parse(recipe=recipe, tmp_path=tmp_path)
    assert toy == Toy(model="own", num_frames=6, shuffle=False)  # learning_rate is the default again
    assert given == {"model": "own", "num_frames": 6, "shuffle": False}


def test_a_recipe_of_the_package_is_extended_by_name(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: clip_vip/msrvtt_b16.yaml\nseed: 7\n")
    types = (RetrievalArguments, RetrievalTrainingArguments)
    words = ["--data_dir", "videos", "--output_dir", str(tmp_path)]
    *_, given = parse_recipe(types, [str(tmp_path / "own.yaml"), *words])
    assert given == parse_recipe(types, ["clip_vip/msrvtt_b16", *words])[-1] | {"seed": 7}


def test_a_strategy_may_be_no_without_quotes(tmp_path):
    assert parse(recipe="model: m\neval_strategy: no\n", tmp_path=tmp_path)[0].eval_strategy == "no"


@pytest.mark.parametrize(
    ("recipe", "words", "expected"),
    [
        (
            "model: m\nlearnin_rate: 1\n",
            (),
            ["toy.yaml", "'learnin_rate'", "did you mean learning_rate", "--help"],
        ),
        ("model: m\n", ("--num_frame", "3"), ["--num_frame is unknown;", "did you mean --num_frames"]),
        ("model: m\n", ("12",), ["'12'", "no option"]),
        ("model: m\nnum_frames: twelve\n", (), ["--num_frames", "invalid int value: 'twelve'"]),
        ("model: m\nnum_frames: 1.5\n", (), ["--num_frames", "invalid int value: '1.5'"]),
        ("model: m\nnum_frames: [1, 2]\n", (), ["num_frames takes one value, not [1, 2]"]),
        ("model: m\n", ("--learning_rate",), ["--learning_rate", "expected one argument"]),
        ("model: m\n", ("--shuffle", "maybe"), ["got maybe", "insensitive). `--help`"]),
        ("model: m\n", ("--options", '{"k": '), ['--options: {"k":  is not JSON']),
        ("num_frames: 3\n", (), ["required: --model"]),
        ("- a\n- b\n", (), ["toy.yaml holds no keys"]),
        ("", (), ["toy.yaml holds no keys; expected lines"]),
        ("a: [\n", (), ["toy.yaml is not YAML"]),
        ("model: m\nnum_frames: 3\nnum_frames: 4\n", (), ["'num_frames' is given twice", "line 3, column 1"]),
        ("model: &m a\nnames: [*m, *m]\n", (), ["the alias *m: write its value instead", "line 2, column 9"]),
        ("a: " + 3000 * "[", (), ["toy.yaml is not YAML: it is nested too deeply"]),
        ("extends: finetuning.yaml\n", (), ["no recipe 'finetuning.yaml'", "clip_vip/finetuning.yaml"]),
        (None, ("absent.yaml",), ["no recipe 'absent.yaml'", "clip_vip/my_videos.yaml"]),
        (None, ("clip_vip/msrvtt_b61",), ["did you mean", "clip_vip/msrvtt_b16.yaml"]),
    ],
)
def test_errors_name_the_key_and_the_remedy(recipe, words, expected, tmp_path):
    with pytest.raises(RecipeError) as error:
        parse(*words, recipe=recipe, tmp_path=tmp_path)
    for part in expected:
        assert part in str(error.value)
    assert "?." not in str(error.value)


def test_a_choice_of_a_recipe_is_checked(tmp_path):
    (tmp_path / "toy.yaml").write_text("on_broken_video: skipp\n")
    with pytest.raises(RecipeError, match="on_broken_video is 'skipp'; expected one of raise, replace, skip"):
        parse_recipe((VideoTrainingArguments,), [str(tmp_path / "toy.yaml")])


def test_help_shows_our_options_with_the_values_of_the_recipe(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text("model: my_model\non_broken_video: replace\n")
    types = (RetrievalArguments, RetrievalTrainingArguments)
    with pytest.raises(SystemExit):
        parse_recipe(types, [str(tmp_path / "own.yaml"), "--help"], module="toy")
    page = " ".join(capsys.readouterr().out.split())
    assert page.startswith("usage: python -m hf_videolang.training.toy RECIPE.yaml")
    assert page.index("--model MODEL") < page.index("--output_dir")
    assert "(default: my_model)" in page and "Evaluation always raises (default: replace)" in page
    assert "clip_vip/my_videos.yaml" in page and "--logging_steps" not in page


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
def test_accelerate_reads_its_configurations(name, kind, processes):
    config = load_config_from_file(str(RECIPES / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type == kind and config.num_processes == processes
    if name == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_value_states_its_source(name):
    text = (RECIPES / name).read_text()
    values = [line for line in text.splitlines() if re.match(r"(?!extends)\w+:", line)]
    assert len(values) == len(yaml.safe_load(text).keys() - {"extends"}) > 0
    for line in values:
        assert re.search(r" # \[(config|paper|report|ours)\]", line), f"no source: {line}"
