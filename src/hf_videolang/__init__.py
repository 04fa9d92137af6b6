"""
Published video-language systems as Hugging Face models.

Importing the package registers every config, model, processor and video processor with the Auto classes. Public names
are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import register_with_auto_classes

if TYPE_CHECKING:
    from .models.clip_vip.configuration_clip_vip import CLIPViPConfig, CLIPViPTextConfig, CLIPViPVisionConfig
    from .models.clip_vip.modeling_clip_vip import (
        CLIPViPModel,
        CLIPViPTextModel,
        CLIPViPTextModelWithProjection,
        CLIPViPVisionModel,
        CLIPViPVisionModelWithProjection,
    )
    from .models.clip_vip.processing_clip_vip import CLIPViPProcessor
    from .models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor

__version__ = "0.1.0"

_CLIP_VIP = "hf_videolang.models.clip_vip"
_MODULE_OF = {
    "CLIPViPConfig": f"{_CLIP_VIP}.configuration_clip_vip",
    "CLIPViPModel": f"{_CLIP_VIP}.modeling_clip_vip",
    "CLIPViPProcessor": f"{_CLIP_VIP}.processing_clip_vip",
    "CLIPViPTextConfig": f"{_CLIP_VIP}.configuration_clip_vip",
    "CLIPViPTextModel": f"{_CLIP_VIP}.modeling_clip_vip",
    "CLIPViPTextModelWithProjection": f"{_CLIP_VIP}.modeling_clip_vip",
    "CLIPViPVideoProcessor": f"{_CLIP_VIP}.video_processing_clip_vip",
    "CLIPViPVisionConfig": f"{_CLIP_VIP}.configuration_clip_vip",
    "CLIPViPVisionModel": f"{_CLIP_VIP}.modeling_clip_vip",
    "CLIPViPVisionModelWithProjection": f"{_CLIP_VIP}.modeling_clip_vip",
}
__all__ = [
    "CLIPViPConfig",
    "CLIPViPModel",
    "CLIPViPProcessor",
    "CLIPViPTextConfig",
    "CLIPViPTextModel",
    "CLIPViPTextModelWithProjection",
    "CLIPViPVideoProcessor",
    "CLIPViPVisionConfig",
    "CLIPViPVisionModel",
    "CLIPViPVisionModelWithProjection",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__


register_with_auto_classes()
