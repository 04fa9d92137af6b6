"""
Training objectives over L2-normalised features of the whole batch.

Use [`contrastive_loss`] for pairs of video and text, and one of `OMNISOURCE_LOSSES` where a clip also has a frame and
its caption. The other losses are those that the CLIP-ViP release compares with. `logit_scale` is the raw parameter:
its exponential multiplies the cosine, and 0 leaves the dot product as it is. In several processes, pass the features
through [`gather_features`] first. If the batch does not fit into memory, use [`backward_in_chunks`].
"""

from .contrastive import contrastive_loss
from .dual_softmax import dual_softmax_loss
from .gather import gather_features
from .gradient_cache import backward_in_chunks
from .hard_negative import hard_negative_loss
from .moment_ranking import moment_ranking_losses
from .omnisource import OMNISOURCE_LOSSES
from .ranking import ranking_loss

__all__ = [
    "OMNISOURCE_LOSSES",
    "backward_in_chunks",
    "contrastive_loss",
    "dual_softmax_loss",
    "gather_features",
    "hard_negative_loss",
    "moment_ranking_losses",
    "ranking_loss",
]
