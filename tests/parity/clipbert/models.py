"""Every head against the outputs of the original: from its checkpoint through converter, Auto class and processor."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, softmax
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForVisualQuestionAnswering,
    AutoVideoProcessor,
)

from hf_videolang.conversion.families import convert
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForVideoTextRetrieval
from tests.parity.cases import Case

CONVERSIONS = TemporaryDirectory(prefix="clipbert-parity-")  # one conversion a checkpoint and test session
AGGREGATIONS = {"mean": "mean", "max": "max", "lse": "logsumexp"}


@cache
def converted(checkpoint: Path, config: Path) -> Path:
    folder = Path(CONVERSIONS.name, f"{converted.cache_info().currsize}")
    convert(checkpoint, folder, config=config)
    return folder


def folder_of(case: Case) -> Path:
    return converted(case.checkpoint, case.original_config)


def load(auto: Any, case: Case, **options: Any) -> Any:
    return auto.from_pretrained(folder_of(case), **options).eval()


def inputs_of(case: Case, num_clips: int = 1) -> dict[str, Tensor]:
    """Texts as they lie in the case, pixels by the saved processor from raw frames, and the video of each text."""
    processor = AutoVideoProcessor.from_pretrained(folder_of(case))
    frames = case.inputs["frames_u8"]
    return {
        "input_ids": case.inputs["text_input_ids"],
        "attention_mask": case.inputs["text_input_mask"],
        **processor(frames, do_sample_frames=False, num_clips=num_clips, return_tensors="pt"),
        "video_index": torch.arange(len(frames)).repeat_interleave(case.inputs["n_examples_list"]),
    }


def compare(case: Case, found: dict[str, Tensor]) -> None:
    """Every expected tensor was found, within the tolerance of the case."""
    assert found.keys() == case.expected.keys(), found.keys() ^ case.expected.keys()
    for name, expected in case.expected.items():
        value = found[name].reshape(expected.shape)
        if not expected.is_floating_point():
            assert torch.equal(value, expected), name
        else:
            torch.testing.assert_close(value, expected, **case.tolerances, msg=lambda m, n=name: f"{n}: {m}")


def body(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the base model computes of one clip, by the names of the case."""
    output = model.clipbert(**inputs)
    features = model.get_video_features(inputs["pixel_values_videos"])
    visual = features.video_embeds[:, 0]
    return {
        "grid_features": features.grid_features[:, 0],
        "text_embeddings": model.clipbert.embeddings(inputs["input_ids"]),
        "visual_embeddings": visual[inputs["video_index"]] if "video_index" in inputs else visual,
        "sequence_output": output.last_hidden_state[0],
        "pooled_output": output.pooler_output[0],
    }


@torch.no_grad()
def check_retrieval(case: Case, tmp_path: Path) -> None:
    labels, inputs = case.inputs["labels"], inputs_of(case)
    pixels = inputs["pixel_values_videos"][:, 0]
    processor = AutoVideoProcessor.from_pretrained(folder_of(case))
    other = processor(case.inputs["nonsquare_frames_u8"], do_sample_frames=False, do_resize=False, return_tensors="pt")
    rows = len(other["pixel_values_videos"])
    other |= {name: inputs[name][:rows] for name in ("input_ids", "attention_mask")}
    for attention in ("sdpa", "eager"):
        model = load(ClipBertForVideoTextRetrieval, case, attn_implementation=attention)
        found = {"visual_inputs_channel_means": pixels.mean(dim=(-2, -1))}
        found["visual_inputs_corner_patch"] = pixels[..., :8, :8]
        for start, given, wanted in (("", inputs, labels), ("nonsquare_", other, labels[:rows])):
            output = model(**given, labels=wanted)
            torch.testing.assert_close(output.loss, cross_entropy(output.logits, wanted))
            backbone = model.clipbert.cnn.backbone
            parts = body(model, given) | {
                "res5": backbone(backbone.frozen_stages()(given["pixel_values_videos"].flatten(0, 2).flip(1))),
                "logits": output.logits,
                "loss": cross_entropy(output.logits, wanted, reduction="none"),
            }
            found |= {start + name: value for name, value in parts.items()}
        del found["nonsquare_text_embeddings"]
        compare(case, found)


