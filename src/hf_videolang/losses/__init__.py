"""
Training objectives, one a file, on L2-normalised features and the raw `logit_scale` (its exp multiplies the cosine).

Which one: [`contrastive_loss`] for pairs of video and text; [`omnisource_loss`] where a clip also has a frame and its
caption. The others are the comparators of the original release. Over several processes pass the features through
[`gather_features`] first. A batch too large for memory: [`backward_in_chunks`].
"""

from .contrastive import contrastive_loss
from .dual_softmax import dual_softmax_loss
from .gather import gather_features
from .gradient_cache import backward_in_chunks
from .hard_negative import hard_negative_loss
from .omnisource import OMNISOURCE_LOSSES, OmnisourceVariant, omnisource_loss
from .ranking import ranking_loss

__all__ = [
    "OMNISOURCE_LOSSES",
    "OmnisourceVariant",
    "backward_in_chunks",
    "contrastive_loss",
    "dual_softmax_loss",
    "gather_features",
    "hard_negative_loss",
    "omnisource_loss",
    "ranking_loss",
]
