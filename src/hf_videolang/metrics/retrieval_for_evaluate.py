"""Text-video retrieval for the evaluate library: `evaluate.load(metric_path("retrieval"))` with a local path."""

import datasets
import evaluate

from hf_videolang.metrics.dual_softmax import dual_softmax as apply_dual_softmax
from hf_videolang.metrics.retrieval import retrieval_metrics

DESCRIPTION = """
R@1, R@5, R@10 (shares, 0 to 1), median and mean rank (from 1) of text-video retrieval, in both directions, with the
tie counting of CLIP-ViP's evaluation or another, raw or after dual softmax.
"""

INPUTS = """
Args:
    predictions: one row for each text, its similarity to every video (higher is better).
    references: for each text the index of its video, the column that should win.
    ties: "original" (default), "optimistic", "pessimistic" or "average".
    dual_softmax: True re-weights the scores by their softmax over all texts first; report it as a separate result.

Returns:
    text_to_video_R1, ..._R5, ..._R10, ..._MedianR, ..._MeanR and the same with video_to_text_.
"""

CITATION = """
@inproceedings{xue2023clipvip,
  title={CLIP-ViP: Adapting Pre-trained Image-Text Model to Video-Language Representation Alignment},
  author={Xue, Hongwei and Sun, Yuchong and Liu, Bei and Fu, Jianlong and Song, Ruihua and Li, Houqiang and Luo, Jiebo},
  booktitle={ICLR}, year={2023}}
"""


class Retrieval(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            inputs_description=INPUTS,
            citation=CITATION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references, ties="original", dual_softmax=False):
        scores = apply_dual_softmax(predictions) if dual_softmax else predictions
        directions = retrieval_metrics(scores, references, ties)
        return {f"{way}_{name}": value for way, found in directions.items() for name, value in found.items()}
