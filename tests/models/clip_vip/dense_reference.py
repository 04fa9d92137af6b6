"""The video tower written the slow, obvious way: one attention over all tokens with a dense boolean mask."""

import torch
from torch import nn

from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel


def allowed(frames: int, patches: int, proxies: int) -> torch.Tensor:
    """[S, S] boolean: a proxy sees and is seen by all, a patch sees its own frame (clip_vip §1.2)."""
    frame = torch.cat([torch.full((proxies,), -1), torch.arange(frames).repeat_interleave(patches)])
    return (frame[:, None] == frame[None]) | (frame[:, None] < 0) | (frame[None] < 0)


def encode_one_clip(model: CLIPViPModel, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels [T, 3, H, W] of one clip -> last hidden state [S, D] and unit embedding [P]."""
    tower, config = model.vision_model, model.config.vision_config
    embeddings = tower.embeddings
    patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)  # [T, L, D]
    position = embeddings.position_embedding.weight
    time = nn.functional.interpolate(
        embeddings.temporal_embedding.transpose(1, 2), size=len(pixels), mode="linear", align_corners=False
    )[0].T
    tokens = [(embeddings.class_embedding + position[0])[None], embeddings.added_cls + position[0]]
    tokens += [patches[t] + position[1:] + time[t] for t in range(len(pixels))]
    hidden = tower.pre_layrnorm(torch.cat(tokens))
    mask = allowed(len(pixels), patches.shape[1], config.num_proxy_tokens)
    for layer in tower.encoder.layers:
        attention, normed = layer.self_attn, layer.layer_norm1(hidden)
        heads = []
        for q, k, v in zip(
            *(
                projection(normed).split(attention.head_dim, dim=-1)
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            ),
            strict=True,
        ):
            scores = (q * attention.head_dim**-0.5 @ k.T).masked_fill(~mask, float("-inf"))
            heads.append(scores.softmax(-1) @ v)
        hidden = hidden + attention.out_proj(torch.cat(heads, dim=-1))
        inner = layer.mlp.fc1(layer.layer_norm2(hidden))
        hidden = hidden + layer.mlp.fc2(inner * torch.sigmoid(1.702 * inner))
    embedding = model.visual_projection(tower.post_layernorm(hidden[0]))
    return hidden, embedding / embedding.norm()
