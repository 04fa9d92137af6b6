"""README's four lines run as they stand, and the result it shows has the shape of what they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_videolang.data.moving_shapes import write_moving_shapes
from tests.common.tiny.clip_vip import tiny_model, tiny_processor

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def numbers(printed: str) -> list[float]:
    return [float(number) for number in re.search(r"tensor\(\[\[(.*?)\]\]", printed)[1].split(",")]


def test_the_four_lines(tmp_path):
    program, shown = re.search(r"```python\n(import hf_videolang.*?)```\n```\n(.*?)```", README, re.DOTALL).groups()
    tiny_model().save_pretrained(tmp_path / "demo_output" / "model")
    tiny_processor().save_pretrained(tmp_path / "demo_output" / "model")
    write_moving_shapes(tmp_path / "demo_output" / "data", num_train=12, num_test=1)
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    for probabilities in (numbers(result.stdout), numbers(shown)):
        assert len(probabilities) == 2
        assert sum(probabilities) == pytest.approx(1, abs=1e-3)
