"""Text-video retrieval: encode every video and every caption once, score all pairs, count ranks."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hf_videolang.data.batches.retrieval import RetrievalCollator
from hf_videolang.evaluation.batch_parts import BatchParts
from hf_videolang.evaluation.evaluator import Evaluator
from hf_videolang.evaluation.loader import Progress
from hf_videolang.evaluation.scores import Scores, flat_scores
from hf_videolang.metrics import Product, chance_metrics, reranked, retrieval_metrics
from hf_videolang.metrics.dual_softmax import dual_softmax_by_rows
from hf_videolang.metrics.facts import CHANCE
from hf_videolang.metrics.querybank_norm import querybank_norm_by_rows
from hf_videolang.metrics.retrieval import Ties

INDICES = ("video_index", "caption_index", "caption_video_index", "num_broken_videos")  # not for the model
LARGEST_MATRIX = 2**26  # pairs, 256 MB. The scores of more are computed in blocks, and their embeddings are saved
SCORED, BANK = "embeddings", "embeddings_querybank"  # the two things to encode, and the folders of their parts


class RetrievalEvaluator(Evaluator):
    """
    Score a two-tower model on videos with captions: every caption against every video, in both directions.

    Args:
        processor: of the model.
        on_broken_video (defaults to `"raise"`): a video that does not decode stops the evaluation, or `"skip"` leaves
            it out together with its captions and counts it.
        ties (defaults to `"original"`): how equal scores count, see `retrieval_metrics`.
        querybank (`datasets.Dataset`, *optional*): records for QB-Norm, see [`sample_querybank`]. Without them the
            scores are raw and DSL. A model that compares by dot product has raw scores only: its processor has
            `similarity` = `"dot"`.
        options: as of [`Evaluator`]. Batches are kept in the folders `embeddings` and `embeddings_querybank`.

    Attributes, after a call:
        tensors: `similarity` `[texts, videos]`, `labels` `[texts]` (the video of each text) and, with a querybank,
            `text_bank` `[bank, videos]` and `video_bank` `[bank, texts]`; `is_cosine`, if false. [`score_similarity`]
            scores them again. A matrix of more than `LARGEST_MATRIX` pairs is a [`Product`] of embeddings.
        rows: of `records`, the row of each video; broken videos that were skipped are absent.

    Raises:
        ValueError: a querybank for a model that compares by dot product.

    Example:
        >>> model, processor = load_model_and_processor("org/clip-vip-b16")
        >>> records, protocol = load_dataset("msrvtt-1ka", "/data/msrvtt")
        >>> scores = RetrievalEvaluator(processor, num_workers=4)(model, records, Accelerator())
        >>> scores["raw"]["text_to_video"]["R1"]
    """

    similarity = "dot product"  # what is compared, if not cosines

    def __init__(
        self,
        processor: Any,
        *,
        on_broken_video: Literal["raise", "skip"] = "raise",
        ties: Ties = "original",
        querybank: Any = None,
        **options: Any,
    ):
        super().__init__(processor, **options)
        self.on_broken_video, self.ties, self.querybank = on_broken_video, ties, querybank
        self.is_cosine = compares_cosines(processor)
        if querybank is not None and not self.is_cosine:
            raise ValueError(
                f"QB-Norm is made for cosines, but a model with a {type(processor).__name__} compares by dot product; "
                "leave the querybank out."
            )

    def metric_names(self) -> list[str]:
        """Names of the scores in a log, without prefix: `text_to_video_R1`, `text_to_video_R1_DSL`, …"""
        example = torch.eye(2)
        bank = None if self.querybank is None else example
        labels = torch.arange(2)
        scores = score_similarity(example, labels, text_bank=bank, video_bank=bank, is_cosine=self.is_cosine)
        return list(flat_scores(scores))

    def __call__(
        self, model: nn.Module, records: Any, accelerator: Accelerator, progress: Progress | None = None
    ) -> Scores:
        """Arguments, result and errors are those of [`Evaluator`]."""
        data = {SCORED: records} if self.querybank is None else {SCORED: records, BANK: self.querybank}
        self.open_parts(data, accelerator)
        encoded = {name: self._encode(name, chosen, model, accelerator, progress) for name, chosen in data.items()}
        embeddings = encoded[SCORED]
        self.tensors: dict[str, Any] = {"similarity": embeddings.similarity, "labels": embeddings.labels}
        if BANK in encoded:
            self.tensors["text_bank"] = encoded[BANK].similarity_to(embeddings.video_embeds)
            self.tensors["video_bank"] = embeddings.similarity_to(encoded[BANK].video_embeds).T
        if not self.is_cosine:
            self.tensors["is_cosine"] = torch.tensor(False)
        self.rows = embeddings.rows
        self.settings = self.describe(accelerator, len(records) - len(self.rows))
        return score_similarity(**self.tensors, ties=self.ties)

    def describe(self, accelerator: Accelerator, num_broken_videos: int) -> dict[str, str | int]:
        """What the model saw and how ties count, for the line above the table."""
        settings: dict[str, str | int] = self.input_protocol()
        if accelerator.mixed_precision != "no":
            settings["precision"] = accelerator.mixed_precision
        if num_broken_videos:
            settings["left out"] = f"{num_broken_videos} videos that do not decode"
        if not self.is_cosine:
            settings["similarity"] = f"{self.similarity}, so without DSL and QB-Norm, which are made for cosines"
        return {**settings, "ties": self.ties}

    def _encode(self, name, records, model, accelerator, progress) -> "PairEmbeddings":
        collator = RetrievalCollator(
            self.processor, records, training=False, on_broken_video=self.on_broken_video, features=self.features
        )
        batches = self.batches(name, records, collator, accelerator, progress)
        return encode_pairs(model, batches, records, accelerator, self.parts.get(name))


def compares_cosines(processor: Any) -> bool:
    """Whether the embeddings of the processor's model are unit vectors, which most models make."""
    return getattr(processor, "similarity", "cosine") == "cosine"


