"""HERO's processor: subtitles to frames and rows, texts, windows, and moments in seconds."""

import pytest
import torch
from transformers import AutoProcessor

from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.processing_hero import HeroProcessor
from hf_videolang.models.hero.subtitle_matching_hero import cut_frames, match_frames, span_frames
from tests.common.tiny.hero import FEATURES, WORDS, tiny_model, tiny_processor
from tests.parity.cases import SHARED

FIRST, SECOND = (WORDS.index(word) for word in ("a", "b"))


def shown(*entries: tuple[float, float, str]) -> list[dict]:
    return [{"start": start, "end": end, "text": text} for start, end, text in entries]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([(0.0, 3.0, "a"), (3.0, 6.0, "b")], [0, 0, 1, 1, -1, -1]),
        ([(0.0, 2.0, "a"), (2.0, 6.0, "b")], [0, 1, 1, 1, -1, -1]),  # frame 1 is 1.5 to 3 s
        ([(0.0, 3.0, "a"), (1.5, 9.0, "b")], [0, 0, 1, 1, 1, 1]),  # equal overlap with frame 1 by share of the hull
        ([(1.5, 1.5, "a"), (1.6, 1.6, "b")], [-1, 0, -1, -1, -1, -1]),  # no length: frame 1, and the first of all
        ([(0.0, 1.5, "a"), (9.0, 12.0, "b")], [0, -1, -1, -1, -1, -1]),  # behind the video
        ([(0.0, 1.5, "a"), (7.5, 99.0, "b")], [0, -1, -1, -1, -1, 1]),  # ends behind the video
    ],
)
def test_a_frame_belongs_to_the_subtitle_that_overlaps_it_most(entries, expected):
    assert match_frames(shown(*entries), 6, 1.5) == expected


def test_a_long_last_subtitle_keeps_eleven_frames():
    long = shown((0.0, 1.5, "a"), (1.5, 30.0, "b"))
    assert match_frames(long, 20, 1.5) == [0] + [1] * 11 + [-1] * 8
    assert match_frames(long, 11, 1.5) == [0] + [1] * 10  # 15 s of it lie in the video
    assert match_frames(long[::-1], 20, 1.5)[1:] == [0] * 19  # only the last one is cut


def test_subtitles_behind_the_cut_are_left_out():
    matched = [0, 0, 2, 2, 3, 4]  # subtitle 1 has no frame
    assert cut_frames(matched, 5, 6) == ([0, 1, 2, 3, 4], matched)
    assert cut_frames(matched, 5, 3) == ([0, 1, 2], [0, 0, 2])
    assert cut_frames(matched, 5, 4) == ([0, 1, 2], [0, 0, 2, 2])
    assert cut_frames([0, 1, 0, 1], 2, 3) == ([0, 1], [0, 1, 0])


def test_spans_go_both_ways():
    processor = tiny_processor()
    assert processor.span_frames(3.2, 7.6, 20) == (2, 5) and processor.span_seconds(2, 5) == (3.0, 9.0)
    assert span_frames(float("nan"), 1.0, 9, 1.5) == (-1, -1)


def rows(batch, video: int = 0) -> list[list[int]]:
    ids, mask = batch["subtitle_input_ids"][video], batch["subtitle_attention_mask"][video].bool()
    return [one[keep].tolist() for one, keep in zip(ids, mask)]


def test_a_batch_is_rectangular():
    processor = tiny_processor()
    features = [torch.randn(6, FEATURES), torch.randn(3, FEATURES).half()]
    batch = processor(
        video_features=features,
        subtitles=[shown((0, 3, "a b"), (3, 9, "A B"), (20, 21, "c")), None],
        text=["a", "b a"],
    )
    assert batch["video_features"].dtype == torch.float32 and batch["video_features"].shape == (2, 6, FEATURES)
    assert batch["video_attention_mask"].tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert batch["frame_subtitles"].tolist() == [[0, 0, 1, 1, 1, 1], [0, 0, 0, -1, -1, -1]]
    c = WORDS.index("c")
    assert rows(batch) == [[2, FIRST, SECOND], [2, FIRST, SECOND], [2, c]]  # capitals become small
    assert rows(batch, 1) == [[2], [], []]
    assert batch["input_ids"].tolist() == [[0, FIRST, 1], [0, SECOND, FIRST]]
    model = tiny_model(HeroForVideoTextRetrieval)
    assert model(**batch).start_logits.shape == (2, 6)


def test_saved_settings_decide(tmp_path):
    changed = {"context_subtitles": 1, "row_start": "cls", "frames_per_group": 2, "seconds_per_feature": 2.0}
    tiny_processor(**changed).save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is HeroProcessor
    batch = processor(video_features=torch.randn(5, FEATURES), subtitles=shown((0, 4, "a"), (4, 10, "b")))
    assert rows(batch) == [[0, FIRST], [0, FIRST, SECOND]] and batch["frame_subtitles"].tolist() == [[0, 0, 1, 1, 1]]
    without = processor(video_features=torch.randn(5, FEATURES))
    assert without["frame_subtitles"].tolist() == [[0, 0, 1, 1, 2]] and rows(without) == [[0], [0], [0]]
    assert "one every 2 s" in processor.input_protocol()["features"]


def test_entities_are_resolved_in_subtitles_alone():
    processor = tiny_processor()
    batch = processor(video_features=torch.randn(2, FEATURES), subtitles=shown((0, 3, "&#97;")), text="&#97;")
    assert rows(batch) == [[2, FIRST]] and batch["input_ids"].tolist() == [[0, 3]]


