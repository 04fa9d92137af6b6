"""The contrastive objectives of the original on its own vectors: values and gradients."""

from pathlib import Path

import torch

from hf_videolang.losses import contrastive_loss
from tests.parity.cases import Case

DIRECTIONS = {"MMContraLoss": "both", "T2VContraLoss": "text_to_video", "V2TContraLoss": "video_to_text"}


def check_contrastive_losses(case: Case, tmp_path: Path) -> None:
    """Without `NCE`, a legacy loss on two columns that no published configuration uses."""
    assert {name.split(".")[0] for name in case.expected} == {*DIRECTIONS, "NCE"}
    for name, directions in DIRECTIONS.items():
        video, text = (case.inputs[f"pooled_{kind}"].clone().requires_grad_() for kind in ("video", "text"))
        loss = contrastive_loss(video, text, 0.0, directions)
        loss.backward()
        for key, found in (("loss", loss.detach()), ("grad_video", video.grad), ("grad_text", text.grad)):
            torch.testing.assert_close(
                found,
                case.expected[f"{name}.{key}"],
                **case.tolerances,
                msg=lambda text, n=f"{name}.{key}": f"{n}: {text}",
            )


CHECKS = {"contrastive_losses": check_contrastive_losses}
