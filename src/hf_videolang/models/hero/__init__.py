"""HERO: frame features and subtitles fused by two BERTs, with heads that find moments, answer and caption."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_hero import *
    from .modeling_hero import *
    from .modeling_hero_answers import *
    from .modeling_hero_captioning import *
    from .processing_hero import *
