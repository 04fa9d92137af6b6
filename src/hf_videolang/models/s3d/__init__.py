"""S3D: video features and MIL-NCE's text module, trained on HowTo100M."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_s3d import *
    from .modeling_s3d import *
    from .processing_s3d import *
    from .tokenization_s3d import *
    from .video_processing_s3d import *
