"""
Metrics and post-processings of scores: one pure function a file.

`<name>_for_evaluate.py` makes the metric of `<name>.py` usable with the evaluate library:

    evaluate.load(metric_path("retrieval")).compute(predictions=similarity, references=labels)
"""

from pathlib import Path

from .accuracy import accuracy, soft_accuracy
from .captions import caption_metrics
from .dual_softmax import dual_softmax
from .product import Product
from .querybank_norm import querybank_norm
from .reranking import reranked
from .retrieval import chance_metrics, rank_metrics, retrieval_metrics

__all__ = [
    "Product",
    "accuracy",
    "caption_metrics",
    "chance_metrics",
    "dual_softmax",
    "metric_path",
    "querybank_norm",
    "rank_metrics",
    "reranked",
    "retrieval_metrics",
    "soft_accuracy",
]


def metric_path(name: str) -> str:
    """
    The file that `evaluate.load` takes for one of our metrics.

    Args:
        name: `"retrieval"`, `"moments"`, `"accuracy"`, `"soft_accuracy"` or `"captions"`.

    Raises:
        ValueError: there is no such metric. The message lists the metrics.

    Example:
        >>> metric = evaluate.load(metric_path("retrieval"))
        >>> metric.compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1])["text_to_video_R1"]
        1.0
    """
    files = {file.stem.removesuffix("_for_evaluate"): file for file in Path(__file__).parent.glob("*_for_evaluate.py")}
    if name not in files:
        raise ValueError(f"there is no metric {name!r} for evaluate; expected one of {', '.join(sorted(files))}.")
    return str(files[name])
