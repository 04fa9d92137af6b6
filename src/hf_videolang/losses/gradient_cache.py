"""
The gradient of a loss over a batch whose activations do not fit into memory, in chunks of rows.

A contrastive loss compares every row of a batch with every other, so the batch cannot be split as in gradient
accumulation. But it sees the rows through their features only, a few hundred numbers each, and the chain rule splits
there: d loss / d weights = sum over rows of (d loss / d feature) * (d feature / d weights). Hence three steps:

1. encode all rows, chunk by chunk, without a graph: only the features are kept;
2. the loss of all features and its gradient with respect to them, the "gradient cache";
3. encode each chunk once more, with a graph, and propagate its rows of the cache through it.

Memory is that of one chunk plus the features; the price is the forward pass of step 1.
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
    What `backward(loss(*encode(inputs)))` does to the gradients of all parameters, with the memory of one chunk.

    Random numbers drawn by `encode` (dropout) are the same in both passes over a chunk, and afterwards the generators
    stand where one pass leaves them. Not so under `torch.compile`, whose two graphs may draw differently; a model
    without dropout does not mind.

    Args:
        encode: features of some rows, each `[rows, dim]`; moves them to its device itself, so that the device never
            holds more than a chunk.
        loss: of the features of all rows, without dimensions; with several processes it gathers them
            (`gather_features`).
        inputs: tensors with one row a sample each.
        chunk_size (`int`): rows encoded at once; the last chunk may be smaller.
        loss_parameters: parameters that `loss` itself uses (`logit_scale`). They get their gradient in the last
            chunk's backward pass, once, as DistributedDataParallel expects.
        backward: of step 3, on a number whose gradients are those of the loss; what scales it (gradient accumulation,
            GradScaler) scales all gradients.
        no_sync: a context that keeps DistributedDataParallel or FSDP from averaging gradients; all chunks but the last
            are run in it.

    Returns:
        The loss, without a graph.

    Raises:
        ValueError: `chunk_size` below 1, or tensors with different numbers of rows.
    """
    rows = {name: len(tensor) for name, tensor in inputs.items()}
    if chunk_size < 1 or len(set(rows.values())) != 1:
        raise ValueError(
            f"chunk_size is {chunk_size} and the inputs have {rows} rows; expected a chunk of at least 1 row and equally "
            "many rows in every tensor. Take out of the batch what is no row of a sample."
        )
    starts = range(0, next(iter(rows.values())), chunk_size)
    chunks = [{name: tensor[i : i + chunk_size] for name, tensor in inputs.items()} for i in starts]

    # 1. The features, without a graph.
    encoded, random_states = [], []
    with torch.no_grad():
        for chunk in chunks:
            random_states.append(_RandomState())
            # Copied, since a CUDA graph (torch.compile's reduce-overhead) writes the next chunk's to the same place.
            encoded.append([part.clone() for part in encode(chunk)])
    torch.clear_autocast_cache()  # an autocast around us would reuse copies of weights that have no graph
    features = [torch.cat(parts).requires_grad_() for parts in zip(*encoded, strict=True)]

    # 2. Their gradient, and the one of the loss's own parameters.
    value = loss(*features)
    own = [parameter for parameter in loss_parameters if parameter.requires_grad]
    gradients = torch.autograd.grad(value, [*features, *own], allow_unused=True, materialize_grads=True)
    cache, own_gradients = gradients[: len(features)], gradients[len(features) :]

    # 3. Through the model. The derivative of sum(feature * constant) by the feature is the constant.
    for i, chunk, random_state in zip(starts, chunks, random_states, strict=True):
        last = i == starts[-1]
        with nullcontext() if last else no_sync():
            random_state.restore()
            pairs = [(part, grad[i : i + chunk_size]) for part, grad in zip(encode(chunk), cache, strict=True)]
            pairs += zip(own, own_gradients, strict=True) if last else ()
            backward(sum((tensor * gradient).sum() for tensor, gradient in pairs))
    return value.detach()


class _RandomState:
    """Of the CPU's generator and of the current accelerator's."""

    def __init__(self):
        self.accelerator = torch.accelerator.current_accelerator(check_available=True)
        self.states = [generator.get_rng_state() for generator in self._generators()]

    def restore(self) -> None:
        for generator, state in zip(self._generators(), self.states, strict=True):
            generator.set_rng_state(state)

    def _generators(self):
        return [torch, torch.get_device_module(self.accelerator)] if self.accelerator else [torch]
