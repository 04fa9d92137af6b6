"""CLIP-ViP: text-to-video retrieval with video proxy tokens on CLIP."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_clip_vip import *
    from .modeling_clip_vip import *
    from .processing_clip_vip import *
    from .video_processing_clip_vip import *
