"""Which checkpoint a killed run can resume from."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from safetensors import SafetensorError, safe_open
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from hf_videolang.data.stores.provenance import differences
from hf_videolang.training.recipes import RecipeError

logger = logging.getLogger(__name__)

# What a run resumes from: names of one process or DDP, of FSDP's full state, of FSDP's shards, of DeepSpeed.
NEEDED = {
    "weights": (
        *("model.safetensors", "model.safetensors.index.json"),
        *("pytorch_model_fsdp.bin", "pytorch_model_fsdp_0", "latest"),
    ),
    "the optimiser": ("optimizer.pt", "optimizer.bin", "optimizer_0", "latest"),
    "the schedule": ("scheduler.pt",),
}


class RunFacts(TrainerCallback, ExportableState):
    """Writes into each checkpoint (trainer_state.json) what a resumed run must have in common with it."""

    def __init__(self, facts: Mapping[str, Any]):
        self.facts = json.loads(json.dumps(facts))  # as they will be read

    def state(self) -> dict[str, Any]:
        return {"args": {"facts": self.facts}, "attributes": {}}

    def check(self, checkpoint: str) -> None:
        """Raises `ValueError` if a checkpoint belongs to another run."""
        saved = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json")).stateful_callbacks
        before = saved.get("RunFacts", {"args": {"facts": {}}})["args"]["facts"]
        if differing := differences(before, self.facts):
            raise ValueError(
                f"{checkpoint} belongs to another run ({'; '.join(differing)}). Restore what differs, or start a new "
                "run with this checkpoint as model."
            )


def choose_checkpoint(args: TrainingArguments) -> str | None:
    """
    The checkpoint that a command resumes from: none, the folder that `resume_from_checkpoint` names, or for "true" the
    last complete checkpoint.

    Raises:
        RecipeError: a new run, but the output folder holds checkpoints of an earlier one.
        FileNotFoundError: "true", but there is no complete checkpoint; or the named folder is not one.
    """
    output_dir, named = str(args.output_dir), args.resume_from_checkpoint or "false"
    if named.lower() == "true":
        last = last_complete_checkpoint(output_dir, args.world_size)
        for later in find_checkpoints(output_dir)[::-1]:
            if later == last:
                break
            if args.process_index == 0:
                logger.warning("%s %s; the run goes on from %s.", later, _fault(later, args.world_size), last.name)
        return str(last)
    if named.lower() != "false":
        if fault := _fault(Path(named)):
            raise FileNotFoundError(
                f"resume_from_checkpoint is {named}, which is no complete checkpoint: it {fault}; name the folder of "
                "one (checkpoint-…), or say true for the last complete one in output_dir."
            )
        return named
    if found := find_checkpoints(output_dir):
        raise RecipeError(
            f"{output_dir} holds {found[-1].name} of an earlier run; continue with --resume_from_checkpoint true, or "
            "choose another output_dir."
        )
    return None


def last_complete_checkpoint(output_dir: str | Path, num_processes: int = 1) -> Path:
    """The newest checkpoint that no kill cut short: all files are there, also the random states of each process."""
    found = find_checkpoints(output_dir)
    for checkpoint in reversed(found):
        if _fault(checkpoint, num_processes) is None:
            return checkpoint
    raise FileNotFoundError(
        f"no complete checkpoint of {num_processes} process(es) in {output_dir} (found "
        f"{', '.join(path.name for path in found) or 'none'}). Start a new run without resume_from_checkpoint, or "
        "name the folder of a checkpoint."
    )


def find_checkpoints(output_dir: str | Path) -> list[Path]:
    """The folders `checkpoint-<step>`, oldest first."""
    folders = [path for path in Path(output_dir).glob("checkpoint-*") if path.name.split("-")[-1].isdigit()]
    return sorted(folders, key=lambda path: int(path.name.split("-")[-1]))


def _fault(checkpoint: Path, num_processes: int | None = None) -> str | None:
    """Why a run cannot resume from a checkpoint."""
    # The Trainer writes trainer_state.json last. A kill may cut it short, and an interrupted copy any other file.
    try:
        TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        for index in checkpoint.glob("*.safetensors.index.json"):
            for name in {*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}:
                (checkpoint / name).stat()
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, "pt"):
                pass
        if (tag := checkpoint / "latest").exists():  # DeepSpeed's name of the folder with all states
            states = checkpoint / tag.read_text(encoding="utf-8").strip()
            if not any(states.glob("*model_states.pt")):
                return f"lacks the states in {states.name}"
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        return f"is damaged ({error})"
    for what, names in NEEDED.items():
        if not any((checkpoint / name).exists() for name in names):
            return f"lacks {what} ({' or '.join(names)})"
    random_states = list(checkpoint.glob("rng_state*.pth"))
    if num_processes not in (None, len(random_states)):
        return f"has random states of {len(random_states)} process(es)"
    archives = [*checkpoint.glob("*.pt"), *checkpoint.glob("*/*.pt"), *checkpoint.glob("*.bin"), *random_states]
    cut = [file.name for file in archives if not is_zipfile(file)]
    return f"has {cut[0]} cut short" if cut else None
