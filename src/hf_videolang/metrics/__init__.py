"""
Metrics and post-processings of retrieval scores, each a pure function in its own file.

A metric `<name>` that also exists for the evaluate library lives in a folder with `<name>.py` in it; load it with
`evaluate.load(metric_path("<name>"))`.
"""

from pathlib import Path

from .chance import chance_metrics
from .dual_softmax import dual_softmax
from .querybank_norm import querybank_norm
from .retrieval import rank_metrics, retrieval_metrics, text_to_video_ranks, video_to_text_ranks

__all__ = [
    "chance_metrics",
    "dual_softmax",
    "metric_path",
    "querybank_norm",
    "rank_metrics",
    "retrieval_metrics",
    "text_to_video_ranks",
    "video_to_text_ranks",
]


def metric_path(name: str) -> str:
    """
    The local folder that `evaluate.load` takes for one of our metrics.

    Args:
        name (`str`): `"retrieval"`.

    Raises:
        ValueError: there is no such metric; the message lists those there are.
    """
    here = Path(__file__).parent
    if not (here / f"{name}_for_evaluate.py").is_file():
        known = sorted(file.stem.removesuffix("_for_evaluate") for file in here.glob("*_for_evaluate.py"))
        raise ValueError(f"there is no evaluate metric {name!r}; known: {', '.join(known)}.")
    return str(here / f"{name}_for_evaluate.py")
