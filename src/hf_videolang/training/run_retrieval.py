"""
Fine-tune a two-tower model for text-video retrieval.

One GPU, or the CPU of a laptop:
    python -m hf_videolang.training.run_retrieval RECIPE.yaml --model clip-vip-b32 --data_dir my_folder

All GPUs of a machine (YAMLs for cpu, single_gpu, multi_gpu, fsdp2 and multi_node: hf_videolang/recipes/accelerate):
    accelerate launch --config_file multi_gpu.yaml -m hf_videolang.training.run_retrieval \\
        msrvtt_clip_vip_b16.yaml --model clip-vip-b16 --data_dir /data/msrvtt --output_dir runs/msrvtt

Go on after a kill, from the last complete checkpoint:
    ... the same command with --resume_from_checkpoint true

RECIPE.yaml is a file of yours or one that comes with the package. What the command line says wins over the recipe.
The output folder gets the chosen model with processor, code and card (AutoModel loads it), eval_results.json,
recipe.yaml and the history of the run (trainer_state.json).
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from hf_videolang.data.records import RetrievalProtocol
from hf_videolang.data.retrieval_datasets import available_splits, load_retrieval_dataset
from hf_videolang.inference.load_model import load_model_and_processor
from hf_videolang.inference.retrieval_evaluation import input_protocol, protocol_line, score_table
from hf_videolang.training.checkpoints import find_checkpoints, last_complete_checkpoint
from hf_videolang.training.recipe_arguments import RecipeError, parse_recipe
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments
from hf_videolang.training.retrieval_trainer import RetrievalTrainer
from hf_videolang.video import VideoDecodingError

Data = dict[str, tuple[Any, RetrievalProtocol]]  # split -> records and facts


def main(argv: list[str] | None = None) -> int:
    """Returns 0; 2 if recipe, model or data cannot be used; 1 if a video turned out to be broken on the way."""
    try:
        run = set_up(argv)
    except (ValueError, OSError) as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        train_and_evaluate(*run)
    except VideoDecodingError as error:  # known to this process alone
        print(
            f"error: {error}; `on_broken_video: replace` trains on another one in its place, from a split that is "
            "evaluated take it out; `hf-videolang data check` lists every such video.",
            file=sys.stderr,
        )
        return 1
    return 0


def set_up(
    argv: list[str] | None,
) -> tuple[RetrievalArguments, RetrievalTrainer, Data, str | None, dict[str, Any]]:
    """Everything that input of the user can be wrong for, before the first update."""
    arguments, training_args, given = parse_recipe(
        (RetrievalArguments, RetrievalTrainingArguments),
        argv,
        description=__doc__,
        program="python -m hf_videolang.training.run_retrieval",
    )
    choose_selection(arguments, training_args)
    checkpoint = choose_checkpoint(training_args)

    # ---- Model ----
    model, processor = load_model_and_processor(arguments.model, arguments.num_frames, arguments.max_length)
    model.text_model.requires_grad_(not arguments.freeze_text_model)
    model.text_projection.requires_grad_(not arguments.freeze_text_projection)

    # ---- Data ----
    notes = []
    if arguments.test and "test" not in available_splits(arguments.dataset, arguments.data_dir):
        arguments.test = False
        notes = ["note: the data set has no test split; the chosen checkpoint is not evaluated on one."]
    splits = {arguments.train_split, *reported_splits(arguments)}
    data = {
        split: load_retrieval_dataset(arguments.dataset, arguments.data_dir, split)
        for split in sorted(splits)
    }
    trainer = RetrievalTrainer(
        model,
        training_args,
        processor,
        train_dataset=data[arguments.train_split][0],
        eval_dataset=None if arguments.select_on == "none" else data[arguments.select_on][0],
    )
    if training_args.process_index == 0:
        print(*(protocol for _, protocol in data.values()), *notes, sep="\n")
    return arguments, trainer, data, checkpoint, given


def train_and_evaluate(
    arguments: RetrievalArguments,
    trainer: RetrievalTrainer,
    data: Data,
    checkpoint: str | None,
    given: dict[str, Any],
) -> None:
    training_args = trainer.args

    # ---- Training ----
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    trainer.save_state()

    # ---- Evaluation ----
    for split in reported_splits(arguments):
        dataset, protocol = data[split]
        trainer.evaluate(dataset, metric_key_prefix=f"final_{split}")
        settings = {
            **input_protocol(trainer.processing_class),
            "ties": "original",
            "selected on": arguments.select_on,
        }
        evaluation = {"dataset": protocol.name, "split": split, "protocol": settings}
        trainer.evaluations.append({**evaluation, "scores": trainer.last_scores})
        if trainer.is_world_process_zero():
            print(f"\n{protocol_line(protocol, settings)}\n\n{score_table(trainer.last_scores)}\n")
    if trainer.is_world_process_zero():
        history, output_dir = trainer.state.log_history, Path(str(training_args.output_dir))
        results = {
            "selected_on": arguments.select_on,
            "selected_by": training_args.metric_for_best_model,
            "best": trainer.state.best_metric,
            "step": trainer.state.best_global_step or trainer.state.global_step,
            "broken_videos": sum(line.get("broken_videos", 0) for line in history),
            "evaluations": trainer.evaluations,
        }
        (output_dir / "eval_results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
        (output_dir / "recipe.yaml").write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    trained_on = data[arguments.train_split][1].name
    trainer.create_model_card(dataset=trained_on)
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset=trained_on)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()  # a process that just ends may abort in a thread of its process group


def choose_checkpoint(training_args: RetrievalTrainingArguments) -> str | None:
    """What to resume from: nothing, the folder that was named, or for "true" the last complete checkpoint."""
    output_dir, named = str(training_args.output_dir), training_args.resume_from_checkpoint or "false"
    if named.lower() == "true":
        return str(last_complete_checkpoint(output_dir, training_args.world_size))
    if named.lower() != "false":
        return named
    if found := find_checkpoints(output_dir):
        raise RecipeError(
            f"{output_dir} holds {found[-1].name} of an earlier run; go on with "
            "--resume_from_checkpoint true, or take another output_dir."
        )
    return None


def choose_selection(arguments: RetrievalArguments, training_args: RetrievalTrainingArguments) -> None:
    """Validation chooses the checkpoint; "test" does what the authors did, "none" keeps the last one."""
    if arguments.select_on in arguments.train_split.split("+"):
        raise RecipeError(
            f"train_split is {arguments.train_split} and select_on is {arguments.select_on}: a checkpoint cannot be "
            "chosen by videos that it was trained on. Set select_on to none, or to test as the authors did."
        )
    if arguments.select_on == "test":
        training_args.metric_for_best_model = "text_to_video_R1_DSL"
    if arguments.select_on == "none":
        training_args.eval_strategy = type(training_args.eval_strategy)("no")
        training_args.eval_on_start = training_args.load_best_model_at_end = False
        training_args.metric_for_best_model = None


def reported_splits(arguments: RetrievalArguments) -> list[str]:
    """The splits whose results are reported at the end."""
    splits: list[str] = [] if arguments.select_on == "none" else [arguments.select_on]
    return splits + ["test"] * (arguments.test and "test" not in splits)


if __name__ == "__main__":
    sys.exit(main())
