"""Conversion of the checkpoints that lead to a ClipBERT (clipbert §12)."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import BertTokenizer

from hf_videolang.conversion.clipbert.layouts import CLIPBERT, RESNET, TIED, Layout, drop_reason, find_layout
from hf_videolang.conversion.clipbert.settings import AGGREGATIONS, Settings, read_answers, read_settings
from hf_videolang.conversion.model_folder import Conversion
from hf_videolang.conversion.tensor_map import map_tensors, state_dict, untied_tensors
from hf_videolang.conversion.tokenizers import BERT_FILES, load_tokenizer
from hf_videolang.conversion.untrusted import Checkpoint, ConversionError, read_checkpoint, read_json
from hf_videolang.models.clipbert.configuration_clipbert import ClipBertConfig
from hf_videolang.models.clipbert.modeling_clipbert import (
    ClipBertForMultipleChoice,
    ClipBertForPreTraining,
    ClipBertForVideoTextRetrieval,
    ClipBertForVisualQuestionAnswering,
    ClipBertPreTrainedModel,
)
from hf_videolang.models.clipbert.processing_clipbert import ClipBertProcessor
from hf_videolang.models.clipbert.video_processing_clipbert import ClipBertVideoProcessor

NAME = "ClipBERT"
EXPECTED = "cnn.feature.backbone.… and transformer.bert.… (ClipBERT), backbone.stem.… (grid-feature CNN), resnet.…"
ALSO_HARMLESS = ()
OPTIONS = {
    "head": "what the head is for, where the file does not tell: retrieval, question_answering or multiple_choice",
    "answers": "JSON answer → row of the head, as the original's ans2label.json",
    "bert": "BERT to put beside a CNN: its file, or a folder of the Hub",
}
HEADS: dict[str, type[ClipBertPreTrainedModel]] = {
    "pre_training": ClipBertForPreTraining,
    "retrieval": ClipBertForVideoTextRetrieval,
    "question_answering": ClipBertForVisualQuestionAnswering,
    "multiple_choice": ClipBertForMultipleChoice,
    "count": ClipBertForVisualQuestionAnswering,
}
BERT_TOKENIZER, BERT_VOCABULARY, BERT_HEAD_WIDTH = "google-bert/bert-base-uncased", 30522, 64
IMAGENET = {"image_mean": [123.675, 116.28, 103.53], "image_std": [58.395, 57.12, 57.375]}  # of pixels in 0..255


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the keys are those of ClipBERT, of the grid-feature CNN, or of a ResNet on the Hub."""
    return find_layout(checkpoint) is not None


def convert(
    checkpoint: Checkpoint,
    *,
    config: str | Path | None = None,
    tokenizer: str | Path | None = None,
    head: str | None = None,
    answers: str | Path | None = None,
    bert: str | Path | None = None,
    seed: int = 42,
) -> Conversion:
    """
    Args:
        checkpoint: one that [`recognises`] accepts.
        config: of the training run, as [`read_settings`] takes it. It decides what shapes cannot: attention heads of
            another width than 64, head, loss, aggregation of clips, and all options of the processor.
        tokenizer: folder or Hub id of a BERT tokenizer; by default that of BERT base, uncased, if the vocabulary has
            its 30522 entries. A model with another vocabulary and no tokenizer gets a video processor alone.
        head: `"retrieval"`, `"question_answering"` or `"multiple_choice"`, for a head of one or two labels without
            `config`.
        answers: the original's `ans2label.json`; becomes `id2label`.
        bert: file or Hub folder of a BERT with its pre-training heads, if the checkpoint is a CNN alone.
        seed: of the weights that pre-training starts from at random.

    Raises:
        ConversionError: the files do not fit each other, or do not tell what the head is for.
    """
    layout = find_layout(checkpoint)
    assert layout is not None
    settings, facts = read_settings(config), {}
    if layout.release != CLIPBERT:
        layout, settings, facts["bert"] = _with_bert(layout, checkpoint.path, settings, bert)
    elif bert is not None:
        raise ConversionError(f"{checkpoint.path.name} holds a BERT already; leave --bert out.")
    head = _head(layout, settings, head)
    model_config = _config(layout, settings, head, answers)
    processor, notes = _processor(model_config, layout, settings, head, tokenizer)

    model_class = HEADS[head]
    targets = untied_tensors(model_class, model_config)
    created = _start(targets, seed) if layout.release != CLIPBERT else {}
    _check_ties(layout)
    tensor_map = map_tensors(layout.values, targets, layout.origin, drop_reason, created)
    if head == "question_answering" and answers is None:
        notes.append("The answers have no names. Pass the answer list of the training as --answers.")
    start = "".join(f"\n- `{name}`: {how}" for name, (_, how) in created.items())
    training = {
        "pre_training": "By the authors: masked words and image-text matching on COCO and Visual Genome captions.",
        **dict.fromkeys(list(HEADS)[1:], "Fine-tuned from the authors' image-text pre-training."),
    }[head]
    if created:
        training = f"None. This is the state from which image-text pre-training starts. New are:\n{start}"
    return Conversion(
        model_class=model_class,
        config=model_config,
        tensor_map=tensor_map,
        components=[processor],
        flavour=f"{layout.release}, head: {head.replace('_', ' ')}",
        facts={"config": settings.source, "head": head, **facts, "seed": seed if created else None},
        notes=notes,
        card={"training": training},
    )


