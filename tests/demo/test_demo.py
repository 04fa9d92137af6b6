"""The demo on a small folder of clips with captions next to it: every step with the real commands."""

import json
import runpy
import subprocess
import sys

import pytest
from transformers import AutoModel, AutoProcessor

from hf_videolang.data.moving_shapes import write_moving_shapes
from tests.parity.cases import REPOSITORY

DEMO = REPOSITORY / "demo" / "demo.py"


def test_own_clips_from_captions_to_page(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    rows = []
    for split, folder in (("train", "train"), ("test", "test")):
        source = write_moving_shapes(tmp_path / f"{split}_source", num_train=14, num_test=4) / folder
        for line in (source / "metadata.jsonl").read_text().splitlines():
            row = json.loads(line)
            (source / row["file_name"]).rename(clips / row["file_name"])
            rows.append({"file": f"clips/{row['file_name']}", "captions": [row["caption"]], "split": split})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))

    command = [sys.executable, DEMO, "--data", clips, "--output", tmp_path / "output"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "on 4 test videos" in result.stdout and "chance 25.0 %" in result.stdout
    page = (tmp_path / "output" / "index.html").read_text()
    assert page.count("<div class='answer'>") == 9  # three queries, three answers each
    for picture in ["loss.svg", *(f"test000{number}.png" for number in range(4))]:
        if f"pictures/{picture}" in page:
            assert (tmp_path / "output" / "pictures" / picture).stat().st_size > 0
    assert "pictures/loss.svg" in page
    model = AutoModel.from_pretrained(tmp_path / "output" / "model")
    assert model.config.vision_config.num_frames == 6
    assert AutoProcessor.from_pretrained(tmp_path / "output" / "model").video_processor.num_frames == 6
    history = json.loads((tmp_path / "output" / "model" / "trainer_state.json").read_text())["log_history"]
    losses = [row["loss"] for row in history if "loss" in row]
    assert losses[-1] < losses[0]


@pytest.fixture
def demo(monkeypatch):
    """The demo in this process."""
    monkeypatch.syspath_prepend(DEMO.parent)

    def run(*words):
        monkeypatch.setattr(sys, "argv", [str(DEMO), *map(str, words)])
        runpy.run_path(str(DEMO), run_name="__main__")

    return run


def test_a_folder_without_captions_is_named(demo, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"empty has no metadata\.jsonl"):
        demo("--data", tmp_path / "empty", "--output", tmp_path / "output")


def test_a_folder_of_other_files_is_left_alone(demo, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit, match="choose another --output"):
        demo("--output", tmp_path)
    assert (tmp_path / "thesis.txt").exists()
