"""
Fine-tune a model for text-video retrieval: one that embeds both (two towers), or one that reads them together.

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

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel, set_seed

from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.protocol import Protocol
from hf_videolang.evaluation.pair_scoring import is_pair_scorer
from hf_videolang.evaluation.retrieval import compares_cosines
from hf_videolang.hub.heads import with_retrieval_head
from hf_videolang.hub.loading import set_video_settings
from hf_videolang.training.checkpoints import choose_checkpoint
from hf_videolang.training.finetuning import choose_selection, load_model, load_splits, open_features
from hf_videolang.training.pair_scoring_trainer import PairScoringTrainer
from hf_videolang.training.processes import end_process
from hf_videolang.training.recipes import RecipeError, parse_recipe
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments
from hf_videolang.training.retrieval_trainer import RetrievalTrainer
from hf_videolang.training.run import Run, freeze_parts, run_command

# Keys for one of the two kinds of model.
TWO_TOWERS = ("loss", "loss_options", "negatives", "gradient_cache_chunk_size", "max_logit_scale")
PAIR_SCORER = ("num_negatives",)


def main(argv: list[str] | None = None) -> int:
    return run_command(set_up, argv)


def set_up(argv: list[str] | None) -> Run:
    types = (RetrievalArguments, RetrievalTrainingArguments)
    arguments, training_args, given = parse_recipe(types, argv, __doc__, "run_retrieval")
    choose_selection(arguments, training_args)
    checkpoint = choose_checkpoint(training_args)

    # ---- Model ----
    loaded, processor, training_processor = load_model(arguments)
    set_seed(training_args.seed)
    model, notes = _with_head(loaded, (processor, training_processor))
    reads_together = is_pair_scorer(model)
    if unused := [key for key in (TWO_TOWERS if reads_together else PAIR_SCORER) if key in given]:
        raise RecipeError(f"{' and '.join(unused)} would change nothing for {type(model).__name__}; leave it out.")
    freeze_parts(model, arguments.freeze)
    has_dsl = compares_cosines(processor) and not reads_together
    if arguments.select_on == "test" and "metric_for_best_model" not in given and has_dsl:
        training_args.metric_for_best_model = "text_to_video_R1_DSL"  # as the authors chose

    # ---- Data ----
    dataset, features = find_dataset(arguments.dataset, arguments.data_dir), None
    if arguments.features is not None:
        features = open_features(arguments, training_args, dataset, model, processor)
    skip_absent = training_args.on_broken_video != "raise"
    data, tested, more_notes = load_splits(arguments, dataset, features is None, skip_absent)
    if arguments.eval_captions == "first":
        data |= {split: _first_captions(*data[split]) for split in tested}
    train_records, train_protocol = data[arguments.train_split]
    eval_records = None if arguments.select_on == "none" else data[arguments.select_on][0]
    trainer: RetrievalTrainer | PairScoringTrainer
    if reads_together:
        trainer = PairScoringTrainer(model, training_args, processor, train_records, eval_records, training_processor)
    else:
        trainer = RetrievalTrainer(model, training_args, processor, train_records, eval_records, features)
    if training_args.process_index == 0:
        print(*(protocol for _, protocol in data.values()), *notes, *more_notes, sep="\n")
    reported = {split: data[split] for split in tested}
    return Run(trainer, checkpoint, reported, arguments.select_on, train_protocol.name, given)


def _with_head(loaded: PreTrainedModel, processors: Sequence[Any]) -> tuple[PreTrainedModel, list[str]]:
    """The model with a head for retrieval, if its family has one, and what the user should know about it."""
    model = with_retrieval_head(loaded)
    if model is loaded:
        return model, []
    for processor in processors:
        set_video_settings(processor, **getattr(model, "video_settings", {}))
    return model, [f"note: {type(model).__name__} gets a new head, which starts random."]


def _first_captions(records: Any, protocol: Protocol) -> tuple[Any, Protocol]:
    """The first caption of each video."""
    first = records.map(lambda captions: {"captions": captions[:1]}, input_columns="captions")
    note = "; ".join(filter(None, [protocol.note, "the first caption of each video"]))
    return first, replace(protocol, counts={**protocol.counts, "captions": len(first)}, note=note)


if __name__ == "__main__":
    end_process(main())
