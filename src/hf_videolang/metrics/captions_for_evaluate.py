"""Scores of captions as a metric of the evaluate library."""

import datasets
import evaluate

from hf_videolang.metrics.captions import caption_metrics
from hf_videolang.metrics.facts import CITATION

INPUTS = """
predictions: texts. references: of each text, what people wrote, a list of texts. Returns CIDEr, METEOR (if there is
Java), ROUGEL, BLEU1 to BLEU4, times 100, as papers report them.
"""


class CaptionMetrics(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="BLEU, ROUGE-L, METEOR and CIDEr-D of captions.",
            inputs_description=INPUTS,
            citation=CITATION,
            features=datasets.Features({"predictions": text, "references": [text]}),
        )

    def _compute(self, predictions, references):
        return caption_metrics(predictions, references)
