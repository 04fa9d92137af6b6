"""Gather the features of all processes, with the exact gradient."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_features(features: Tensor) -> Tensor:
    """
    Concatenate the features of all processes in rank order, so that each process computes the loss of the whole batch.

    The backward pass **sums** the gradients that the processes compute for these rows. Every process computes the same
    loss, so the sum is the exact gradient times the number of processes. DistributedDataParallel and FSDP average the
    gradients of parameters, which gives exactly the gradient of one process with the joint batch. Parameters used
    after the gather, such as `logit_scale`, have the full gradient on every process. (With Horovod before 2021 the
    original behaved the same; later versions of Horovod divided the encoders' part, clip_vip §3.)

    Without a process group, or with one process, the features are returned unchanged.

    Args:
        features (`Tensor` `[batch, dim]`): of this process.

    Returns:
        `Tensor` `[processes * batch, dim]`.

    Raises:
        ValueError: on every process, if the shapes differ (an incomplete last batch).

    Example:
        >>> loss = contrastive_loss(gather_features(video), gather_features(text), logit_scale)
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return features
    # With unequal shapes some backends hang and others mix up memory. Comparing two integers is cheap.
    own = torch.tensor(features.shape, device=features.device)
    shapes = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(shapes, own)
    by_rank = [shape.tolist() for shape in shapes]
    if any(shape != by_rank[0] for shape in by_rank):
        raise ValueError(
            f"the processes hold features of shapes {by_rank}; expected equal shapes. "
            "Drop the incomplete last batch in training (dataloader_drop_last=True)."
        )
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
