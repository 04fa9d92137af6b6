"""SlowFast against the outputs of PyTorchVideo, from its file through converter, Auto classes and processor."""

from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor

from hf_videolang.conversion.families import convert
from tests.parity.cases import Case


@torch.no_grad()
def check_network(case: Case, tmp_path: Path) -> None:
    convert(case.checkpoint, tmp_path / "slowfast")
    model, classifier = (
        auto_class.from_pretrained(tmp_path / "slowfast").eval()
        for auto_class in (AutoModel, AutoModelForVideoClassification)
    )
    frames = case.inputs["frames_low"].repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2)
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "slowfast", size={"shortest_edge": 224})
    pixels = processor(list(frames), crop_size={"height": 224, "width": 224}, return_tensors="pt")[
        "pixel_values_videos"
    ]

    found: dict[str, torch.Tensor] = {}

    def keep(name: str):
        return lambda module, arguments, output: found.update({f"{name}.mean": output.mean((2, 3, 4))})

    # A block of the original ends with its fusion, which joins the fast channels behind the slow ones.
    for number in range(5):
        joined = model.fusions[number] if number < 4 else model.slow_stages[3]
        joined.register_forward_hook(keep(f"block{number}.slow"))
        fast = model.fast_stages[number - 1] if number else model.fast_stem
        fast.register_forward_hook(keep(f"block{number}.fast"))
    found |= {"features": model(pixels).pooler_output, "logits": classifier(pixels).logits}
    assert found.keys() == case.expected.keys()
    for name, value in case.expected.items():
        torch.testing.assert_close(found[name], value, **case.tolerances, msg=lambda text, n=name: f"{n}: {text}")


CHECKS = {"slowfast": check_network}