def _with_bert(
    layout: Layout, path: Path, settings: Settings, bert: str | Path | None
) -> tuple[Layout, Settings, dict[str, str]]:
    """The CNN's and BERT's values together, what their configs say, and facts about the file of BERT."""
    if bert is None:
        raise ConversionError(
            f"{path.name} holds a CNN alone. Pass the BERT that the training starts from as --bert: a folder of "
            "google-bert/bert-base-uncased, or its file."
        )
    source = read_checkpoint(bert)
    values, _ = state_dict(source)
    stated = dict(settings.model)
    if (beside := source.path.with_name("config.json")).is_file():
        hub = read_json(beside)
        stated = {
            name: hub[name] for name in ("num_attention_heads", "hidden_act", "layer_norm_eps") if name in hub
        } | stated
    if layout.release == RESNET:
        beside = path.with_name("config.json")
        hub = read_json(beside) if beside.is_file() else {}
        stated |= {"stride_in_1x1": bool(hub.get("downsample_in_bottleneck", False)), "channel_order": "RGB"}
    own = source.facts()
    joined = Settings(settings.source, stated, settings.task, "pre_training")
    facts = {name: own[name] for name in ("file", "sha256")}
    return Layout(layout.release, {**layout.values, **values}), joined, facts


def _head(layout: Layout, settings: Settings, given: str | None) -> str:
    rows = layout.size("classifier.2.weight", 0)
    if given is not None and given not in HEADS:
        raise ConversionError(f"--head is {given!r}; expected one of {', '.join(HEADS)}.")
    if layout.release != CLIPBERT or layout.has("transformer.cls."):
        certain: str | None = "pre_training"
    else:
        certain = "count" if layout.has("transformer.regressor.") else None
    claims = {"the file": certain, settings.source: settings.head, "--head": given}
    said = {source: head for source, head in claims.items() if head is not None}
    if len(set(said.values())) > 1:
        raise ConversionError(f"The head is {' and '.join(f'{head} by {source}' for source, head in said.items())}.")
    if said:
        return next(iter(said.values()))
    if rows is not None and rows > 2:
        return "question_answering"
    fitting = "retrieval or question_answering" if rows == 2 else "retrieval or multiple_choice"
    raise ConversionError(
        f"The file does not tell what its head is for: it has {rows or 'no'} labels, which fits {fitting}. Pass the "
        "run's log/args.json as --config, or say it with --head."
    )


def _config(layout: Layout, settings: Settings, head: str, answers: str | Path | None) -> ClipBertConfig:
    sizes = {
        "vocab_size": layout.size("embeddings.word_embeddings.weight", 0),
        "hidden_size": layout.size("embeddings.word_embeddings.weight", 1),
        "max_position_embeddings": layout.size("embeddings.position_embeddings.weight", 0),
        "type_vocab_size": layout.size("embeddings.token_type_embeddings.weight", 0),
        "num_hidden_layers": layout.count("encoder.layer.{}.output.dense.weight"),
        "intermediate_size": layout.size("encoder.layer.0.intermediate.dense.weight", 0),
        "max_grid_rows": layout.size("visual_embeddings.row_position_embeddings.weight", 0),
        "max_grid_columns": layout.size("visual_embeddings.col_position_embeddings.weight", 0),
        "stem_channels": layout.size("cnn.backbone.stem.conv1.weight", 0),
        "bottleneck_channels": layout.size("cnn.backbone.res2.0.conv1.weight", 0),
        "res2_channels": layout.size("cnn.backbone.res2.0.conv3.weight", 0),
        "depths": [layout.count(f"cnn.backbone.res{stage}.{{}}.conv1.weight") for stage in range(2, 6)],
    }
    sizes = {name: size for name, size in sizes.items() if size is not None}
    differing = [
        f"\n  {name}: {settings.source} says {settings.model[name]}, the shapes say {sizes[name]}"
        for name in sizes.keys() & settings.model.keys()
        if sizes[name] != settings.model[name]
    ]
    if differing:
        raise ConversionError(f"The checkpoint does not agree with its config:{''.join(sorted(differing))}")
    fields = settings.model | sizes
    if "num_attention_heads" not in fields:
        fields["num_attention_heads"] = fields.get("hidden_size", 768) // BERT_HEAD_WIDTH or 1
    task = settings.task
    translated = {
        "score_aggregation": AGGREGATIONS.get(task.get("score_agg_func", "")),
        "channel_order": task.get("img_input_format"),
        "pixel_random_sampling_size": task.get("pixel_random_sampling_size"),
        "margin": task.get("margin"),
    }
    fields |= {name: value for name, value in translated.items() if value is not None}
    rows = layout.size("classifier.2.weight", 0)
    if head == "retrieval":
        fields["retrieval_loss"] = "ranking" if rows == 1 else "cross_entropy"
    if head == "question_answering":
        kind = "multi" if task.get("loss_type") == "bce" else "single"
        fields["problem_type"] = f"{kind}_label_classification"
        fields["num_labels"] = rows or 2
        if answers is not None:
            fields["id2label"] = read_answers(answers, rows or 2)
            fields["label2id"] = {answer: row for row, answer in fields["id2label"].items()}
    elif answers is not None:
        raise ConversionError(f"--answers is for a head that answers questions; this one is for {head}.")
    if head == "count":
        fields |= {"problem_type": "regression", "num_labels": 1}
    try:
        return ClipBertConfig(**fields, dtype="float32")
    except (StrictDataclassError, ValueError) as error:
        raise ConversionError(f"The checkpoint and {settings.source} give no valid model: {error}") from error


