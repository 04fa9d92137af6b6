"""Recipe and command line: precedence, types, and errors that say what to do."""

from dataclasses import dataclass, field

import pytest

from hf_videolang.training.recipes import RecipeError, parse_recipe


@dataclass
class Toy:
    _required = ("model",)
    _help_only = ("model", "learning_rate")

    model: str | None = field(default=None, metadata={"help": "where to start"})
    learning_rate: float = 1.0
    num_frames: int | None = None
    shuffle: bool = True
    names: list[str] | None = None
    loss_options: dict | str | None = None
    hidden_detail: int = 0
    eval_strategy: str = "steps"


def parse(*words, recipe=None, tmp_path=None):
    if recipe is not None:
        (tmp_path / "toy.yaml").write_text(recipe)
        words = (str(tmp_path / "toy.yaml"), *words)
    return parse_recipe((Toy,), words, program="toy")


def test_command_line_wins_over_recipe_over_default(tmp_path):
    recipe = "model: clip\nlearning_rate: 1e-6\nnum-frames: 12\nshuffle: no\nnames: [a, b]\nloss_options: {k: 5}\n"
    toy, given = parse("--num_frames", "32", "--shuffle", recipe=recipe, tmp_path=tmp_path)
    assert toy == Toy("clip", 1e-6, 32, True, ["a", "b"], '{"k": 5}', 0)
    assert given == {
        "model": "clip",
        "learning_rate": 1e-6,  # YAML reads 1e-6 as a word
        "num_frames": 32,
        "shuffle": True,
        "names": ["a", "b"],
        "loss_options": '{"k": 5}',
    }
    assert parse("--model=m", "--no_shuffle", "--learning-rate=-2")[0] == Toy("m", -2.0, shuffle=False)


def test_a_strategy_may_be_no_without_quotes(tmp_path):
    assert parse(recipe="model: m\neval_strategy: no\n", tmp_path=tmp_path)[0].eval_strategy == "no"


def test_empty_value_keeps_the_default(tmp_path):
    assert parse(recipe="model: m\nlearning_rate:\n", tmp_path=tmp_path)[0].learning_rate == 1.0


@pytest.mark.parametrize(
    ("recipe", "words", "told"),
    [
        (
            "model: m\nlearnin_rate: 1\n",
            (),
            ["toy.yaml", "'learnin_rate'", "did you mean learning_rate", "--help"],
        ),
        ("model: m\n", ("--num_frame", "3"), ["--num_frame;", "did you mean --num_frames"]),
        ("model: m\n", ("12",), ["'12'", "no option"]),
        ("model: m\nnum_frames: twelve\n", (), ["toy.yaml", "--num_frames", "invalid int value: 'twelve'"]),
        ("model: m\nnum_frames: [1, 2]\n", (), ["toy.yaml", "2"]),
        (
            "model: m\n",
            ("--learning_rate",),
            ["the command line", "--learning_rate", "expected one argument"],
        ),
        ("model: m\n", ("--shuffle", "maybe"), ["got maybe", "insensitive). `--help`"]),
        ("num_frames: 3\n", (), ["model is missing", "where to start", "`model: …`", "--model"]),
        ("- a\n- b\n", (), ["toy.yaml holds list"]),
        ("", (), ["toy.yaml holds nothing; expected lines"]),
        ("a: [\n", (), ["toy.yaml is not YAML"]),
        (None, ("absent.yaml",), ["no recipe 'absent.yaml'", "clip_vip/my_videos.yaml"]),
        (None, ("clip_vip/msrvtt_b61",), ["did you mean", "clip_vip/msrvtt_b16.yaml"]),
    ],
)
def test_errors_name_the_key_and_the_remedy(recipe, words, told, tmp_path):
    with pytest.raises(RecipeError) as error:
        parse(*words, recipe=recipe, tmp_path=tmp_path)
    for part in told:
        assert part in str(error.value)
    assert "?." not in str(error.value)


def test_help_shows_what_recipes_set(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    page = capsys.readouterr().out
    assert (
        "RECIPE.yaml" in page and "--model" in page and "where to start" in page and "clip_vip/my_videos.yaml" in page
    )
    assert "hidden_detail" not in page and "show this page\n" in page
