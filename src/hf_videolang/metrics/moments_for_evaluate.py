"""Moments found by a query as a metric of the evaluate library."""

import datasets
import evaluate

from hf_videolang.metrics.facts import CITATION
from hf_videolang.metrics.moments import IOUS, average_recall, moment_recalls

DESCRIPTION = """
Moments that a query finds in videos: the share of queries with a right one among the first 1, 5, 10 and 100, from 0 to
1, and the mean of the first three (AveR). A moment is right if it lies in the query's video and overlaps the annotated
one by an IoU of at least 0.5, or 0.7.
"""

INPUTS = """
Args:
    predictions: for each query its moments, best first, as {"video", "start", "end"} in seconds.
    references: for each query {"video", "spans"}, the spans as [[start, end], ...]. Of four or more spans, the
        annotations of as many people, at least two must be hit.

Returns:
    R1_IoU0.5, R5_IoU0.5, ..., R100_IoU0.7, and AveR_IoU0.5, AveR_IoU0.7.
"""


class Moments(evaluate.Metric):
    def _info(self):
        number = datasets.Value("float64")
        moment = {"video": datasets.Value("string"), "start": number, "end": number}
        reference = {"video": datasets.Value("string"), "spans": datasets.Sequence(datasets.Sequence(number))}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            inputs_description=INPUTS,
            citation=CITATION,
            features=datasets.Features({"predictions": [moment], "references": reference}),
        )

    def _compute(self, predictions, references):
        found = [[(one["video"], one["start"], one["end"]) for one in moments] for moments in predictions]
        recalls = moment_recalls(found, references)
        return {**recalls, **{f"AveR_IoU{iou}": average_recall(recalls, iou) for iou in IOUS}}