@torch.no_grad()
def check_pretraining(case: Case, tmp_path: Path) -> None:
    inputs = inputs_of(case)
    labels = {"labels": case.inputs["mlm_labels"], "matching_labels": case.inputs["itm_labels"]}
    model = load(AutoModelForPreTraining, case)
    output = model(**inputs, **labels)
    words = cross_entropy(output.prediction_logits.flatten(0, 1), labels["labels"].flatten(), reduction="none")
    matching = cross_entropy(output.matching_logits, labels["matching_labels"], reduction="none")
    found = body(model, inputs) | {
        "mlm_scores": output.prediction_logits,
        "mlm_loss": words,
        "mlm_loss_mean": words.mean(),
        "itm_scores": output.matching_logits,
        "itm_loss": matching,
        "itm_loss_mean": matching.mean(),
        "total_loss": output.loss,
    }
    without_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    kept = len(case.inputs["sampled_indices"])
    model = load(AutoModelForPreTraining, case, pixel_random_sampling_size=kept, **without_dropout).train()
    np.random.seed(case.meta["numpy_seed_before_sampled_forward"])
    output = model.clipbert(**inputs)
    found["sampled_visual_embeddings"] = output.video_embeds[inputs["video_index"], 0]
    found["sampled_sequence_output"] = output.last_hidden_state
    np.random.seed(case.meta["numpy_seed_before_sampled_forward"])
    output = model(**inputs, **labels)
    found["sampled_mlm_scores"] = output.prediction_logits
    found["sampled_itm_scores"] = output.matching_logits
    found["sampled_total_loss"] = output.loss
    compare(case, found)


def answered(case: Case, auto: Any) -> tuple[Any, dict[str, Tensor]]:
    inputs = inputs_of(case)
    labels = case.inputs["labels"]
    model = load(auto, case)
    output = model(**inputs, labels=labels)
    parts = body(model, inputs)
    return output, {
        **{name: parts[name] for name in ("grid_features", "pooled_output")},
        "logits": output.logits,
        "loss_mean": output.loss,
    }


@torch.no_grad()
def check_open_ended(case: Case, tmp_path: Path) -> None:
    output, found = answered(case, AutoModelForVisualQuestionAnswering)
    compare(case, found | {"loss": cross_entropy(output.logits, case.inputs["labels"], reduction="none")})


@torch.no_grad()
def check_soft_answers(case: Case, tmp_path: Path) -> None:
    output, found = answered(case, AutoModelForVisualQuestionAnswering)
    loss = binary_cross_entropy_with_logits(output.logits, case.inputs["labels"], reduction="none")
    compare(case, found | {"loss": loss, "loss_mean": loss.mean(), "training_loss": output.loss})


@torch.no_grad()
def check_count(case: Case, tmp_path: Path) -> None:
    output, found = answered(case, AutoModelForVisualQuestionAnswering)
    model = load(AutoModelForVisualQuestionAnswering, case)
    loss = (output.logits[:, 0] - case.inputs["labels"]) ** 2
    compare(case, found | {"loss": loss, "prediction": model.counts(output.logits)})


def with_options(case: Case, num_clips: int) -> dict[str, Tensor]:
    inputs = inputs_of(case, num_clips)
    del inputs["video_index"]
    options = {name: inputs[name].unflatten(0, (-1, 5)) for name in ("input_ids", "attention_mask")}
    return inputs | options


@torch.no_grad()
def check_multiple_choice(case: Case, tmp_path: Path) -> None:
    labels, model = case.inputs["labels"], load(AutoModelForMultipleChoice, case)
    output, parts = model(**with_options(case, 1), labels=labels), body(model, inputs_of(case))
    found = {name: parts[name] for name in ("grid_features", "pooled_output")}
    loss = cross_entropy(output.logits, labels, reduction="none")
    compare(case, found | {"logits": output.logits, "loss": loss, "loss_mean": output.loss})


