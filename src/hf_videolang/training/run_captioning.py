"""
Fine-tune a model that writes captions of subtitled videos or of their segments.

One GPU, or the CPU of a laptop:
    python -m hf_videolang.training.run_captioning hero/captions.yaml --model hero --data_dir my_folder \\
        --features features --output_dir runs/captions

All GPUs of a machine (hf_videolang/recipes/accelerate has cpu, single_gpu, multi_gpu, fsdp2 and multi_node):
    accelerate launch --config_file multi_gpu.yaml -m hf_videolang.training.run_captioning ... the same

Continue after a kill, from the last complete checkpoint:
    ... the same command with --resume_from_checkpoint true

RECIPE.yaml is your own file or one of the package. The command line wins over the recipe.
The output folder gets the chosen model with its processor, code and card (`hf-videolang caption` writes with it),
eval_results.json, recipe.yaml and the history of the run (trainer_state.json).
"""

from transformers import set_seed

from hf_videolang.data.batches.captioning import CaptioningCollator, training_rows
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.evaluation.captioning import CaptioningEvaluator
from hf_videolang.hub.heads import CAPTION_HEAD, with_caption_head
from hf_videolang.metrics.captions import caption_metrics
from hf_videolang.training.captioning_arguments import CaptioningArguments, CaptioningTrainingArguments
from hf_videolang.training.checkpoints import choose_checkpoint
from hf_videolang.training.finetuning import choose_selection, load_model, load_splits, open_features
from hf_videolang.training.processes import end_process
from hf_videolang.training.recipes import RecipeError, parse_recipe
from hf_videolang.training.run import Run, freeze_parts, run_command
from hf_videolang.training.trainer import VideoTrainer, set_num_updates


def main(argv: list[str] | None = None) -> int:
    return run_command(set_up, argv)


def set_up(argv: list[str] | None) -> Run:
    types = (CaptioningArguments, CaptioningTrainingArguments)
    arguments, training_args, given = parse_recipe(types, argv, __doc__, "run_captioning")
    choose_selection(arguments, training_args)
    checkpoint = choose_checkpoint(training_args)

    # ---- Model ----
    model, processor, _ = load_model(arguments, CAPTION_HEAD)
    set_seed(training_args.seed)
    model, note = with_caption_head(model, processor)
    if arguments.label_smoothing is not None:
        model.config.label_smoothing = arguments.label_smoothing
    if arguments.context_subtitles is not None:
        processor.context_subtitles = arguments.context_subtitles
    freeze_parts(model, arguments.freeze)

    # ---- Data ----
    dataset = find_dataset(arguments.dataset, arguments.data_dir)
    if dataset.task != "captioning":
        raise RecipeError(
            f"{dataset.name} is a dataset for {dataset.task}, not of captions of segments; write them as "
            '"captions": [{"text": …, "start": …, "end": …}].'
        )
    features = open_features(arguments, training_args, dataset, model, processor)
    data, tested, notes = load_splits(arguments, dataset, need_videos=False)
    train_records, train_protocol = data[arguments.train_split]
    features.check_complete(train_records["video_id"][:])
    rows, counts = training_rows(
        train_records, processor, features, arguments.long_captions, arguments.item == "caption"
    )
    if not len(rows):
        raise RecipeError(f"there is no caption to learn: {' '.join(counts)}")
    set_num_updates(training_args, len(rows), f"{arguments.item}s")
    if tested and training_args.process_index == 0:
        caption_metrics(["a dog runs"], [["a dog runs"]])  # broken Java ends the run now, not its first evaluation
    trainer = VideoTrainer(
        model,
        training_args,
        processor,
        rows,
        None if arguments.select_on == "none" else data[arguments.select_on][0],
        CaptioningCollator(processor, features),
        CaptioningEvaluator(
            processor,
            features,
            **training_args.evaluator_options,
        ),
    )
    if training_args.process_index == 0:
        print(*(protocol for _, protocol in data.values()), *notes, *filter(None, [note]), *counts, sep="\n")
    reported = {split: data[split] for split in tested}
    return Run(trainer, checkpoint, reported, arguments.select_on, train_protocol.name, given)


if __name__ == "__main__":
    end_process(main())
