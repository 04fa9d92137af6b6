"""The demo on questions: its model and recipe fit its videos; the page shows what the model read."""

import sys

import pytest
import yaml

from hf_videolang.data import load_dataset
from hf_videolang.data.moving_shapes import write_scenes
from hf_videolang.training.run_question_answering import main
from tests.common.questions import save_model, write_question_folder
from tests.parity.cases import REPOSITORY


def test_the_page_shows_scores_and_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(REPOSITORY / "demo"), *sys.path])
    from frames_taken import frames_taken
    from questions_page import write_page

    save_model(tmp_path / "model", num_frames=1, num_clips=3)
    rows = list(load_dataset(str(write_question_folder(tmp_path / "data")))[0])[:2]
    scores = {"raw": {"overall": {"accuracy": 0.5}}, "chance": {"overall": {"accuracy": 0.25}}, "accuracy": 0.5}
    top = [{"answer": rows[0]["answer"], "probability": 0.9}]
    predictions = {row["question_id"]: {"answer": rows[0]["answer"], "top": top} for row in rows}
    page = write_page(tmp_path, {"scores": scores, "line": "the protocol"}, rows, predictions).read_text()
    assert page.count("<img") == 2 and page.count("class=right") == 1 and "50.0%" in page
    assert (tmp_path / "pictures" / "question1.png").stat().st_size > 0

    from transformers import AutoProcessor

    video_processor = AutoProcessor.from_pretrained(tmp_path / "model").video_processor
    picture = frames_taken(rows[0]["video"]["path"], video_processor)
    assert picture.height == 2 * (24 + 64)
    first = picture.getpixel((9, 24 + 64 + 24 + 9))  # of the first frame that was read
    assert first == pytest.approx(picture.getpixel((9, 24 + 9)), abs=3)


def test_model_and_recipe_fit_the_videos(tmp_path, monkeypatch, capsys):
    """One update in place of all; the rest is the demo's own."""
    monkeypatch.setattr(sys, "path", [str(REPOSITORY / "demo"), *sys.path])
    from questions import RECIPE, make_model

    data = write_scenes(tmp_path / "data", 8, 1, num_scenes=2, size=40, frames_per_second=4)
    make_model(load_dataset(str(data), split="train+validation")[0], tmp_path / "initial")
    folders = {"model": str(tmp_path / "initial"), "data_dir": str(data), "output_dir": str(tmp_path / "model")}
    short = {"max_steps": 1, "dataloader_num_workers": 0, "dataloader_persistent_workers": False}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | folders | short))
    assert main([str(tmp_path / "recipe.yaml")]) == 0
    assert "16 of 16 questions have an answer that the model can give" in capsys.readouterr().out
    assert (tmp_path / "model" / "model.safetensors").is_file()
