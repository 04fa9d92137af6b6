"""VideoCLIP: BERT over S3D features and BERT over text, trained by contrast on HowTo100M; and VLM's encoder."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_videoclip import *
    from .modeling_videoclip import *
    from .processing_videoclip import *
    from .video_processing_videoclip import *
