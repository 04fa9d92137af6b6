"""HERO's checkpoints with random tensors, in the original's key layout."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, list[int]]
TINY = {"width": 64, "inner": 96, "vocabulary": 104, "positions": 40, "features": 16, "frames": 12}
FULL = {"width": 768, "inner": 3072, "vocabulary": 50272, "positions": 514, "features": 4352, "frames": 100}


def linear(name: str, outer: int, inner: int) -> Shapes:
    return {f"{name}.weight": [outer, inner], f"{name}.bias": [outer]}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": [width], f"{name}.bias": [width]}


def layer(name: str, width: int, inner: int) -> Shapes:
    shapes: Shapes = {}
    for part in ("query", "key", "value"):
        shapes |= linear(f"{name}.attention.self.{part}", width, width)
    shapes |= linear(f"{name}.attention.output.dense", width, width) | norm(
        f"{name}.attention.output.LayerNorm", width
    )
    shapes |= linear(f"{name}.intermediate.dense", inner, width) | linear(f"{name}.output.dense", width, inner)
    return shapes | norm(f"{name}.output.LayerNorm", width)


def mlp(name: str, width: int, outputs: int) -> Shapes:
    shapes = linear(f"{name}.linear_1", 2 * width, width) | norm(f"{name}.LayerNorm", 2 * width)
    return shapes | linear(f"{name}.linear_2", outputs, 2 * width)


def encoder(cross: int, temporal: int, width, inner, vocabulary, positions, features, frames) -> Shapes:
    f, c, img = "v_encoder.f_encoder", "v_encoder.c_encoder", "v_encoder.f_encoder.img_embeddings"
    shapes: Shapes = {"v_encoder.pad": [8, width], f"{f}.pad": [8, width]}
    for number in range(cross):
        shapes |= layer(f"{f}.encoder.layer.{number}", width, inner)
    for number in range(temporal):
        shapes |= layer(f"{c}.encoder.layer.{number}", width, inner)
    shapes |= {
        f"{f}.embeddings.word_embeddings.weight": [vocabulary, width],
        f"{f}.embeddings.position_embeddings.weight": [positions, width],
        f"{f}.embeddings.token_type_embeddings.weight": [2, width],
        f"{img}.position_embeddings.weight": [frames, width],
        f"{img}.mask_embedding.weight": [2, features],
        f"{f}.lm_head.bias": [vocabulary],
        f"{f}.lm_head.decoder.weight": [vocabulary, width],
        f"{c}.embeddings.position_embeddings.weight": [positions, width],
        "v_encoder.mask_embedding.weight": [2, features],
    }
    shapes |= norm(f"{f}.embeddings.LayerNorm", width) | norm(f"{img}.LayerNorm", width)
    shapes |= norm(f"{img}.img_LayerNorm", features) | linear(f"{img}.img_linear", width, features)
    shapes |= linear(f"{f}.pooler.dense", width, width) | linear(f"{c}.pooler.dense", width, width)
    shapes |= linear(f"{f}.lm_head.dense", width, width) | norm(f"{f}.lm_head.LayerNorm", width)
    shapes |= norm("v_encoder.frame_transform.LayerNorm", features) | norm(f"{c}.embeddings.LayerNorm", width)
    shapes |= linear("v_encoder.frame_transform.net.1", width, features)
    shapes |= linear("v_encoder.feat_regress.net.0", width, width) | norm("v_encoder.feat_regress.net.2", width)
    shapes |= linear("v_encoder.feat_regress.net.3", features, width)
    return shapes | mlp("v_encoder.fom_output", width, 100)


def retrieval(width: int, positions: int) -> Shapes:
    shapes = linear("video_query_linear", width, width)
    shapes |= {"video_st_predictor.weight": [1, 1, 5], "video_ed_predictor.weight": [1, 1, 5]}
    shapes |= norm("q_feat_attn.query_input_proj.LayerNorm", width)
    shapes |= linear("q_feat_attn.query_input_proj.net.1", width, width)
    shapes |= {"q_feat_attn.query_pos_embed.position_embeddings.weight": [positions, width]}
    shapes |= norm("q_feat_attn.query_pos_embed.LayerNorm", width)
    for part in ("query", "key", "value"):
        shapes |= linear(f"q_feat_attn.query_self_attention.self.{part}", width, width)
    shapes |= linear("q_feat_attn.query_self_attention.output.dense", width, width)
    shapes |= norm("q_feat_attn.query_self_attention.output.LayerNorm", width)
    return shapes | {"q_feat_attn.modular_vector_mapping.weight": [1, width]}


def fusion(body: Shapes, kind: str, width: int, vocabulary: int, positions: int, features: int, frames: int) -> Shapes:
    """The encoder of an alternative fusion: without the heads of pre-training, with its own layers."""
    pretraining = tuple(f"v_encoder.{name}." for name in ("feat_regress", "mask_embedding", "fom_output"))
    shapes = {name: shape for name, shape in body.items() if not name.startswith(pretraining)}
    if kind == "sequence":
        sub, frame = "v_encoder.sub_embeddings", "v_encoder.frame_embeddings"
        del shapes["v_encoder.pad"]
        shapes |= {
            f"{sub}.word_embeddings.weight": [vocabulary, width],
            f"{sub}.position_embeddings.weight": [positions, width],
            f"{sub}.token_type_embeddings.weight": [2, width],
            f"{frame}.position_embeddings.weight": [frames, width],
            f"{frame}.mask_embedding.weight": [2, features],
        }
        shapes |= norm(f"{sub}.LayerNorm", width) | linear(f"{frame}.img_linear", width, features)
        return shapes | norm(f"{frame}.img_LayerNorm", features) | norm(f"{frame}.LayerNorm", width)
    for name, inner in (("sub", width), ("video_sub_feature", 2 * width))[: 1 if kind == "add" else 2]:
        shapes |= norm(f"v_encoder.{name}_transform.LayerNorm", inner)
        shapes |= linear(f"v_encoder.{name}_transform.net.1", width, inner)
    return shapes


def answers(width: int, first_release: bool = False) -> Shapes:
    pool, head = ("violin_pool", "violin_pred_head") if first_release else ("qa_pool", "qa_pred_head")
    return {f"{pool}.weight": [1, width]} | mlp(head, width, 1)


def spans(width: int) -> Shapes:
    return {"st_ed_pool.weight": [1, width]} | mlp("st_ed_pred_head", width, 2)


def captions(width: int, inner: int, vocabulary: int, one_hot: str, positions: int) -> Shapes:
    shapes: Shapes = {"position_embeddings.weight": [positions, width], "decoder.tri_mask": [positions, positions]}
    shapes |= norm("emb_LayerNorm", width)
    for number in range(2):
        name = f"decoder.layer.{number}"
        for attention in ("self_attention", "dec_enc_attention"):
            for part in ("query", "key", "value"):
                shapes |= linear(f"{name}.{attention}.{part}", width, width)
        for number_of_norm in (1, 2, 3):
            inside = inner if number_of_norm == 3 else width
            shapes |= linear(f"{name}.add_norm_{number_of_norm}.dense", width, inside)
            shapes |= norm(f"{name}.add_norm_{number_of_norm}.LayerNorm", width)
        shapes |= linear(f"{name}.intermidiate.dense", inner, width)
    return shapes | {f"{one_hot}.one_hot": [1, vocabulary]}


def layouts(size: dict[str, int], cross: int, temporal: int, caption_positions: int = 24) -> dict[str, Shapes]:
    width, inner, vocabulary, positions = (size[name] for name in ("width", "inner", "vocabulary", "positions"))
    body, search, single = encoder(cross, temporal, **size), retrieval(width, positions), answers(width) | spans(width)
    words = (width, inner, vocabulary)
    fusions = {
        f"fusion_{name}_retrieval__resnet_slowfast": search
        | fusion(body, name.removeprefix("feature_"), **{key: value for key, value in size.items() if key != "inner"})
        for name in ("feature_add", "feature_concat", "sequence")
    }
    return fusions | {
        "pretrained_hero_tv_ht100": body | search,
        "finetuned_violin_first_release": body | answers(width, first_release=True),
        "finetuned_tvc_first_release": body | captions(*words, "loss_func", caption_positions),
        "finetuned_video_qa__resnet_slowfast": body | single,
        "multitask_all__resnet_slowfast": body
        | search
        | single
        | captions(*words, "caption_loss_func", caption_positions),
    }


def random_values(shapes: Shapes) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    values: dict[str, Any] = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    for name, value in values.items():
        if name.endswith("pad"):
            value.zero_()
        elif name.endswith("one_hot"):
            value.fill_(0.001)
        elif name.endswith("tri_mask"):
            values[name] = torch.full_like(value, -10000.0).triu(1)
    word = "v_encoder.f_encoder.embeddings.word_embeddings.weight"
    values["v_encoder.f_encoder.lm_head.decoder.weight"] = values[word]
    return values | {"vocab_padded": True}


def write(values: dict[str, Any], path: Path) -> Path:
    torch.save(values, path)
    return path


def write_config(path: Path, heads: int = 4, **changed: Any) -> Path:
    part = {
        "hidden_size": TINY["width"],
        "num_attention_heads": heads,
        "intermediate_size": TINY["inner"],
        "max_position_embeddings": TINY["positions"],
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
    }
    parts = {
        "f_config": {**part, "num_hidden_layers": 2},
        "c_config": {**part, "num_hidden_layers": 1},
        "q_config": {**part, "num_hidden_layers": 0},
    }
    path.write_text(json.dumps({**parts, **changed}))
    return path


def tensors(values: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
