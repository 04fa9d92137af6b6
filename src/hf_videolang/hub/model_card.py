"""The card of a saved model, written from its own config and processor: what the folder says is what the card says."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData
from transformers import AutoConfig, PreTrainedConfig

from .evaluation_results import measured_results

TEMPLATES = Path(__file__).parent / "cards"
TAGS = ["hf_videolang", "clip-vip", "video-text-retrieval", "arxiv:2209.06430"]
SUMMARIES = {
    "proxy": "CLIP with video proxy tokens: a few extra tokens attend to all frames and carry time, each patch "
    "attends to its own frame and the proxies.",
    "mean_pooling": "CLIP over single frames with mean pooling, a comparator in the ablation of CLIP-ViP.",
    "sequence_transformer": "CLIP over single frames with a transformer over the frames (CLIP4Clip's seqTransf), a "
    "comparator in the ablation of CLIP-ViP.",
    "full_attention": "CLIP with full attention over the patches of all frames, a comparator in the ablation of "
    "CLIP-ViP.",
}


def build_model_card(
    config: PreTrainedConfig,
    processor: dict[str, Any] | None,
    repo_id: str,
    *,
    title: str | None = None,
    summary: str | None = None,
    provenance: str = "Not stated.",
    training: str = "Not stated.",
    compute: str | None = None,
    reported: str | None = None,
    licence: str = "Not stated for these weights. The code is licensed under Apache-2.0.",
    **metadata: Any,
) -> ModelCard:
    """
    Args:
        config: of the model.
        processor: the content of `processor_config.json`, without `max_length` if only a video processor was saved;
            `None` if nothing was.
        repo_id: repository id, as it stands in the card's snippets.
        title, summary, provenance, training, compute, reported, licence: Markdown of the sections that config and
            processor cannot fill. `reported` is for published numbers; measured ones enter through `write_evaluation`.
        metadata: keys of `ModelCardData`, e.g. `license="mit"`, `base_model="org/clip-vip-b16"`.

    Raises:
        ValueError: there is no card for this `model_type`.
    """
    template = TEMPLATES / f"{config.model_type}.md"
    if not template.exists():
        known = sorted(path.stem for path in TEMPLATES.glob("*.md"))
        raise ValueError(f"there is no model card for the model type {config.model_type!r}; there are {known}.")
    data = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=TAGS + metadata.pop("tags", []),
        metrics=["recall"],
        **metadata,
    )
    return ModelCard.from_template(
        data,
        template_path=str(template),
        config=config,
        processor=processor,
        repo_id=repo_id,
        title=title or repo_id.split("/")[-1],
        summary=summary or SUMMARIES[config.vision_config.frame_fusion],
        provenance=provenance,
        training=training,
        compute=compute,
        reported=reported,
        measured=measured_results(data.eval_results),
        licence=licence,
    )


def write_model_card(folder: str | Path, repo_id: str | None = None, **sections: Any) -> Path:
    """
    Write `README.md` into a folder that `save_pretrained` filled.

    Args:
        folder: with the model's config, and the processor where there is one.
        repo_id: the id under which the folder will be pushed; defaults to the folder's name.
        sections: further arguments of [`build_model_card`].
    """
    folder = Path(folder)
    card = build_model_card(
        AutoConfig.from_pretrained(folder),
        _saved_processor(folder),
        repo_id or folder.resolve().name,
        **sections,
    )
    card.save(folder / "README.md")
    return folder / "README.md"


def _saved_processor(folder: Path) -> dict[str, Any] | None:
    """The options of the processor, or of a video processor that was saved alone."""
    if (path := folder / "processor_config.json").exists():
        return json.loads(path.read_text(encoding="utf-8"))
    if (path := folder / "video_preprocessor_config.json").exists():
        return {"video_processor": json.loads(path.read_text(encoding="utf-8"))}
    return None


def write_training_card(trainer, **kwargs: Any) -> Path:
    """
    The card of a training run, for `Trainer.create_model_card`: [`write_model_card`] with the hyperparameters, the
    loss history and the versions that `Trainer` knows. The model must have been saved to `output_dir`.

    Args:
        trainer: a `Trainer`.
        kwargs: arguments of `Trainer.create_model_card` (`dataset`, `finetuned_from`, `license`, `tags` …).
    """
    from transformers.modelcard import TrainingSummary

    summary = TrainingSummary.from_trainer(trainer, **kwargs)
    tags = [summary.tags] if isinstance(summary.tags, str) else summary.tags
    dataset_tags = [summary.dataset_tags] if isinstance(summary.dataset_tags, str) else summary.dataset_tags
    start = summary.finetuned_from or trainer.model.name_or_path
    local = os.path.isdir(start)  # of which a reader can use the name, not the path
    origin = "Trained"
    if start:
        origin = f"Fine-tuned from `{Path(start).resolve().name if local else start}`{' (a local folder)' * local}"
    where = f" on {summary.dataset}" if isinstance(summary.dataset, str) else ""
    return write_model_card(
        trainer.args.output_dir,
        trainer.hub_model_id or trainer.args.hub_model_id,
        provenance=f"{origin}{where} with `hf_videolang`.",
        training=summary.to_model_card().partition("## Training procedure")[2].strip(),
        compute=_compute(trainer),
        license=summary.license,
        base_model=None if local else start or None,
        datasets=[tag for tag in dataset_tags or [] if tag] or None,  # no tag: records from no Hub data set
        tags=tags,
    )


def _compute(trainer) -> str | None:
    """Processes, device and time, if it has trained."""
    runtimes = [line["train_runtime"] for line in trainer.state.log_history if "train_runtime" in line]
    if not runtimes:
        return None
    device = trainer.args.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"{trainer.args.world_size} × {name}, {runtimes[-1] / 60:.1f} minutes since the last start or resumption."
