"""HERO's encoder by the words of hero §2, one row at a time, with padding nowhere: slow, and independent."""

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear


def norm(module, states: Tensor) -> Tensor:
    return layer_norm(states, module.weight.shape, module.weight, module.bias, 1e-5)


def frame_states(model, features: Tensor, rows: list[tuple[list[int], list[int]]]) -> Tensor:
    """
    One video: features [frames, width], and for each subtitle its token ids and its frames.

    Returns the frames that the temporal BERT reads.
    """
    cross, states = model.cross_modal_model, model.frame_transform(features)
    text, image = cross.embeddings, cross.frame_embeddings
    kind = text.token_type_embeddings.weight[1]
    for ids, frames in rows:
        if not frames:
            continue
        words = text.word_embeddings.weight[ids] + text.position_embeddings.weight[: len(ids)] + kind
        seen = norm(image.feature_LayerNorm, features[frames])
        seen = linear(seen, image.dense.weight, image.dense.bias)
        seen = seen + image.position_embeddings.weight[: len(frames)] + kind
        row = torch.cat([norm(image.LayerNorm, seen), norm(text.LayerNorm, words)])[None]
        for layer in cross.encoder.layer:
            row = layer(row)
        for place, frame in enumerate(frames):
            states[frame] = states[frame] + row[0, place]
    return states


def temporal_states(model, frames: Tensor, text_ids: list[int] | None = None) -> Tensor:
    temporal, text = model.temporal_model, model.cross_modal_model.embeddings
    positions = temporal.embeddings.position_embeddings.weight[: len(frames)]
    states = norm(temporal.embeddings.LayerNorm, frames + positions)
    if text_ids is not None:
        words = text.word_embeddings.weight[text_ids] + text.position_embeddings.weight[: len(text_ids)]
        states = torch.cat([states, norm(text.LayerNorm, words + text.token_type_embeddings.weight[1])])
    for layer in temporal.encoder.layer:
        states = layer(states[None])[0]
    return states[: len(frames)]