def sample_querybank(records: Any, scored: Any, size: int = 1000) -> Any:
    """
    Records for the banks of QB-Norm.

    Args:
        records (`datasets.Dataset`): another split of the dataset, e.g. the training split.
        scored (`datasets.Dataset`): the records that will be scored.
        size (defaults to 1000): videos, evenly spaced over `records`.

    Raises:
        ValueError: the two share videos. The bank must not know the queries.
    """
    if shared := set(scored["video_id"][:]).intersection(records["video_id"][:]):
        raise ValueError(
            f"the querybank holds {len(shared)} of the {len(scored)} videos that are scored, e.g. {min(shared)}; take "
            "a split without them, e.g. train."
        )
    rows = torch.linspace(0, len(records) - 1, min(size, len(records))).round().long()
    return records.select(rows.tolist())


@dataclass(frozen=True)
class PairEmbeddings:
    """
    Embeddings of all videos and captions, on the CPU, in the order of the records.

    Attributes:
        video_embeds: `[videos, dim]`.
        text_embeds: `[texts, dim]`; the captions of the first video come first.
        labels: `[texts]`, the video of each text.
        rows: the row of each video in the records. Broken videos are left out together with their captions.
    """

    video_embeds: Tensor
    text_embeds: Tensor
    labels: Tensor
    rows: list[int]

    @property
    def similarity(self) -> Tensor | Product:
        """Dot products `[texts, videos]`; of unit vectors they are cosines."""
        return self.similarity_to(self.video_embeds)

    def similarity_to(self, video_embeds: Tensor) -> Tensor | Product:
        """As `similarity`, `[texts, other videos]`. Equal captions get bit-equal rows, so their ties remain ties."""
        if len(self.text_embeds) * len(video_embeds) > LARGEST_MATRIX:
            return Product(self.text_embeds, video_embeds)
        different, row = self.text_embeds.unique(dim=0, return_inverse=True)
        return (different @ video_embeds.T)[row]


@torch.no_grad()
def encode_pairs(
    model: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    dataset: Any,
    accelerator: Accelerator,
    parts: BatchParts | None = None,
) -> PairEmbeddings:
    """
    Encode each video and each caption once, on however many processes.

    Args:
        model, accelerator: as for [`RetrievalEvaluator`].
        batches: those of [`evaluation_loader`].
        dataset: the records that the batches come from.
        parts (*optional*): keeps the finished batches; then `batches` are the missing ones.

    Returns:
        [`PairEmbeddings`], the same on every process.

    Raises:
        RuntimeError: rows of `dataset` are in no batch, although no video was skipped.
        ValueError, OSError: as for [`RetrievalEvaluator`].
    """
    encoded = list(parts.stored) if parts else []
    for batch in batches:
        rows = {name: batch[name] for name in INDICES}
        output = model(**{name: value for name, value in batch.items() if name not in INDICES})
        videos, texts = len(batch["video_index"]), len(batch["caption_index"])  # both 0 if all videos are broken
        # A CUDA graph (torch.compile's reduce-overhead) overwrites its output with the next batch, so copy it.
        video_embeds = output.video_embeds[:videos].to(torch.float32, copy=True)
        text_embeds = output.text_embeds[:texts].to(torch.float32, copy=True)
        encoded.append({**rows, "video_embeds": video_embeds, "text_embeds": text_embeds})
        if parts and videos:
            parts.write(int(batch["video_index"].min()), encoded[-1])
    num_broken = torch.tensor(sum(int(part["num_broken_videos"]) for part in encoded), device=accelerator.device)
    counts = torch.tensor([len(captions) for captions in dataset["captions"][:]])
    video_embeds, video_seen = _in_order(encoded, "video", len(counts), accelerator)
    text_embeds, text_seen = _in_order(encoded, "text", int(counts.sum()), accelerator)
    any_broken = int(accelerator.reduce(num_broken)) > 0
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    if not any_broken and not (video_seen.all() and text_seen.all()):
        raise RuntimeError(
            f"{int((~video_seen).sum())} of {len(video_seen)} videos and {int((~text_seen).sum())} of "
            f"{len(text_seen)} captions were in no batch; take the batches of evaluation_loader, which drops none."
        )
    if not video_seen.any():
        raise ValueError(f"none of the {len(counts)} videos decodes; `hf-videolang data check` says why.")
    new_row = video_seen.cumsum(0) - 1
    captions = [caption for texts in dataset["captions"][:] for caption in texts]
    return PairEmbeddings(
        video_embeds=video_embeds[video_seen],
        text_embeds=text_embeds[text_seen][_first_of_equals(captions, text_seen)],
        labels=new_row[labels[text_seen]],
        rows=video_seen.nonzero()[:, 0].tolist(),
    )


