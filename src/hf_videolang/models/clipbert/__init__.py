"""ClipBERT: questions about videos, and text-to-video retrieval, from a few short clips and a cross-modal BERT."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_clipbert import *
    from .modeling_clipbert import *
    from .processing_clipbert import *
    from .video_processing_clipbert import *
