"""SlowFast's two files in their original layouts, with random tensors."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hf_videolang.conversion.slowfast import _caffe2_origin, _pytorchvideo_origin
from tests.common.tiny.slowfast import tiny_model

STEM = [4, 1]


def values(origin: Callable[[str], str]) -> dict[str, Tensor]:
    """Of a narrow model of the published depth, by the names of one of the files. Caffe2 does not count batches."""
    state = tiny_model(stem_channels=STEM, depths=[3, 4, 6, 3], num_frames=32).state_dict()
    if origin is _caffe2_origin:
        state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    return {origin(name): value.clone() for name, value in state.items()}


def pytorchvideo_values() -> dict[str, Tensor]:
    return values(_pytorchvideo_origin)


def caffe2_values() -> dict[str, np.ndarray]:
    """With state of the training, as in the released file."""
    arrays = {name: value.numpy() for name, value in values(_caffe2_origin).items()}
    arrays["conv1_w_momentum"] = np.ones(3, np.float32)
    return arrays | {"lr": np.array([0.1], np.float32), "model_iter": np.array([7], np.int64)}


def write_pytorchvideo(path: Path, state: dict[str, Tensor] | None = None) -> Path:
    torch.save({"model_state": pytorchvideo_values() if state is None else state}, path)
    return path


class _Python2Pickler(pickle._Pickler):
    """Writes bytes and texts as Python 2 did: both as a `str`."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value: bytes | str) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


def write_caffe2(path: Path, blobs: object = None) -> Path:
    with path.open("wb") as file:
        _Python2Pickler(file, protocol=2).dump({"blobs": caffe2_values() if blobs is None else blobs})
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    return path
