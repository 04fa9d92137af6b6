"""
Pre-train a two-tower model on clips with subtitles and with captions of their middle frames.

One GPU, or the CPU of a laptop, on tar or Parquet shards (`hf-videolang data shard`) or a video folder:
    python -m hf_videolang.training.run_pretraining RECIPE.yaml --model clip-vip-start-b32 --sources my_shards

Many GPUs (hf_videolang/recipes/accelerate has cpu, single_gpu, multi_gpu, fsdp2 and multi_node):
    accelerate launch --config_file multi_node.yaml -m hf_videolang.training.run_pretraining \\
        clip_vip/pretraining_b32.yaml \\
        --sources '{"hdvila": {"data": "/data/hdvila", "captions": "/data/hdvila_captions"}}'

Continue after a kill, from the last complete checkpoint and at the very clip (same sources, same global batch):
    ... the same command with --resume_from_checkpoint true

RECIPE.yaml is your own file or one of the package. The command line wins over the recipe.
The output folder gets the last model with its processor, code and card (AutoModel loads it), eval_results.json,
recipe.yaml and the history of the run (trainer_state.json).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_videolang.data.load_dataset import BENCHMARKS, load_dataset
from hf_videolang.data.pretraining.sources import open_sources
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.training.checkpoints import choose_checkpoint
from hf_videolang.training.pretraining_arguments import PretrainingArguments, PretrainingTrainingArguments
from hf_videolang.training.pretraining_trainer import PretrainingTrainer
from hf_videolang.training.processes import end_process
from hf_videolang.training.recipes import parse_recipe
from hf_videolang.training.run import Data, Run, freeze_parts, run_command


def main(argv: list[str] | None = None) -> int:
    return run_command(set_up, argv)


def set_up(argv: list[str] | None) -> Run:
    types = (PretrainingArguments, PretrainingTrainingArguments)
    arguments, training_args, given = parse_recipe(types, argv, __doc__, "run_pretraining")
    checkpoint = choose_checkpoint(training_args)

    # ---- Model ----
    model, processor = load_model_and_processor(arguments.model, arguments.num_frames, arguments.max_length)
    freeze_parts(model, arguments.freeze)

    # ---- Data ----
    sources = open_sources(arguments.sources)
    tested = load_evaluation_sets(arguments.evaluation)
    if not tested:
        training_args.eval_strategy = type(training_args.eval_strategy)("no")
        training_args.eval_on_start = False
    evaluation = {name: records for name, (records, _) in tested.items()}
    trainer = PretrainingTrainer(model, training_args, processor, sources, evaluation or None)
    if training_args.process_index == 0:
        print(*sources, *(protocol for _, protocol in tested.values()), sep="\n")

    given_sources = arguments.sources
    trained_on = Path(given_sources).name if isinstance(given_sources, str) else ", ".join(given_sources)
    metric = (training_args.metric_for_best_model or "").removeprefix("eval_")
    # The longest name, because one may begin with another.
    selected_on = max((name for name in tested if metric.startswith(f"{name}_")), key=len, default="none")
    return Run(trainer, checkpoint, tested, selected_on, trained_on, given)


def load_evaluation_sets(settings: Any) -> Data:
    """The retrieval sets of a recipe by their names."""
    if not isinstance(settings or {}, Mapping):
        raise ValueError(f"evaluation has {settings!r}; expected a mapping of names to folders.")
    data = {}
    for name, given in (settings or {}).items():
        if isinstance(given, str):
            given = {"dataset": name if name in BENCHMARKS else "videofolder", "data_dir": given}
        if not isinstance(given, Mapping) or not {"dataset"} <= given.keys() <= {"dataset", "data_dir", "split"}:
            raise ValueError(
                f"evaluation has {given!r}; expected a mapping of names to folders, or to dataset, data_dir and split."
            )
        data[name] = load_dataset(given["dataset"], given.get("data_dir"), given.get("split", "test"))
    return data


if __name__ == "__main__":
    end_process(main())
