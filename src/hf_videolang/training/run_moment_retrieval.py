"""
Fine-tune a model that finds moments in subtitled videos by a query.

One GPU, or the CPU of a laptop:
    python -m hf_videolang.training.run_moment_retrieval hero/moments.yaml --model hero --data_dir my_folder \\
        --features features --output_dir runs/moments

All GPUs of a machine (hf_videolang/recipes/accelerate has cpu, single_gpu, multi_gpu, fsdp2 and multi_node):
    accelerate launch --config_file multi_gpu.yaml -m hf_videolang.training.run_moment_retrieval ... the same

Continue after a kill, from the last complete checkpoint:
    ... the same command with --resume_from_checkpoint true

RECIPE.yaml is your own file or one of the package. The command line wins over the recipe.
The output folder gets the chosen model with its processor, code and card, eval_results.json, recipe.yaml and the
history of the run (trainer_state.json).
"""

from typing import Any

import numpy as np

from hf_videolang.data.batches.moment_retrieval import MomentRetrievalCollator, query_rows
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.records import name_some
from hf_videolang.evaluation.moment_retrieval import MomentRetrievalEvaluator
from hf_videolang.hub.heads import check_finds_moments
from hf_videolang.training.checkpoints import choose_checkpoint
from hf_videolang.training.finetuning import choose_selection, load_model, load_splits, open_features
from hf_videolang.training.moment_retrieval_arguments import MomentRetrievalArguments, MomentRetrievalTrainingArguments
from hf_videolang.training.moment_retrieval_trainer import MomentRetrievalTrainer
from hf_videolang.training.processes import end_process
from hf_videolang.training.recipes import RecipeError, parse_recipe
from hf_videolang.training.run import Run, freeze_parts, run_command
from hf_videolang.training.trainer import set_num_updates


def main(argv: list[str] | None = None) -> int:
    return run_command(set_up, argv)


def set_up(argv: list[str] | None) -> Run:
    types = (MomentRetrievalArguments, MomentRetrievalTrainingArguments)
    arguments, training_args, given = parse_recipe(types, argv, __doc__, "run_moment_retrieval")
    choose_selection(arguments, training_args)
    checkpoint = choose_checkpoint(training_args)

    # ---- Model ----
    model, processor, _ = load_model(arguments)
    check_finds_moments(model)
    change_settings(model, processor, arguments)
    freeze_parts(model, arguments.freeze)

    # ---- Data ----
    dataset = find_dataset(arguments.dataset, arguments.data_dir)
    if dataset.task != "moment_retrieval":
        raise RecipeError(f"{dataset.name} is a dataset for {dataset.task}, not of moments in videos.")
    features = open_features(arguments, training_args, dataset, model, processor)
    data, tested, notes = load_splits(arguments, dataset, need_videos=False)
    train_records, train_protocol = data[arguments.train_split]
    video_ids = train_records["video_id"][:]
    features.check_complete(video_ids)
    if broken := features.broken(video_ids):
        names = name_some([f"{video_id} ({problem})" for video_id, problem in broken.items()])
        note = f"{len(broken)} of {len(train_records)} training videos do not decode: {names}."
        if training_args.on_broken_video == "raise":
            raise RecipeError(f"{note} on_broken_video: skip leaves them out.")
        notes.append(f"{note} They are left out.")
        is_whole = [video_id not in broken for video_id in video_ids]
        train_records = train_records.select(np.flatnonzero(is_whole))
    queries = query_rows(train_records)
    short = [
        row for row, text in enumerate(queries["text"][:]) if len(processor.token_ids(text)) <= processor.max_length
    ]
    if len(short) < len(queries):
        notes.append(f"{len(queries) - len(short)} of {len(queries)} training queries are too long and are left out.")
    queries = queries.select(short)
    set_num_updates(training_args, len(queries), "queries")
    trainer = MomentRetrievalTrainer(
        model,
        training_args,
        processor,
        queries,
        None if arguments.select_on == "none" else data[arguments.select_on][0],
        MomentRetrievalCollator(processor, features),
        MomentRetrievalEvaluator(processor, features, **training_args.evaluator_options),
    )
    if training_args.process_index == 0:
        print(*(protocol for _, protocol in data.values()), *notes, sep="\n")
    reported = {split: data[split] for split in tested}
    return Run(trainer, checkpoint, reported, arguments.select_on, train_protocol.name, given)


def change_settings(model: Any, processor: Any, arguments: MomentRetrievalArguments) -> None:
    """The recipe's losses into the model's config; its subtitles and lengths of moments into the processor."""
    for name, value in (arguments.losses or {}).items():
        if not hasattr(model.config, name):
            raise RecipeError(f"losses has {name!r}, which the model's config lacks.")
        setattr(model.config, name, value)
    model.config.validate()
    for name in ("context_subtitles", "min_moment_frames", "max_moment_frames"):
        if (value := getattr(arguments, name)) is not None:
            setattr(processor, name, value)


if __name__ == "__main__":
    end_process(main())
