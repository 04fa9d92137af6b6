"""Which checkpoint a killed run can resume from."""

from pathlib import Path
from zipfile import is_zipfile

from safetensors import SafetensorError, safe_open
from transformers import TrainerState, TrainingArguments

from hf_videolang.training.recipes import RecipeError


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
        return str(last_complete_checkpoint(output_dir, args.world_size))
    if named.lower() != "false":
        if not _is_complete(Path(named)):
            raise FileNotFoundError(
                f"resume_from_checkpoint is {named}, which is no complete checkpoint; name the folder of one "
                "(checkpoint-…), or say true for the last complete one in output_dir."
            )
        return named
    if found := find_checkpoints(output_dir):
        raise RecipeError(
            f"{output_dir} holds {found[-1].name} of an earlier run; continue with --resume_from_checkpoint true, or "
            "choose another output_dir."
        )
    return None


def last_complete_checkpoint(output_dir: str | Path, num_processes: int = 1) -> Path:
    """The newest checkpoint that no kill cut short: each process has saved the state of its random generators."""
    found = find_checkpoints(output_dir)
    for checkpoint in reversed(found):
        if _is_complete(checkpoint, num_processes):
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


def _is_complete(checkpoint: Path, num_processes: int | None = None) -> bool:
    # The Trainer writes trainer_state.json last. A kill may cut it short, and an interrupted copy any other file.
    try:
        TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, "pt"):
                pass
    except (OSError, ValueError, TypeError, SafetensorError):
        return False
    random_states = list(checkpoint.glob("rng_state*.pth"))
    archives = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.bin"), *random_states]
    return num_processes in (None, len(random_states)) and all(map(is_zipfile, archives))
