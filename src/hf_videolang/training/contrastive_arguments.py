"""How to train a model with a loss over all pairs of a batch."""

from dataclasses import dataclass

from .arguments import VideoTrainingArguments, option


@dataclass
class ContrastiveTrainingArguments(VideoTrainingArguments):
    """
    [`VideoTrainingArguments`] for contrastive losses. Two defaults differ because the exact gradient needs them:

    - `dataloader_drop_last` is `True`: every process must bring equally many pairs.
    - `ddp_find_unused_parameters` is `False`: the model may run several times before one backward pass.

    Gradient accumulation averages gradients and adds no negatives. Their number is `per_device_train_batch_size` times
    the number of processes; the gradient cache lets it grow without memory.

    Args:
        gradient_cache_chunk_size (`int`, *optional*): rows of a batch that are encoded at once, see
            `hf_videolang.losses.gradient_cache`. Activations need memory for so many rows only, at the price of one
            more forward pass. Default: the whole batch at once.
        max_logit_scale (`float`, *optional*): after every update the model's `logit_scale` is clamped to [0, this].
            Default: no clamp.
    """

    gradient_cache_chunk_size: int | None = option(
        None, "rows of a batch encoded at once: a large batch in little memory, for one more forward pass"
    )
    max_logit_scale: float | None = option(None, "clamp the model's logit_scale to [0, this] after every update")
    dataloader_drop_last: bool = True
    ddp_find_unused_parameters: bool | None = False
