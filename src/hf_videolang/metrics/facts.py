"""What a reader must know about each metric: title, unit, direction. Tables, logs and model cards use this list."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricFacts:
    """
    Attributes:
        title: as it stands in a model card.
        card_type: identifier of the metric in the metadata of a model card on the Hub.
        is_share: the value is a share from 0 to 1, which people read in per cent. Scores of captions are
            multiplied by 100 already, and CIDEr is not a share.
        higher_is_better: false for ranks.
    """

    title: str
    card_type: str
    is_share: bool = True
    higher_is_better: bool = True

    def for_people(self, value: float) -> float:
        """A share in per cent; any other value unchanged."""
        return 100 * value if self.is_share else value


CITATION = """
@software{hf_videolang, title = {hf_videolang: video-language systems as Hugging Face models}, year = {2026}}
"""
CHANCE = "chance"  # the column of what random scores give. It stands in tables and cards, but not in logs.

METRICS = {
    **{f"R{k}": MetricFacts(f"R@{k}", f"recall_at_{k}") for k in (1, 5, 10, 100)},
    "AveR": MetricFacts("AveR", "average_recall"),
    "MedianR": MetricFacts("median rank", "median_rank", is_share=False, higher_is_better=False),
    "MeanR": MetricFacts("mean rank", "mean_rank", is_share=False, higher_is_better=False),
    "accuracy": MetricFacts("accuracy", "accuracy"),
    "soft_accuracy": MetricFacts("soft accuracy", "soft_accuracy"),
    "MSE": MetricFacts("mean squared error", "mse", is_share=False, higher_is_better=False),
    "CIDEr": MetricFacts("CIDEr", "cider", is_share=False),
    "METEOR": MetricFacts("METEOR", "meteor", is_share=False),
    "ROUGEL": MetricFacts("ROUGE-L", "rouge_l", is_share=False),
    **{f"BLEU{n}": MetricFacts(f"BLEU-{n}", f"bleu_{n}", is_share=False) for n in (1, 2, 3, 4)},
    "clips": MetricFacts("clips", "clips", is_share=False),
    "questions": MetricFacts("questions", "questions", is_share=False),
}
