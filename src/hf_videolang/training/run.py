"""What the commands `run_<task>` share: training, the finished folder, and errors that a user can act on."""

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from torch import nn

from hf_videolang.atomic_files import atomic_file
from hf_videolang.console import explain_interrupt, print_error, reader_left
from hf_videolang.data.pretraining.omnisource import MissingTextError
from hf_videolang.data.protocol import Protocol
from hf_videolang.evaluation.scores import protocol_line, score_table
from hf_videolang.folder_lock import FolderInUseError, locked_folder
from hf_videolang.training.processes import end_with_launcher, leave_process_group
from hf_videolang.training.trainer import VideoTrainer
from hf_videolang.video import VideoDecodingError

FEWEST_VIDEOS = 10  # of a gallery whose scores can choose a checkpoint
# The disk, the quota or the allowed size of a file is used up; read-only, forbidden, broken, or a server is gone.
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CANNOT_WRITE |= {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN}

Data = dict[str, tuple[Any, Protocol]]  # split or name of a dataset -> records and facts


@dataclass(frozen=True)
class Run:
    """
    What a task makes of a command line.

    Args:
        trainer: with model and data.
        checkpoint: folder of the checkpoint to resume from, if any.
        tested: what the model is evaluated on after training; perhaps nothing.
        selected_on: key of `tested` that chooses the checkpoint, or "none".
        trained_on: name of the training data, for the card.
        given: the values of recipe and command line.

    Raises:
        ValueError: the checkpoint belongs to another run.
    """

    trainer: VideoTrainer
    checkpoint: str | None
    tested: Data
    selected_on: str
    trained_on: str
    given: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.checkpoint is not None:
            self.trainer.facts.check(self.checkpoint)


def run_command(set_up: Callable[[list[str] | None], Run], argv: list[str] | None) -> int:
    """
    Set up a run and train. Errors that a user can mend are one line instead of a traceback.

    Args:
        set_up: reads and checks all that the user gives. It raises `ValueError`, `OSError` or `ImportError`.
        argv: words of the command line after the program's name; default: those of this process.

    Returns:
        The exit status: 0; 2 if recipe, model or data cannot be used; 1 if another run uses the output folder, a clip
        is broken or a file cannot be written; 141 if the reader of `--help`, such as `head`, ends first.
    """
    end_with_launcher()
    explain_interrupt("stopped by Ctrl-C; --resume_from_checkpoint true continues from the last complete checkpoint.")
    try:
        run = set_up(argv)
    except BrokenPipeError:
        return reader_left()
    except (ValueError, OSError, ImportError) as error:
        print_error(error)
        return 2
    try:
        train_and_finish(run)
    except VideoDecodingError as error:
        print_error(
            f"{error}; on_broken_video: replace trains on another video in its place. Remove it from a split that is "
            "evaluated. `hf-videolang data check` lists every broken video."
        )
        return 1
    except (MissingTextError, FolderInUseError) as error:
        print_error(str(error))
        return 1
    except (OSError, SafetensorError, RuntimeError) as error:
        if _another_rank_ended(error):
            print_error(f"another rank ended, and this one with it ({str(error).splitlines()[0]}).")
        elif _cannot_write(error):
            print_error(
                f"cannot write to the output folder: {error}; make room (save_total_limit keeps fewer checkpoints) or "
                "make it writable, then continue with --resume_from_checkpoint true from the last complete checkpoint."
            )
        else:
            raise
        return 1
    del run
    leave_process_group()
    return 0


def _cannot_write(error: Exception) -> bool:
    """Whether a disk is full, read-only, broken or gone, or the user may not write there."""
    if isinstance(error, OSError):
        return error.errno in CANNOT_WRITE
    # safetensors and torch.save say it only in words.
    return ("while serializing" if isinstance(error, SafetensorError) else "inline_container") in str(error)


def _another_rank_ended(error: Exception) -> bool:
    return "gloo" in str(error) and "peer" in str(error)  # NCCL waits until the launcher ends this rank


