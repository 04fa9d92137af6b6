"""Measured results in a model card: entries in the metadata (`model-index`), and a table made from them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from yaml import YAMLError

from hf_videolang.atomic_files import atomic_file
from hf_videolang.hub.model_card import BEGIN, END, escaped, write_model_card
from hf_videolang.metrics.facts import CHANCE, METRICS

IS_SHARE = {facts.card_type: facts.is_share for facts in METRICS.values()}


def write_evaluation(model: str | Path, repo_id: str | None = None, **evaluation) -> None:
    """
    Enter an evaluation into the card of a model and save the card: in a folder, or on the Hub.

    A folder without a card gets one.

    Args:
        model: folder or repository id.
        repo_id (*optional*): the repository to which a folder will be pushed. It names the results in `model-index`;
            by default, the folder does.
        evaluation: the arguments of [`add_evaluation`] except the card.

    Errors are those of [`load_card`].

    Example:
        >>> scores = {"raw": {"text_to_video": {"R1": 0.501}}}
        >>> write_evaluation("my_model", dataset="msrvtt-1ka", split="test", scores=scores, protocol={"frames": 12})
    """
    local = Path(model).is_dir()
    card = load_card(model) or ModelCard.load(write_model_card(model))
    data = cast(ModelCardData, card.data)
    if data.model_name is None or repo_id is not None:
        name = repo_id or (Path(model).resolve().name if local else str(model))
        data.model_name = name.split("/")[-1]
    add_evaluation(card, **evaluation)
    if local:
        with atomic_file(Path(model) / "README.md") as temporary:
            card.save(temporary)
    else:
        HfApi().upload_file(
            path_or_fileobj=str(card).encode(),
            path_in_repo="README.md",
            repo_id=str(model),
            commit_message="Add evaluation results",
        )


def load_card(model: str | Path) -> ModelCard | None:
    """
    The card of a folder (`None` if it has none) or of a Hub repository.

    Raises:
        ValueError: the card's metadata cannot be read.
        OSError: the repository does not exist or has no card.
    """
    readme = Path(model) / "README.md"
    local = Path(model).is_dir()
    if local and not readme.exists():
        return None
    try:
        return ModelCard.load(readme if local else str(model))
    except (ValueError, YAMLError) as error:
        card = readme if local else f"the card of {model}"
        raise ValueError(f"{card} has metadata that cannot be read; correct it first: {error}") from error


def add_evaluation(
    card: ModelCard,
    *,
    dataset: str,
    split: str,
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    protocol: Mapping[str, str | int | float],
    task: str = "retrieval",
) -> None:
    """
    Enter an evaluation into a card. It replaces an earlier one on the same dataset and split.

    Args:
        card: changed in place, metadata and table.
        dataset, split: what the model was measured on, e.g. `"msrvtt-1ka"`, `"test"`.
        scores: see `hf_videolang.evaluation.scores`. Shares become per cent; each column gets entries of its own,
            beside which chance stands.
        protocol: what the numbers depend on, e.g. `{"frames": 12, "ties": "original"}`.
        task (defaults to `"retrieval"`): of the dataset. It is the Hub's type of task, for retrieval with the
            direction: `text-to-video-retrieval`.
    """
    data = cast(ModelCardData, card.data)
    # The Hub accepts only identifiers as the type of a dataset.
    dataset_type = re.sub(r"[^\w.-]+", "-", dataset, flags=re.ASCII).strip("-") or "dataset"
    results = [
        result
        for result in data.eval_results or []
        if (result.dataset_type, result.dataset_name, result.dataset_split) != (dataset_type, dataset, split)
    ]
    for post_processing, groups in scores.items():
        if post_processing == CHANCE:
            continue
        for group, metrics in groups.items():
            for metric, value in metrics.items():
                facts = METRICS[metric]
                metric_args: dict[str, str | float] = {"post_processing": post_processing}
                if CHANCE in scores:
                    metric_args[CHANCE] = round(facts.for_people(scores[CHANCE][group][metric]), 2)
                results.append(
                    EvalResult(
                        task_type=(f"{group}-{task}" if task == "retrieval" else task).replace("_", "-"),
                        task_name=group.replace("_", " "),
                        dataset_type=dataset_type,
                        dataset_name=dataset,
                        dataset_split=split,
                        dataset_args=dict(protocol),
                        metric_type=facts.card_type,
                        metric_name=f"{facts.title} ({post_processing})",
                        metric_args=metric_args,
                        metric_value=round(100 * value, 2) if facts.is_share else value,
                    )
                )
    data.eval_results = results
    block = f"{BEGIN}\n{_table(results)}\n{END}"
    if BEGIN in card.text:
        before, _, rest = card.text.partition(BEGIN)
        card.text = before + block + (rest.partition(END)[2] if END in rest else rest)
    else:
        card.text = f"{card.text.rstrip()}\n\n## Measured with hf_videolang\n\n{block}\n"


def _table(results: Sequence[EvalResult]) -> str:
    """One row for each dataset, split, group and post-processing, and for chance; only what this package measured."""
    rows: dict[tuple, dict[str, str]] = {}
    for result in results:
        metric_args = result.metric_args or {}
        post_processing = metric_args.get("post_processing")
        if post_processing is None:  # somebody else's, perhaps of another task
            continue
        protocol = ", ".join(f"{key} {value}" for key, value in (result.dataset_args or {}).items())
        where = (result.dataset_name, result.dataset_split, protocol, result.task_name)
        title = str(result.metric_name).removesuffix(f" ({post_processing})")
        rounding = ".1f" if IS_SHARE.get(result.metric_type) else "g"
        rows.setdefault((*where, post_processing), {})[title] = f"{result.metric_value:{rounding}}"
        if CHANCE in metric_args:
            rows.setdefault((*where, CHANCE), {})[title] = f"{metric_args[CHANCE]:{rounding}}"
    titles = list(dict.fromkeys(title for row in rows.values() for title in row))
    table = [["dataset", "split", "protocol", "direction", "post-processing", *titles]]
    table += [["---"] * 5 + ["---:"] * len(titles)]
    table += [[*map(escaped, where), *(row.get(title, "") for title in titles)] for where, row in rows.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)