def _first_of_equals(captions: list[str], seen: Tensor) -> list[int]:
    """
    For each caption that was seen, the row of the first caption with the same words.

    Their embeddings differ in the last bits if they come from different batches, and then they would not tie.
    """
    first: dict[str, int] = {}
    rows = [caption for caption, was_seen in zip(captions, seen.tolist()) if was_seen]
    return [first.setdefault(caption, row) for row, caption in enumerate(rows)]


def _in_order(
    encoded: list[dict[str, Tensor]], side: str, size: int, accelerator: Accelerator
) -> tuple[Tensor, Tensor]:
    """The embeddings of all processes as one table `[size, dim]`, and which of its rows are filled."""
    index = "video_index" if side == "video" else "caption_index"
    rows = torch.cat([part[index].to(accelerator.device) for part in encoded])
    embeddings = torch.cat([part[f"{side}_embeds"].to(accelerator.device) for part in encoded])
    rows = accelerator.gather(accelerator.pad_across_processes(rows, pad_index=-1)).cpu()
    embeddings = accelerator.gather(accelerator.pad_across_processes(embeddings)).cpu()
    table, seen = embeddings.new_zeros(size, embeddings.shape[1]), torch.zeros(size, dtype=torch.bool)
    table[rows[rows >= 0]] = embeddings[rows >= 0]
    seen[rows[rows >= 0]] = True
    return table, seen


def score_similarity(
    similarity: Tensor | Product,
    labels: Tensor,
    ties: Ties = "original",
    text_bank: Tensor | Product | None = None,
    video_bank: Tensor | Product | None = None,
    pair_scores: Tensor | None = None,
    rerank_top: Tensor | int = 0,
    is_cosine: Tensor | bool = True,
) -> Scores:
    """
    Raw and post-processed scores in both directions, and what chance gives.

    Args:
        similarity, labels, ties: as for `retrieval_metrics`.
        text_bank (`[bank, videos]`, *optional*): similarities of training texts to the videos. With both banks there
            are also scores after QB-Norm.
        video_bank (`[bank, texts]`, *optional*): similarities of training videos to the texts.
        pair_scores (`[texts, videos]`, *optional*): of another model, see `hf_videolang.metrics.reranked`. There are
            also scores in which they order the `rerank_top` best candidates of each query.
        is_cosine (defaults to `True`): other scores, such as dot products, get no DSL.

    Returns:
        `{"raw": {"text_to_video": {"R1": …}, "video_to_text": …}, "DSL": …, "chance": …}`; in between, as asked for,
        `"QB-Norm"` and `"reranked (top 50)"`.
    """
    columns = labels.tolist()
    score = partial(retrieval_metrics, similarity, columns, ties)
    scores = {"raw": score()}
    if is_cosine:
        scores["DSL"] = score(processing=dual_softmax_by_rows(similarity))
    if text_bank is not None and video_bank is not None:
        scores["QB-Norm"] = score(processing=(querybank_norm_by_rows(text_bank), querybank_norm_by_rows(video_bank)))
    if pair_scores is not None:
        top = int(rerank_top)
        by_pairs = [partial(reranked, pair_scores=pairs, top=top) for pairs in (pair_scores, pair_scores.T)]
        scores[f"reranked (top {top})"] = score(processing=by_pairs)
    return {**scores, CHANCE: chance_metrics(columns, similarity.shape[1])}
