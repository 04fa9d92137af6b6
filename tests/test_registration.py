"""`import hf_videolang` registers everything, in any order of imports, cheaply, with optional packages absent."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hf_videolang
from hf_videolang.registration import family_modules, public_names

WITHOUT = Path(__file__).parent / "common" / "without.py"
CHECK = """
import hf_videolang
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING

for model_type in ("clip_vip", "clip_vip_text_model", "clip_vip_vision_model"):
    config = AutoConfig.for_model(model_type)
    assert config.model_type == model_type
    assert AutoModel._model_mapping[type(config)].config_class is type(config)
assert PROCESSOR_MAPPING[hf_videolang.CLIPViPConfig] is hf_videolang.CLIPViPProcessor
registered = VIDEO_PROCESSOR_MAPPING[hf_videolang.CLIPViPConfig]  # from transformers 5.23 on, one for each backend
assert hf_videolang.CLIPViPVideoProcessor in (registered.values() if isinstance(registered, dict) else [registered])
"""
BEFORE = [
    "",
    "from transformers import AutoModel, AutoProcessor, AutoVideoProcessor",
    "from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel",
    "from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor",
    "from hf_videolang import *",
]
# Each in a fork of a process that has imported what takes time: only transformers and this package are new to it.
FORKS = """
import os, sys
import torch._dynamo, torch.distributed.tensor, torchvision.transforms
assert "transformers" not in sys.modules
for program in sys.argv[1:]:
    if not os.fork():
        exec(program)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(f"failed: {program}")
"""


def test_every_class_is_registered_in_any_order(tmp_path):
    (tmp_path / "forks.py").write_text(FORKS)
    command = [sys.executable, WITHOUT, "datasets,evaluate,av,torchcodec", tmp_path / "forks.py"]
    subprocess.run([*command, *(before + CHECK for before in BEFORE)], check=True)


@pytest.mark.parametrize("program", ["import hf_videolang", "from hf_videolang.cli import main; main(['--help'])"])
def test_the_package_and_the_help_page_import_neither_torch_nor_transformers(program):
    program = f"import sys; {program}; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_public_names_are_those_of_the_modules():
    for name, module in public_names().items():
        assert getattr(hf_videolang, name) is getattr(import_module(module), name)
    assert {"CLIPViPConfig", "CLIPViPModel", "CLIPViPProcessor"} <= set(hf_videolang.__all__) <= set(dir(hf_videolang))
    with pytest.raises(AttributeError, match="ClipVip"):
        hf_videolang.ClipVip  # noqa: B018


def test_type_checkers_are_told_of_every_module():
    """The star imports for type checkers are written by hand. They name every family, and each family its modules."""

    def star_imports(file: str | Path) -> set[str]:
        nodes = ast.walk(ast.parse(Path(file).read_text()))
        return {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"}

    files = family_modules().values()
    assert star_imports(hf_videolang.__file__) == {f"models.{file.parent.name}" for file in files}
    for folder in {file.parent for file in files}:
        with_names = {name.rpartition(".")[2] for name in public_names().values()}
        assert star_imports(folder / "__init__.py") == {file.stem for file in folder.glob("*.py")} & with_names
