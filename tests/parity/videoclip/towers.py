"""VideoCLIP against the outputs of the original, from its checkpoint through the converter and the Auto classes."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, pad
from transformers import AutoModel, AutoModelForTokenClassification

from hf_videolang.conversion.families import convert
from tests.parity.cases import Case

# The original's names of parts → ours.
PARTS = {
    "video_encoder.videomlp.": "video_model.projector.",
    "video_encoder.bert.": "video_model.bert.",
    "text_encoder.": "text_model.bert.",
}


def load(case: Case, folder: Path, auto_class: Any = AutoModel, config: Path | None = None, **options: Any) -> Any:
    (bert := folder / "bert.json").write_text(json.dumps(case.meta["bert_config"]))
    convert(case.checkpoint, folder / "model", config=config or case.original_config, bert_config=bert, **options)
    return auto_class.from_pretrained(folder / "model")


def texts(case: Case) -> dict[str, Tensor]:
    """Without the column of the `[SEP]` that belongs to the video."""
    ids, mask = case.inputs["caps"], case.inputs["cmasks"].long()
    return {
        "input_ids": torch.cat([ids[..., :1], ids[..., 2:]], dim=-1),
        "attention_mask": torch.cat([mask[..., :1], mask[..., 2:]], dim=-1),
    }


def videos(case: Case) -> dict[str, Tensor]:
    return {"video_features": case.inputs["vfeats"], "video_attention_mask": case.inputs["vmasks"].long()}


def windows(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the original's batch axis of 1."""
    return {name: value.squeeze(0) for name, value in inputs.items()}


def trimmed(inputs: dict[str, Tensor], mask: str) -> dict[str, Tensor]:
    """Without the columns that are padding in every row."""
    longest = int(inputs[mask].sum(dim=1).max())
    return {name: value[:, :longest] for name, value in inputs.items()}


def compare(case: Case, found: dict[str, Tensor], expected: dict[str, Tensor] | None = None) -> None:
    """Every expected tensor was found, within the case's tolerance."""
    expected = case.expected if expected is None else expected
    assert found.keys() >= expected.keys(), f"not computed: {expected.keys() - found.keys()}"
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **case.tolerances, msg=lambda text, n=name: f"{n}: {text}")


@torch.no_grad()
def check_separate(case: Case, tmp_path: Path) -> None:
    model, short = load(case, tmp_path), case.meta["short"]
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        output = model(**texts(case), **videos(case), output_hidden_states=True)
        shortened = model.get_video_features(**{name: value[:, :short] for name, value in videos(case).items()})
        found = {
            "pooled_video": output.video_embeds,
            "pooled_text": output.text_embeds,
            "video_tokens": output.video_model_output.last_hidden_state,
            "text_tokens": output.text_model_output.last_hidden_state,
            "similarity": output.logits_per_text,
            "short_pooled_video": shortened.pooler_output,
            "short_video_tokens": shortened.last_hidden_state,
            "video_tokens_cls_masked": model.get_video_features(**videos(case), attend_to_cls=False).last_hidden_state,
            "video_mlp": model.video_model.projector(case.inputs["vfeats"]),
            "video_embeddings": output.video_model_output.hidden_states[0],
            "text_embeddings": output.text_model_output.hidden_states[0],
        }
        compare(case, found)
        without_padding = model(
            **trimmed(texts(case), "attention_mask"), **trimmed(videos(case), "video_attention_mask")
        )
        compare(case, {"similarity": without_padding.logits_per_text}, {"similarity": case.expected["similarity"]})


def check_pretrain_step(case: Case, tmp_path: Path) -> None:
    """Values and gradients of the whole model; the poolers, which we drop, have none."""
    model = load(case, tmp_path)
    output = model(**texts(case), **videos(case), return_loss=True)
    output.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}

    def of(name: str) -> Tensor:
        return gradients[
            next(ours + name.removeprefix(theirs) for theirs, ours in PARTS.items() if name.startswith(theirs))
        ]

    expected = {name: value for name, value in case.expected.items() if name.startswith("grad.")}
    compare(case, {name: of(name.removeprefix("grad.")) for name in expected}, expected)
    assert set(case.expected) - set(expected) == {"loss"}
    torch.testing.assert_close(output.loss.detach(), case.expected["loss"], **case.tolerances)
    for name, norm in case.meta["gradient_norms"].items():
        if norm is None:
            assert "pooler" in name
        else:
            torch.testing.assert_close(
                of(name).norm().item(), norm, **case.tolerances, msg=lambda m, n=name: f"{n}: {m}"
            )


