"""What the commands `run_<task>` share: errors a user can act on, the finished folder, the end of all processes."""

import atexit
import errno
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
import yaml
from safetensors import SafetensorError

from hf_videolang.atomic_files import atomic_file
from hf_videolang.console import explain_interrupt, print_error, reader_left
from hf_videolang.data.protocol import Protocol
from hf_videolang.evaluation.scores import protocol_line, score_table
from hf_videolang.training.contrastive_trainer import ContrastiveTrainer
from hf_videolang.video import VideoDecodingError

Data = Mapping[str, tuple[Any, Protocol]]  # split -> records and facts


def run_command(
    set_up: Callable[[list[str] | None], tuple], train: Callable[..., None], argv: list[str] | None
) -> int:
    """
    `train(*set_up(argv))`, with one line on standard error for what a user can mend.

    Args:
        set_up: everything that a user's input can be wrong for; raises `ValueError`, `OSError` or `ImportError` for it.
        train: the work.
        argv: words of the command line after the program's name; those of this process when `None`.

    Returns:
        The exit status: 0; 2 if recipe, model or data cannot be used; 1 if a video turned out to be broken or the
        disk full on the way; 141 if the reader of `--help` left first, as `head` does.
    """
    explain_interrupt(
        "stopped by Ctrl-C; --resume_from_checkpoint true goes on from the last checkpoint that was written to the end."
    )
    try:
        run = set_up(argv)
    except BrokenPipeError:  # of the page of help
        return reader_left()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        # As a RuntimeError the Trainer tells of a tracker of report_to that is not installed.
        if isinstance(error, RuntimeError) and "to be installed" not in str(error):
            raise
        print_error(str(error))
        return 2
    try:
        train(*run)
    except VideoDecodingError as error:  # known to this process alone
        print(
            f"error: {error}; `on_broken_video: replace` trains on another one in its place, from a split that is "
            "evaluated take it out; `hf-videolang data check` lists every such video.",
            file=sys.stderr,
        )
        return 1
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _disk_is_full(error):
            raise
        print(
            f"error: cannot write to the output folder: {error}; make room (save_total_limit keeps fewer checkpoints) "
            "and go on with --resume_from_checkpoint true, from the last checkpoint that was written to the end.",
            file=sys.stderr,
        )
        return 1
    del run
    leave_process_group()
    return 0


def _disk_is_full(error: Exception) -> bool:
    """The disk, the user's share of it, or the size a file may have; safetensors and torch.save tell it in words."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    told = "while serializing" if isinstance(error, SafetensorError) else "inline_container"
    return told in str(error)


def leave_process_group() -> None:
    """Leave the group of all processes, together, after its models are freed."""
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # models in DDP or FSDP hold the group, in cycles of references
        dist.barrier()
        dist.destroy_process_group()


def end_process(status: int) -> NoReturn:
    """
    `sys.exit(status)`; for one of several processes, without the teardown of the interpreter.

    Threads of the group may still live then (torch's caches about sharded tensors hold the group to the end), and one
    of them that wakes up in the teardown aborts it, once in some hundred runs. So what is registered with `atexit` is
    done, and the process ends on the spot.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def evaluate_and_finish(
    trainer: ContrastiveTrainer,
    data: Data,
    splits: Sequence[str],
    selected_on: str,
    trained_on: str,
    given: Mapping[str, Any],
) -> None:
    """
    After training: evaluate `splits`, print the tables, and leave the output folder complete.

    Writes eval_results.json (scores, what chose the checkpoint), recipe.yaml (`given`) and the card, beside the model
    that the Trainer has saved; pushes the folder if `push_to_hub` says so.

    Args:
        trainer: after `train()`, `save_model()` and `save_state()`.
        data: records and facts of at least `splits`.
        splits: keys of `data` whose results are reported; perhaps none.
        selected_on: the split that chooses the checkpoint, or "none"; without `load_best_model_at_end`, or if no
            checkpoint of an evaluation is there, none did.
        trained_on: name of the training data, for the card.
        given: the values that recipe and command line gave.
    """
    args, state = trainer.args, trainer.state
    chosen = bool(args.load_best_model_at_end and state.best_model_checkpoint)
    selected_on = selected_on if chosen else "none"
    for split in splits:
        dataset, protocol = data[split]
        trainer.evaluate(dataset, metric_key_prefix=f"final_{split}")
        settings = {
            **trainer.processing_class.input_protocol(),
            "ties": "original",
            "selected on": selected_on,
        }
        if trainer.accelerator.mixed_precision != "no":
            settings["precision"] = trainer.accelerator.mixed_precision
        facts = protocol.facts | settings
        evaluation = {"dataset": protocol.name, "split": protocol.split, "protocol": facts}
        trainer.evaluations.append({**evaluation, "scores": trainer.last_scores})
        if trainer.is_world_process_zero():
            print(f"\n{protocol_line(protocol, settings)}\n\n{score_table(trainer.last_scores)}\n")
    if trainer.is_world_process_zero():
        results = {
            "selected_on": selected_on,
            "selected_by": args.metric_for_best_model if chosen else None,
            "best": state.best_metric if chosen else None,
            "step": (state.best_global_step if chosen else None) or state.global_step,
            "broken_videos": sum(line.get("broken_videos", 0) for line in state.log_history),
            "evaluations": trainer.evaluations,
        }
        output_dir = Path(str(args.output_dir))
        for name, text in {
            "eval_results.json": json.dumps(results, indent=2),
            "recipe.yaml": yaml.safe_dump(dict(given), sort_keys=False),
        }.items():
            with atomic_file(output_dir / name) as file:
                file.write_text(text, encoding="utf-8")
    trainer.create_model_card(dataset=trained_on)
    if args.push_to_hub:
        trainer.push_to_hub(dataset=trained_on)
