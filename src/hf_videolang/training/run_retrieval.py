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

from hf_videolang.data.batches.clip_reader import check_features
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.retrieval import compares_cosines
from hf_videolang.training.checkpoints import choose_checkpoint
from hf_videolang.training.finetuning import choose_selection, load_model, load_splits
from hf_videolang.training.processes import end_process
from hf_videolang.training.recipes import parse_recipe
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments
from hf_videolang.training.retrieval_trainer import RetrievalTrainer
from hf_videolang.training.run import Run, freeze_parts, run_command


def main(argv: list[str] | None = None) -> int:
    return run_command(set_up, argv)


def set_up(argv: list[str] | None) -> Run:
    arguments, training_args, given = parse_recipe(
        (RetrievalArguments, RetrievalTrainingArguments),
        argv,
        description=__doc__,
        program="python -m hf_videolang.training.run_retrieval",
    )
    choose_selection(arguments, training_args)
    checkpoint = choose_checkpoint(training_args)

    # ---- Model ----
    model, processor, _ = load_model(arguments)
    freeze_parts(model, arguments.freeze)
    if arguments.select_on == "test" and "metric_for_best_model" not in given and compares_cosines(processor):
        training_args.metric_for_best_model = "text_to_video_R1_DSL"  # as the authors chose

    # ---- Data ----
    features = None
    if arguments.features is not None:
        features = FeatureStore(arguments.features)
        check_features(features, model, processor)
    dataset = find_dataset(arguments.dataset, arguments.data_dir)
    skip_absent = training_args.on_broken_video != "raise"
    data, tested, notes = load_splits(arguments, dataset, features is None, skip_absent)
    train_records, train_protocol = data[arguments.train_split]
    eval_records = None if arguments.select_on == "none" else data[arguments.select_on][0]
    trainer = RetrievalTrainer(model, training_args, processor, train_records, eval_records, features)
    if training_args.process_index == 0:
        print(*(protocol for _, protocol in data.values()), *notes, sep="\n")
    reported = {split: data[split] for split in tested}
    return Run(trainer, checkpoint, reported, arguments.select_on, train_protocol.name, given)


if __name__ == "__main__":
    end_process(main())
