"""Subtitle files of every format, and files that are none."""

import json
import logging

import pytest

from hf_videolang.video import subtitles
from hf_videolang.video.subtitles import SubtitleError, find_subtitles, read_subtitle_lines, read_subtitles

SRT = """1
00:00:01,000 --> 00:00:04,500
<i>Hello</i> and <font color="red">welcome</font>,
second line

2
00:00:05,000 --> 00:01:06,250
{\\an8}- Ana: a < b

"""
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE not shown

first
00:01.000 --> 00:04.500 align:start position:0%
<v Roger>Hello and <c.yellow>welcome</c>,
second line

00:00:05.000 --> 00:01:06.250
- Ana: a &lt; b
"""
ASS = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:04.50,Default,,0,0,0,,{\\i1}Hello{\\i0} and welcome,\\Nsecond line
Comment: 0,0:00:02.00,0:00:03.00,Default,,0,0,0,,not shown
Dialogue: 0,0:00:05.00,0:01:06.25,Default,,0,0,0,,- Ana: a < b
"""
EXPECTED = [
    {"start": 1.0, "end": 4.5, "text": "Hello and welcome, second line"},
    {"start": 5.0, "end": 66.25, "text": "- Ana: a < b"},
]


@pytest.mark.parametrize(("name", "content"), [("a.srt", SRT), ("a.vtt", VTT), ("a.ass", ASS)])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_format_gives_the_same(tmp_path, name, content, encoding):
    if encoding == "utf-16" and not name.endswith("srt"):
        encoding = "utf-8"
    (path := tmp_path / name).write_text(content, encoding=encoding)
    assert read_subtitles(path) == EXPECTED


def test_entries_in_memory_and_none():
    assert read_subtitles(EXPECTED) == EXPECTED and read_subtitles(None) == []


def test_order_and_ends_are_put_right(tmp_path, caplog):
    lines = ["1\n00:00:05,000 --> 00:00:06,000\nlast\n", "2\n00:00:01,000 --> 00:00:02,000\nfirst\n"]
    lines += ["3\n00:00:09,000 --> 00:00:08,000\nbackwards\n"]
    (path := tmp_path / "a.srt").write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING):
        assert [one["text"] for one in read_subtitles(path)] == ["first", "last"]
    assert "2 subtitles do not stand in the order" in caplog.text
    assert "1 subtitles end before they start" in caplog.text


def test_a_file_is_parsed_again_once_it_has_changed(tmp_path, monkeypatch):
    parse, parsed = subtitles._read_file, []
    monkeypatch.setattr(subtitles, "_read_file", lambda path: parsed.append(path) or parse(path))
    (path := tmp_path / "a.srt").write_text(SRT)
    assert read_subtitles(path) == read_subtitles(path) == EXPECTED and len(parsed) == 1
    path.write_text(SRT + "\n9\n00:00:50,000 --> 00:00:51,000\nlast\n")
    assert len(read_subtitles(path)) == len(EXPECTED) + 1 and len(parsed) == 2


def test_an_empty_file_has_no_subtitles(tmp_path):
    (tmp_path / "a.srt").write_text(" \n")
    assert read_subtitles(tmp_path / "a.srt") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"just a text\n", "cannot be read as subtitles"),
        (SRT.replace("welcome", "caf\xe9").encode("latin-1"), "iconv -f LATIN1 -t UTF-8"),
        (None, "does not exist; give a file of .srt"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "talk.srt").write_bytes(content)
    with pytest.raises(SubtitleError, match=rf"talk\.srt.*{message}"):
        read_subtitles(tmp_path / "talk.srt")


def test_lines_of_many_videos(tmp_path):
    (path := tmp_path / "subtitles.jsonl").write_text(
        "".join(json.dumps({"vid_name": name, "sub": EXPECTED[:count]}) + "\n" for name, count in (("a", 2), ("b", 0)))
    )
    assert read_subtitle_lines(path) == {"a": EXPECTED, "b": []}


@pytest.mark.parametrize(
    "line",
    [
        '{"vid_name": "b"}',
        '{"vid_name": "b", "sub": "talk.srt"}',
        '{"vid_name": "b", "sub": [{"text": 5, "start": 0, "end": 1}]}',
        '{"vid_name": "b", "sub": [{"text": "a", "start": 0, "end": 1e999}]}',
        "[" * 100_000,
    ],
)
def test_wrong_lines_are_named(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)  # beside a file that data must not choose
    (tmp_path / "talk.srt").write_text(SRT)
    (tmp_path / "subtitles.jsonl").write_text(f'{{"vid_name": "a", "sub": []}}\n{line}\n')
    with pytest.raises(SubtitleError, match="line 2 cannot be read"):
        read_subtitle_lines(tmp_path / "subtitles.jsonl")


def test_the_file_beside_a_video(tmp_path):
    video = tmp_path / "talk.mp4"
    assert find_subtitles(video) is None
    (tmp_path / "talk.en.vtt").touch()
    assert find_subtitles(video) == tmp_path / "talk.en.vtt"
    (tmp_path / "talk.srt").touch()
    assert find_subtitles(video) == tmp_path / "talk.srt"
