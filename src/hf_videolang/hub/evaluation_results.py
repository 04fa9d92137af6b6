"""Measured retrieval results in a model card: the `model-index` of its metadata, and a table made from that."""

import re
from collections.abc import Mapping, Sequence
from typing import cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

BEGIN, END = "<!-- measured results -->", "<!-- end of measured results -->"
METRICS = {"MedianR": ("median_rank", "median rank"), "MeanR": ("mean_rank", "mean rank")}


def measured_results(results: Sequence[EvalResult] | None) -> str:
    """
    The card's block between its two marks: one table row per data set, split, direction and post-processing.

    What others measured is not in it: a card may have results of any task, which stay in its metadata alone.
    """
    rows: dict[tuple, dict[str, str]] = {}
    for result in results or ():
        args = result.metric_args or {}
        if "post_processing" not in args:  # `add_evaluation` names it in all of ours
            continue
        protocol = ", ".join(f"{key} {value}" for key, value in (result.dataset_args or {}).items())
        where = (
            result.dataset_name,
            result.dataset_split,
            protocol,
            result.task_name,
            args["post_processing"],
        )
        recall = result.metric_type.startswith("recall")
        name = result.metric_type.replace("recall_at_", "R@").replace("_", " ")
        rows.setdefault(where, {})[name] = f"{result.metric_value:{'.1f' if recall else 'g'}}"
    if not rows:
        return f"{BEGIN}\nNothing has been measured yet.\n{END}"
    metrics = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = [["data set", "split", "protocol", "direction", "post-processing", *metrics]]
    table += [["---"] * 5 + ["---:"] * len(metrics)]
    table += [[*map(str, where), *(row.get(name, "") for name in metrics)] for where, row in rows.items()]
    return "\n".join([BEGIN, *(f"| {' | '.join(cells)} |" for cells in table), END])


def add_evaluation(
    card: ModelCard,
    *,
    dataset: str,
    split: str,
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    protocol: Mapping[str, str | int | float],
    dataset_name: str | None = None,
) -> None:
    """
    Enter one evaluation into a card. An earlier one on the same data set and split is replaced.

    Args:
        card: changed in place, metadata and table; save or push it afterwards.
        dataset, split: what it was measured on, e.g. `"msrvtt-1ka"`, `"test"`.
        scores: post-processing → direction → metric → value, e.g.
            `{"raw": retrieval_metrics(x), "DSL": retrieval_metrics(dual_softmax(x))}`. Recalls `R<k>` are fractions
            and are written in percent. Each post-processing gets entries of its own.
        protocol: what the numbers depend on, e.g. `{"frames": 12, "ties": "original"}`.
        dataset_name: for people; defaults to `dataset`.

    Raises:
        ValueError: a metric that is neither `R<k>` nor `MedianR` nor `MeanR`.
    """
    data = cast(ModelCardData, card.data)
    name = dataset_name or dataset
    # The Hub refuses all but identifiers.
    dataset_type = re.sub(r"[^\w.-]+", "-", dataset, flags=re.ASCII).strip("-") or "dataset"
    kept = [
        result
        for result in data.eval_results or []
        if (result.dataset_type, result.dataset_name, result.dataset_split) != (dataset_type, name, split)
    ]
    for post_processing, directions in scores.items():
        for direction, metrics in directions.items():
            for key, value in metrics.items():
                recall = re.fullmatch(r"R(\d+)", key)
                if not recall and key not in METRICS:
                    raise ValueError(f"metric {key!r} has no place in the card; expected R<k>, {', '.join(METRICS)}.")
                metric_type, metric_name = (f"recall_at_{recall[1]}", f"R@{recall[1]}") if recall else METRICS[key]
                kept.append(
                    EvalResult(
                        task_type=f"{direction.replace('_', '-')}-retrieval",
                        task_name=direction.replace("_", " "),
                        dataset_type=dataset_type,
                        dataset_name=name,
                        dataset_split=split,
                        dataset_args=dict(protocol),
                        metric_type=metric_type,
                        metric_name=f"{metric_name} ({post_processing})",
                        metric_args={"post_processing": post_processing},
                        metric_value=round(100 * value, 2) if recall else value,
                    )
                )
    data.eval_results = kept
    block = measured_results(kept)
    if BEGIN in card.text:
        before, _, rest = card.text.partition(BEGIN)
        card.text = before + block + (rest.partition(END)[2] if END in rest else rest)
    else:
        card.text = f"{card.text.rstrip()}\n\n## Measured with hf_videolang\n\n{block}\n"
