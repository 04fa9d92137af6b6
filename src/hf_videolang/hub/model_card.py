"""The card of a saved model, written from its config, its processor and the family's template `cards/<family>.md`."""

import html
import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import AutoConfig, PreTrainedConfig

TEMPLATES = Path(__file__).parent / "cards"
WRITTEN_BY_TRANSFORMERS = "This model card has been automatically generated."
BEGIN, END = "<!-- measured results -->", "<!-- end of measured results -->"


def build_model_card(
    config: PreTrainedConfig,
    processor: dict[str, Any] | None,
    repo_id: str,
    *,
    title: str | None = None,
    provenance: str = "Not stated.",
    training: str = "Not stated.",
    compute: str | None = None,
    reported: str | None = None,
    licence: str = "Not stated for these weights. The code is licensed under Apache-2.0.",
    **metadata: Any,
) -> ModelCard:
    """
    Args:
        config: of the model. Its `model_type` chooses the template.
        processor: the content of `processor_config.json`, without `max_length` if only a video processor was saved;
            `None` if nothing was.
        repo_id: repository id in the card's code snippets.
        title, provenance, training, compute, reported, licence: Markdown of the sections that config and processor
            cannot fill. `reported` is for published numbers; measured ones enter through `write_evaluation`.
        metadata: keys of `ModelCardData`, e.g. `license="mit"`, `base_model="org/clip-vip-b16"`. `tags` are added to
            the template's.

    Raises:
        ValueError: no template exists for this `model_type`.
    """
    from jinja2 import Template

    template = TEMPLATES / f"{config.model_type}.md"
    if not template.exists():
        known = sorted(path.stem for path in TEMPLATES.glob("*.md"))
        raise ValueError(f"no model card exists for the model type {config.model_type!r}; expected one of {known}.")
    text = Template(template.read_text(encoding="utf-8")).render(
        config=config,
        processor=processor,
        repo_id=repo_id,
        title=title or repo_id.split("/")[-1],
        provenance=provenance,
        training=training,
        compute=compute,
        reported=reported,
        measured=f"{BEGIN}\nNothing has been measured yet.\n{END}",
        licence=licence,
    )
    card = ModelCard(text)
    data = card.data.to_dict()
    data |= {**metadata, "tags": data["tags"] + metadata.get("tags", [])}
    card.data = ModelCardData(**data)
    return card


def write_model_card(folder: str | Path, repo_id: str | None = None, **sections: Any) -> Path:
    """
    Write `README.md` into a folder that `save_pretrained` filled.

    Args:
        folder: holds the model's config and, where there is one, the processor.
        repo_id: repository to which the folder will be pushed; the folder's name by default.
        sections: further arguments of [`build_model_card`].

    Example:
        >>> write_model_card("my_model", "me/my_model", license="mit", base_model="org/clip-vip-b16")
    """
    folder = Path(folder)
    config, repo_id = AutoConfig.from_pretrained(folder), repo_id or folder.resolve().name
    build_model_card(config, _saved_processor(folder), repo_id, **sections).save(folder / "README.md")
    return folder / "README.md"


def write_pushed_card(folder: str | Path, repo_id: str, token: str | bool | None = None) -> None:
    """
    Write the family's card into a folder that transformers is about to push, unless somebody wrote another one.

    It replaces transformers' empty card, and a card that the push of the model wrote before that of its processor.
    Nothing is written while the model is neither here nor there, or where its `model_type` has no template.

    Args:
        folder: of the push; with the whole model, or only model or processor.
        repo_id: where it goes, and where the other part may be already.
        token: for the Hub.
    """
    folder = Path(folder)
    readme = folder / "README.md"
    config_file = _here_or_there(folder, repo_id, "config.json", token)
    if config_file is None:
        return
    config = AutoConfig.from_pretrained(config_file.parent)
    if not (TEMPLATES / f"{config.model_type}.md").exists():
        return
    there = ModelCard.load(readme) if readme.exists() else None
    text = WRITTEN_BY_TRANSFORMERS if there is None else there.text
    if WRITTEN_BY_TRANSFORMERS not in text and text.strip() != build_model_card(config, None, repo_id).text.strip():
        return
    processor_file = _here_or_there(folder, repo_id, "processor_config.json", token)
    processor = None if processor_file is None else _saved_processor(processor_file.parent)
    card = build_model_card(config, processor, repo_id)
    given = there.data.get("tags") if there else None
    card.data["tags"] = list(dict.fromkeys([*card.data["tags"], *(given or [])]))
    card.save(readme)


def _here_or_there(folder: Path, repo_id: str, name: str, token: str | bool | None) -> Path | None:
    """A file in the folder, or else in the repository."""
    if (folder / name).exists():
        return folder / name
    try:
        return Path(hf_hub_download(repo_id, name, token=token))
    except EntryNotFoundError:
        return None


def _saved_processor(folder: Path) -> dict[str, Any] | None:
    """The options of the processor, or of a video processor that was saved alone."""
    if (path := folder / "processor_config.json").exists():
        return json.loads(path.read_text(encoding="utf-8"))
    if (path := folder / "video_preprocessor_config.json").exists():
        return {"video_processor": json.loads(path.read_text(encoding="utf-8"))}
    return None


def escaped(text: Any) -> str:
    """Text from data for a card: one line, without Markdown's columns, HTML or a marker of ours."""
    return html.escape(" ".join(str(text).split()), quote=False).replace("|", "&#124;")


def write_training_card(trainer, **kwargs: Any) -> Path:
    """
    The card of a training run, for `Trainer.create_model_card`: hyperparameters, loss history and versions from the
    `Trainer`, everything else as in [`write_model_card`].

    Args:
        trainer: a `Trainer` whose model has been saved to `output_dir`.
        kwargs: arguments of `Trainer.create_model_card` (`dataset`, `finetuned_from`, `license`, `tags` …).
    """
    from transformers.modelcard import TrainingSummary

    summary = TrainingSummary.from_trainer(trainer, **kwargs)
    tags, dataset_tags = (
        [given] if isinstance(given, str) else given or [] for given in (summary.tags, summary.dataset_tags)
    )
    start = summary.finetuned_from or trainer.model.name_or_path
    local = os.path.isdir(start)  # a published card names such a folder, but not its path
    origin = "Trained"
    if start:
        origin = f"Fine-tuned from `{Path(start).resolve().name if local else start}`{' (a local folder)' * local}"
    where = f" on {escaped(summary.dataset)}" if isinstance(summary.dataset, str) else ""
    return write_model_card(
        trainer.args.output_dir,
        trainer.hub_model_id or trainer.args.hub_model_id,
        provenance=f"{origin}{where} with `hf_videolang`.",
        training=summary.to_model_card().partition("## Training procedure")[2].strip(),
        compute=_compute(trainer),
        license=summary.license,
        base_model=None if local else start or None,
        datasets=[tag for tag in dataset_tags if tag] or None,  # records in memory have no tag
        tags=tags,
    )


def _compute(trainer) -> str | None:
    """Processes, device and time, if the trainer has trained."""
    runtimes = [line["train_runtime"] for line in trainer.state.log_history if "train_runtime" in line]
    if not runtimes:
        return None
    device = trainer.args.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"{trainer.args.world_size} × {name}, {runtimes[-1] / 60:.1f} minutes since the last start or resumption."
