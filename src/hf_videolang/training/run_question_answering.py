"""
Fine-tune a model that answers questions about videos: openly, with scored answers, among options, or by a count.

One GPU, or the CPU of a laptop:
    python -m hf_videolang.training.run_question_answering RECIPE.yaml --model clipbert-base --data_dir my_folder

All GPUs of a machine (hf_videolang/recipes/accelerate has cpu, single_gpu, multi_gpu, fsdp2 and multi_node):
    accelerate launch --config_file multi_gpu.yaml -m hf_videolang.training.run_question_answering \\
        clipbert/my_questions.yaml --model clipbert-base --data_dir my_folder --output_dir runs/questions

Continue after a kill, from the last complete checkpoint:
    ... the same command with --resume_from_checkpoint true

RECIPE.yaml is your own file or one of the package. The command line wins over the recipe.
The output folder gets the chosen model with its processor, code and card (AutoModel… loads it, `hf-videolang ask` asks
it), eval_results.json, recipe.yaml and the history of the run (trainer_state.json).
"""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel, set_seed

from hf_videolang.data.answer_vocabulary import can_answer, check_choices, count_answers, read_answers
from hf_videolang.data.batches.clip_reader import reads_subtitles
from hf_videolang.data.batches.question_answering import QuestionAnsweringCollator, is_too_long
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.evaluation.question_answering import QuestionAnsweringEvaluator
from hf_videolang.hub.loading import set_video_settings
from hf_videolang.hub.question_heads import Head, answers_of, question_head, with_new_head
from hf_videolang.training.checkpoints import choose_checkpoint
from hf_videolang.training.finetuning import choose_selection, load_model, load_splits, open_features
from hf_videolang.training.processes import end_process
from hf_videolang.training.question_answering_arguments import (
    QuestionAnsweringArguments,
    QuestionAnsweringTrainingArguments,
)
from hf_videolang.training.recipes import RecipeError, parse_recipe
from hf_videolang.training.run import Run, freeze_parts, run_command
from hf_videolang.training.trainer import VideoTrainer, set_num_updates

OPEN_HEADS = ("open", "soft")


def main(argv: list[str] | None = None) -> int:
    return run_command(set_up, argv)


def set_up(argv: list[str] | None) -> Run:
    types = (QuestionAnsweringArguments, QuestionAnsweringTrainingArguments)
    arguments, training_args, given = parse_recipe(types, argv, __doc__, "run_question_answering")
    choose_selection(arguments, training_args)
    checkpoint = choose_checkpoint(training_args)

    # ---- Data ----
    dataset = find_dataset(arguments.dataset, arguments.data_dir)
    if dataset.task != "question_answering":
        raise RecipeError(f"{dataset.name} is a dataset for {dataset.task}, not of questions about videos.")
    skip_absent = training_args.on_broken_video != "raise"
    data, tested, notes = load_splits(arguments, dataset, arguments.features is None, skip_absent)
    train_records, train_protocol = data[arguments.train_split]

    # ---- Model ----
    model, processor, training_processor = load_model(arguments)
    set_seed(training_args.seed)
    model, note = choose_head(model, arguments.head, arguments.answers, train_records)
    if note:  # the head is new
        notes.append(note)
        for one in (processor, training_processor):
            set_video_settings(one, **getattr(model, "video_settings", {}))
    freeze_parts(model, arguments.freeze)
    if arguments.context_subtitles is not None:
        if not reads_subtitles(processor):
            raise RecipeError("context_subtitles is given, but the model reads no subtitles; leave it out.")
        processor.context_subtitles = training_processor.context_subtitles = arguments.context_subtitles
    features = None
    if arguments.features is not None:
        features = open_features(arguments, training_args, dataset, model, processor)
    head, answers = question_head(model), answers_of(model)
    covered = {split: covered_rows(records, head, answers) for split, (records, _) in data.items()}
    if not (rows := covered[arguments.train_split]):
        raise ValueError(f"none of the {len(train_records)} training questions has an answer that the model can give.")
    notes += [
        f"{split}: {len(found)} of {len(data[split][0])} questions have an answer that the model can give"
        + (f" ({len(answers)} answers)" if head in OPEN_HEADS else "")
        + ("; the run trains on these." if split == arguments.train_split else ".")
        for split, found in covered.items()
    ]

    # ---- Training ----
    if reads_subtitles(processor):  # it cuts no text
        count = len(rows)
        rows = [row for row in rows if not is_too_long(processor, train_records[row])]
        notes += [f"{count - len(rows)} training questions are too long and are left out."] * (len(rows) < count)
    train_records = train_records.select(rows)
    set_num_updates(training_args, len(train_records), "questions")
    trainer = VideoTrainer(
        model,
        training_args,
        processor,
        train_records,
        None if arguments.select_on == "none" else data[arguments.select_on][0],
        QuestionAnsweringCollator(
            training_processor,
            train_records,
            True,
            head,
            answers,
            on_broken_video=training_args.on_broken_video,
            seed=training_args.seed,
            features=features,
        ),
        QuestionAnsweringEvaluator(processor, **training_args.evaluator_options, features=features),
    )
    if training_args.process_index == 0:
        print(*(protocol for _, protocol in data.values()), *notes, sep="\n")
    reported = {split: data[split] for split in tested}
    return Run(trainer, checkpoint, reported, arguments.select_on, train_protocol.name, given)


def choose_head(
    model: PreTrainedModel, head: Head | None, given: Mapping[str, Any] | str | None, records: Any
) -> tuple[PreTrainedModel, str]:
    """
    The model with the head of the recipe: its own, or a new one over the same base.

    Args:
        model: as loaded.
        head, given: the keys `head` and `answers` of the recipe.
        records: to train on.

    Returns:
        The model, and a note for the user if the head is new.

    Raises:
        ValueError: the answers of model and recipe differ, there are none, or the questions do not fit the head.
    """
    try:
        own: Head | None = question_head(model)
    except ValueError:
        own = None
    choices = sum(bool(options) for options in records["choices"][:])
    is_scored = any(answers is not None for answers in records["answers"][:])
    head = head or own or ("multiple_choice" if choices else "soft" if is_scored else "open")
    check_choices(head, choices, len(records))
    if head not in OPEN_HEADS:
        return (model, "") if head == own else (with_new_head(model, head), f"note: the head ({head}) is new.")
    if given is None and head == own:
        return model, ""
    if isinstance(given, str) and given != "new":
        answers = read_answers(given)
    else:
        limits = given if isinstance(given, Mapping) else {}
        if unknown := limits.keys() - {"min_count", "max_size"}:
            names = ", ".join(sorted(unknown))
            raise RecipeError(f"answers has {names}; expected min_count or max_size, a file, or new.")
        answers = count_answers(records, **limits)
    if head == own and given != "new":
        if answers != answers_of(model):
            raise ValueError(
                f"the model answers by one of {len(answers_of(model))} answers, the recipe has {len(answers)} "
                "(answers); both must be the same. Leave answers out to keep the model's, or start a new head with "
                "--answers new."
            )
        return model, ""
    return with_new_head(model, head, answers), f"note: the head ({head}) is new, for {len(answers)} answers."


def covered_rows(records: Any, head: Head, answers: list[str]) -> list[int]:
    """The rows of the questions that have an answer which the model can give."""
    vocabulary = set(answers)
    rows = enumerate(records.remove_columns("video"))
    return [number for number, row in rows if can_answer(row, head, vocabulary)]


if __name__ == "__main__":
    end_process(main())
