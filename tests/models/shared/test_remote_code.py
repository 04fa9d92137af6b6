"""Flattening a package tree into remote code, on a toy package and on the families' own modules."""

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports

import hf_videolang
from hf_videolang.models.shared.remote_code import flatten_code
from hf_videolang.registration import public_names

PUBLIC = [getattr(hf_videolang, name) for name in public_names()]
CLASSES = [cls for cls in PUBLIC if "auto_map" in vars(cls)]
# Installed wherever transformers loads a video model.
ALWAYS_INSTALLED = {
    "torch",
    "torchvision",
    "transformers",
    "huggingface_hub",
    "numpy",
    "PIL",
} | sys.stdlib_module_names


def write_package(root: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        path = root / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        for folder in path.relative_to(root).parents[:-1]:
            (root / folder / "__init__.py").touch()
    return root / "toy"


LATE = """
class Reader:
    def read(self):
        import av.filter
        if self:
            from torchcodec.decoders import (
                VideoDecoder,
                Demuxer,
            )
        return av
"""
GUARDED = """
class Reader:
    def read(self):
        try:
            import av.filter
        except ImportError:
            raise
        if self:
            try:
                from torchcodec.decoders import (
                VideoDecoder,
                Demuxer,
            )
            except ImportError:
                raise
        return av
"""


def test_an_import_in_a_function_is_asked_only_of_its_callers(tmp_path):
    for path, source in ((tmp_path / "reader.py", LATE), (tmp_path / "guarded.py", GUARDED)):
        path.write_text(source)
    assert get_imports(tmp_path / "reader.py") == ["av", "torchcodec"]
    assert flatten_code([tmp_path / "reader.py"]) == {"reader.py": GUARDED}
    assert flatten_code([tmp_path / "guarded.py"]) == {"guarded.py": GUARDED}
    assert get_imports(tmp_path / "guarded.py") == []


ENTRY = """
import math
from toy.video.sampling import (
    first,
    second,
)
from ..shared.attention import Attention
from os.path import join


def late():
    try:
        from toy.video.decoding import decode
    except ImportError:
        raise
    return decode, "from toy.video.sampling import first"
"""


def test_flattens_absolute_relative_late_and_nested_imports(tmp_path):
    toy = write_package(
        tmp_path,
        {
            "models/cat/modeling_cat.py": ENTRY,
            "models/shared/attention.py": "from .layers import Layer\nAttention = Layer\n",
            "models/shared/layers.py": "Layer = 3\n",
            "video/sampling.py": "first = second = 1\n",
            "video/decoding.py": "from .sampling import first as decode\n",
        },
    )
    code = flatten_code([toy / "models/cat/modeling_cat.py"])
    assert set(code) == {"modeling_cat.py", "attention.py", "layers.py", "sampling.py", "decoding.py"}
    assert code["modeling_cat.py"] == ENTRY.replace(
        "from toy.video.sampling import (", "from .sampling import ("
    ).replace("from ..shared.attention", "from .attention").replace("from toy.video.decoding", "from .decoding")

    flat = tmp_path / "flat"
    flat.mkdir()
    for name, source in code.items():
        (flat / name).write_text(source)
    assert flatten_code([flat / "modeling_cat.py"]) == code  # flat code is its own fixed point


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import toy.video.sampling", r"modeling_cat.py:1: write `from toy.module import name`"),
        ("\nfrom ...video import sampling", r"modeling_cat.py:2: there is no module .*video.py"),
        ("from . import helper", r"modeling_cat.py:1: there is no module"),
        ("from toy.video.absent import first", r"there is no module .*absent.py"),
        ("from ..shared.helper import x\nfrom .helper import y", "would both become helper.py"),
    ],
)
def test_refuses_what_cannot_be_flat(tmp_path, source, message):
    toy = write_package(
        tmp_path,
        {
            "models/cat/modeling_cat.py": source,
            "models/cat/helper.py": "y = 1\n",
            "models/shared/helper.py": "x = 1\n",
            "video/sampling.py": "first = 1\n",
        },
    )
    with pytest.raises(ValueError, match=message):
        flatten_code([toy / "models/cat/modeling_cat.py"])


@pytest.mark.parametrize("cls", CLASSES)
def test_every_auto_map_names_a_class_beside_its_owner(cls):
    package = cls.__module__.rpartition(".")[0]
    for reference in cls.auto_map.values():
        module, name = reference.split(".")
        assert inspect.isclass(getattr(importlib.import_module(f"{package}.{module}"), name))


@pytest.mark.parametrize("cls", CLASSES)
def test_saved_code_needs_nothing_that_may_be_absent(cls, tmp_path):
    """transformers refuses remote code over an import outside `try`, even inside a function."""
    home = Path(inspect.getfile(cls)).parent
    code = flatten_code(home / f"{reference.split('.')[0]}.py" for reference in cls.auto_map.values())
    assert code
    for name, source in code.items():
        ast.parse(source)
        (tmp_path / name).write_text(source)
        assert set(get_imports(tmp_path / name)) <= ALWAYS_INSTALLED, name
