"""
The exact gradient of a batch-wide loss, computed in chunks of rows, for a batch that does not fit into memory.

A contrastive loss compares each row of a batch with every other, so gradient accumulation cannot split the batch. But
the loss depends on a row only through its features, and d loss / d weights is the sum over rows of
(d loss / d feature) * (d feature / d weights). This takes three steps:

1. Encode all rows chunk by chunk without a graph, and keep the features.
2. Compute the loss and its gradient with respect to the features, the "gradient cache".
3. Encode each chunk again with a graph, and propagate its rows of the cache through it.

It needs the memory of one chunk plus the features, and costs one more forward pass (step 1).
Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (GradCache).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

Features = tuple[Tensor, ...]


def backward_in_chunks(
    encode: Callable[[dict[str, Tensor]], Features],
    loss: Callable[..., Tensor],
    inputs: Mapping[str, Tensor],
    chunk_size: int,
    *,
    loss_parameters: Sequence[Tensor] = (),
    backward: Callable[[Any], None] = Tensor.backward,
    no_sync: Callable[[], AbstractContextManager] = nullcontext,
) -> Tensor:
    """
    Compute the same gradients as `backward(loss(*encode(inputs)))`, with the memory of one chunk.

    `encode` draws the same random numbers (dropout) in both passes over a chunk, and afterwards the generators are in
    the state that one pass leaves. Under `torch.compile` the two graphs may draw differently, which matters only for
    models with dropout.

    Args:
        encode: maps some rows to their features, each `[rows, dim]`. It moves the rows to its device itself, so the
            device never holds more than one chunk.
        loss: maps the features of all rows to a loss without dimensions. In several processes it gathers them
            (`gather_features`).
        inputs: tensors with one row per sample.
        chunk_size (`int`): rows to encode at once. The last chunk may be smaller.
        loss_parameters: parameters that `loss` itself uses (`logit_scale`). They get their gradient once, in the last
            chunk's backward pass, as DistributedDataParallel expects.
        backward: the backward pass of step 3. Scaling its argument (gradient accumulation, GradScaler) scales all
            gradients.
        no_sync: a context in which DistributedDataParallel or FSDP does not average gradients. All chunks but the last
            run in it.

    Returns:
        The loss, without a graph.

    Raises:
        ValueError: `chunk_size` is below 1, or the tensors have different numbers of rows.

    Example:
        >>> loss = backward_in_chunks(lambda rows: model.encode(**rows), contrastive, inputs, chunk_size=32)
    """
    rows = {name: len(tensor) for name, tensor in inputs.items()}
    if chunk_size < 1 or len(set(rows.values())) != 1:
        raise ValueError(
            f"chunk_size is {chunk_size} and the inputs have {rows} rows; expected a chunk of at least 1 row and the "
            "same number of rows in every tensor. Remove tensors without one row per sample from the batch."
        )
    starts = range(0, next(iter(rows.values())), chunk_size)
    chunks = [{name: tensor[i : i + chunk_size] for name, tensor in inputs.items()} for i in starts]

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    generators: list[Any] = [torch, torch.get_device_module(accelerator)] if accelerator else [torch]

    # 1. Features without a graph.
    encoded, random_states = [], []
    with torch.no_grad():
        for chunk in chunks:
            random_states.append([generator.get_rng_state() for generator in generators])
            # Copy: a CUDA graph (torch.compile's reduce-overhead) writes the next chunk to the same memory.
            encoded.append([part.clone() for part in encode(chunk)])
    torch.clear_autocast_cache()  # or an outer autocast would reuse casts of weights that have no graph
    features = [torch.cat(parts).requires_grad_() for parts in zip(*encoded, strict=True)]

    # 2. The gradients of the features and of the loss's own parameters.
    value = loss(*features)
    own = [parameter for parameter in loss_parameters if parameter.requires_grad]
    gradients = torch.autograd.grad(value, [*features, *own], allow_unused=True, materialize_grads=True)
    cache, own_gradients = gradients[: len(features)], gradients[len(features) :]

    # 3. Through the model: the derivative of sum(feature * constant) with respect to the feature is the constant.
    for i, chunk, random_state in zip(starts, chunks, random_states, strict=True):
        last = i == starts[-1]
        with nullcontext() if last else no_sync():
            for generator, state in zip(generators, random_state, strict=True):
                generator.set_rng_state(state)
            pairs = [(part, grad[i : i + chunk_size]) for part, grad in zip(encode(chunk), cache, strict=True)]
            pairs += zip(own, own_gradients, strict=True) if last else ()
            backward(sum((tensor * gradient).sum() for tensor, gradient in pairs))
    return value.detach()
