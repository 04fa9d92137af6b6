"""The config of a VideoCLIP: from the shapes of its tensors, and from two files where shapes do not tell."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import BertConfig

from hf_videolang.conversion.untrusted import HUB_WEIGHTS, ConversionError
from hf_videolang.conversion.videoclip.layouts import Layout
from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from hf_videolang.models.videoclip.configuration_videoclip import VideoCLIPConfig

ENCODERS = {"MMFusionShare": "shared", "MMFusionJoint": "isolated", "MMFusionMTM": "isolated"}
HEAD_WIDTH = 64  # of bert-base-uncased
VIDEO_LAYERS = 6  # of BERT's 12, when it becomes a VideoCLIP


@dataclass(frozen=True)
class Run:
    """
    What a run's YAML says.

    Args:
        source: the file, for messages and the report.
        max_video_length: seconds of a video.
        max_length: tokens of a text, `[CLS]` and `[SEP]` included.
        encoder: as in [`VideoCLIPConfig`]; `None` without a file.
    """

    source: str = "no config"
    max_video_length: int = 32
    max_length: int = 63
    encoder: str | None = None


def read_run(path: str | Path | None) -> Run:
    """
    Raises:
        ConversionError: the file is no YAML of a run.
    """
    if path is None:
        return Run()
    try:
        original = yaml.safe_load(Path(path).read_text(encoding="utf-8"))  # the authors' files have aliases
        rows, length = (original["dataset"][name] for name in ("max_video_len", "max_len"))
        encoder = ENCODERS.get(original["model"]["model_cls"], "separate")
    except (OSError, ValueError, RecursionError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConversionError(
            f"{path} cannot be read ({type(error).__name__}: {error}); give the YAML that the checkpoint was trained "
            "with. It has dataset.max_video_len, dataset.max_len and model.model_cls."
        ) from error
    return Run(Path(path).name, rows, length - rows - 1, encoder)


def read_bert(path: str | Path | None, weight_file: Path) -> dict[str, Any]:
    """
    The fields of a BERT's config that decide anything.

    Args:
        path: a JSON, or a folder with `config.json`.
        weight_file: the checkpoint. The `config.json` of a Hub BERT lies beside it.

    Raises:
        ConversionError: the file is no JSON of a config.
    """
    beside = weight_file.with_name("config.json")
    if path is None and not (weight_file.name in HUB_WEIGHTS and beside.is_file()):
        return {}
    file = beside if path is None else Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        return {name: fields[name] for name in (*BertConfig.__annotations__, "input_dim") if name in fields}
    except (OSError, ValueError, RecursionError, TypeError) as error:
        raise ConversionError(f"{file} cannot be read as the JSON of a BERT's config: {error}") from error


def derive_config(
    values: Mapping[str, Any], layout: Layout, run: Run, bert: dict[str, Any], s3d: S3DConfig | None
) -> VideoCLIPConfig:
    """
    Args:
        values, layout: of the checkpoint. Where a tensor is missing, the config keeps its default, and the mapping of
            the tensors reports the tensor.
        run, bert: decide what shapes cannot, and must agree with them on the rest.
        s3d: config of the S3D to put inside.

    Raises:
        ConversionError: a shape contradicts a file, or the config is not valid.
    """
    if run.encoder not in (None, layout.encoder):
        raise ConversionError(
            f"{run.source} is of a model with the encoder {run.encoder!r}, but the keys of the checkpoint are those "
            f"of {layout.encoder!r}; give the YAML that the checkpoint was trained with."
        )
    text, video = _sizes(values, layout, "text_model"), _sizes(values, layout, "video_model")
    if layout.projector is None:
        video["num_hidden_layers"] = min(video.get("num_hidden_layers", VIDEO_LAYERS), VIDEO_LAYERS)
    for name, stated in bert.items():
        found = (video if name == "input_dim" else text).get("feature_size" if name == "input_dim" else name, stated)
        if found != stated:
            raise ConversionError(
                f"The config of BERT says {name} {stated}, the shapes of the checkpoint say {found}. Give the config "
                "of the BERT that the checkpoint was trained from as --bert-config."
            )
    width = text.get("hidden_size", BertConfig().hidden_size)
    if "num_attention_heads" not in bert and width % HEAD_WIDTH:
        raise ConversionError(
            f"Shapes do not tell BERT's number of heads, and its width, {width}, is not a multiple of {HEAD_WIDTH}; "
            "pass its config.json as --bert-config."
        )
    bert = {"num_attention_heads": width // HEAD_WIDTH, **bert}
    bert.pop("input_dim", None)
    rest: dict[str, Any] = {"encoder": layout.encoder, "dtype": "float32"}
    if layout.classifier is not None:
        rest["num_labels"] = len(values[f"{layout.classifier}bias"])
    try:
        return VideoCLIPConfig(
            text_config=bert | text,
            video_config=bert | video | {"max_video_length": run.max_video_length},
            s3d_config=s3d,
            **rest,
        )
    except (StrictDataclassError, ValueError) as error:
        raise ConversionError(f"The checkpoint and its configs give no valid model: {error}") from error


def _sizes(values: Mapping[str, Any], layout: Layout, tower: str) -> dict[str, Any]:
    tensors = {
        "vocab_size": ("bert.embeddings.word_embeddings.weight", 0),
        "hidden_size": ("bert.embeddings.word_embeddings.weight", 1),
        "max_position_embeddings": ("bert.embeddings.position_embeddings.weight", 0),
        "type_vocab_size": ("bert.embeddings.token_type_embeddings.weight", 0),
        "intermediate_size": ("bert.encoder.layer.0.intermediate.dense.weight", 0),
    }
    if tower == "video_model" and layout.projector is not None:
        tensors["feature_size"] = "projector.linear1.weight", 1
    found = {}
    for name, (tensor, axis) in tensors.items():
        with suppress(KeyError, IndexError, AttributeError):  # the mapping reports the tensor
            found[name] = values[layout.origin(f"{tower}.{tensor}")[0]].shape[axis]
    stem = f"{layout.origin(f'{tower}.bert.')[0]}encoder.layer."
    if layers := {key.removeprefix(stem).split(".")[0] for key in values if key.startswith(stem)}:
        found["num_hidden_layers"] = len(layers)
    return found
