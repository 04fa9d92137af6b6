"""The model against the outputs of the original, from its checkpoint through the converter and `AutoModel`."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel

from hf_videolang.conversion.families import convert
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel
from tests.parity.cases import Case
from tests.parity.clip_vip.losses import loss_of

CONVERSIONS = TemporaryDirectory(prefix="clip-vip-parity-")  # one conversion a checkpoint and test session


@cache
def converted(checkpoint: Path, config: Path) -> Path:
    folder = Path(CONVERSIONS.name, f"{converted.cache_info().currsize}")
    convert(checkpoint, folder, config=config)
    return folder


def load(checkpoint: Path, config: Path, **options: Any) -> CLIPViPModel:
    return AutoModel.from_pretrained(converted(checkpoint, config), **options).eval()


def model_of(case: Case, **options: Any) -> CLIPViPModel:
    return load(case.checkpoint, case.original_config, **options)


def close(found: Tensor, expected: Tensor, atol: float, rtol: float = 0.0, name: str = "") -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=rtol, msg=lambda text: f"{name}: {text}")


def compare(case: Case, found: dict[str, Tensor], logit_scale: Tensor | None = None) -> None:
    """Every expected tensor was found, within the tolerance of its kind."""
    assert found.keys() >= case.expected.keys(), f"not computed: {case.expected.keys() - found.keys()}"
    for name, expected in case.expected.items():
        if "hidden" in name or "embeddings" in name or "pooler" in name or "temporal" in name:
            atol = case.tolerances["hidden_states_atol"]
        elif "logits" in name:  # cosines of unit vectors, times the scale
            assert logit_scale is not None
            atol = case.tolerances["features_atol"] * logit_scale.exp().item()
        else:
            atol = case.tolerances["features_atol"]
        close(found[name], expected, atol, name=name)


def texts(case: Case, prefix: str = "text_input") -> dict[str, Tensor]:
    return {"input_ids": case.inputs[f"{prefix}_ids"], "attention_mask": case.inputs[f"{prefix}_mask"]}


@torch.no_grad()
def check_towers(case: Case, tmp_path: Path) -> None:
    video = case.inputs["video"]
    for attention in ("sdpa", "eager"):
        model = model_of(case, attn_implementation=attention)
        output = model(**texts(case), pixel_values_videos=video, pooled_only=False, output_hidden_states=True)
        pooled_only = model(**texts(case), pixel_values_videos=video)
        close(pooled_only.video_embeds, case.expected["vis_features"], case.tolerances["features_atol"])
        text, vision = output.text_model_output, output.vision_model_output
        found = {
            "vis_features": output.video_embeds,
            "text_features": output.text_embeds,
            "vis_features_unnormalised": model.get_video_features(video).pooler_output,
            "text_features_unnormalised": model.get_text_features(**texts(case)).pooler_output,
            "similarity_text_by_video": output.text_embeds @ output.video_embeds.T,
            "logits_per_text": output.logits_per_text,
            "vision_embeddings": model.vision_model.embeddings(video),
            "vision_last_hidden_state": vision.last_hidden_state,
            "vision_pooler_output": model.vision_model(video).pooler_output,
            "text_last_hidden_state": text.last_hidden_state,
            "text_pooler_output": model.text_model(**texts(case)).pooler_output,
        }
        found |= {f"vision_hidden_{index}": state for index, state in enumerate(vision.hidden_states)}
        found |= {f"text_hidden_{index}": state for index, state in enumerate(text.hidden_states)}
        compare(case, found, model.logit_scale)


def check_towers_backward(case: Case, tmp_path: Path) -> None:
    inputs, expected, tolerances = case.inputs, case.expected, case.tolerances
    tolerance = {"atol": tolerances["gradients_atol"], "rtol": tolerances["gradients_rtol"]}
    for loss_name in sorted({name.split("/")[0] for name in expected}):
        model = model_of(case)
        output = model(**texts(case), pixel_values_videos=inputs["video"])
        features = {"vis": output.video_embeds, "text": output.text_embeds}
        captions = {"input_ids": inputs["caption_ids"], "attention_mask": inputs["caption_masks"]}
        images = model(
            **{name: value.flatten(0, 1) for name, value in captions.items()},
            pixel_values_videos=inputs["image"].flatten(0, 1)[:, None],
        )
        features |= {"img": images.video_embeds, "cap": images.text_embeds}
        loss = loss_of(loss_name, features, model.logit_scale, {})
        close(
            loss.detach(),
            expected[f"{loss_name}/loss"],
            tolerances["features_atol"],
            tolerances["gradients_rtol"],
        )
        loss.backward()

        gradients = {
            f"clipmodel.{name}": parameter.grad
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        norms = {name for name in expected if name.startswith(f"{loss_name}/gradnorm/")}
        assert {f"{loss_name}/gradnorm/{name}" for name in gradients} == norms
        for name in norms:
            close(gradients[name.split("/")[2]].norm(), expected[name], **tolerance, name=name)
        for name in expected:
            if name.startswith(f"{loss_name}/grad/"):
                close(gradients[name.split("/")[2]], expected[name], **tolerance, name=name)


@torch.no_grad()
def check_towers_image(case: Case, tmp_path: Path) -> None:
    model, inputs = model_of(case), case.inputs
    videos = model(**texts(case), pixel_values_videos=inputs["video"])
    images = model(
        input_ids=inputs["caption_ids"].flatten(0, 1),
        attention_mask=inputs["caption_masks"].flatten(0, 1),
        pixel_values_videos=inputs["image"].flatten(0, 1)[:, None],
    )
    found = {
        "text_features": videos.text_embeds,
        "vis_features": videos.video_embeds,
        "img_features": images.video_embeds,
        "cap_features": images.text_embeds,
    }
    compare(case, found)


@torch.no_grad()
def check_towers_other_frame_counts(case: Case, tmp_path: Path) -> None:
    model = model_of(case)
    stored = model.vision_model.embeddings.temporal_embedding.clone()
    found = {}
    for name, video in case.inputs.items():
        count = name.removeprefix("video_")
        found[f"vis_features_{count}"] = model(pixel_values_videos=video).video_embeds
        found[f"vision_pooler_output_{count}"] = model.vision_model(video).pooler_output
        found[f"temporal_embedding_{count}"] = model.vision_model.embeddings.frame_embedding(video.shape[1])
    compare(case, found)
    assert torch.equal(model.vision_model.embeddings.temporal_embedding, stored)


@torch.no_grad()
def check_text_pooling(case: Case, tmp_path: Path) -> None:
    model, inputs = model_of(case), case.inputs
    ends = model.text_model(inputs["ids_two_ends"])
    pooled = [
        (states == vector).all(dim=-1).nonzero()[0].item()
        for states, vector in zip(ends.last_hidden_state, ends.pooler_output, strict=True)
    ]
    assert pooled == case.expected["pooled_position_two_ends"].tolist()

    def features(name: str, mask: Tensor | None) -> Tensor:
        return model(input_ids=inputs[name], attention_mask=mask).text_embeds

    found = {
        "features_masked": features("ids_eos_padded", inputs["mask"]),
        "features_all_ones_mask": features("ids_eos_padded", torch.ones_like(inputs["mask"])),
        "features_zero_padded_no_mask": features("ids_zero_padded", None),
        "features_two_ends": features("ids_two_ends", None),
        "pooled_position_two_ends": torch.tensor(pooled),
    }
    compare(case, found)


@torch.no_grad()
def check_init_from_clip(case: Case, tmp_path: Path) -> None:
    config = case.original_config
    original = json.loads(config.read_text())
    original["clip_vision_additional_config"]["type"] = "MeanPool"  # plain CLIP, from the same files
    plain_config = tmp_path / "mean_pooling.json"
    plain_config.write_text(json.dumps(original))
    video, atol = case.inputs["video"], case.tolerances["features_atol"]
    for flavour, file in case.meta["checkpoints"].items():
        model = load(case.path / file, config)
        assert not model.vision_model.embeddings.temporal_embedding.any()
        assert model.logit_scale.item() == torch.tensor(model.config.logit_scale_init_value).item()
        added_cls = model.vision_model.embeddings.added_cls
        assert added_cls.shape == case.inputs["added_cls"].shape and 0.8 < added_cls.std() < 1.2
        added_cls.copy_(case.inputs["added_cls"])
        output = model(**texts(case), pixel_values_videos=video)
        close(output.video_embeds, case.expected["vip_vis_features"], atol, name=flavour)
        close(output.text_embeds, case.expected["vip_text_features"], atol, name=flavour)

        plain = load(case.path / file, plain_config)(**texts(case), pixel_values_videos=video[:, :1])
        for found, name in (
            (plain.video_embeds, "clip_image_features_frame0"),
            (plain.text_embeds, "clip_text_features"),
        ):
            close(found, normalize(case.expected[name]), atol, name=f"{flavour} {name}")


@torch.no_grad()
def check_comparator_meanpool(case: Case, tmp_path: Path) -> None:
    model, video = model_of(case), case.inputs["video"]
    output = model(**texts(case), pixel_values_videos=video)
    found = {
        "text_features": output.text_embeds,
        "vis_features": output.video_embeds,
        "frame_features_unnormalised": model.visual_projection(model.vision_model(video).pooler_output),
        "similarity_text_by_video": output.text_embeds @ output.video_embeds.T,
    }
    compare(case, found)


@torch.no_grad()
def check_comparator_fullattention(case: Case, tmp_path: Path) -> None:
    model = model_of(case)
    found = {"text_features": model(**texts(case)).text_embeds}
    for name, video in case.inputs.items():
        if name.startswith("video_"):
            count = name.removeprefix("video_")
            output = model(pixel_values_videos=video, pooled_only=False)
            found[f"vis_features_{count}"] = output.video_embeds
            found[f"vision_last_hidden_state_{count}"] = output.vision_model_output.last_hidden_state
            found[f"vision_embeddings_{count}"] = model.vision_model.embeddings(video)
    compare(case, found)


@torch.no_grad()
def check_comparator_seqtransformer(case: Case, tmp_path: Path) -> None:
    model = model_of(case)
    video, mask = case.inputs["video"].flatten(1, 2).squeeze(1), case.inputs["video_mask"]
    clips = {"pixel_values_videos": video, "video_attention_mask": mask}
    output = model(**texts(case), **clips)
    frame_features = model.visual_projection(model.vision_model(video).pooler_output)
    found = {
        "sequence_output": model.get_text_features(**texts(case)).pooler_output[:, None],
        "frame_features": frame_features,
        "seqTransf/frame_outputs_after_residual": model.sequence_transformer(frame_features, mask),
        "seqTransf/vis_features": output.video_embeds,
        "seqTransf/logits_text_by_video": output.logits_per_text,
    }
    # The reference system's other head reads the same file.
    mean_pooling = tmp_path / "mean_pooling.json"
    mean_pooling.write_text(json.dumps(json.loads(case.original_config.read_text()) | {"sim_header": "meanP"}))
    found["meanP/logits_text_by_video"] = load(case.checkpoint, mean_pooling)(**texts(case), **clips).logits_per_text
    for name, expected in case.expected.items():
        kind = "logits_atol" if "logits" in name else "features_atol"
        close(found[name], expected, case.tolerances[kind], name=name)


CHECKS = {
    "towers": check_towers,
    "towers_backward": check_towers_backward,
    "towers_image": check_towers_image,
    "towers_other_frame_counts": check_towers_other_frame_counts,
    "text_pooling": check_text_pooling,
    "init_from_clip": check_init_from_clip,
    "comparator_meanpool": check_comparator_meanpool,
    "comparator_fullattention": check_comparator_fullattention,
    "comparator_seqtransformer": check_comparator_seqtransformer,
}
