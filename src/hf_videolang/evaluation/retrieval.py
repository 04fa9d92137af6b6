"""
Evaluation over all pairs: encode every video and every caption once, score everything, count ranks.

One implementation for two callers: `RetrievalTrainer` during training and `hf-videolang evaluate`. (Training may
import inference, never the other way round.)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hf_videolang.data.batches.retrieval import RetrievalCollator
from hf_videolang.data.protocol import Protocol
from hf_videolang.evaluation.batch_parts import EmbeddingParts
from hf_videolang.metrics import dual_softmax, querybank_norm, retrieval_metrics
from hf_videolang.metrics.retrieval import Ties

Scores = dict[str, dict[str, dict[str, float]]]
INDICES = ("video_index", "caption_index", "caption_video_index", "num_broken_videos")  # not for the model
DIRECTIONS = ("text_to_video", "video_to_text")


@dataclass(frozen=True)
class PairEmbeddings:
    """
    The encoded data set, on the CPU, in the order of its rows.

    Attributes:
        video_embeds: `[videos, dim]`, unit vectors.
        text_embeds: `[texts, dim]`, unit vectors, the captions of the first video first.
        labels: `[texts]`, the video of each text.
        num_broken_videos: videos that did not decode and were left out together with their captions.
    """

    video_embeds: Tensor
    text_embeds: Tensor
    labels: Tensor
    num_broken_videos: int = 0

    @property
    def similarity(self) -> Tensor:
        """Cosines `[texts, videos]`."""
        return self.similarity_to(self.video_embeds)

    def similarity_to(self, video_embeds: Tensor) -> Tensor:
        """
        Cosines `[texts, other videos]`. Equal captions have equal rows, to the bit: their ties are ties.

        Args:
            video_embeds (`[other videos, dim]`): unit vectors.
        """
        different, row = self.text_embeds.unique(dim=0, return_inverse=True)
        return (different @ video_embeds.T)[row]


def evaluation_loader(
    dataset: Any,
    processor: Any,
    accelerator: Accelerator,
    *,
    batch_size: int = 16,
    num_workers: int = 0,
    on_broken_video: Literal["raise", "skip"] = "raise",
    first_rows: Sequence[int] | None = None,
) -> DataLoader:
    """
    Batches of `RetrievalCollator` over `dataset`, shared out among the processes.

    A batch is `batch_size` rows from a multiple of `batch_size` on, whatever the number of processes. Every process
    gets as many batches as the others, as sharded models need; for that some batches come twice, which
    [`encode_pairs`] sorts out by their index. No row is dropped.

    Args:
        batch_size: videos of a process at once, with all their captions.
        num_workers: processes that decode.
        on_broken_video: "raise" an error, or "skip" it together with its captions.
        first_rows: only the batches that begin with these rows; all of them by default.
    """
    firsts = list(range(0, len(dataset), batch_size) if first_rows is None else first_rows)
    each = math.ceil(len(firsts) / accelerator.num_processes)
    turns = range(accelerator.process_index, each * accelerator.num_processes, accelerator.num_processes)
    mine = [firsts[turn % len(firsts)] for turn in turns]
    loader = DataLoader(
        dataset,
        batch_sampler=[list(range(first, min(first + batch_size, len(dataset)))) for first in mine],
        collate_fn=RetrievalCollator(processor, dataset, training=False, on_broken_video=on_broken_video),
        num_workers=num_workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    # shared out already; this only moves the batches to the device
    return prepare_data_loader(loader, accelerator.device, num_processes=1, process_index=0, put_on_device=True)


@torch.no_grad()
def encode_pairs(
    model: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    dataset: Any,
    accelerator: Accelerator,
    parts: EmbeddingParts | None = None,
) -> PairEmbeddings:
    """
    Both sides of `dataset`, each video and each caption once, however many processes share the work.

    Args:
        model: gives `text_embeds` and `video_embeds`, unit vectors; in evaluation mode.
        batches: those of [`evaluation_loader`], perhaps behind a progress bar.
        dataset: the records that the batches come from.
        accelerator: knows the other processes.
        parts: where encoded batches are kept; then `batches` are those that are missing there.

    Returns:
        [`PairEmbeddings`], the same on all processes.

    Raises:
        RuntimeError: rows of `dataset` are in no batch, although nothing was skipped.
        ValueError: every video was skipped.
        OSError: a part cannot be written.
    """
    encoded = [] if parts is None else list(parts.stored)
    for batch in batches:
        rows = {name: batch[name] for name in INDICES}
        output = model(**{name: value for name, value in batch.items() if name not in INDICES})
        videos, texts = len(batch["video_index"]), len(batch["caption_index"])  # 0 of a stand-in
        # Copied, since a CUDA graph (torch.compile's reduce-overhead) writes the next batch's to the same place.
        video_embeds = output.video_embeds[:videos].to(torch.float32, copy=True)
        text_embeds = output.text_embeds[:texts].to(torch.float32, copy=True)
        encoded.append({**rows, "video_embeds": video_embeds, "text_embeds": text_embeds})
        if parts is not None and videos:
            parts.write(encoded[-1])
    num_broken = torch.tensor(sum(int(part["num_broken_videos"]) for part in encoded), device=accelerator.device)
    counts = torch.tensor([len(captions) for captions in dataset["captions"]])
    video_embeds, video_seen = _in_order(encoded, "video", len(counts), accelerator)
    text_embeds, text_seen = _in_order(encoded, "text", int(counts.sum()), accelerator)
    any_broken = int(accelerator.reduce(num_broken)) > 0
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    if not any_broken and not (video_seen.all() and text_seen.all()):
        raise RuntimeError(
            f"{int((~video_seen).sum())} of {len(video_seen)} videos and {int((~text_seen).sum())} of "
            f"{len(text_seen)} captions were in no batch; use evaluation_loader, which drops none."
        )
    if not video_seen.any():
        raise ValueError(f"none of the {len(counts)} videos decodes; `hf-videolang data check` tells why.")
    new_row = video_seen.cumsum(0) - 1
    captions = [caption for texts in dataset["captions"] for caption in texts]
    return PairEmbeddings(
        video_embeds=video_embeds[video_seen],
        text_embeds=text_embeds[text_seen][_first_of_equals(captions, text_seen)],
        labels=new_row[labels[text_seen]],
        num_broken_videos=int((~video_seen).sum()),
    )


def _first_of_equals(captions: list[str], seen: Tensor) -> list[int]:
    """
    For each caption that was seen, the row of the first one with the same words.

    Encoded in different batches, the same words differ in the last bits, and chance would decide what is a tie.
    """
    first: dict[str, int] = {}
    rows = [caption for caption, was_seen in zip(captions, seen.tolist()) if was_seen]
    return [first.setdefault(caption, row) for row, caption in enumerate(rows)]


def _in_order(
    encoded: list[dict[str, Tensor]], side: str, size: int, accelerator: Accelerator
) -> tuple[Tensor, Tensor]:
    """The embeddings of all processes as one table `[size, dim]`, and which of its rows were there."""
    index = {"video": "video_index", "text": "caption_index"}[side]
    rows = torch.cat([part[index].to(accelerator.device) for part in encoded])
    embeddings = torch.cat([part[f"{side}_embeds"].to(accelerator.device) for part in encoded])
    rows = accelerator.gather(accelerator.pad_across_processes(rows, pad_index=-1)).cpu()
    embeddings = accelerator.gather(accelerator.pad_across_processes(embeddings)).cpu()
    table, seen = embeddings.new_zeros(size, embeddings.shape[1]), torch.zeros(size, dtype=torch.bool)
    table[rows[rows >= 0]] = embeddings[rows >= 0]
    seen[rows[rows >= 0]] = True
    return table, seen


def score_similarity(
    similarity: Tensor,
    labels: Tensor,
    ties: Ties = "original",
    text_bank: Tensor | None = None,
    video_bank: Tensor | None = None,
) -> Scores:
    """
    Raw scores and the post-processed ones, each with both directions and what `retrieval_metrics` counts.

    Args:
        similarity (`[texts, videos]`): cosines.
        labels (`[texts]`): the video of each text.
        ties (`str`, defaults to `"original"`): see `text_to_video_ranks`.
        text_bank (`[bank, videos]`, *optional*), video_bank (`[bank, texts]`, *optional*): similarities of training
            texts to the videos, and of training videos to the texts; with them also `"QB-Norm"`.

    Returns:
        `{"raw": {"text_to_video": {"R1": …}, "video_to_text": …}, "DSL": …, "QB-Norm": …}`.
    """
    columns = labels.tolist()
    scores = {
        "raw": retrieval_metrics(similarity, columns, ties),
        "DSL": retrieval_metrics(dual_softmax(similarity), columns, ties),
    }
    if text_bank is not None and video_bank is not None:
        to_videos = retrieval_metrics(querybank_norm(similarity, text_bank), columns, ties)
        to_texts = retrieval_metrics(querybank_norm(similarity.T, video_bank).T, columns, ties)
        scores["QB-Norm"] = {
            "text_to_video": to_videos["text_to_video"],
            "video_to_text": to_texts["video_to_text"],
        }
    return scores


def protocol_line(dataset: Protocol, protocol: Mapping[str, str | int]) -> str:
    """Data set and settings in one line, to stand above every table."""
    return "; ".join([str(dataset), *(f"{name}: {value}" for name, value in protocol.items())])


def score_table(scores: Scores) -> str:
    """Recalls in per cent and ranks; a column each for raw and post-processed scores."""
    lines = [f"{'':<22}" + "".join(f"{name:>9}" for name in scores)]
    for direction in DIRECTIONS:
        for number, metric in enumerate(scores["raw"][direction]):
            title = f"{direction.replace('_', ' ') if number == 0 else '':<14}{metric:<8}"
            scale = 100 if metric.startswith("R") else 1
            lines.append(title + "".join(f"{scale * column[direction][metric]:>9.1f}" for column in scores.values()))
    return "\n".join(lines)


def flat_metrics(scores: Scores, prefix: str = "") -> dict[str, float]:
    """`{"text_to_video_R1": …, "text_to_video_R1_DSL": …}`, for logs and selection."""
    return {
        f"{prefix}{direction}_{metric}{'' if name == 'raw' else '_' + name}": value
        for name, directions in scores.items()
        for direction, metrics in directions.items()
        for metric, value in metrics.items()
    }
