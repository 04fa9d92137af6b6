"""Accuracy of answers as a metric of the evaluate library."""

import datasets
import evaluate

from hf_videolang.metrics.accuracy import accuracy
from hf_videolang.metrics.facts import CITATION


class Accuracy(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="The share of questions whose answer equals the right one, from 0 to 1.",
            inputs_description="predictions: texts of answers. references: the right ones. Returns accuracy.",
            citation=CITATION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references):
        return {"accuracy": accuracy(predictions, references)}
