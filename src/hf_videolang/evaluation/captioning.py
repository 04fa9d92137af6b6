"""Captions that a model writes, against those that people wrote (hero §9.3)."""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, extract_model_from_parallel, gather_object
from torch import nn

from hf_videolang.data.batches.captioning import SegmentCollator
from hf_videolang.evaluation.evaluator import Evaluator, save_json
from hf_videolang.evaluation.loader import Progress
from hf_videolang.evaluation.scores import Scores
from hf_videolang.hub.heads import check_writes_captions
from hf_videolang.metrics.captions import caption_metrics, default_tokenizer

PREDICTIONS = "captions.jsonl"
CAPTIONS = "captions"  # the folder of the finished batches
NUMBERS = ("segment_number", "video_number")  # not for the model
TOKENIZERS = {
    "stanford": "Stanford's, as published",
    "treebank": "NLTK's Treebank rule, which differs from the published one on rare forms",
}


class CaptioningEvaluator(Evaluator):
    """
    Score the captions that a model writes of the segments of subtitled videos.

    The model's `generation_config` decides how it writes. A segment behind the rows of features that are read gets an
    empty caption, and is counted. CIDEr, the main score, depends on the references of all segments together.

    Args:
        as of [`Evaluator`], with `features` of the videos. Batches are kept in the folder `captions`.

    Attributes, after a call:
        predictions (`list[dict]`): a line a segment, in the layout of the benchmark's submissions (hero §9.3).
        counts (`dict[str, int]`): `clips`.

    Example:
        >>> model, processor = load_model_and_processor("org/hero-tvc")
        >>> records, protocol = load_dataset("my_folder", split="test")
        >>> scores = CaptioningEvaluator(processor, FeatureStore("features"))(model, records, Accelerator())
        >>> scores["raw"]["captions"]["CIDEr"]
    """

    def metric_names(self) -> list[str]:
        """Names of the scores in a log, without prefix. METEOR needs Java."""
        return [f"captions_{metric}" for metric in ("CIDEr", "METEOR", "ROUGEL", "BLEU1", "BLEU2", "BLEU3", "BLEU4")]

    def __call__(
        self, model: nn.Module, records: Any, accelerator: Accelerator, progress: Progress | None = None
    ) -> Scores:
        """Arguments, result and errors are those of [`Evaluator`]; a `JavaError` if captions cannot be scored here."""
        plain: Any = extract_model_from_parallel(model)
        check_writes_captions(plain)
        self.features.check_complete(records["video_id"][:])
        segments = [
            (video_id, segment)
            for video_id, some in zip(records["video_id"][:], records["segments"][:])
            for segment in some
        ]
        written = self._write(plain, records, accelerator, progress)
        texts = [written.get(number, "") for number in range(len(segments))]
        self.predictions = [
            {
                "vid_name": video_id,
                "clip_id": number,
                **({} if segment["start"] is None else {"ts": [segment["start"], segment["end"]]}),
                "descs": [{"desc": text}],
            }
            for number, ((video_id, segment), text) in enumerate(zip(segments, texts))
        ]
        self.counts = {"clips": len(segments)}
        references = [segment["captions"] for _, segment in segments]
        # One process counts words, since Java is slow; the others wait.
        found = caption_metrics(texts, references) if accelerator.is_main_process else {}
        scores: dict[str, float] = broadcast_object_list([found])[0]
        self.settings = self._settings(plain, len(segments), len(segments) - len(written))
        if "METEOR" not in scores:
            self.settings["METEOR"] = "not measured (needs Java)"
        return {"raw": {"captions": {**scores, "clips": len(segments)}}}

    def save(self, folder: Path) -> None:
        """Write the captions, a segment a line."""
        save_json(folder / PREDICTIONS, self.predictions, lines=True)

    def _settings(self, model: Any, num_segments: int, num_behind: int) -> dict[str, str | int]:
        settings: dict[str, str | int] = {
            **self.input_protocol(),
            "decoding": decoding(model),
            "words": TOKENIZERS[default_tokenizer()],
            "CIDEr": f"word frequencies of the references of these {num_segments} clips",
        }
        if num_behind:
            settings["not seen"] = f"{num_behind} clips behind the rows that are read, scored as empty captions"
        return settings

    @torch.inference_mode()
    def _write(self, model: Any, records: Any, accelerator: Accelerator, progress: Any) -> dict[int, str]:
        """Number of a segment → caption, on every process."""
        self.open_parts({CAPTIONS: records}, accelerator, decoding=decoding(model))
        found, mine = self.stored(CAPTIONS), []
        collator = SegmentCollator(self.processor, self.features, records)
        for batch in self.batches(CAPTIONS, records, collator, accelerator, progress, "video_number", "video"):
            numbers = {name: batch[name].cpu() for name in NUMBERS}
            ids = torch.zeros(0, 1, dtype=torch.long)
            if len(numbers["segment_number"]):
                inputs = {name: value for name, value in batch.items() if name not in NUMBERS}
                with accelerator.autocast():
                    ids = model.generate(**inputs).cpu()
            mine.append({**numbers, "ids": ids})
            self.keep(CAPTIONS, numbers["video_number"], mine[-1])
        found += gather_object(mine)
        decode = self.processor.batch_decode
        return {
            number: text.strip()
            for part in found
            for number, text in zip(part["segment_number"].tolist(), decode(part["ids"], skip_special_tokens=True))
        }


def decoding(model: Any) -> str:
    """How a model writes, in words."""
    config = model.generation_config
    beams = config.num_beams or 1
    way = f"beam search with {beams} beams" if beams > 1 else "the likeliest word each time"
    return f"{'sampled words' if config.do_sample else way}, at most {config.max_new_tokens}"
