"""
Fine-tune a two-tower model for text-video retrieval.

One GPU, or the CPU of a laptop:
    python -m hf_videolang.training.run_retrieval RECIPE.yaml --model clip-vip-b32 --data_dir my_folder

All GPUs of a machine (hf_videolang/recipes/accelerate has cpu, single_gpu, multi_gpu, fsdp2 and multi_node):
    accelerate launch --config_file multi_gpu.yaml -m hf_videolang.training.run_retrieval \\
        clip_vip/msrvtt_b16.yaml --model clip-vip-b16 --data_dir /data/msrvtt --output_dir runs/msrvtt

Continue after a kill, from the last complete checkpoint:
    ... the same command with --resume_from_checkpoint true

RECIPE.yaml is your own file or one of the package. The command line wins over the recipe.
The output folder gets the chosen model with its processor, code and card (AutoModel loads it), eval_results.json,
recipe.yaml and the history of the run (trainer_state.json).
"""

from collections.abc import Mapping
from typing import Any

from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.training.checkpoints import choose_checkpoint
from hf_videolang.training.processes import end_process
from hf_videolang.training.recipes import RecipeError, parse_recipe
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments
from hf_videolang.training.retrieval_trainer import RetrievalTrainer
from hf_videolang.training.run import Data, evaluate_and_finish, freeze_parts, run_command


def main(argv: list[str] | None = None) -> int:
    return run_command(set_up, train_and_evaluate, argv)


def set_up(
    argv: list[str] | None,
) -> tuple[RetrievalArguments, RetrievalTrainer, Data, str | None, dict[str, Any]]:
    """Everything that a user's input can be wrong for, before the first update."""
    arguments, training_args, given = parse_recipe(
        (RetrievalArguments, RetrievalTrainingArguments),
        argv,
        description=__doc__,
        program="python -m hf_videolang.training.run_retrieval",
    )
    choose_selection(arguments, training_args, given)
    checkpoint = choose_checkpoint(training_args)

    # ---- Model ----
    model, processor = load_model_and_processor(arguments.model, arguments.num_frames, arguments.max_length)
    freeze_parts(model, arguments.freeze)

    # ---- Data ----
    notes = []
    dataset = find_dataset(arguments.dataset, arguments.data_dir)
    if arguments.test and "test" not in dataset.splits:
        arguments.test = False
        notes = ["note: the dataset has no test split, so the chosen checkpoint is not tested."]
    splits = {arguments.train_split, *reported_splits(arguments)}
    data = {split: dataset.load(split) for split in sorted(splits)}
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
    # ---- Training ----
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    trainer.save_state()

    # ---- Evaluation ----
    trained_on = data[arguments.train_split][1].name
    evaluate_and_finish(trainer, data, reported_splits(arguments), arguments.select_on, trained_on, given)


def choose_selection(
    arguments: RetrievalArguments, training_args: RetrievalTrainingArguments, given: Mapping[str, Any]
) -> None:
    """Make the options that choose a checkpoint agree with `select_on`."""
    if arguments.select_on in arguments.train_split.split("+"):
        raise RecipeError(
            f"train_split is {arguments.train_split} and select_on is {arguments.select_on}: videos that a model was "
            "trained on cannot choose its checkpoint. Set select_on to none, or to test as the authors did."
        )
    if arguments.select_on == "test" and "metric_for_best_model" not in given:
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
    end_process(main())
