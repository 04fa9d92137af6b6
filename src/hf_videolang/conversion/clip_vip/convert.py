"""
Convert an original checkpoint into a folder that AutoModel.from_pretrained loads:

  CLIP-ViP     pretrain_clipvip_base_{16,32}.pt, fine-tuned model_best.pt and model_step_<n>.pt, restore.pt
  comparators  mean-pooling wrappers, CLIP4Clip's pytorch_model.bin.<epoch> (seqTransf, meanP)
  CLIP         OpenAI's ViT-B-{16,32}.pt, a Hub folder or its model.safetensors: becomes an untrained CLIP-ViP

Nothing in the file is executed. Every tensor of it is used, or listed as dropped with the reason; one that is missing,
unknown or of the wrong shape is an error. The folder has weights in float32, config, processor, tokenizer, code for
trust_remote_code, a card and conversion_report.json. It has been loaded again and compared bit by bit, or is not there.
"""

import json
import platform
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
import transformers
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers import CLIPTokenizer

import hf_videolang
from hf_videolang.conversion.clip_vip.config import ADDED_CLS, TEMPORAL_EMBEDDING, derive_config, model_shapes
from hf_videolang.conversion.clip_vip.layouts import CLIP4CLIP, INITIALISING, Layout, detect_layout
from hf_videolang.conversion.clip_vip.training_config import TrainingConfig, read_training_config
from hf_videolang.conversion.model_folder import check_is_free, check_reloads, new_folder, sha256, write_safetensors
from hf_videolang.conversion.tensor_map import TensorMap, map_tensors
from hf_videolang.conversion.untrusted import Checkpoint, ConversionError, read_checkpoint
from hf_videolang.hub.model_card import write_model_card
from hf_videolang.hub.push import push_folder
from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig
from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor
from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor

CLIP_TOKENIZER, CLIP_VOCABULARY = "openai/clip-vit-base-patch32", 49408
RESTORE_ENTRIES = {
    "global_step": "number of the training step",
    "optim_state_dict": "state of the optimiser",
    "amp_state_dict": "state of the loss scaling",
}


