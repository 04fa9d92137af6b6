"""SlowFast-R50: a slow and a fast pathway over a short clip, trained on Kinetics-400. HERO reads its features."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_slowfast import *
    from .modeling_slowfast import *
    from .video_processing_slowfast import *