def check_coin_segmentation(case: Case, tmp_path: Path) -> None:
    model = load(case, tmp_path, AutoModelForTokenClassification)
    output = model(**windows(videos(case)), labels=case.expected["targets"].squeeze(0))
    output.loss.backward()
    found = {
        "logits": output.logits,
        "loss": output.loss,
        "grad_classifier_weight": model.classifier.weight.grad,
        "grad_linear1_weight": model.video_model.projector.linear1.weight.grad,
    }
    targets = ("targets", "video_targets")  # of the data, which come with the task
    compare(case, found, {name: value for name, value in case.expected.items() if name not in targets})


def check_crosstask_localization(case: Case, tmp_path: Path) -> None:
    model, video = load(case, tmp_path), windows(videos(case))
    states = model.get_video_features(**video, attend_to_cls=False).last_hidden_state[:, 1:-1]
    steps = model.get_text_features(**windows(texts(case))).pooler_output
    logits = states[video["video_attention_mask"].bool()] @ steps.T
    loss = binary_cross_entropy_with_logits(logits, case.expected["targets"].squeeze(0))
    loss.backward()
    found = {
        "logits": logits,
        "loss": loss,
        "grad_linear2_weight": model.video_model.projector.linear2.weight.grad,
        "grad_text_word": model.get_input_embeddings().weight.grad,
    }
    compare(case, found, {name: value for name, value in case.expected.items() if name != "targets"})


@torch.no_grad()
def check_end_to_end_demo(case: Case, tmp_path: Path) -> None:
    """S3D inside, fed with unnormalised rows as the original's demo does."""
    convert(case.path / "s3d_howto100m.pth", tmp_path / "s3d")
    model = load(case, tmp_path, s3d=tmp_path / "s3d")
    assert model.config.normalize_features
    model.config.normalize_features = False
    t, f, y, x, c = torch.meshgrid(*map(torch.arange, (3, 30, 40, 48, 3)), indexing="ij")
    frames = ((3 * f * (c + 1) + 5 * x + 7 * y * (1 + t)) % 256).to(torch.uint8).flatten(0, 1).movedim(-1, 1)
    longest = model.config.video_config.max_video_length
    pixels = pad(frames, (0,) * 7 + (30 * (longest - 3),))[None]  # to the original's length
    mask = (torch.arange(longest) < 3).long()[None]
    output = model(**texts(case), pixel_values_videos=pixels, video_attention_mask=mask)
    assert model(**texts(case), pixel_values_videos=frames[None].float() / 255).video_embeds.allclose(
        output.video_embeds, atol=1e-5
    )
    found = {
        "score": output.logits_per_text[0],
        "pooled_video": output.video_embeds,
        "pooled_text": output.text_embeds,
        "video_features": model.s3d(pixels, mask).video_features[0, :3],
    }
    compare(case, found)


@torch.no_grad()
def check_vlm_joint(case: Case, tmp_path: Path) -> None:
    """The same weights as VLM and as VideoCLIP with one encoder; the run's config tells which."""
    (tmp_path / "isolated").mkdir()
    output = load(case, tmp_path / "isolated")(**texts(case), **videos(case))
    found = {"pooled_video": output.video_embeds, "pooled_text": output.text_embeds}
    found |= {f"train_{name}": value for name, value in found.items()}  # isolation by masks is the same model
    original = yaml.safe_load(case.original_config.read_text())
    original["model"]["model_cls"] = "MMFusionShare"
    (shared := tmp_path / "shared").mkdir()
    (shared / "run.yaml").write_text(yaml.safe_dump(original))
    output = load(case, shared, config=shared / "run.yaml")(**texts(case), **videos(case))
    found |= {"share_pooled_video": output.video_embeds, "share_pooled_text": output.text_embeds}
    compare(case, found)


CHECKS = {
    "separate": check_separate,
    "pretrain_step": check_pretrain_step,
    "coin_segmentation": check_coin_segmentation,
    "crosstask_localization": check_crosstask_localization,
    "end_to_end_demo": check_end_to_end_demo,
    "vlm_joint": check_vlm_joint,
}