def convert(
    checkpoint: str | Path,
    output_dir: str | Path,
    *,
    config: str | Path | None = None,
    tokenizer: str | Path | None = None,
    push_to_hub: str | None = None,
    seed: int = 42,
) -> dict[str, Any]:
    """
    Convert one original checkpoint (clip_vip §2).

    Args:
        checkpoint: the original file; for CLIP on the Hub also its folder.
        output_dir: folder to make. It must not exist, or be empty.
        config: the JSON the checkpoint was trained with. It settles what shapes cannot: heads of another width than
            64, a type other than "ViP", frames and text length of the processor; where both speak they must agree.
        tokenizer: folder or Hub id of a CLIP tokenizer; defaults to OpenAI's if the vocabulary has its 49408 entries.
            A model with another vocabulary and no tokenizer is written with a video processor alone.
        push_to_hub: `"ORGANISATION/NAME"` to upload the finished folder to.
        seed: of the added proxies, when a CLIP becomes a CLIP-ViP.

    Returns:
        The content of `conversion_report.json`.

    Raises:
        ConversionError: the file, the config or the tokenizer cannot be used; no folder is left behind.
    """
    output_dir = Path(output_dir)
    check_is_free(output_dir)
    _check_repo_id(push_to_hub)
    source = read_checkpoint(checkpoint)
    training_config = read_training_config(config, source.path)
    tensors, dropped_entries = _state_dict(source)
    layout = detect_layout(tensors, str(source.path))
    model_config, decisions = derive_config(tensors, layout, training_config, str(source.path))
    tensor_map = _map(tensors, layout, model_config, seed, str(source.path))
    processor, notes = _processor(model_config, layout, training_config, tokenizer)

    report = {
        "source": {
            "file": source.path.name,
            "bytes": source.path.stat().st_size,
            "sha256": sha256(source.path),
            "container": source.container,
            "flavour": layout.flavour,
            "config": training_config.source,
        },
        "counts": {
            "source_tensors": len(tensors),
            "model_tensors": len(tensor_map.tensors),
            "parameters": sum(tensor.numel() for tensor in tensor_map.tensors.values()),
            "dropped": len(tensor_map.dropped),
            "created": len(tensor_map.created),
        },
        "config_decisions": decisions,
        "created": tensor_map.created,
        "dropped": {**dropped_entries, **tensor_map.dropped},
        "renamed": tensor_map.renamed,
        "seed": seed if tensor_map.created else None,
        "notes": notes,
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (hf_videolang, torch, transformers, safetensors)},
        },
    }
    with new_folder(output_dir) as folder:
        digests = write_safetensors(tensor_map.tensors, folder / "model.safetensors")
        del source, tensors, tensor_map  # unmaps the original before the new file is mapped
        model_config.save_pretrained(folder)
        processor.save_pretrained(folder)
        check_reloads(folder, model_config, processor, digests)
        (folder / "conversion_report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        write_model_card(folder, push_to_hub, **_card_sections(report, output_dir.name, config))
    if push_to_hub is not None:
        _push(output_dir, push_to_hub)
    return report


def _check_repo_id(repo_id: str | None) -> None:
    try:
        if repo_id is not None:
            validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConversionError(f"{repo_id!r} is no repository id, expected ORG/NAME: {error}") from error


def _push(folder: Path, repo_id: str) -> None:
    try:
        push_folder(folder, repo_id)
    except Exception as error:  # refused, no token, no network: the folder is good all the same
        raise ConversionError(
            f"{folder} is complete, but was not pushed: {error}\nCheck `hf auth whoami`, then: hf upload {repo_id} {folder}"
        ) from error


def _state_dict(source: Checkpoint) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The model's tensors, out of a training state where there is one, and what was left of that state."""
    content, dropped = source.content, {}
    if isinstance(content, Mapping) and "model_state_dict" in content:
        dropped = {name: reason for name, reason in RESTORE_ENTRIES.items() if name in content}
        if unknown := [name for name in content if name not in {"model_state_dict", *dropped}]:
            raise ConversionError(f"{source.path} is a training state with unknown entries: {', '.join(unknown)}.")
        content = content["model_state_dict"]
    if not isinstance(content, Mapping):
        raise ConversionError(f"{source.path} holds a {type(content).__name__}, expected names and their tensors.")
    if strange := [
        str(name)
        for name, value in content.items()
        if not isinstance(name, str) or not isinstance(value, torch.Tensor)
    ]:
        raise ConversionError(
            f"{source.path} holds more than named tensors: {', '.join(strange[:5])}"
            + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
            + ". Expected a state dict, or a restore.pt with model_state_dict."
        )
    return dict(content), dropped


def _map(
    tensors: Mapping[str, torch.Tensor], layout: Layout, config: CLIPViPConfig, seed: int, what: str
) -> TensorMap:
    """Every tensor of the model from the source's, or, where CLIP becomes CLIP-ViP, new as in clip_vip §2."""
    vision: Any = config.vision_config
    shapes, created = model_shapes(config), {}
    if layout.flavour in INITIALISING:
        scale = float(config.logit_scale_init_value)
        created["logit_scale"] = torch.tensor(scale), f"{scale}, the config's logit_scale_init_value"
        if ADDED_CLS in shapes:
            noise = torch.randn(shapes[ADDED_CLS], generator=torch.Generator().manual_seed(seed))
            created[ADDED_CLS] = noise, f"standard normal, torch.randn with seed {seed}"
        if TEMPORAL_EMBEDDING in shapes:
            created[TEMPORAL_EMBEDDING] = torch.zeros(shapes[TEMPORAL_EMBEDDING]), "zeros"

    def drop_reason(key: str) -> str | None:
        if key == layout.origin("logit_scale")[0] and "logit_scale" in created:
            return f"CLIP-ViP starts from {scale} instead"
        if vision.frame_fusion == "mean_pooling" and layout.is_sequence_transformer(key):
            return "mean pooling (sim_header meanP) does not use the transformer over frames"
        return layout.drop_reason(key)

    return map_tensors(tensors, shapes, layout.origin, drop_reason, created, what)


def _processor(
    config: CLIPViPConfig, layout: Layout, training_config: TrainingConfig, tokenizer: str | Path | None
) -> tuple[CLIPViPProcessor | CLIPViPVideoProcessor, list[str]]:
    """The processor; or, without a tokenizer, its video half. And notes on what was decided for the user."""
    vision: Any = config.vision_config
    text: Any = config.text_config
    square = {"height": vision.image_size, "width": vision.image_size}
    options: dict[str, Any] = {"size": square, "crop_size": square}
    if layout.flavour == CLIP4CLIP:  # CLIP's own rule, which CLIP4Clip keeps
        options |= {"size": {"shortest_edge": vision.image_size}, "do_center_crop": True, "antialias": True}
    num_frames = training_config.num_frames or vision.num_frames
    video_processor = CLIPViPVideoProcessor(num_frames=num_frames, **options)

    vocabulary_size, positions = text.vocab_size, text.max_position_embeddings
    max_length = training_config.max_length or positions
    if max_length > positions:
        raise ConversionError(
            f"{training_config.source} asks for texts of {max_length} tokens, the model has {positions} positions."
        )
    notes = []
    if training_config.num_frames is None or training_config.max_length is None:
        notes.append(
            f"The processor takes {num_frames} frames and {max_length} tokens; pass the training JSON as --config if "
            "the model was trained with others (ActivityNet: 32 frames; most: 50 or 70 tokens)."
        )
    if tokenizer is None and vocabulary_size != CLIP_VOCABULARY:
        notes.append(
            f"No tokenizer and no text processor were written: the vocabulary has {vocabulary_size} entries, OpenAI's "
            f"tokenizer {CLIP_VOCABULARY}. Pass the model's own with --tokenizer."
        )
        return video_processor, notes
    fitting = _tokenizer(tokenizer or CLIP_TOKENIZER, vocabulary_size)
    fitting.model_max_length = positions
    return CLIPViPProcessor(video_processor, fitting, max_length=max_length), notes


def _tokenizer(name: str | Path, vocabulary_size: int) -> CLIPTokenizer:
    try:
        tokenizer = CLIPTokenizer.from_pretrained(name)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes of an empty folder
            raise FileNotFoundError("no vocabulary was found")
    except Exception as error:  # no network, no such id, no tokenizer in it: each has its own kind of error
        raise ConversionError(
            f"The tokenizer {name} cannot be loaded ({type(error).__name__}). Pass --tokenizer with a folder that has "
            "the tokenizer.json, or the vocab.json and merges.txt, of CLIP; without a network it must be on this machine."
        ) from error
    end = tokenizer.eos_token_id
    if len(tokenizer) != vocabulary_size or end != vocabulary_size - 1:
        raise ConversionError(
            f"The tokenizer {name} does not fit: it has {len(tokenizer)} entries and ends texts with {end}, the model "
            f"has {vocabulary_size} and pools a text at {vocabulary_size - 1}. Pass --tokenizer with the model's own."
        )
    return tokenizer


def _card_sections(report: dict[str, Any], folder_name: str, config: str | Path | None) -> dict[str, str]:
    source, counts = report["source"], report["counts"]
    with_config = "" if config is None else f"--config {Path(config).name} "
    sections = {
        "provenance": f"Converted from `{source['file']}` (sha256 `{source['sha256']}`, {source['flavour']}), "
        f"{counts['parameters']:,} parameters, with `python conversion/convert_clip_vip.py --checkpoint {source['file']} "
        f"{with_config}--output-dir {folder_name}`. The conversion is strict; `conversion_report.json` accounts for every "
        "tensor."
    }
    if report["created"]:
        sections["training"] = (
            "None beyond CLIP's. This is the state from which CLIP-ViP's post-pre-training starts: "
            + "; ".join(f"`{name}` is {how}" for name, how in report["created"].items())
            + "."
        )
    return sections


def main(arguments: list[str] | None = None) -> int:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument(
        "--checkpoint", required=True, metavar="FILE", help="original file, or the folder of a Hub CLIP"
    )
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help="folder to make; must not exist or be empty"
    )
    parser.add_argument(
        "--config",
        metavar="JSON",
        help="training config of the original: its frames and text length, and what shapes do not tell (a type other "
        "than ViP, heads that are not 64 wide)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="DIR_OR_ID",
        help=f"CLIP tokenizer (default: {CLIP_TOKENIZER} for a vocabulary of {CLIP_VOCABULARY})",
    )
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="upload the folder when it is done")
    parser.add_argument("--seed", type=int, default=42, help="of the proxies that a CLIP gets (default: %(default)s)")
    options = vars(parser.parse_args(arguments))
    transformers.utils.logging.disable_progress_bar()
    try:
        report = convert(**options)
    except ConversionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    source, counts = report["source"], report["counts"]
    for note in report["notes"]:
        print(f"note: {note}", file=sys.stderr)
    print(
        f"{options['output_dir']}: {source['flavour']}, {counts['model_tensors']} tensors, {counts['parameters']:,} "
        f"parameters; {counts['created']} created, {counts['dropped']} source keys dropped, reloaded and equal. "
        "See conversion_report.json."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
