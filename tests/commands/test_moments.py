"""`hf-videolang moments`: one video, a long one, a folder; a store that is not encoded twice; what goes wrong."""

import json
import os
import shutil

import numpy as np
import pytest

from hf_videolang.cli import main
from hf_videolang.data.stores.feature_store import FeatureStore
from tests.common.moments import write_moments


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_moments(tmp_path_factory.mktemp("moments"))


@pytest.fixture
def folder(made, tmp_path):
    """Four videos, empty files beside their subtitles, since features are read in their place."""
    shutil.copytree(made / "data", tmp_path / "videos")
    for number in range(4):
        (tmp_path / "videos" / f"video{number:02}.mp4").touch()
    return tmp_path / "videos"


def run(made, video, *more: str, features=None) -> int:
    features = features or made / "features"
    command = ["moments", str(video), "a", "--model", str(made / "model"), "--features", str(features), "--cpu"]
    return main([*command, *map(str, more)])


def found(capsys) -> list[dict]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])["moments"]


def test_a_folder_and_one_video_of_it(made, folder, tmp_path, capsys):
    assert run(made, folder, "--json", "--top", "50") == 0
    moments = found(capsys)
    assert len(moments) == 50 and len({moment["video"] for moment in moments}) == 4
    assert run(made, folder / "video02.mp4", "--json", "--top", "3") == 0
    own = [moment for moment in moments if moment["video"].endswith("video02.mp4")]
    one = found(capsys)
    assert one[0]["video"] == str(folder / "video02.mp4") and len(one) == 3
    if len(own) >= 3:
        assert [(m["start"], m["end"]) for m in own[:3]] == [(m["start"], m["end"]) for m in one]
    rows = FeatureStore(made / "features").features("video02").numpy()
    np.save(tmp_path / "rows.npy", rows)
    assert run(made, folder / "video02.mp4", "--json", "--top", "3", features=tmp_path / "rows.npy") == 0
    assert found(capsys) == one


def test_subtitles_matter_and_can_be_left_out(made, folder, tmp_path, capsys):
    results = []
    (other := tmp_path / "other.srt").write_text("1\n00:00:00,000 --> 00:00:18,000\nk l k l\n")
    for subtitles in ("auto", folder / "video01.srt", "none", other):
        assert run(made, folder / "video01.mp4", "--json", "--subtitles", subtitles) == 0
        results.append(found(capsys))
    assert results[0] == results[1]
    scores = [tuple(moment["score"] for moment in result) for result in results[1:]]
    assert len(set(scores)) == 3


def test_a_long_video_is_divided(made, folder, tmp_path, capsys):
    rows = FeatureStore(made / "features").features("video00").numpy()
    np.save(tmp_path / "long.npy", np.concatenate([rows] * 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_videolang.inference.moment_search.WINDOW_SECONDS", 18.0)  # the tiny model reads 12 rows
        assert run(made, folder / "video00.mp4", "--json", "--subtitles", "none", features=tmp_path / "long.npy") == 0
    starts = {moment["start"] for moment in found(capsys)}
    # Five equal windows find the same, each in its own time.
    assert len({start % 18 for start in starts}) == 1 and max(starts) >= 36


def test_the_second_query_encodes_nothing(made, folder, tmp_path, capsys, monkeypatch):
    store = ["--json", "--store", tmp_path / "encodings"]
    assert run(made, folder, *store) == 0
    first = found(capsys)
    encoded = []

    def counting(model, processor, rows, subtitles):
        encoded.append(subtitles.name)
        return original(model, processor, rows, subtitles)

    import hf_videolang.commands.moments as command

    original = command.encode_video
    monkeypatch.setattr(command, "encode_video", counting)
    assert run(made, folder, *store) == 0
    assert found(capsys) == first and not encoded
    os.utime(folder / "video01.srt", ns=(1, 1))
    assert run(made, folder, *store) == 0
    assert found(capsys) == first and encoded == ["video01.srt"]


def test_a_table(made, folder, capsys):
    assert run(made, folder, "--top", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("4 videos; features: made by a test") and len(lines) == 4
    assert lines[2].split()[0].count(":") == 1 and lines[2].endswith(".mp4")


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(made, folder, capsys):
    (folder / "unknown.mp4").touch()
    (folder / "video03.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\ncaf\xe9\n".encode("latin-1"))
    assert run(made, folder, "--json") == 1
    captured = capsys.readouterr()
    assert "unknown.mp4" in captured.err and "video03.mp4" in captured.err and "UTF-8" in captured.err
    assert len(json.loads(captured.out.splitlines()[-1])["moments"]) == 5
    assert run(made, folder / "video00.mp4", "--subtitles", "nowhere.srt") == 1
    assert "video00.mp4: nowhere.srt does not exist; give a file of .srt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("video", "more", "message"),
    [
        ("nowhere.mp4", (), "is no video and holds none"),
        ("", ("--subtitles", "a.srt"), "there are several videos"),
        ("", ("--features", "rows.npy"), "rows.npy has the features of one video, but there are 4; give a store"),
        ("", ("--top", "0"), "--top is 0; expected the number of moments to print, 1 or more"),
        ("video00.mp4", ("--features", "rows.npy"), "rows.npy is not in the layout of features"),
    ],
)
def test_what_is_used_wrongly_is_told(made, folder, tmp_path, capsys, monkeypatch, video, more, message):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert run(made, folder / video, *more) == 2
    assert message in capsys.readouterr().err