@torch.no_grad()
def check_clips_of_choices(case: Case, tmp_path: Path) -> None:
    labels, found = case.inputs["labels"], {}
    inputs = with_options(case, case.read_json("original_config.json")["task_config"]["train_n_clips"])
    for name, aggregation in AGGREGATIONS.items():
        output = load(AutoModelForMultipleChoice, case, score_aggregation=aggregation)(**inputs, labels=labels)
        found |= {
            "clip_logits": output.clip_logits,
            f"train_{name}_logits": output.logits,
            f"train_{name}_loss_per_example": cross_entropy(output.logits, labels, reduction="none"),
            f"train_{name}_loss": output.loss,
            f"infer_{name}_prediction": output.logits.argmax(-1),
        }
    compare(case, {name: value for name, value in found.items() if name in case.expected})


@torch.no_grad()
def check_clips_of_retrieval(case: Case, tmp_path: Path) -> None:
    labels, found = case.inputs["labels"], {}
    inputs = inputs_of(case, case.read_json("original_config.json")["task_config"]["train_n_clips"])
    for name, aggregation in AGGREGATIONS.items():
        model = load(ClipBertForVideoTextRetrieval, case, score_aggregation=aggregation)
        output = model(**inputs, labels=labels)
        videos, texts = len(output.video_embeds), len(labels)
        pairs = {key: inputs[key].repeat_interleave(videos, 0) for key in ("input_ids", "attention_mask")}
        every = model(**pairs, video_embeds=output.video_embeds, video_index=torch.arange(videos).repeat(texts))
        matrix = every.scores.view(texts, videos)
        torch.testing.assert_close(matrix.flatten(), softmax(every.logits, -1)[:, 1])
        found |= {
            "clip_logits": output.clip_logits,
            f"train_{name}_logits": output.logits,
            f"train_{name}_loss_per_example": cross_entropy(output.logits, labels, reduction="none"),
            f"train_{name}_loss": output.loss,
            f"infer_{name}_score_matrix": matrix,
            f"infer_{name}_score_matrix_rounded": matrix.mul(1e4).round().div(1e4),
        }
    compare(case, found)


@torch.no_grad()
def check_ranking(case: Case, tmp_path: Path) -> None:
    inputs, found = inputs_of(case, 2), {}
    labels = (torch.arange(9) % 3 == 0).long()  # of each video's three texts, the first matches
    margin = case.meta["margin"]

    def losses(scores: Tensor) -> Tensor:
        by_video = scores.view(3, 3)
        return (margin + by_video[:, 1:] - by_video[:, :1]).clamp(min=0)

    for name in ("mean", "max"):
        model = load(ClipBertForVideoTextRetrieval, case, score_aggregation=name)
        assert model.config.margin == margin
        output = model(**inputs, labels=labels)
        found |= {
            f"train_{name}_logits": output.logits,
            f"train_{name}_loss_matrix": losses(output.scores),
            f"train_{name}_loss": output.loss,
        }
    single = model(**{**inputs, "pixel_values_videos": inputs["pixel_values_videos"][:, :1]}, labels=labels)
    torch.testing.assert_close(single.loss, losses(single.scores).mean())
    free = case.inputs["free_rank_logits"][:, 0].sigmoid()
    torch.testing.assert_close(
        model.ranking_loss(free, labels, inputs["video_index"]), case.expected["free_rank_loss"].mean()
    )
    found |= {
        "single_clip_logits": single.logits,
        "single_clip_loss": losses(single.scores),
        "free_rank_loss": losses(free),
        "free_ce_loss": cross_entropy(case.inputs["free_ce_logits"], case.inputs["labels"], reduction="none"),
    }
    compare(case, found)


CHECKS = {
    "e2e_retrieval": check_retrieval,
    "pretraining_mlm_itm": check_pretraining,
    "qa_open_ended_ce": check_open_ended,
    "qa_vqa_bce": check_soft_answers,
    "qa_multiple_choice": check_multiple_choice,
    "count_regression": check_count,
    "score_aggregation_retrieval": check_clips_of_retrieval,
    "score_aggregation_multiple_choice": check_clips_of_choices,
    "retrieval_loss_rank": check_ranking,
}
