"""
Training objectives, one a file, on L2-normalised features and the raw `logit_scale` (its exp multiplies the cosine).

Which one: [`contrastive_loss`] for pairs of video and text; [`omnisource_loss`] where a clip also has a frame and its
caption. The others are the comparators of the original release. Over several processes pass the features through
[`gather_features`] first.
"""

from .contrastive import contrastive_loss
from .dual_softmax import dual_softmax_loss
from .gather import gather_features
from .hard_negative import hard_negative_loss
from .omnisource import OmnisourceVariant, omnisource_loss, video_to_both_texts_loss
from .ranking import ranking_loss

__all__ = [
    "OmnisourceVariant",
    "contrastive_loss",
    "dual_softmax_loss",
    "gather_features",
    "hard_negative_loss",
    "omnisource_loss",
    "ranking_loss",
    "video_to_both_texts_loss",
]
