"""Captions of a video as table, JSON and subtitle file; long videos; and what cannot be captioned."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from hf_videolang.cli import main
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.inference.captioning import caption_segments, even_segments
from hf_videolang.video.subtitles import read_subtitles
from tests.common.captions import write_captions
from tests.common.moments import write_moments
from tests.common.tiny.hero import FEATURES
from tests.parity.cases import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The features of the video are those of `video00`, 18 s."""
    folder = write_captions(tmp_path_factory.mktemp("caption"), num_videos=1)
    np.save(folder / "talk.npy", np.random.default_rng(0).normal(size=(12, FEATURES)).astype(np.float16))
    (folder / "talk.mp4").touch()
    (folder / "talk.srt").write_text("1\n00:00:01,000 --> 00:00:05,000\na b\n")
    return folder


def words(folder, *more: str, model: str = "model") -> list[str]:
    video = [str(folder / "talk.mp4"), "--model", str(folder / model), "--features", str(folder / "talk.npy")]
    return ["caption", *video, "--cpu", *more]


def expected(folder, segments, **options):
    model, processor = load_model_and_processor(folder / "model")
    rows = torch.from_numpy(np.load(folder / "talk.npy")).float()
    return caption_segments(model, processor, rows, folder / "talk.srt", segments, **options)


def test_a_subtitle_file_of_what_is_seen(folder, tmp_path):
    command = [sys.executable, "-m", "hf_videolang.cli", *words(folder, "--every", "7", "--format", "srt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (written := tmp_path / "seen.srt").write_text(done.stdout)
    captions = expected(folder, [(0.0, 7.0), (7.0, 14.0), (14.0, 18.0)])
    assert [(one["start"], one["end"]) for one in read_subtitles(written)] == [(0, 7), (7, 14), (14, 18)]
    assert [one["text"] for one in read_subtitles(written)] == [one.text for one in captions]


def test_the_lines_of_the_readme(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (program,) = (block for block in README.split("```python\n") if "HeroForVideoCaptioning" in block)
    exec(program.partition("```")[0].replace('"hero-tvc"', '"model"'), {})  # noqa: S102  the README's own program
    (caption,) = expected(folder, [(12.0, 19.5)], num_beams=4)
    assert capsys.readouterr().out.strip() == str([caption.text])


def test_json_and_table(folder, capsys):
    segments = ["--segments", "12-17.5", "0-3"]
    captions = expected(folder, [(12.0, 17.5), (0.0, 3.0)], num_beams=2)
    assert main(words(folder, *segments, "--num-beams", "2", "--format", "json")) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["captions"] == [vars(one) for one in captions] and "frames" in content["protocol"]
    assert main(words(folder, "--subtitles", "none")) == 0
    assert capsys.readouterr().out.startswith("     0.0     18.0  ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--segments", "17-30", "18-19"],
            "segment 18 to 19 s; expected seconds within the 18 s of the video's",
        ),
        (["--segments", "4-4"], "segment 4 to 4 s; expected seconds within"),
        (["--every", "0"], "segments of 0 s; expected more than 0"),
        (["--every", "nan"], "segments of nan s; expected more than 0"),
        (["--num-beams", "0"], "--num-beams is 0; expected the number of captions followed at once, 1 or more."),
    ],
)
def test_what_writes_nothing_is_told(folder, capsys, more, message):
    assert main(words(folder, *more)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("segment", ["4", "4-inf", "1-2-3"])
def test_what_is_no_segment(folder, capsys, segment):
    with pytest.raises(SystemExit):
        main(words(folder, "--segments", segment))
    assert f"{segment!r} is no segment; expected seconds as START-END" in capsys.readouterr().err


def test_even_segments_end_with_the_video():
    assert even_segments(18.0, 7.0) == [(0.0, 7.0), (7.0, 14.0), (14.0, 18.0)]
    assert even_segments(6.0, 100.0) == [(0.0, 6.0)]
    for seconds, length in ((16.5, 3.3), (10.5, 0.7)):  # whose quotients are not whole numbers to Python
        assert len(even_segments(seconds, length)) == round(seconds / length)


def test_a_subtitle_file_is_in_order(folder, tmp_path, capsys):
    assert main(words(folder, "--segments", "12-17", "0-3", "--format", "srt")) == 0
    assert capsys.readouterr().out.startswith("1\n00:00:00,000 --> 00:00:03,000\n")


def test_what_cannot_be_captioned(folder, tmp_path, capsys):
    (folder / "bad.srt").write_bytes(b"1\n00:00:01,000 --> 00:00:05,000\n\xff\xfe\xff\n")
    assert main(words(folder, "--subtitles", str(folder / "bad.srt"))) == 1
    assert "bad.srt cannot be read as subtitles" in capsys.readouterr().err
    write_moments(tmp_path, num_videos=1)
    (tmp_path / "talk.mp4").touch()
    assert main(["caption", str(tmp_path / "talk.mp4"), "--model", str(tmp_path / "model")]) == 2
    expected = "is a HeroForVideoTextRetrieval, which writes no captions; a HeroForVideoCaptioning does."
    assert expected in capsys.readouterr().err


def test_help_texts_name_each_other(capsys):
    for name, other in (("caption", "data caption-frames"), ("data caption-frames", "hf-videolang caption`")):
        with pytest.raises(SystemExit):
            main([*name.split(), "--help"])
        assert other in capsys.readouterr().out


def test_a_long_video_is_read_in_windows(folder):
    """A segment gets the caption that its window gives, and it does not matter which others are asked for."""
    model, processor = load_model_and_processor(folder / "model")
    rows = torch.randn(40, FEATURES)  # a minute, of which the model reads 18 s at once
    shown = [{"start": 10.0, "end": 14.0, "text": "a b"}]
    segments = even_segments(60.0, 8.0)
    captions = caption_segments(model, processor, rows, shown, segments)
    assert [(one.start, one.end) for one in captions] == segments and segments[-1] == (56.0, 60.0)
    window = next(one for one in processor.windows(rows, shown, 18.0, 9.0) if one["start"] == 9.0)
    alone = caption_segments(model, processor, window["video_features"], window["subtitles"], [(7.0, 15.0)])
    assert captions[2].text == alone[0].text
    assert caption_segments(model, processor, rows, shown, segments[2:3]) == captions[2:3]
    message = "segment 30 to 60 s lies in no window of 18 s, one every 9 s, .* give segments of at most 9 s"
    with pytest.raises(ValueError, match=message):
        caption_segments(model, processor, rows, shown, even_segments(60.0, 30.0)[1:])
