"""
SlowFast   SLOWFAST_8x8_R50 of Kinetics-400: .pyth of PyTorchVideo's model zoo, or .pkl of PySlowFast's (Caffe2)
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from hf_videolang.conversion.model_folder import Conversion
from hf_videolang.conversion.tensor_map import as_is, map_tensors, model_tensors, size_of, state_dict
from hf_videolang.conversion.untrusted import Checkpoint
from hf_videolang.models.slowfast.configuration_slowfast import SlowFastConfig
from hf_videolang.models.slowfast.modeling_slowfast import SlowFastForVideoClassification
from hf_videolang.models.slowfast.video_processing_slowfast import SlowFastVideoProcessor

NAME = "SlowFast"
EXPECTED = "blocks.0.multipathway_blocks.… in `model_state`, or conv1_w, res2_0_branch1_w, … in `blobs`"
ALSO_HARMLESS = ()
OPTIONS: dict[str, str] = {}
ENTRIES = {  # of the two files → a key in it
    "model_state": "blocks.0.multipathway_fusion.conv_fast_to_slow.weight",
    "blobs": "t_pool1_subsample_w",
}
KINETICS = 400  # classes
PATHWAYS = ("slow", "fast")
DEPTHS = SlowFastConfig().depths
CAFFE2_NORM = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
CARD = {
    "training": "By the authors: Kinetics-400, from scratch.",
    "licence": "Apache-2.0, that of PyTorchVideo and PySlowFast, which publish the weights.",
    "license": "apache-2.0",
}


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the keys are those of SlowFast in one of the two files."""
    return _values(checkpoint)[2] is not None


def convert(checkpoint: Checkpoint) -> Conversion:
    """
    Args:
        checkpoint: one that [`recognises`] accepts.

    Raises:
        ConversionError: the checkpoint does not fit.
    """
    values, prefix, entry = _values(checkpoint)
    is_caffe2 = entry == "blobs"
    origin = _caffe2_origin if is_caffe2 else _pytorchvideo_origin
    config = _config(values, origin)
    targets = model_tensors(SlowFastForVideoClassification, config)
    created = {}
    if is_caffe2:
        batches = [name for name in targets if name.endswith("num_batches_tracked")]
        created = {name: (torch.tensor(0), "zero, since Caffe2 does not count batches") for name in batches}
    return Conversion(
        model_class=SlowFastForVideoClassification,
        config=config,
        tensor_map=map_tensors(values, targets, lambda name: (origin(name), as_is), _drop_reason, created),
        components=[SlowFastVideoProcessor()],
        flavour="PySlowFast, Caffe2" if is_caffe2 else "PyTorchVideo",
        facts={"prefix": prefix},
        card=CARD,
    )


def _values(checkpoint: Checkpoint) -> tuple[dict[str, Any], str, str | None]:
    """The named values, the prefix that was removed, and the entry that held them; no entry if it is no SlowFast."""
    for entry, key in ENTRIES.items():
        values, prefix = state_dict(checkpoint, entry)
        if key in values:
            return values, prefix, entry
    return {}, "", None


def _pytorchvideo_origin(name: str) -> str:
    """
    >>> _pytorchvideo_origin("slowfast.fast_stages.1.0.shortcut_norm.bias")
    'blocks.2.multipathway_blocks.1.res_blocks.0.branch1_norm.bias'
    """
    part, *rest = name.removeprefix("slowfast.").split(".")
    if part == "classifier":
        key = ["blocks.6.proj", *rest]
    elif part == "fusions":
        number, layer, kind = rest
        key = ["blocks", number, "multipathway_fusion", {"conv": "conv_fast_to_slow"}.get(layer, layer), kind]
    else:
        pathway = str(PATHWAYS.index(part[:4]))
        if part.endswith("stem"):
            key = ["blocks.0.multipathway_blocks", pathway, *rest]
        else:
            stage, block, layer, kind = rest
            inner = layer.replace("shortcut", "branch1") if layer.startswith("shortcut") else f"branch2.{layer}"
            key = ["blocks", str(int(stage) + 1), "multipathway_blocks", pathway, "res_blocks", block, inner, kind]
    return ".".join(key)


def _caffe2_origin(name: str) -> str:
    """
    >>> _caffe2_origin("slowfast.fast_stages.1.0.norm_b.running_var")
    't_res3_0_branch2b_bn_riv'
    """
    part, *rest = name.removeprefix("slowfast.").split(".")
    kind = rest[-1]
    if part == "classifier":
        return {"weight": "pred_w", "bias": "pred_b"}[kind]
    if part == "fusions":
        number, layer = int(rest[0]), rest[1]
        place = "t_pool1" if number == 0 else f"t_res{number + 1}_{DEPTHS[number - 1] - 1}_branch2c_bn"
        start = f"{place}_subsample"
    else:
        prefix, layer = ("t_" if part.startswith("fast") else ""), rest[-2]
        if part.endswith("stem"):
            start = f"{prefix}conv1" if layer == "conv" else f"{prefix}res_conv1"
        else:
            branch = "branch1" if layer.startswith("shortcut") else f"branch2{layer[-1]}"
            start = f"{prefix}res{int(rest[0]) + 2}_{rest[1]}_{branch}"
    return f"{start}_bn_{CAFFE2_NORM[kind]}" if "norm" in layer else f"{start}_w"


def _drop_reason(key: str) -> str | None:
    return "state of Caffe2's training" if re.search(r"momentum$|^lr$|^model_iter", key) else None


def _config(values: Mapping[str, Any], origin: Callable[[str], str]) -> SlowFastConfig:
    """From the shapes. Where a tensor is missing, the default stays, and the mapping reports the tensor."""
    default = SlowFastConfig()

    def size(name: str, otherwise: int) -> int:
        return size_of(values, origin(name), 0) or otherwise

    stems = zip(PATHWAYS, default.stem_channels)
    labels = size("classifier.weight", KINETICS)
    names: dict[str, Any] = {"num_labels": labels}
    if labels == KINETICS:
        from torchvision.models.video import R3D_18_Weights  # has the names of Kinetics-400, in the files' order

        categories = R3D_18_Weights.KINETICS400_V1.meta["categories"]
        names = {"id2label": dict(enumerate(categories)), "label2id": {name: i for i, name in enumerate(categories)}}
    return SlowFastConfig(
        stem_channels=[size(f"slowfast.{pathway}_stem.conv.weight", width) for pathway, width in stems],
        dtype="float32",
        **names,
    )