def freeze_parts(model: nn.Module, names: Sequence[str] | None) -> None:
    """
    Do not train these modules or parameters.

    A model may give names of its own to several modules together, in `freezable_parts`. Names within the base model
    are known under a head, too. Raises `ValueError` with the model's parts if one does not exist.
    """
    parts = dict(model.named_modules()) | dict(model.named_parameters())
    together = getattr(model, "freezable_parts", {})
    base = f"{getattr(model, 'base_model_prefix', '')}."
    for name in names or ():
        for part in together.get(name, (name,)):
            found = parts.get(part, parts.get(base + part))
            if found is None:
                top = [*together, *dict(model.named_children()), *dict(model.named_parameters(recurse=False))]
                raise ValueError(f"freeze has {name!r}; expected parts of the model: {', '.join(top)}.")
            found.requires_grad_(False)


def train_and_finish(run: Run) -> None:
    """
    Train, save the model, evaluate it, print the tables, and complete the output folder.

    Writes eval_results.json (scores, and what chose the checkpoint), recipe.yaml and the card next to the model, and
    pushes the folder if `push_to_hub` is set. Without `load_best_model_at_end`, or if the best checkpoint is gone, the
    results say that nothing chose the checkpoint. Scores of fewer than `FEWEST_VIDEOS` videos are mostly luck: they
    choose no checkpoint and do not enter the card.
    """
    with locked_folder(run.trainer.args.output_dir):
        _train_and_finish(run)


def _train_and_finish(run: Run) -> None:
    trainer, args = run.trainer, run.trainer.args
    sizes = {name: protocol.counts["videos"] for name, (_, protocol) in run.tested.items()}
    too_small = [name for name, size in sizes.items() if size < FEWEST_VIDEOS]
    for name in too_small:
        note = f"{name} holds {sizes[name]} videos. Scores of fewer than {FEWEST_VIDEOS} are mostly luck"
        note += " and do not enter the card"
        if args.load_best_model_at_end and name == run.selected_on:
            args.load_best_model_at_end = False
            note += ". They choose no checkpoint: the last one stays"
        if trainer.is_world_process_zero():
            print(f"note: {note}.")
    trainer.train(resume_from_checkpoint=run.checkpoint)
    trainer.save_model()
    trainer.save_state()
    state = trainer.state
    chosen = bool(args.load_best_model_at_end and state.best_model_checkpoint)
    selected_on = run.selected_on if chosen else "none"
    evaluations: list[dict[str, Any]] = []
    for name, (records, protocol) in run.tested.items():
        trainer.evaluate(records, metric_key_prefix=f"final_{name}")
        settings = trainer.evaluator.settings | {"selected on": selected_on}
        evaluation = {"dataset": protocol.name, "split": protocol.split, "protocol": protocol.facts | settings}
        evaluations.append({**evaluation, "scores": trainer.last_scores})
        if name not in too_small:
            trainer.evaluations.append(evaluations[-1])
        if trainer.is_world_process_zero():
            print(f"\n{protocol_line(protocol, settings)}\n\n{score_table(trainer.last_scores)}\n")
    if trainer.is_world_process_zero():
        results = {
            "selected_on": selected_on,
            "selected_by": args.metric_for_best_model if chosen else None,
            "best": state.best_metric if chosen else None,
            "step": (state.best_global_step if chosen else None) or state.global_step,
            "broken_videos": sum(line.get("broken_videos", 0) for line in state.log_history),
            "evaluations": evaluations,
        }
        for name, text in {
            "eval_results.json": json.dumps(results, indent=2),
            "recipe.yaml": yaml.safe_dump(dict(run.given), sort_keys=False),
        }.items():
            with atomic_file(Path(str(args.output_dir)) / name) as file:
                file.write_text(text, encoding="utf-8")
    trainer.create_model_card(dataset=run.trained_on)
    if args.push_to_hub:
        trainer.push_to_hub(dataset=run.trained_on)
