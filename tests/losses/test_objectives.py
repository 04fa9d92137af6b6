"""Every objective against a slow twin written from its formula, one pair at a time, in double precision."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from hf_videolang.losses import (
    OMNISOURCE_LOSSES,
    contrastive_loss,
    dual_softmax_loss,
    gather_features,
    hard_negative_loss,
    ranking_loss,
)

BATCH, DIM, LOGIT_SCALE = 5, 7, 1.3


def features(*names: str) -> list[torch.Tensor]:
    """Unit rows in double precision; rows 1 and 3 of the first are equal, as repeated captions are."""
    generator = torch.Generator().manual_seed(len(names))
    found = [torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64) for _ in names]
    found[0][3] = found[0][1]
    return [normalize(tensor) for tensor in found]


SCALE = math.exp(LOGIT_SCALE)


def nce(first, second, scale=SCALE) -> float:
    """CE(s X Y') + CE(s Y X'), row by row."""
    total = 0.0
    for x, y in ((first, second), (second, first)):
        for i in range(len(x)):
            weights = [math.exp(scale * float(x[i] @ y[j])) for j in range(len(y))]
            total -= math.log(weights[i] / sum(weights)) / len(x)
    return total


def two_positives(video, subtitle, caption) -> float:
    def weight(i, texts, j):
        return math.exp(SCALE * float(video[i] @ texts[j]))

    total = 0.0
    for i in range(BATCH):
        others = sum(weight(i, texts, j) for texts in (subtitle, caption) for j in range(BATCH) if j != i)
        for texts in (subtitle, caption):
            total -= math.log(weight(i, texts, i) / (weight(i, texts, i) + others)) / BATCH
            to_videos = sum(weight(j, texts, i) for j in range(BATCH))
            total -= math.log(weight(i, texts, i) / to_videos) / BATCH
    return total


def test_contrastive_by_hand():
    # Two orthogonal pairs, scale 1: each of the four rows costs -log(e / (e + 1)); a direction is the mean of two.
    eye = torch.eye(2)
    assert contrastive_loss(eye, eye, 0.0).item() == pytest.approx(2 * math.log(1 + math.exp(-1)))


def test_contrastive_is_the_sum_of_both_directions():
    text, video = features("text", "video")
    assert contrastive_loss(video, text, LOGIT_SCALE).item() == pytest.approx(nce(video, text))


def test_fixed_temperature():
    text, video = features("text", "video")
    assert contrastive_loss(video, text, -math.log(0.05)).item() == pytest.approx(nce(video, text, scale=20))


def test_omnisource_variants():
    subtitle, video, frame, caption = features("subtitle", "video", "frame", "caption")
    expected = {
        "vs_fc": nce(video, subtitle) + nce(frame, caption),
        "vs_vc": nce(video, subtitle) + nce(video, caption),
        "vs_vc_fc": nce(video, subtitle) + nce(video, caption) + nce(frame, caption),
        "vsc": two_positives(video, subtitle, caption),
        "vsc_fc": two_positives(video, subtitle, caption) + nce(frame, caption),
        "joint": nce(torch.cat([video, frame]), torch.cat([subtitle, caption])),
    }
    for variant, value in expected.items():
        pictures = [video] if variant in ("vs_vc", "vsc") else [video, frame]
        loss = OMNISOURCE_LOSSES[variant](pictures[0], subtitle, *pictures[1:], caption, LOGIT_SCALE)
        assert loss.item() == pytest.approx(value), variant
    assert expected.keys() == OMNISOURCE_LOSSES.keys()


def test_dual_softmax():
    text, video = features("text", "video")
    expected = 0.0
    for first, second in ((video, text), (text, video)):
        logits = [[SCALE * float(x @ y) for y in second] for x in first]
        for i in range(BATCH):
            prior = [sum(math.exp(row[j]) for row in logits) for j in range(BATCH)]
            weighted = [logits[i][j] * math.exp(logits[i][j]) / prior[j] for j in range(BATCH)]
            expected -= (weighted[i] - math.log(sum(math.exp(value) for value in weighted))) / BATCH
    assert dual_softmax_loss(video, text, LOGIT_SCALE).item() == pytest.approx(expected)


def test_hard_negative():
    text, video = features("text", "video")
    expected = 0.0
    for first, second in ((text, video), (video, text)):
        for i in range(BATCH):
            cosines = [float(first[i] @ second[j]) for j in range(BATCH)]
            hardest = sorted(cosines[:i] + cosines[i + 1 :], reverse=True)[:2]
            expected += math.log(sum(math.exp(value) for value in [cosines[i], *hardest])) - cosines[i]
    assert hard_negative_loss(video, text, 2).item() == pytest.approx(expected / BATCH)


@pytest.mark.parametrize("measure", ["cosine", "order"])
@pytest.mark.parametrize("max_violation", [False, True])
def test_ranking(measure, max_violation):
    text, video = features("text", "video")

    def similarity(i, j):
        if measure == "cosine":
            return float(video[i] @ text[j])
        return -math.sqrt(sum(max(0.0, float(t - v)) ** 2 for v, t in zip(video[i], text[j])))

    over = max if max_violation else sum
    expected = 0.0
    for i in range(BATCH):
        others = [j for j in range(BATCH) if j != i]
        expected += over(max(0.0, 0.3 + similarity(i, j) - similarity(i, i)) for j in others)
        expected += over(max(0.0, 0.3 + similarity(j, i) - similarity(i, i)) for j in others)
    loss = ranking_loss(video, text, margin=0.3, measure=measure, max_violation=max_violation)
    assert loss.item() == pytest.approx(expected)


def test_gradients_match_finite_differences():
    subtitle, video, frame, caption = (
        tensor.requires_grad_() for tensor in features("subtitle", "video", "frame", "caption")
    )
    scale = torch.tensor(LOGIT_SCALE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(OMNISOURCE_LOSSES["vsc_fc"], (video, subtitle, frame, caption, scale))
    assert torch.autograd.gradcheck(dual_softmax_loss, (video, subtitle, scale))


def test_logits_stay_float32_under_autocast():
    # At a scale of 100 bfloat16 logits are off by up to a quarter; the loss of half-precision features is not.
    text, video = (tensor.bfloat16() for tensor in features("text", "video"))
    exact = contrastive_loss(video.float(), text.float(), math.log(100))
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(video, text, torch.tensor(math.log(100)))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact)


def test_errors_name_value_and_remedy():
    square = torch.eye(3)
    with pytest.raises(ValueError, match=r"\[3, 3\] and \[2, 3\].*exactly one text"):
        contrastive_loss(square, square[:2], 0.0)
    with pytest.raises(ValueError, match=r"num_negatives is 3 with a batch of 3"):
        hard_negative_loss(square, square, 3)
    with pytest.raises(ValueError, match="'dot'.*cosine"):
        ranking_loss(square, square, measure="dot")


def test_gather_without_processes_is_the_identity():
    tensor = torch.eye(3)
    assert gather_features(tensor) is tensor
