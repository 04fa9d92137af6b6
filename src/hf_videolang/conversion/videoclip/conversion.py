"""Conversion of the checkpoints that lead to a VideoCLIP (videoclip §3.7, §4)."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import BertTokenizer, PreTrainedConfig

from hf_videolang.conversion.model_folder import Conversion
from hf_videolang.conversion.tensor_map import map_tensors, model_tensors, new_layers, state_dict
from hf_videolang.conversion.tokenizers import BERT_FILES, load_tokenizer
from hf_videolang.conversion.untrusted import Checkpoint, ConversionError
from hf_videolang.conversion.videoclip.config import Run, derive_config, read_bert, read_run
from hf_videolang.conversion.videoclip.layouts import drop_reason, find_layout
from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from hf_videolang.models.s3d.modeling_s3d import S3DVideoModel
from hf_videolang.models.videoclip.configuration_videoclip import VideoCLIPConfig
from hf_videolang.models.videoclip.modeling_videoclip import VideoCLIPForTokenClassification, VideoCLIPModel
from hf_videolang.models.videoclip.processing_videoclip import VideoCLIPProcessor
from hf_videolang.models.videoclip.video_processing_videoclip import VideoCLIPVideoProcessor

NAME = "VideoCLIP"
EXPECTED = (
    "mmmodel.video_encoder.… and mmmodel.text_encoder.… (VideoCLIP), mmmodel.mm_encoder.… (VLM), bert.encoder.… (BERT)"
)
# fairseq's container keeps its options, and scores as NumPy scalars (videoclip §4.2).
NUMPY_SCALAR = np.float64().__reduce__()[0]
ALSO_HARMLESS = (
    Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "float16")),
    *((NUMPY_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
)
OPTIONS = {
    "bert_config": "config.json of the BERT that it was trained from, if not bert-base-uncased",
    "s3d": "folder of a converted S3D, to put inside",
}
BERT_TOKENIZER, BERT_VOCABULARY = "google-bert/bert-base-uncased", 30522
TRAINING = {
    "BERT": "None beyond BERT's. This is the state from which VideoCLIP's training starts.",
    "VLM": (
        "By the authors: masked modelling of video and speech on HowTo100M. **It was not trained by contrast: its "
        "similarities mean little before you fine-tune it.**"
    ),
}
TRAINED = "By the authors: contrast of video clips and speech on HowTo100M, in batches of retrieved videos."
LICENCE = {
    "license": "cc-by-nc-4.0",
    "licence": (
        "No statement about the weights was found. The authors' project is mostly licensed under CC-BY-NC 4.0, so "
        "treat the weights as non-commercial."
    ),
}


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the keys are those of VideoCLIP, VLM or BERT."""
    return find_layout(_values(checkpoint)) is not None


def convert(
    checkpoint: Checkpoint,
    *,
    config: str | Path | None = None,
    bert_config: str | Path | None = None,
    tokenizer: str | Path | None = None,
    s3d: str | Path | None = None,
    seed: int = 42,
) -> Conversion:
    """
    Args:
        checkpoint: one that [`recognises`] accepts.
        config: the project's YAML of the run. It decides the lengths of videos and texts; by default 32 seconds and 63
            tokens, those of the released models. It tells VLM from a shared encoder where the keys are the same.
        bert_config: what shapes do not tell about BERT, above all its heads; by default those of bert-base-uncased.
        tokenizer: folder or Hub id of a BERT tokenizer; by default that of bert-base-uncased if the vocabulary has its
            30522 entries. A model with another vocabulary and no tokenizer gets a video processor alone.
        s3d: folder of a converted S3D. Without it the model reads features only.
        seed: of the projector, when a BERT becomes a VideoCLIP.

    Raises:
        ConversionError: the checkpoint, the configs, the tokenizer or S3D do not fit each other.
    """
    values, run = _values(checkpoint), read_run(config)
    layout = find_layout(values, run.encoder)
    assert layout is not None
    inside = None if s3d is None else _load_s3d(Path(s3d))
    bert = read_bert(bert_config, checkpoint.path)
    model_config = derive_config(values, layout, run, bert, None if inside is None else inside.config)
    model_class = VideoCLIPModel if layout.classifier is None else VideoCLIPForTokenClassification
    targets = model_tensors(model_class, model_config)
    created: dict[str, tuple[Tensor, str]] = {}
    if s3d is not None and inside is not None:
        how = f"from the S3D in {Path(s3d).resolve().name}"
        created |= {f"s3d.{name}": (tensor, how) for name, tensor in inside.state_dict().items()}
    if layout.projector is None:
        projector = [name for name in targets if name.startswith("video_model.projector.")]
        video: Any = model_config.video_config
        created |= new_layers(targets, projector, video.initializer_range, seed)  # (videoclip §3.7)
    processor, notes = _processor(model_config, run, tokenizer)
    flavour, training = layout.flavour, TRAINING.get(layout.flavour, TRAINED)
    if layout.classifier is not None:
        flavour, training = f"{flavour} with a label for each second", f"{training} Then fine-tuned to label seconds."
    return Conversion(
        model_class=model_class,
        config=model_config,
        tensor_map=map_tensors(values, targets, layout.origin, drop_reason, created),
        components=[processor],
        flavour=flavour,
        facts={"config": run.source, "seed": seed if layout.projector is None else None},
        notes=notes,
        card={"training": training, **({} if layout.projector is None else LICENCE)},
    )


