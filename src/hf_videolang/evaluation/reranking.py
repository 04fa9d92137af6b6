"""A first model finds, a second one reads the best candidates again together with the query."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from hf_videolang.evaluation.loader import Progress
from hf_videolang.evaluation.pair_scoring import PairScoringEvaluator
from hf_videolang.evaluation.retrieval import RetrievalEvaluator, score_similarity
from hf_videolang.evaluation.scores import Scores
from hf_videolang.metrics.reranking import best_candidates


class RerankingEvaluator:
    """
    Score a two-tower model as it is, and after a pair scorer has put the best candidates of each query in a new order.

    Args:
        first: of the two-tower model.
        second: of the pair scorer.
        pair_scorer: in evaluation mode and prepared for the processes.
        name: of the pair scorer, for the line above the table.
        top (defaults to 50): candidates of a text, and of a video, that the pair scorer sees. The rest keep the first
            order behind them. With all candidates, the result is that of the pair scorer alone.

    Attributes, after a call: those of [`RetrievalEvaluator`]; `tensors` also has `pair_scores` `[texts, videos]`, NaN
    where none was computed, and `rerank_top`.

    Example:
        >>> evaluator = RerankingEvaluator(RetrievalEvaluator(one), PairScoringEvaluator(other), scorer, "runs/pairs")
        >>> evaluator(model, records, accelerator)["reranked (top 50)"]["text_to_video"]["R1"]
    """

    def __init__(
        self, first: RetrievalEvaluator, second: PairScoringEvaluator, pair_scorer: nn.Module, name: str, top: int = 50
    ):
        self.first, self.second, self.pair_scorer, self.name, self.top = first, second, pair_scorer, name, top

    def __call__(
        self, model: nn.Module, records: Any, accelerator: Accelerator, progress: Progress | None = None
    ) -> Scores:
        """Arguments, result and errors are those of [`RetrievalEvaluator`]."""
        self.first(model, records, accelerator, progress)
        similarity = self.first.tensors["similarity"].T[:].T  # held even if it is large, as the pair scores are
        wanted = best_candidates(similarity, self.top) | best_candidates(similarity.T, self.top).T
        found = records.select(self.first.rows)
        pair_scores = self.second.score(self.pair_scorer, found, accelerator, wanted, progress)
        pair_scores[~wanted] = torch.nan
        self.tensors = {
            **self.first.tensors,
            "similarity": similarity,
            "pair_scores": pair_scores,
            "rerank_top": torch.tensor(self.top),
        }
        pairs = f"{int((~pair_scores.isnan()).sum()):,} of {pair_scores.numel():,}"
        self.settings = {**self.first.settings, **self.input_protocol(), "pairs read": pairs}
        return score_similarity(**self.tensors, ties=self.first.ties)

    def input_protocol(self) -> dict[str, str]:
        """What the pair scorer sees."""
        seen = ", ".join(f"{what} {value}" for what, value in self.second.processor.input_protocol().items())
        return {"reranked by": f"{self.name} (the best {self.top} of each query; {seen})"}

    def remove_parts(self) -> None:
        """Delete the kept batches of both, once the results are saved. One process does this."""
        self.first.remove_parts()
        self.second.remove_parts()
