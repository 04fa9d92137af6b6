"""
Registration with the Auto classes of transformers.

Configs are registered at once. Models and processors need modules that take seconds to import, so they are registered
when transformers imports its Auto class for them, before anybody can ask it; `import hf_videolang` stays cheap, for
the command line above all.
"""

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

from transformers import AutoConfig

from .models.clip_vip.configuration_clip_vip import CLIPViPConfig, CLIPViPTextConfig, CLIPViPVisionConfig

CONFIGS = (CLIPViPConfig, CLIPViPTextConfig, CLIPViPVisionConfig)

# (Auto class, its module in transformers.models.auto, config, module and class of ours)
CLASSES = (
    ("AutoModel", "modeling_auto", CLIPViPConfig, "clip_vip.modeling_clip_vip", "CLIPViPModel"),
    ("AutoModel", "modeling_auto", CLIPViPTextConfig, "clip_vip.modeling_clip_vip", "CLIPViPTextModel"),
    ("AutoModel", "modeling_auto", CLIPViPVisionConfig, "clip_vip.modeling_clip_vip", "CLIPViPVisionModel"),
    (
        "AutoVideoProcessor",
        "video_processing_auto",
        CLIPViPConfig,
        "clip_vip.video_processing_clip_vip",
        "CLIPViPVideoProcessor",
    ),
    ("AutoProcessor", "processing_auto", CLIPViPConfig, "clip_vip.processing_clip_vip", "CLIPViPProcessor"),
)


class _AfterImport(MetaPathFinder):
    """Calls a function with a module's name right after that module has been imported."""

    def __init__(self, names: Iterable[str], action: Callable[[str], None]):
        self.names = set(names)
        self.action = action

    def find_spec(self, fullname, path, target=None):
        if fullname not in self.names:
            return None
        self.names.remove(fullname)  # so that the finders after this one are asked below
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.action(fullname)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _register_what_is_ready(imported: str) -> None:
    """
    Register every class of the module just imported, ours or the Auto class's. The other of the two may still be in
    the middle of its own import (ours needs transformers' Auto classes): then its turn comes when that one is done.
    """
    for auto_name, auto_module, config, our_module, our_name in CLASSES:
        auto_module, our_module = (
            f"transformers.models.auto.{auto_module}",
            f"hf_videolang.models.{our_module}",
        )
        if imported not in (auto_module, our_module) or not hasattr(sys.modules.get(auto_module), auto_name):
            continue
        if our_module in sys.modules and not hasattr(sys.modules[our_module], our_name):
            continue
        auto_class = getattr(sys.modules[auto_module], auto_name)
        auto_class.register(config, getattr(import_module(our_module), our_name), exist_ok=True)


def register_with_auto_classes() -> None:
    """Make `AutoConfig`, `AutoModel`, `AutoProcessor` and `AutoVideoProcessor` know our classes."""
    for config in CONFIGS:
        AutoConfig.register(config.model_type, config, exist_ok=True)
    names = {f"transformers.models.auto.{module}" for _, module, *_ in CLASSES}
    ours = {f"hf_videolang.models.{module}" for *_, module, _ in CLASSES}
    sys.meta_path.insert(0, _AfterImport((names | ours) - set(sys.modules), _register_what_is_ready))
    for name in names & set(sys.modules):
        _register_what_is_ready(name)