def test_questions_choices_and_statements():
    processor = tiny_processor()
    batch = processor(question=["a", "b"], choices=[["a", "b b", "a"], ["b"]])
    assert batch["input_ids"].shape == (2, 3, 5)
    assert batch["input_ids"][0].tolist() == [[2, 4, 2, 4, 1], [2, 4, 2, 5, 5], [2, 4, 2, 4, 1]]
    assert batch["attention_mask"].any(dim=-1).tolist() == [[True] * 3, [True, False, False]]
    assert processor(choices=["a", "b b"])["input_ids"].tolist() == [[[2, 4, 1], [2, 5, 5]]]
    assert processor(statement="a b")["input_ids"].tolist() == [[2, 4, 5]]


def test_subtitles_come_from_a_file(tmp_path):
    (path := tmp_path / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:03,000\n<i>a</i> b\n")
    batch = tiny_processor()(video_features=torch.randn(3, FEATURES).numpy(), subtitles=path)
    assert rows(batch) == [[2, FIRST, SECOND]] and batch["frame_subtitles"].tolist() == [[0, 0, -1]]


def test_windows_cover_a_long_video():
    processor = tiny_processor()
    features = torch.arange(20.0)[:, None].expand(20, FEATURES)
    windows = processor.windows(features, shown((0, 4, "a"), (14, 17, "b")), window_seconds=15)
    assert [window["start"] for window in windows] == [0.0, 15.0]
    assert [len(window["video_features"]) for window in windows] == [10, 10]
    assert [window["subtitles"] for window in windows] == [
        shown((0, 4, "a"), (14, 15.0, "b")),
        shown((0.0, 2.0, "b")),  # over the border, clipped in both
    ]
    starts = [window["start"] for window in processor.windows(features, None, 15, 7.5)]
    assert starts == [0.0, 7.5, 15.0]  # the last one reaches the end
    assert len(processor.windows(features[:3], None, 15)) == 1
    for wrong in ({"window_seconds": 30}, {"window_seconds": 9, "overlap_seconds": 9}):
        with pytest.raises(ValueError, match="expected at most 12 rows and less overlap"):
            processor.windows(features, None, **wrong)


def test_moments_are_found_across_windows():
    processor, model = tiny_processor(), tiny_model()
    windows = processor.windows(torch.randn(20, FEATURES), shown((0, 30, "a")), window_seconds=15)
    inputs = processor(
        video_features=[window["video_features"] for window in windows],
        subtitles=[window["subtitles"] for window in windows],
        text="b",
    )
    with torch.no_grad():
        output = model(**inputs)
    (moments,) = processor.post_process_moments(output, top=3, starts=[window["start"] for window in windows])
    assert len(moments) == 3 and moments[0]["score"] >= moments[1]["score"] >= moments[2]["score"]
    weight = (20 * output.logits_per_text).exp()
    scores = output.start_logits.softmax(-1)[..., :, None] * output.end_logits.softmax(-1)[..., None, :]
    scores = scores * weight[..., None, None]
    length = torch.arange(10) - torch.arange(10)[:, None]
    scores = scores.masked_fill((length < 2) | (length >= 16), 0)[0]
    video, first, last = (int(value) for value in torch.unravel_index(scores.argmax(), scores.shape))
    start = 15.0 * video
    best = {"video": video, "start": start + 1.5 * first, "end": start + 1.5 * (last + 1)}
    assert moments[0] == {**best, "score": pytest.approx(float(scores.max()))}


def test_moments_of_the_own_video():
    processor, model = tiny_processor(), tiny_model()
    with torch.no_grad():
        output = model(**processor(video_features=[torch.randn(8, FEATURES)] * 2, text=["a", "b"]))
    found = processor.post_process_moments(output, top=1, starts=[0.0, 60.0])
    assert [one[0]["video"] for one in found] == [None, None] and found[1][0]["start"] >= 60
    assert 3 <= (found[0][0]["end"] - found[0][0]["start"]) / 1.5 <= 16


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "there is no input"),
        ({"videos": "a.mp4"}, "HERO reads features"),
        ({"text": "a", "statement": "b"}, "pass text, question with choices, or statement"),
        ({"question": "a"}, "pass text, question with choices, or statement"),
        ({"question": ["a"], "choices": [["a"], ["b"]]}, "1 questions and choices for 2"),
        ({"choices": [[]]}, "a list of choices"),
        ({"video_features": torch.zeros(13, 4)}, r"13 rows .* reads 12 \(18 s\).*processor.windows.*truncation=True"),
        ({"video_features": torch.zeros(4)}, r"shape \(4,\)"),
        ({"video_features": torch.full((2, 4), torch.nan)}, "hold NaN"),
        ({"video_features": [torch.zeros(2, 4)], "subtitles": []}, "0 entries of subtitles for 1 videos"),
    ],
)
def test_wrong_input_is_told(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor()(**inputs)


def test_truncation_keeps_the_start():
    batch = tiny_processor()(video_features=torch.zeros(20, 4), subtitles=shown((0, 99, "a")), truncation=True)
    assert batch["video_features"].shape == (1, 12, 4)


@pytest.mark.skipif(not (SHARED / "data" / "tokenizers" / "roberta").is_dir(), reason="no shared/data beside it")
def test_words_are_those_of_roberta():
    tokenizer = SHARED / "data" / "tokenizers" / "roberta"
    processor = HeroProcessor(AutoProcessor.from_pretrained(tokenizer))
    batch = processor(video_features=torch.zeros(2, 4), subtitles=shown((0, 3, " Ana : hi")), text="a man sits")
    tokens = processor.tokenizer.convert_ids_to_tokens(batch["subtitle_input_ids"][0, 0].tolist())
    assert tokens == ["</s>", "ĠAna", "Ġ:", "Ġhi"]
    tokens = processor.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    assert tokens == ["<s>", "a", "Ġman", "Ġsits"]
