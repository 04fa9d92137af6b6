"""The checkpoints of VideoCLIP and VLM in fairseq's container, with random tensors."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Shapes = dict[str, list[int]]
TINY = {"width": 64, "inner": 96, "vocabulary": 156, "positions": 40, "features": 16}
FULL = {"width": 768, "inner": 3072, "vocabulary": 30522, "positions": 512, "features": 512}


def bert_shapes(
    prefix: str, layers: int, width: int, inner: int, vocabulary: int, positions: int, features: int
) -> Shapes:
    """As transformers 3.4 saves a BERT with its pooler."""
    shapes: Shapes = {
        "embeddings.position_ids": [1, positions],
        "embeddings.word_embeddings.weight": [vocabulary, width],
        "embeddings.position_embeddings.weight": [positions, width],
        "embeddings.token_type_embeddings.weight": [2, width],
        "embeddings.LayerNorm.weight": [width],
        "embeddings.LayerNorm.bias": [width],
        "pooler.dense.weight": [width, width],
        "pooler.dense.bias": [width],
    }
    for layer in range(layers):
        parts = [(f"attention.self.{name}", width, width) for name in ("query", "key", "value")]
        parts += [
            ("attention.output.dense", width, width),
            ("intermediate.dense", inner, width),
            ("output.dense", width, inner),
        ]
        for name, outer, inside in parts:
            shapes[f"encoder.layer.{layer}.{name}.weight"] = [outer, inside]
            shapes[f"encoder.layer.{layer}.{name}.bias"] = [outer]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shapes[f"encoder.layer.{layer}.{name}.bias"] = [width]
    return {prefix + name: shape for name, shape in shapes.items()}


def projector_shapes(prefix: str, width: int, features: int) -> Shapes:
    shapes = {"linear1.weight": [width, features], "linear2.weight": [width, width], "LayerNorm.weight": [width]}
    shapes |= {f"{name}.bias": [width] for name in ("linear1", "linear2", "LayerNorm")}
    return {f"{prefix}.videomlp.{name}": shape for name, shape in shapes.items()}


def head_shapes(prefix: str, width: int, labels: int) -> Shapes:
    return {f"{prefix}.classifier.weight": [labels, width], f"{prefix}.classifier.bias": [labels]}


def separate(size: dict[str, int], video_layers: int, text_layers: int, labels: int = 0) -> Shapes:
    width = size["width"]
    shapes = projector_shapes("video_encoder", width, size["features"])
    shapes |= bert_shapes("video_encoder.bert.", video_layers, **size)
    shapes |= head_shapes("video_encoder", width, labels) if labels else {}
    return shapes | bert_shapes("text_encoder.", text_layers, **size)


def one_encoder(size: dict[str, int], layers: int, vlm: bool, words: bool = False, labels: int = 0) -> Shapes:
    width = size["width"]
    shapes = projector_shapes("mm_encoder", width, size["features"]) | bert_shapes("mm_encoder.bert.", layers, **size)
    if vlm:
        shapes["mm_encoder.bert.embeddings.seg_embeddings.weight"] = [256, width]
    if words:
        start = "mm_encoder.cls.predictions."
        shapes |= {
            f"{start}transform.{name}": [width] for name in ("dense.bias", "LayerNorm.weight", "LayerNorm.bias")
        }
        shapes |= {
            f"{start}transform.dense.weight": [width, width],
            f"{start}decoder.weight": [size["vocabulary"], width],
        }
    return shapes | (head_shapes("mm_encoder", width, labels) if labels else {})


def layouts(size: dict[str, int], video: int, text: int, labels: int) -> dict[str, Shapes]:
    """Layers of the towers; one encoder has as many as the text tower."""
    return {
        "videoclip_pretrained": separate(size, video, text),
        "videoclip_coin_finetuned": separate(size, video, text, labels),
        "videoretri_shared_encoder": one_encoder(size, text, vlm=False),
        "vlm_pretrained": one_encoder(size, text, vlm=True, words=True),
        "vlm_retrieval_finetuned": one_encoder(size, text, vlm=True),
        "vlm_coin_finetuned": one_encoder(size, text, vlm=True, labels=labels),
    }


def random_values(shapes: Shapes, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = {name: (0.1 * torch.randn(shape, generator=generator)).to(dtype) for name, shape in shapes.items()}
    for name in values:
        if name.endswith("position_ids"):
            values[name] = torch.arange(shapes[name][1])[None]
    return values


def in_container(values: dict[str, Any]) -> dict[str, Any]:
    """What fairseq saves around the model (videoclip §4.2)."""
    return {
        "args": None,
        "cfg": {
            "common": {"seed": 1, "fp16": True},
            "model": Namespace(arch="mmarch"),
            "task": Namespace(taskconfig="x.yaml"),
        },
        "model": {f"mmmodel.{name}": value for name, value in values.items()},
        "criterion": None,
        "optimizer_history": [{"criterion_name": "MMCriterion", "num_updates": 3}],
        "task_state": {},
        "extra_state": {"metrics": [], "val_loss": np.float64(1.5), "best": np.float32(1.5)},
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 5e-05}]},
    }


def write(values: dict[str, Any], path: Path, container: bool = True) -> Path:
    torch.save(in_container(values) if container else values, path)
    return path
