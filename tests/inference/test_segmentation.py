"""Labels and sentences find their seconds: literal cases, a search by brute force, the original, and real files."""

import numpy as np
import pytest
import torch

from hf_videolang.data.moving_shapes import write_video
from hf_videolang.inference.segmentation import (
    VideoPart,
    background_threshold,
    best_stretches,
    embed_texts,
    label_parts,
    merge_windows,
    score_seconds,
    search_video,
    segment_video,
    window_starts,
)
from hf_videolang.inference.timeline import draw_timeline
from tests.common.tiny import clip_vip
from tests.common.tiny.videoclip import SECONDS, tiny_model, tiny_processor

LABELS = ["ab", "c", "a"]


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(1, [0]), (32, [0]), (33, [0, 16]), (48, [0, 16]), (49, [0, 16, 32]), (139, [*range(0, 113, 16)])],
)
def test_windows_overlap_by_half_and_the_last_reaches_the_end(seconds, starts):
    assert [*window_starts(seconds, 32)] == starts


def test_seconds_in_two_windows_are_averaged():
    windows = [torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([[8.0], [10.0], [12.0], [99.0]])]
    assert merge_windows(windows, [0, 2], 5).flatten().tolist() == [0, 2, 6, 8, 12]


SCORES = torch.tensor([[3.0, 1], [5, 1], [1, 2], [9, 1], [0, 7]])


def test_equal_neighbours_become_parts():
    assert label_parts(SCORES, ["a", "b"]) == [
        VideoPart(0.0, 2.0, "a", 4.0),
        VideoPart(2.0, 3.0, "b", 2.0),
        VideoPart(3.0, 4.0, "a", 9.0),
        VideoPart(4.0, 5.0, "b", 7.0),
    ]


def test_seconds_that_are_not_above_the_threshold_are_in_no_part():
    assert label_parts(SCORES, ["a", "b"], 5.0) == [VideoPart(3.0, 4.0, "a", 9.0), VideoPart(4.0, 5.0, "b", 7.0)]
    assert label_parts(SCORES, ["a", "b"], 9.0) == []


def test_the_original_threshold_is_the_largest_product_of_two_labels():
    assert background_threshold(torch.tensor([[3.0, 0], [1, 2], [0, 2]])) == 4.0
    with pytest.raises(ValueError, match="with one label, .* give more labels, or a number"):
        background_threshold(torch.ones(1, 2))


@pytest.mark.parametrize("seconds", [1, 2, 3, 4, 30])
def test_stretches_are_the_best_of_any_length(seconds):
    for seed in range(20):
        scores = torch.randn(seconds, generator=torch.Generator().manual_seed(seed))
        shortest = min(3, seconds)
        spans = [(i, j) for i in range(seconds) for j in range(i + shortest, seconds + 1)]
        spans.sort(key=lambda span: -scores[span[0] : span[1]].mean().item())
        expected = []
        for first, stop in spans:
            if len(expected) < 4 and all(first >= b or stop <= a for a, b in expected):
                expected.append((first, stop))
        found = best_stretches(scores, "x", 4)
        assert [(part.start, part.end) for part in found] == expected
        assert [part.score for part in found] == pytest.approx(
            [scores[a:b].mean().item() for a, b in expected], abs=1e-6
        )


@pytest.fixture(scope="module")
def videoclip():
    return tiny_model(with_s3d=True), tiny_processor()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """15 seconds for a model of 6; the last one is incomplete."""
    frames = np.random.default_rng(0).integers(0, 256, (58, 40, 60, 3), np.uint8)
    frames //= np.linspace(1, 8, 58)[:, None, None, None].astype(np.uint8)
    return str(write_video(tmp_path_factory.mktemp("video") / "lesson.mp4", frames, 4))


@torch.no_grad()
def test_a_short_video_is_one_window_without_cls(videoclip, video):
    model, processor = videoclip
    inputs = processor(videos=[{"path": video, "start": 0, "end": SECONDS}], text=LABELS)
    rows = model.make_features(inputs["pixel_values_videos"])[0]
    states = model.get_video_features(video_features=rows[None], attend_to_cls=False).last_hidden_state[0, 1:-1]
    texts = embed_texts(LABELS, model, processor)
    assert torch.equal(texts, model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output)
    scores = score_seconds(None, texts, model, processor, video_features=rows)
    torch.testing.assert_close(scores, states @ texts.T)


@torch.no_grad()
def test_a_video_longer_than_the_model_reads_gives_the_same_as_its_features(videoclip, video):
    model, processor = videoclip
    pixels = processor.video_processor(video, max_clips=100)["pixel_values_videos"]
    rows = model.make_features(pixels)[0]
    assert len(rows) == 15 > SECONDS
    parts = segment_video(video, LABELS, model, processor)
    assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])] and parts[-1].end == 15
    for stored in (rows, rows.half()):
        found = segment_video(None, LABELS, model, processor, video_features=stored)
        assert [(part.start, part.end, part.label) for part in found] == [(p.start, p.end, p.label) for p in parts]
        assert [p.score for p in found] == pytest.approx([p.score for p in parts], rel=1e-2)
    stretches = search_video(video, ["ab", "c"], model, processor, top=2)
    assert [part.label for part in stretches] == ["ab", "ab", "c", "c"]
    assert stretches[0].score >= stretches[1].score and all(part.end - part.start >= 3 for part in stretches)


def test_what_cannot_be_segmented_is_told(videoclip):
    model, processor = videoclip
    with pytest.raises(ValueError, match=r"are \[\]; expected a list of one text or more"):
        segment_video("a.mp4", [], model, processor)
    with pytest.raises(ValueError, match="are 'crack eggs'; expected a list"):  # not a label for each letter
        search_video("a.mp4", "crack eggs", model, processor)
    with pytest.raises(ValueError, match="CLIPViPModel has no states for single seconds"):
        segment_video("a.mp4", LABELS, clip_vip.tiny_model(), clip_vip.tiny_processor())
    with pytest.raises(ValueError, match="rows of norm 1"):
        segment_video(None, LABELS, model, processor, video_features=torch.full((4, 16), 2.0))


def test_a_timeline_shows_labels_as_they_are(tmp_path):
    labels = ["a $5 and a $\\6 pan", "a label of many words, " * 8]
    scores = torch.tensor([[1.0, 0.0]] * 4)
    draw_timeline(tmp_path / "a.svg", label_parts(scores, labels), labels, scores)
    drawn = (tmp_path / "a.svg").read_text()
    assert "<!-- a $5 and a $\\6 pan -->" in drawn and "<!-- a label of many words, a label of many -->" in drawn
