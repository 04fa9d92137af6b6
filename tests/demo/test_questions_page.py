"""The page of the demo on questions: scores, answers, and the frames that the model read."""

import sys

import pytest

from hf_videolang.data import load_dataset
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