def _values(checkpoint: Checkpoint) -> dict[str, Any]:
    content = checkpoint.content
    wrapped = isinstance(content, Mapping) and "state_dict" in content
    values, _ = state_dict(checkpoint, "state_dict" if wrapped else "model")
    return {name.removeprefix("mmmodel."): value for name, value in values.items()}


def _load_s3d(folder: Path) -> S3DVideoModel:
    try:
        if not folder.is_dir():
            raise NotADirectoryError(str(folder))
        if (kind := PreTrainedConfig.get_config_dict(folder)[0].get("model_type")) != S3DConfig.model_type:
            raise ValueError(f"it holds a model of type {kind}")
        return S3DVideoModel.from_pretrained(folder)
    except Exception as error:  # no folder, no config, another model, missing weights: each has its own kind of error
        raise ConversionError(
            f"{folder} is no folder of S3D ({type(error).__name__}: {str(error).splitlines()[0][:200]}). Convert "
            "s3d_howto100m.pth first, and pass its folder as --s3d."
        ) from error


def _processor(
    config: VideoCLIPConfig, run: Run, tokenizer: str | Path | None
) -> tuple[VideoCLIPProcessor | VideoCLIPVideoProcessor, list[str]]:
    """The processor, or its video half if there is no tokenizer; and what the user should know about it."""
    text: Any = config.text_config
    video: Any = config.video_config
    notes = []
    if config.s3d_config is None:
        notes.append("The model reads features only. Pass a folder of S3D as --s3d for videos.")
    if config.encoder == "isolated":
        notes.append("VLM was not trained by contrast: fine-tune it before you trust its similarities.")
    options: dict[str, Any] = {"max_clips": video.max_video_length}
    video_processor = VideoCLIPVideoProcessor(**options)
    if tokenizer is None and text.vocab_size != BERT_VOCABULARY:
        notes.append(
            f"No tokenizer was written: the vocabulary has {text.vocab_size} entries, that of bert-base-uncased "
            f"{BERT_VOCABULARY}. Pass the model's own as --tokenizer."
        )
        return video_processor, notes
    name = tokenizer or BERT_TOKENIZER
    fitting = load_tokenizer(BertTokenizer, name, BERT_FILES)
    ends, expected = (fitting.cls_token_id, fitting.sep_token_id), (video.cls_token_id, video.sep_token_id)
    if len(fitting) != text.vocab_size or ends != expected:
        raise ConversionError(
            f"The tokenizer {name} does not fit: it has {len(fitting)} entries and [CLS] and [SEP] at {ends}, the "
            f"model {text.vocab_size} and {expected}. Pass --tokenizer with the model's own."
        )
    fitting.model_max_length = text.max_position_embeddings
    return VideoCLIPProcessor(video_processor, fitting, max_length=run.max_length), notes
