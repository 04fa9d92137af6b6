"""What shapes do not tell about a ClipBERT: from the files of its training run, or from the layout of the keys."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_videolang.conversion.untrusted import ConversionError, read_json

AGGREGATIONS = {"mean": "mean", "max": "max", "lse": "logsumexp"}
SAME_NAMES = (
    "attention_probs_dropout_prob",
    "hidden_act",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "pad_token_id",
    "type_vocab_size",
    "vocab_size",
)
MODEL_FIELDS = {  # original name → ours
    "max_grid_row_position_embeddings": "max_grid_rows",
    "max_grid_col_position_embeddings": "max_grid_columns",
    **{name: name for name in SAME_NAMES},
}
HEAD_OF_CLASS = {
    "ClipBertForPreTraining": "pre_training",
    "ClipBertForVideoTextRetrieval": "retrieval",
    "ClipBertForSequenceClassification": "question_answering",
    "ClipBertForMultipleChoice": "multiple_choice",
    "ClipBertForRegression": "count",
}
HEAD_OF_TASK = {
    "action": "multiple_choice",
    "transition": "multiple_choice",
    "frameqa": "question_answering",
    "msrvtt_qa": "question_answering",
}


@dataclass(frozen=True)
class Settings:
    """
    Args:
        source: the file, for messages and the report.
        model: field of [`ClipBertConfig`] → value. What shapes tell, too, must agree.
        task: options of the original's training run (clipbert A13), by their own names.
        head: which head the run trained, `None` if it does not say.
    """

    source: str = "no config"
    model: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    head: str | None = None


def read_settings(config: str | Path | None) -> Settings:
    """
    Args:
        config: `log/args.json` of a training run with `model_config.json` beside it, their folder, or one JSON with
            `model_config` and `task_config` in it.

    Raises:
        ConversionError: the file is damaged or of another kind.
    """
    if config is None:
        return Settings()
    path = Path(config)
    if path.is_dir():
        path = path / "args.json"
    content = read_json(path)
    if "model_config" in content and isinstance(content["model_config"], dict):
        task = {**content.get("added_model_attributes", {}), **content.get("task_config", {})}
        model, head = content["model_config"], HEAD_OF_CLASS.get(content.get("transformer_class", ""))
    elif "max_img_size" in content:
        beside = path.with_name("model_config.json")
        task, model, head = content, read_json(beside) if beside.is_file() else {}, None
    else:
        raise ConversionError(
            f"{path} is not a config of ClipBERT: it has neither model_config nor max_img_size, but "
            f"{', '.join(list(content)[:5]) or 'no keys'}. Pass log/args.json of the run, or leave --config out."
        )
    if head is None:
        head = HEAD_OF_TASK.get(task.get("task", ""))
    if head is None and task.get("loss_type") == "bce":
        head = "question_answering"
    if head is None and "itm_neg_size" in task:
        head = "retrieval"
    return Settings(path.name, {ours: model[name] for name, ours in MODEL_FIELDS.items() if name in model}, task, head)


def read_answers(path: str | Path, rows: int) -> dict[int, str]:
    """
    The answer of each row of a head, from the original's `ans2label.json`. Rows beyond the file have none; they are
    called `unused_<row>`.

    Raises:
        ConversionError: the file is not of this kind, or it names rows that the head does not have.
    """
    answers = read_json(Path(path))
    numbers = list(answers.values())
    if not answers or not all(type(number) is int for number in numbers) or len(set(numbers)) < len(numbers):
        raise ConversionError(f'{path} is no answer list; expected {{"lamp": 0, "girl": 1, …}} with distinct numbers.')
    if not 0 <= min(numbers) <= max(numbers) < rows:
        raise ConversionError(
            f"{path} numbers its answers {min(numbers)} to {max(numbers)}, but the head has {rows} rows, 0 to "
            f"{rows - 1}. Pass the answer list that the model was trained with."
        )
    named = {number: answer for answer, number in answers.items()}
    return {row: named.get(row, f"unused_{row}") for row in range(rows)}
