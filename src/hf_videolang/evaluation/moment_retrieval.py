"""Scores the moments that a model finds by queries in a corpus of videos (hero §9)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel, gather_object
from torch import Tensor, nn

from hf_videolang.data.batches.moment_retrieval import SubtitledVideoCollator, query_rows
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.evaluator import Evaluator, save_json
from hf_videolang.evaluation.loader import Progress
from hf_videolang.evaluation.scores import Scores
from hf_videolang.hub.heads import check_finds_moments
from hf_videolang.inference.moment_ranking import FoundMoments, MomentRanking, find_moments
from hf_videolang.metrics.moments import IOUS, TOP, average_recall, moment_recalls, video_recalls

QUERY_BATCH = 80  # queries that are encoded together
PREDICTIONS = "predictions.json"
ENCODINGS = "encodings"  # the folder of the finished batches


class MomentRetrievalEvaluator(Evaluator):
    """
    Score a model on queries about moments of subtitled videos: corpus moment retrieval (VCMR), retrieval within the
    query's own video (SVMR), and retrieval of videos (VR).

    The videos are encoded in the order of their ids, `batch_size` at once. The padding of a batch acts on the last two
    frames of its videos (hero §3), so the batch size is a part of the protocol.

    Args:
        processor: of the model. It decides rows of features, subtitles and the length of moments.
        features: of the videos.
        batch_size (defaults to 50): videos that are encoded together.
        nms_threshold (*optional*): the IoU above which a moment is left out in favour of a better one.
        legacy_index (defaults to `False`): reproduce the fault of the original (hero §9.2).
        options: as of [`Evaluator`]. Batches are kept in the folder `encodings`.

    Attributes, after a call:
        predictions (`dict`): in the layout of the benchmark's submissions (hero §9.3).
        counts (`dict[str, int]`): `queries`.

    Example:
        >>> model, processor = load_model_and_processor("org/hero-tvr")
        >>> records, protocol = load_dataset("my_folder", split="test")
        >>> scores = MomentRetrievalEvaluator(processor, FeatureStore("features"))(model, records, Accelerator())
        >>> scores["raw"]["VCMR_IoU0.7"]["AveR"]
    """

    def __init__(
        self,
        processor: Any,
        features: FeatureStore,
        *,
        batch_size: int = 50,
        nms_threshold: float | None = None,
        legacy_index: bool = False,
        **options: Any,
    ):
        super().__init__(processor, features, batch_size=batch_size, **options)
        legacy_length = processor.max_frames if legacy_index else None
        self.ranking = MomentRanking.of(processor, nms_threshold=nms_threshold, legacy_length=legacy_length)

    def metric_names(self) -> list[str]:
        """Names of the scores in a log, without prefix: `VCMR_IoU0.7_AveR`, `VR_R1`, …"""
        moments = [f"{kind}_IoU{iou}" for kind in ("VCMR", "SVMR") for iou in IOUS]
        return [f"{group}_{metric}" for group in (*moments, "VR") for metric in (*(f"R{k}" for k in TOP), "AveR")]

    def __call__(
        self, model: nn.Module, records: Any, accelerator: Accelerator, progress: Progress | None = None
    ) -> Scores:
        """
        Arguments, result and errors are those of [`Evaluator`]. Of queries about whole videos, there are the scores of
        video retrieval (VR) alone.
        """
        plain: Any = extract_model_from_parallel(model)
        check_finds_moments(plain)
        names = records["video_id"][:]
        records = records.select(sorted(range(len(records)), key=names.__getitem__))
        frames, mask = self._encode_videos(plain, records, accelerator, progress)
        rows, number = query_rows(records), {name: place for place, name in enumerate(records["video_id"][:])}
        own = torch.tensor([number[name] for name in rows["video_id"][:]])
        texts = rows["text"][:]
        found = self._find(plain, texts, own, frames, mask, accelerator)
        self._keep_predictions(found, texts, number)
        self.counts = {"queries": len(rows)}
        self.settings = {
            **self.input_protocol(),
            "encoded together": f"{self.batch_size} videos",
            "moments": f"{self.ranking.min_frames} to {self.ranking.max_frames - 1} rows apart",
        }
        if self.ranking.nms_threshold is not None:
            self.settings["suppressed above"] = f"IoU {self.ranking.nms_threshold:g}"
        if self.ranking.legacy_length is not None:
            self.settings["index"] = "with the fault of the original"
        spans = [[[start, end]] for start, end in zip(rows["start"][:], rows["end"][:])]
        scores = score_moments(found, own.tolist(), spans)
        has_moments = not math.isnan(spans[0][0][0])
        return {"raw": scores if has_moments else {"VR": scores["VR"]}}

    def save(self, folder: Path) -> None:
        """Write the predictions."""
        save_json(folder / PREDICTIONS, self.predictions)

    @torch.inference_mode()
    def _encode_videos(self, model, records, accelerator, progress) -> tuple[Tensor, Tensor]:
        """Frames [videos, frames, width] and mask [videos, frames] of all videos, on the CPU of every process."""
        self.features.check_complete(records["video_id"][:])
        self.open_parts({ENCODINGS: records}, accelerator)
        collator, mine = _NumberedVideos(self.processor, self.features, records["video_id"][:]), []
        for batch in self.batches(ENCODINGS, records, collator, accelerator, progress):
            index = batch["video_index"].cpu()
            with accelerator.autocast():
                encoded = model.get_video_features(**{k: v for k, v in batch.items() if k != "video_index"})
            part = {"video_index": index, "frames": encoded.frame_embeds.float().cpu()}
            mine.append({**part, "mask": encoded.video_attention_mask.cpu()})
            self.keep(ENCODINGS, index, mine[-1])
        found = self.stored(ENCODINGS) + gather_object(mine)
        longest = max(part["mask"].shape[1] for part in found)
        frames = torch.zeros(len(records), longest, found[0]["frames"].shape[-1])
        mask = torch.zeros(len(records), longest, dtype=torch.long)
        for part in found:
            frames[part["video_index"], : part["mask"].shape[1]] = part["frames"]
            mask[part["video_index"], : part["mask"].shape[1]] = part["mask"]
        return frames, mask

    @torch.inference_mode()
    def _find(self, model, texts: Sequence[str], own, frames, mask, accelerator) -> list["FoundMoments"]:
        """What each query finds; the queries are divided among the processes."""
        size, device = -(-len(texts) // accelerator.num_processes), accelerator.device
        first = accelerator.process_index * size
        found: list[FoundMoments] = []
        for start in range(first, min(first + size, len(texts)), QUERY_BATCH):
            stop = min(start + QUERY_BATCH, first + size, len(texts))
            inputs = self.processor(text=list(texts[start:stop])).to(device)
            with accelerator.autocast():
                queries = model.get_text_features(**inputs).text_embeds.float()
            corpus = frames.to(device), mask.to(device)
            found += find_moments(model, queries, *corpus, own[start:stop].to(device), self.ranking)
        return gather_object(found)

    def _keep_predictions(
        self, found: Sequence["FoundMoments"], texts: Sequence[str], number: Mapping[str, int]
    ) -> None:
        queries = [{"desc_id": query, "desc": text} for query, text in enumerate(texts)]
        self.predictions = {
            "video2idx": dict(number),
            "VCMR": [{**query, "predictions": one.moments} for query, one in zip(queries, found, strict=True)],
            "SVMR": [{**query, "predictions": one.own_moments} for query, one in zip(queries, found)],
            "VR": [{**query, "predictions": one.videos} for query, one in zip(queries, found)],
        }


class _NumberedVideos(SubtitledVideoCollator):
    def __init__(self, processor: Any, features: FeatureStore, video_ids: Sequence[str]):
        super().__init__(processor, features)
        self.number = {name: place for place, name in enumerate(video_ids)}

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        index = torch.tensor([self.number[record["video_id"]] for record in records])
        return {**super().__call__(records), "video_index": index}


def score_moments(
    found: Sequence[FoundMoments], own: Sequence[int], spans: Sequence[Sequence[Sequence[float]]]
) -> dict[str, dict[str, float]]:
    """
    Args:
        found: of each query.
        own: its video.
        spans: its moments in seconds.

    Returns:
        Group (`VCMR_IoU0.5`, …, `VR`) → metric (`R1`, …, `AveR`) → share.
    """
    references = [{"video": video, "spans": some} for video, some in zip(own, spans, strict=True)]
    scores: dict[str, dict[str, float]] = {}
    for kind, predictions in (("VCMR", [one.moments for one in found]), ("SVMR", [one.own_moments for one in found])):
        recalls = moment_recalls(predictions, references)
        for iou in IOUS:
            group = {f"R{k}": recalls[f"R{k}_IoU{iou}"] for k in TOP}
            scores[f"{kind}_IoU{iou}"] = {**group, "AveR": average_recall(recalls, iou)}
    recalls = video_recalls([one.videos for one in found], own)
    return {**scores, "VR": {**recalls, "AveR": average_recall(recalls)}}
