"""Checkpoints in the original on-disk layouts with random tensors, and a tokenizer for a vocabulary of any size."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTokenizer

Keys = Sequence[tuple[str, Sequence[int], str]]  # name, shape, dtype; as in full_size_keys.json


@dataclass(frozen=True)
class Size:
    """By default each tower has one head, so that no config is needed. `B16` is the published size."""

    vision_width: int = 64
    vision_layers: int = 2
    text_width: int = 64
    text_layers: int = 2
    projection: int = 64
    patch: int = 8
    grid: int = 2
    vocabulary: int = 514
    positions: int = 77
    added_proxies: int = 3
    frames: int = 4
    sequence_layers: int = 2


TINY = Size()
B16 = Size(768, 12, 512, 12, 512, patch=16, grid=14, vocabulary=49408, frames=12, sequence_layers=4)
B32 = replace(B16, patch=32, grid=7)
MEDIUM = replace(B16, vision_layers=3, text_layers=3)


def wrapper_keys(size: Size = TINY, video_proxy: bool = True, prefix: str = "clipmodel.") -> Keys:
    """Keys of the authors' `VidCLIP`; without proxies and prefix those of CLIP on the Hub."""
    vision, text = size.vision_width, size.text_width
    shapes = {
        "logit_scale": [],
        "text_model.embeddings.token_embedding.weight": [size.vocabulary, text],
        "text_model.embeddings.position_embedding.weight": [size.positions, text],
        "text_model.final_layer_norm.weight": [text],
        "text_model.final_layer_norm.bias": [text],
        "vision_model.embeddings.class_embedding": [vision],
        "vision_model.embeddings.patch_embedding.weight": [vision, 3, size.patch, size.patch],
        "vision_model.embeddings.position_embedding.weight": [size.grid**2 + 1, vision],
        "vision_model.pre_layrnorm.weight": [vision],
        "vision_model.pre_layrnorm.bias": [vision],
        "vision_model.post_layernorm.weight": [vision],
        "vision_model.post_layernorm.bias": [vision],
        "visual_projection.weight": [size.projection, vision],
        "text_projection.weight": [size.projection, text],
    }
    if video_proxy:
        shapes["vision_model.embeddings.added_cls"] = [size.added_proxies, vision]
        shapes["vision_model.embeddings.temporal_embedding"] = [1, size.frames, vision]
    for tower, width, layers in (("text", text, size.text_layers), ("vision", vision, size.vision_layers)):
        for index in range(layers):
            block = f"{tower}_model.encoder.layers.{index}"
            for part in "kvq":
                shapes[f"{block}.self_attn.{part}_proj.weight"] = [width, width]
                shapes[f"{block}.self_attn.{part}_proj.bias"] = [width]
            shapes |= {
                f"{block}.{name}": shape
                for name, shape in _block(width, "self_attn", "layer_norm", "mlp.fc1", "mlp.fc2")
            }
    floats = [(prefix + name, shape, "float32") for name, shape in shapes.items()]
    return [
        *floats,
        (f"{prefix}text_model.embeddings.position_ids", [1, size.positions], "int64"),
        (f"{prefix}vision_model.embeddings.position_ids", [1, size.grid**2 + 1], "int64"),
    ]


def openai_keys(size: Size = TINY, prefix: str = "") -> Keys:
    """Keys of OpenAI's archive, matrices in half precision; with `prefix="clip."` those of the CLIP in CLIP4Clip."""
    vision, text = size.vision_width, size.text_width
    keys = [
        ("positional_embedding", [size.positions, text], "float32"),
        ("text_projection", [text, size.projection], "float16"),
        ("logit_scale", [], "float32"),
        ("visual.class_embedding", [vision], "float32"),
        ("visual.positional_embedding", [size.grid**2 + 1, vision], "float32"),
        ("visual.proj", [vision, size.projection], "float16"),
        ("visual.conv1.weight", [vision, 3, size.patch, size.patch], "float16"),
        ("token_embedding.weight", [size.vocabulary, text], "float32"),
    ]
    for norm, width in (("visual.ln_pre", vision), ("visual.ln_post", vision), ("ln_final", text)):
        keys += [(f"{norm}.weight", [width], "float32"), (f"{norm}.bias", [width], "float32")]
    keys += _resblocks("visual.transformer", vision, size.vision_layers, "float16")
    keys += _resblocks("transformer", text, size.text_layers, "float16")
    keys = [(prefix + name, shape, dtype) for name, shape, dtype in keys]
    if prefix:
        return keys
    return [*keys, *((name, [], "int64") for name in ("input_resolution", "context_length", "vocab_size"))]


