"""`hf-videolang segment`: table, JSON, picture, stored features, and refusals."""

import json
import re

import av
import numpy as np
import pytest
import torch
from PIL import Image

from hf_videolang.cli import main
from hf_videolang.data.moving_shapes import write_video
from hf_videolang.data.stores.feature_store import FeatureStore, VideoFeatures
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.inference.segmentation import read_features, segment_video
from tests.common.tiny import clip_vip
from tests.common.tiny.videoclip import tiny_model, tiny_processor


def segment(*words) -> int:
    return main(["segment", *map(str, words), "--cpu"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`model` with S3D inside, `features_only` without, `lesson.mp4` of 9 seconds, and `labels.txt`."""
    folder = tmp_path_factory.mktemp("segment")
    model, features_only = tiny_model(with_s3d=True), tiny_model()
    features_only.load_state_dict({name: value for name, value in model.state_dict().items() if name[:4] != "s3d."})
    for name, saved in (("model", model), ("features_only", features_only)):
        saved.save_pretrained(folder / name)
        tiny_processor().save_pretrained(folder / name)
    frames = np.random.default_rng(0).integers(0, 256, (36, 40, 60, 3), np.uint8)
    write_video(folder / "lesson.mp4", frames // np.linspace(1, 8, 36)[:, None, None, None].astype(np.uint8), 4)
    (folder / "labels.txt").write_text("ab\n\n  c \nab\n")
    return folder


@pytest.fixture(scope="module")
def store(folder):
    model, processor = load_model_and_processor(folder / "model")
    rows = read_features(str(folder / "lesson.mp4"), model, processor)
    write_store(folder / "features", rows.numpy())
    return folder / "features"


def write_store(place, rows, normalized=True):
    facts = {"model": "a", "version": "b", "rows_per_second": 1.0, "width": rows.shape[1], "normalized": normalized}
    FeatureStore(place, {"extractors": [facts]}).write_features("part", [VideoFeatures("lesson", rows)])


def rows_of(printed: str) -> list[tuple[str, str, str]]:
    """Start, end and label of each line of the table."""
    return re.findall(r"^ +(\d+:\d\d) +(\d+:\d\d) +-?[\d.]+  (.*)$", printed, re.MULTILINE)


def test_table_json_and_picture(folder, tmp_path, capsys):
    files = ("--json", tmp_path / "out.json", "--picture", tmp_path / "out.png")
    assert segment(folder / "lesson.mp4", "--labels", folder / "labels.txt", "--model", folder / "model", *files) == 0
    printed = capsys.readouterr().out
    assert "lesson.mp4: 9 seconds" in printed
    expected = segment_video(str(folder / "lesson.mp4"), ["ab", "c"], *load_model_and_processor(folder / "model"))
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["labels"] == ["ab", "c"] and torch.tensor(found["scores"]).shape == (9, 2)
    assert found["parts"] == [vars(part) for part in expected]
    table = [(f"0:{part.start:02.0f}", f"0:{part.end:02.0f}", part.label) for part in expected]
    assert rows_of(printed) == table
    picture = np.asarray(Image.open(tmp_path / "out.png").convert("RGB"))
    assert picture.shape[1] == 1200 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_stored_features_give_the_same_scores(folder, store, tmp_path, capsys):
    words = (folder / "lesson.mp4", "--labels", folder / "labels.txt", "--json")
    assert segment(*words, tmp_path / "video.json", "--model", folder / "model") == 0
    assert "features:" not in capsys.readouterr().out
    stored = ("--model", folder / "features_only", "--features", store)
    assert segment(*words, tmp_path / "features.json", *stored) == 0
    assert "; features: a (b), frames unknown, unit rows, 1 row a second\n" in capsys.readouterr().out
    scores = [
        torch.tensor(json.loads((tmp_path / f"{name}.json").read_text())["scores"]) for name in ("video", "features")
    ]
    torch.testing.assert_close(scores[1], scores[0], rtol=2e-3, atol=2e-3)
    assert scores[0].std(dim=0).min() > 0.01  # of seconds that differ


def test_queries_find_stretches_that_do_not_overlap(folder, store, capsys):
    words = ("lesson", "--query", "ab c", "--query", "c", "--model", folder / "features_only", "--features", store)
    assert segment(*words, "--top", 2) == 0
    rows = rows_of(capsys.readouterr().out)
    labels = [label for *_, label in rows]
    assert labels == sorted(labels) and {1, 2} >= {labels.count("ab c"), labels.count("c")}
    pairs = [(one, other) for one in rows for other in rows if one != other and one[2] == other[2]]
    assert all(one[0] >= other[1] or other[0] >= one[1] for one, other in pairs)


def test_a_video_of_a_single_frame_is_one_second(folder, tmp_path, capsys):
    write_video(tmp_path / "short.mp4", np.full((1, 40, 60, 3), 128, np.uint8), 10)
    assert segment(tmp_path / "short.mp4", "--query", "ab", "--model", folder / "model") == 0
    assert rows_of(capsys.readouterr().out) == [("0:00", "0:01", "ab")]


def test_background(folder, capsys):
    words = (folder / "lesson.mp4", "--labels", folder / "labels.txt", "--model", folder / "model")
    assert segment(*words, "--background", "1e9") == 0
    assert capsys.readouterr().out.endswith(
        "9 seconds, scored by " + str(folder / "model") + "\n\nevery second is background\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--labels", "empty.txt"), "empty.txt has no labels; expected a text file with a label on each line"),
        (("--labels", "lesson.mp4"), "not in the layout of labels .*expected a text file in UTF-8"),
        (("--labels", "one.txt", "--background", "original"), "'original' with one label"),
        (("--labels", "labels.txt", "--background", "high"), "expected none, original, or a number"),
        (("--labels", "labels.txt", "--background", "nan"), "is 'nan'; expected none, original, or a number"),
        (("--query", "a", "--query", " "), "a --query is empty; expected a sentence"),
        (("--query", "a", "--top", "0"), "--top is 0; expected the number of stretches"),
        (("--query", "a", "--background", "original"), "a --query has no background"),
        (("--labels", "labels.txt", "--picture", "a.jpx"), "expected a file ending in .png, .svg, .pdf"),
        (("--labels", "labels.txt", "--json", "nowhere/a.json"), "there is no folder nowhere; make it first"),
        (("--labels", "labels.txt", "--model", "features_only"), "this model holds no S3D"),
        (("--labels", "labels.txt", "--model", "pixels"), "has no states for single seconds"),
        (("--labels", "labels.txt", "--features", "wide"), r"wide does not fit the model: .*\[batch, .* 16\]"),
        (("--labels", "labels.txt", "--features", "raw"), "raw does not fit the model: .*rows of norm 1"),
        (("--labels", "labels.txt", "--features", "other"), "has no features of lesson"),
    ],
)
def test_wrong_usage_is_one_line(folder, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folder)
    (folder / "empty.txt").write_text("\n \n")
    (folder / "one.txt").write_text("ab\n")
    rows = np.random.default_rng(0).standard_normal((4, 16))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if "pixels" in words:
        clip_vip.tiny_model().save_pretrained("pixels")
        clip_vip.tiny_processor().save_pretrained("pixels")
    if "--features" in words:
        content = {"wide": np.eye(4, 20), "raw": 3 * unit, "other": unit}[words[-1]]
        write_store(words[-1], content)
    video = "other.mp4" if "other" in words else "lesson.mp4"
    if "other" in words:
        message = "other has no features of other"
    assert segment(video, *(() if "--model" in words else ("--model", "model")), *words) == 2
    errors = capsys.readouterr().err
    assert re.search(message, errors.splitlines()[-1]) and "Traceback" not in errors


def test_a_video_that_did_not_decode_when_its_features_were_made(folder, tmp_path, capsys):
    write_store(tmp_path / "store", np.eye(2, 16))
    broken = VideoFeatures("broken", np.empty((0, 16)), "its end is missing")
    FeatureStore(tmp_path / "store").write_features("other", [broken])
    words = ("--labels", folder / "labels.txt", "--model", folder / "model", "--features", tmp_path / "store")
    assert segment("broken.mp4", *words) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "error: cannot decode broken: it has no features: its end is missing."


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a sentence\n", "Invalid data"), (b"", "Invalid data"), (None, "its video stream has no frames")],
)
def test_a_file_that_is_no_video_is_one_line(folder, tmp_path, capsys, content, reason):
    file = tmp_path / "text.mp4"
    if content is None:
        with av.open(file, "w", format="avi") as container:
            container.add_stream("mpeg4", rate=10)
            container.start_encoding()
    else:
        file.write_bytes(content)
    written = ("--json", tmp_path / "parts.json")
    assert segment(file, "--query", "a", "--model", folder / "model", *written) == 1
    errors = capsys.readouterr().err
    assert errors.splitlines()[-1].startswith(f"error: cannot decode {file}: {reason}") and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == [file]
