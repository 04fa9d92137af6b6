"""S3D against the outputs of the original, from its files through the converter and the Auto classes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad
from transformers import AutoModel, AutoProcessor

from hf_videolang.conversion.families import convert
from hf_videolang.models.s3d.modeling_s3d import S3DModel
from hf_videolang.models.s3d.processing_s3d import S3DProcessor
from tests.parity.cases import SHARED, Case


def load(checkpoint: Path, words: np.ndarray, folder: Path) -> tuple[S3DModel, S3DProcessor]:
    """The case names the words of its sentences. The other rows of the table get words that no sentence has."""
    rows = len(torch.load(checkpoint, weights_only=True)["text_module.word_embd.weight"]) - 1
    unused = [f"unused{row}" for row in range(len(words), rows)]
    np.save(dictionary := folder.with_name("s3d_dict.npy"), np.concatenate([words, unused]))
    convert(checkpoint, folder, dictionary=dictionary)
    return AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)


@contextmanager
def stage_means(model: S3DModel, found: dict[str, Tensor]) -> Iterator[None]:
    """Collect the mean of every stage's output over time and space."""
    hooks = []
    for name, stage in model.video_model.named_children():
        if name == "conv1":  # the original pads its input on both sides and drops slices afterwards

            def record(module, arguments, output):
                found["conv1"] = type(module).forward(module, pad(arguments[0], (1, 0, 1, 0, 1, 0))).mean((2, 3, 4))
        else:

            def record(module, arguments, output, name=name):
                found[name] = output.mean((2, 3, 4)) if output.ndim == 5 else output

        hooks.append(stage.register_forward_hook(record))
    yield
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def check_clips(case: Case, model: S3DModel, clips: dict[str, Tensor]) -> None:
    """Each clip is [B, 3, frames, H, W], one row of features."""
    for name, clip in clips.items():
        model.config.frames_per_clip = clip.shape[2]
        stages: dict[str, Tensor] = {}
        with stage_means(model, stages):
            output = model.video_model(clip.transpose(1, 2))
        found = {f"stage.{stage}.mean": mean for stage, mean in stages.items()}
        found |= {"video_embedding": output.video_embeds, "mixed_5c": output.pooler_output}
        expected = {
            key.removeprefix(f"{name}."): value for key, value in case.expected.items() if key.startswith(name)
        }
        assert expected and found.keys() >= expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(
                found[key], value, **case.tolerances, msg=lambda text, n=f"{name} {key}": f"{n}: {text}"
            )


@torch.no_grad()
def check_texts(case: Case, model: S3DModel, processor: S3DProcessor) -> None:
    inputs = processor(text=case.meta["sentences"])
    assert torch.equal(inputs["input_ids"], case.expected["text_ids"])
    found = model.get_text_features(**inputs).pooler_output
    torch.testing.assert_close(found, case.expected["text_embedding"], **case.tolerances)
    words = max(1, int((inputs["input_ids"] > 0).sum(dim=1).max()))  # without the columns that are empty everywhere
    found = model.get_text_features(inputs["input_ids"][:, :words]).pooler_output
    torch.testing.assert_close(found, case.expected["text_embedding"], **case.tolerances)


def check_small_width(case: Case, tmp_path: Path) -> None:
    model, processor = load(case.path / "s3d_howto100m.pth", np.load(case.path / "s3d_dict.npy"), tmp_path / "s3d")
    check_texts(case, model, processor)
    check_clips(case, model, {name.removesuffix(".video"): clip for name, clip in case.inputs.items()})

    model.config.frames_per_clip = 30
    t, c, y, x = torch.meshgrid(*map(torch.arange, (case.meta["protocol"]["frames"], 3, 224, 224)), indexing="ij")
    frames = ((3 * t * (c + 1) + 5 * x + 7 * y * (1 + t // 30)) % 256).to(torch.uint8)
    with torch.no_grad():
        rows = model.video_model(**processor(videos=frames)).video_features[0]
    torch.testing.assert_close(rows, case.expected["protocol.raw"], **case.tolerances)
    torch.testing.assert_close(normalize(rows, dim=-1), case.expected["protocol.l2"], **case.tolerances)
    stored = normalize(rows, dim=-1).half()
    torch.testing.assert_close(stored, case.expected["protocol.stored_fp16"], atol=1e-3, rtol=0)  # a last place of 0.5


def check_full_width(case: Case, tmp_path: Path) -> None:
    """By the recipe in `case.json`: weights and clips come from formulas."""
    keys = json.loads((SHARED / "reference" / "s3d" / "full_size_keys.json").read_text())["s3d_howto100m"]["keys"]
    generator = np.random.RandomState(case.meta["seed"])
    values = {name: seeded(name, shape, generator) for name, shape, _ in keys}
    for name, check in case.meta["weight_check"].items():
        flat = values[name].flatten()
        np.testing.assert_allclose(flat[:3], check["first"], rtol=1e-6)
        np.testing.assert_allclose(flat[-1], check["last"], rtol=1e-6)
        np.testing.assert_allclose(flat.double().sum(), check["sum_float64"], rtol=1e-9)
    torch.save(values, tmp_path / "s3d_howto100m.pth")
    model, processor = load(tmp_path / "s3d_howto100m.pth", np.array(case.meta["dictionary_words"]), tmp_path / "s3d")
    check_texts(case, model, processor)
    clips = {
        f"clip{i}": formula_clip(shape, case.meta["seed"] + i) for i, shape in enumerate(case.meta["clip_shapes"])
    }
    check_clips(case, model, clips)


def seeded(name: str, shape: list[int], generator: np.random.RandomState) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(100)
    r = generator.standard_normal(shape).astype(np.float32)
    if len(shape) == 5:
        r *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
    elif ".bn" in name and name.endswith("weight"):
        r = np.float32(1.25) + np.float32(0.2) * r
    elif name.endswith("running_var"):
        r = np.exp(np.float32(0.3) * r)
    elif name.endswith("word_embd.weight"):
        r *= np.float32(0.5)
    elif len(shape) == 2:
        r *= np.float32(2 / np.sqrt(shape[1]))
    else:
        r *= np.float32(0.05)
    return torch.from_numpy(r)


def formula_clip(shape: list[int], seed: int) -> Tensor:
    b, c, t, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    phase = 0.7 * seed + 1.3 * b + 0.9 * c
    wave = np.sin(0.21 * x * (1 + 0.3 * b) + 0.13 * t + phase) + np.sin(0.17 * y - 0.29 * t * (1 + b) + 2 * phase)
    return torch.from_numpy((0.5 + 0.25 * wave).astype(np.float32))


CHECKS = {"s3d_small_width": check_small_width, "s3d_full_width_seeded": check_full_width}
