"""README's four lines run as they stand, and the result it shows has the shape of what they print."""

import re
from pathlib import Path

import pytest

from hf_videolang.data.moving_shapes import write_moving_shapes
from tests.common.tiny.clip_vip import tiny_model, tiny_processor

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def numbers(printed: str) -> list[float]:
    return [float(number) for number in re.search(r"tensor\(\[\[(.*?)\]\]", printed)[1].split(",")]


def test_the_four_lines(tmp_path, monkeypatch, capsys):
    program, shown = re.search(r"```python\n(import hf_videolang.*?)```\n```\n(.*?)```", README, re.DOTALL).groups()
    tiny_model().save_pretrained(tmp_path / "demo_output" / "model")
    tiny_processor().save_pretrained(tmp_path / "demo_output" / "model")
    write_moving_shapes(tmp_path / "demo_output" / "data", num_train=12, num_test=1)
    monkeypatch.chdir(tmp_path)
    exec(program, {})  # noqa: S102  the README's own program
    for probabilities in (numbers(capsys.readouterr().out), numbers(shown)):
        assert len(probabilities) == 2
        assert sum(probabilities) == pytest.approx(1, abs=1e-3)
