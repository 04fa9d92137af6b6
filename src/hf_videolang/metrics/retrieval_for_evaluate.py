"""Text-video retrieval as a metric of the evaluate library."""

import datasets
import evaluate

from hf_videolang.metrics.dual_softmax import dual_softmax as apply_dual_softmax
from hf_videolang.metrics.facts import CITATION
from hf_videolang.metrics.retrieval import retrieval_metrics

DESCRIPTION = """
Text-video retrieval in both directions: R@1, R@5, R@10 (shares from 0 to 1), median and mean rank (from 1). Scores are
raw or re-weighted by a dual softmax, and ties are counted by one of four rules.
"""

INPUTS = """
Args:
    predictions: for each text its similarity to every video; higher is better.
    references: for each text the index of its video.
    ties: "original" (default), "optimistic", "pessimistic" or "average".
    dual_softmax: True re-weights the scores by their softmax over all texts. Report the result apart from raw scores.

Returns:
    text_to_video_R1, ..._R5, ..._R10, ..._MedianR, ..._MeanR, and the same with video_to_text_.
"""


class Retrieval(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            inputs_description=INPUTS,
            citation=CITATION,
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references, ties="original", dual_softmax=False):
        scores = apply_dual_softmax(predictions) if dual_softmax else predictions
        directions = retrieval_metrics(scores, references, ties)
        return {f"{way}_{name}": value for way, found in directions.items() for name, value in found.items()}