def _start(targets: dict[str, torch.Tensor], seed: int) -> dict[str, tuple[torch.Tensor, str]]:
    """The tensors that pre-training starts at random or at constants, and how each was made."""
    generator = torch.Generator().manual_seed(seed)
    created = {}
    for name, target in targets.items():
        if name.endswith("cnn.grid_encoder.weight"):
            bound = target[0].numel() ** -0.5
            value = torch.empty(target.shape).uniform_(-bound, bound, generator=generator)
            created[name] = value, f"uniform in ±{bound:.4g}, torch's rule for convolutions, seed {seed}"
        elif ".visual_embeddings.LayerNorm." in name:
            value = torch.ones(target.shape) if name.endswith("weight") else torch.zeros(target.shape)
            created[name] = value, f"all {value[0]:g}"
        elif ".visual_embeddings." in name:
            created[name] = torch.randn(target.shape, generator=generator) * 0.02, f"normal, 0.02, seed {seed}"
    return created


def _check_ties(layout: Layout) -> None:
    """Dropping a duplicate must lose nothing."""
    start = "transformer." if layout.release == CLIPBERT else ""
    for copy, original in TIED.items():
        one, other = layout.values.get(start + copy), layout.values.get(start + original)
        if one is not None and other is not None and not torch.equal(one, other):
            raise ConversionError(
                f"{start}{copy} and {start}{original} differ, but ClipBERT ties them. Use the original file."
            )


def _processor(
    config: ClipBertConfig, layout: Layout, settings: Settings, head: str, tokenizer: str | Path | None
) -> tuple[ClipBertProcessor | ClipBertVideoProcessor, list[str]]:
    """The processor, or its video half if there is no tokenizer; and what the user should know about it."""
    task, notes, is_image_model = settings.task, [], head == "pre_training"
    size = task.get("max_img_size", 768 if is_image_model else 448)
    num_frames = task.get("num_frm", 1 if is_image_model else 2)
    positions = config.max_position_embeddings
    max_length = task.get("max_txt_len", min(30 if is_image_model else 100, positions))
    options: dict[str, Any] = {
        "size": {"longest_edge": size},
        "num_frames": num_frames,
        "num_clips": task.get("inference_n_clips", 1),
        "fps": task.get("fps", 2),
        "single_clip": "middle" if head == "retrieval" else "start",
        **(IMAGENET if layout.release == RESNET else {}),
    }
    for theirs, ours in (("img_pixel_mean", "image_mean"), ("img_pixel_std", "image_std")):
        if theirs in task:
            options[ours] = list(task[theirs])
    video_processor = ClipBertVideoProcessor(**options)
    if max_length > positions:
        raise ConversionError(
            f"{settings.source} asks for texts of {max_length} tokens, the model has {positions} positions."
        )
    if not task and not is_image_model:
        notes.append(
            f"The processor takes {num_frames} frames a clip at {size} pixels and {max_length} tokens. Pass the run's "
            "log/args.json as --config if the model was trained with others."
        )
    if tokenizer is None and config.vocab_size != BERT_VOCABULARY:
        notes.append(
            f"No tokenizer and no text processor were written: the vocabulary has {config.vocab_size} entries, BERT's "
            f"{BERT_VOCABULARY}. Pass the model's own with --tokenizer."
        )
        return video_processor, notes
    fitting = _tokenizer(tokenizer or BERT_TOKENIZER, config.vocab_size)
    fitting.model_max_length = positions
    return ClipBertProcessor(video_processor, fitting, max_length=max_length), notes


def _tokenizer(name: str | Path, vocabulary_size: int) -> BertTokenizer:
    tokenizer = load_tokenizer(BertTokenizer, name, BERT_FILES)
    if len(tokenizer) > vocabulary_size:
        raise ConversionError(
            f"The tokenizer {name} has {len(tokenizer)} entries, but the word table only {vocabulary_size}. Pass "
            "--tokenizer with the model's own."
        )
    return tokenizer
