"""Configuration of SlowFast (arXiv 1812.03982): two ResNets over the same clip at two frame rates."""

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from hf_videolang.models.shared.remote_code import RemoteCodeMixin


@strict
class SlowFastConfig(RemoteCodeMixin, PreTrainedConfig):
    """
    SlowFast (slowfast §1). Defaults are those of SlowFast-R50 8x8.

    Args:
        stem_channels (`list[int]`, defaults to `[64, 8]`): channels of the first convolution of the slow and of the
            fast pathway. Stage i of a pathway gives 4 * 2^i times as many.
        depths (`list[int]`, defaults to `[3, 4, 6, 3]`): bottlenecks of each of the four stages.
        num_frames (`int`, defaults to 32): frames of a clip. The fast pathway sees all.
        alpha (`int`, defaults to 4): the slow pathway sees one frame in `alpha`.
        dropout (`float`, defaults to 0.5): before the classifier, in training.
        initializer_range (`float`, defaults to 0.01): standard deviation of new weights of the classifier.
        id2label, label2id: names of the classes, as of every config of transformers.

    ```python
    model = SlowFastForVideoClassification(SlowFastConfig(num_labels=400))
    ```
    """

    model_type = "slowfast"
    auto_map = {
        "AutoConfig": "configuration_slowfast.SlowFastConfig",
        "AutoModel": "modeling_slowfast.SlowFastModel",
        "AutoModelForVideoClassification": "modeling_slowfast.SlowFastForVideoClassification",
        "AutoVideoProcessor": "video_processing_slowfast.SlowFastVideoProcessor",
    }

    stem_channels: list[int] | tuple[int, ...] = (64, 8)
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    num_frames: int = 32
    alpha: int = 4
    dropout: float | int = 0.5
    initializer_range: float | int = 0.01

    @property
    def hidden_size(self) -> int:
        """Width of the pooled features: the last stages of both pathways."""
        return sum(self.stem_channels) * 4 * 2 ** (len(self.depths) - 1)

    def validate_architecture(self):
        if len(self.stem_channels) != 2 or len(self.depths) != 4:
            raise ValueError(
                f"stem_channels is {self.stem_channels} and depths {self.depths}; expected a number for each of 2 "
                "pathways, and one for each of 4 stages."
            )
        if self.num_frames % self.alpha:
            raise ValueError(f"num_frames is {self.num_frames}; expected a multiple of alpha, {self.alpha}.")


__all__ = ["SlowFastConfig"]
