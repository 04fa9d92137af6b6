"""Features of all processes in one batch, with the exact gradient."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_features(features: Tensor) -> Tensor:
    """
    Concatenate the features of all processes in rank order, so that each computes the loss of the whole batch.

    The backward pass **sums** over processes what each of them says about these rows. Every process computes the same
    loss, so the sum is (number of processes) × the exact gradient, and the averaging of parameter gradients in
    DistributedDataParallel or FSDP turns it into exactly the gradient of one process with the joint batch. Parameters
    that enter after the gather (`logit_scale`) have the full gradient everywhere and stay as they are.
    (The original's gather gave this with Horovod before 2021; later versions divided the encoders' part, clip_vip §3.)

    Without an initialised process group, or with one process, the features are returned as they are.

    Args:
        features (`Tensor` `[batch, dim]`): of this process.

    Returns:
        `Tensor` `[processes * batch, dim]`.

    Raises:
        ValueError: on every process, if their shapes differ (an incomplete last batch).
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return features
    _check_equal_shapes(features)
    return _Gather.apply(features)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor) -> Tensor:
        ctx.rows = len(features)
        gathered = [torch.empty_like(features) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, features.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[dist.get_rank() * ctx.rows :][: ctx.rows]


def _check_equal_shapes(features: Tensor) -> None:
    # Gathering unequal shapes hangs or mixes up memory, depending on the backend; two integers a process are cheap.
    own = torch.tensor(features.shape, device=features.device)
    shapes = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(shapes, own)
    by_rank = [shape.tolist() for shape in shapes]
    if any(shape != by_rank[0] for shape in by_rank):
        raise ValueError(
            f"the processes hold features of shapes {by_rank}; expected equal shapes. "
            "Drop the incomplete last batch in training (dataloader_drop_last=True)."
        )
