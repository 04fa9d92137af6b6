"""Accuracy with scored answers, as of VQA, as a metric of the evaluate library."""

import datasets
import evaluate

from hf_videolang.metrics.accuracy import soft_accuracy
from hf_videolang.metrics.facts import CITATION

INPUTS = """
predictions: texts of answers. references: of each question a list of {"answer": text, "score": from 0 to 1}. Returns
soft_accuracy.
"""


class SoftAccuracy(evaluate.Metric):
    def _info(self):
        scored = {"answer": datasets.Value("string"), "score": datasets.Value("float64")}
        return evaluate.MetricInfo(
            description="The mean score that people gave to the answers, from 0 to 1.",
            inputs_description=INPUTS,
            citation=CITATION,
            features=datasets.Features({"predictions": datasets.Value("string"), "references": [scored]}),
        )

    def _compute(self, predictions, references):
        scores = [{entry["answer"]: entry["score"] for entry in scored} for scored in references]
        return {"soft_accuracy": soft_accuracy(predictions, scores)}
