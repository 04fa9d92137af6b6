"""
Reads pickles of numpy arrays, as Caffe2 wrote them from Python 2, without running anything in them.

numpy's own functions for unpickling are not called. Stand-ins keep what the pickle says about an array, and the array
is made from its type, shape and bytes.
"""

import pickle
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

# A torch.save file from before torch 1.6 begins with this number. It is a pickle of protocol 2, too.
TORCH_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


def is_numpy_pickle(start: bytes) -> bool:
    """Whether a file that begins so is a pickle of protocol 2 that torch did not write."""
    return start.startswith(b"\x80\x02") and not start.startswith(TORCH_MAGIC)


def read_numpy_pickle(path: Path) -> dict[str, Any]:
    """
    Names and what belongs to them, nested dictionaries included; each array as a tensor that shares its bytes.

    Raises:
        pickle.UnpicklingError: the pickle names something else than arrays of numbers. The message begins `GLOBAL`.
        ValueError: it holds something else than a dictionary, or an array does not have the bytes of its shape.
    """
    unpickler = _NumpyUnpickler(BytesIO(path.read_bytes()), encoding="latin1")
    content = unpickler.load()
    if not isinstance(content, dict):
        raise ValueError(f"its pickle holds a {type(content).__name__}, expected names and arrays")
    total, size = sum(len(array.state[4]) for array in unpickler.arrays), path.stat().st_size
    if total > size:  # arrays may share their bytes, and a small file so become larger than all memory
        raise ValueError(f"its arrays state {total:,} bytes, more than the file has")
    waiting, seen = [content], set()
    while waiting:
        entries = waiting.pop()
        seen.add(id(entries))
        waiting += [each for each in entries.values() if isinstance(each, dict) and id(each) not in seen]
        entries |= {name: each.tensor for name, each in entries.items() if isinstance(each, _Array)}
    return content


class _Type:
    """A `numpy.dtype`: `code` such as "f4"; its byte order comes with the state."""

    def __init__(self, code: str, *_: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype:
        if self.code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"):
            raise ValueError(f"an array of type {self.code!r} is no array of numbers")
        return np.dtype(f"{self.order}{self.code}".replace("|", "="))


class _Array:
    """A `numpy.ndarray`. Its state is version, shape, type, whether columns come first, and bytes."""

    state: tuple = (1, (0,), None, False, "")

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    @cached_property
    def tensor(self) -> torch.Tensor:
        _, shape, kind, columns_first, content = self.state
        dtype = kind.dtype()
        # A text of Python 2 is bytes. With `latin1`, each of its bytes is read as a character.
        array = np.frombuffer(content.encode("latin1"), dtype).astype(dtype.newbyteorder("="), copy=True)
        return torch.from_numpy(array.reshape(shape, order="F" if columns_first else "C"))


class _NumpyUnpickler(pickle.Unpickler):
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.arrays: list[_Array] = []

    def find_class(self, module: str, name: str) -> Any:
        harmless = {
            "numpy.core.multiarray._reconstruct": self._new_array,
            "numpy.ndarray": "an argument of _reconstruct",
            "numpy.dtype": _Type,
        }
        if f"{module}.{name}" not in harmless:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not a part of arrays")
        return harmless[f"{module}.{name}"]

    def _new_array(self, *_: Any) -> _Array:
        self.arrays.append(_Array())
        return self.arrays[-1]