def clip4clip_keys(size: Size = TINY) -> Keys:
    return [
        *openai_keys(size, prefix="clip."),
        ("frame_position_embeddings.weight", [size.positions, size.projection], "float32"),
        *_resblocks("transformerClip", size.projection, size.sequence_layers, "float32"),
    ]


def _resblocks(name: str, width: int, layers: int, dtype: str) -> Iterator[tuple[str, list[int], str]]:
    for index in range(layers):
        block = f"{name}.resblocks.{index}"
        yield f"{block}.attn.in_proj_weight", [3 * width, width], dtype
        yield f"{block}.attn.in_proj_bias", [3 * width], dtype
        for part, shape in _block(width, "attn", "ln_", "mlp.c_fc", "mlp.c_proj"):
            yield f"{block}.{part}", shape, "float32" if part.startswith("ln_") else dtype


def _block(width: int, attention: str, norm: str, first: str, second: str) -> Iterator[tuple[str, list[int]]]:
    for module, shape in (
        (f"{attention}.out_proj", [width, width]),
        (f"{norm}1", [width]),
        (f"{norm}2", [width]),
        (first, [4 * width, width]),
        (second, [width, 4 * width]),
    ):
        yield f"{module}.weight", shape
        yield f"{module}.bias", shape[:1]


def random_tensors(keys: Keys, seed: int = 0) -> dict[str, Tensor]:
    """Normal floats. Position buffers count from 0, and OpenAI's three numbers agree with the shapes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: shape for name, shape, _ in keys}
    tensors = {}
    for name, shape, dtype in keys:
        if name == "input_resolution":
            grid = int((shapes["visual.positional_embedding"][0] - 1) ** 0.5)
            tensors[name] = torch.tensor(grid * shapes["visual.conv1.weight"][-1])
        elif name == "context_length":
            tensors[name] = torch.tensor(shapes["positional_embedding"][0])
        elif name == "vocab_size":
            tensors[name] = torch.tensor(shapes["token_embedding.weight"][0])
        elif dtype == "int64":
            tensors[name] = torch.arange(shape[-1])[None]
        else:
            tensors[name] = torch.randn(tuple(shape), generator=generator).to(getattr(torch, dtype))
    return tensors


class Weights(nn.Module):
    """Holds tensors and nothing else."""


def write_torchscript(tensors: dict[str, Tensor], path: Path) -> None:
    root = Weights()
    for name, tensor in tensors.items():
        *parents, leaf = name.split(".")
        module: nn.Module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, Weights())
            module = getattr(module, parent)
        if tensor.is_floating_point():
            module.register_parameter(leaf, nn.Parameter(tensor))
        else:
            module.register_buffer(leaf, tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated; OpenAI's files are TorchScript
        torch.jit.script(root).save(str(path))


def write_checkpoint(tensors: dict[str, Tensor], path: Path) -> Path:
    """The name decides the container: `*.safetensors`, `*torchscript*`, or else a file of torch.save."""
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    elif "torchscript" in path.name:
        write_torchscript(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def write_tokenizer(folder: Path, size: int) -> Path:
    """A CLIP tokenizer without merges: byte symbols, fillers up to `size`, then start and end."""
    symbols = sorted(ByteLevel.alphabet())
    entries = [*symbols, *(symbol + "</w>" for symbol in symbols)]
    entries += [f"filler{index}" for index in range(size - len(entries) - 2)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder)
    return folder


def mean_pooling_keys(size: Size = TINY) -> Keys:
    return wrapper_keys(size, video_proxy=False)


def hub_keys(size: Size = TINY) -> Keys:
    return wrapper_keys(size, video_proxy=False, prefix="")


LAYOUTS = {
    "wrapper.pt": wrapper_keys,
    "mean_pooling.pt": mean_pooling_keys,
    "hub.safetensors": hub_keys,
    "openai_torchscript.pt": openai_keys,
    "clip4clip.bin": clip4clip_keys,
    "restore.pt": wrapper_keys,
}


def write_layout(name: str, size: Size, path: Path) -> Path:
    """A random checkpoint in one of `LAYOUTS`. The floats of restore.pt are in half precision."""
    tensors = random_tensors(LAYOUTS[name](size))
    if name != "restore.pt":
        return write_checkpoint(tensors, path)
    halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    moments = {
        "state": {0: {"step": 7, "exp_avg": torch.ones(3)}},
        "param_groups": [{"lr": 1e-6, "params": [0]}],
    }
    loss_scaling = {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 7}}
    state = {
        "global_step": 7,
        "model_state_dict": halves,
        "optim_state_dict": moments,
        "amp_state_dict": loss_scaling,
    }
    torch.save(state, path)
    return path
