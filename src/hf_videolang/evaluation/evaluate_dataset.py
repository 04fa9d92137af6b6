"""A model scored on a dataset, both by name. The task of the dataset decides what is scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator

from hf_videolang.data.batches.clip_reader import check_features, check_pixels, may_read_frames
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.evaluation.captioning import CaptioningEvaluator
from hf_videolang.evaluation.evaluation import Evaluation, check_earlier_results
from hf_videolang.evaluation.moment_retrieval import MomentRetrievalEvaluator
from hf_videolang.evaluation.pair_scoring import PairScoringEvaluator, is_pair_scorer
from hf_videolang.evaluation.question_answering import QuestionAnsweringEvaluator
from hf_videolang.evaluation.reranking import RerankingEvaluator
from hf_videolang.evaluation.retrieval import RetrievalEvaluator, sample_querybank
from hf_videolang.evaluation.saved_similarity import SavedSimilarity
from hf_videolang.folder_lock import locked_folder
from hf_videolang.hub.heads import CAPTION_HEAD, RETRIEVAL_HEAD, check_compares
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.hub.model_version import model_version
from hf_videolang.inference.first_use import complete_features
from hf_videolang.metrics.retrieval import Ties

HEADS = {"retrieval": RETRIEVAL_HEAD, "moment_retrieval": RETRIEVAL_HEAD, "captioning": CAPTION_HEAD}
FROM_FEATURES = {"moment_retrieval": "moments are found in", "captioning": "captions are written from"}
BATCH_SIZES = {"moment_retrieval": 50}  # the authors', which changes the scores; 16 of other tasks


def evaluate_dataset(
    model: str,
    dataset: str,
    data_dir: str | None = None,
    split: str | None = None,
    *,
    features: str | None = None,
    extractors: Mapping[str, str] | None = None,
    num_frames: int | None = None,
    num_clips: int | None = None,
    max_length: int | None = None,
    ties: Ties = "original",
    querybank: str | None = None,
    querybank_size: int = 1000,
    rerank: str | None = None,
    rerank_top: int = 50,
    cache_gigabytes: float = 4.0,
    nms: float | None = None,
    legacy_index: bool = False,
    on_broken_video: Literal["raise", "skip"] | None = None,
    batch_size: int | None = None,
    num_workers: int = 2,
    mixed_precision: str = "no",
    cpu: bool = False,
    output_dir: str | Path | None = None,
    overwrite: bool = False,
) -> Evaluation | None:
    """
    Score a model in a benchmark's protocol, or on a folder of one's own, and print protocol and scores.

    `hf-videolang evaluate` calls this. Its help explains the options, which have the same names.

    Args:
        extractors: name of an extractor → folder of its weights, for what the store of features lacks.
        output_dir: keeps finished batches, so that a killed evaluation continues, and gets the results.

    Returns:
        The scores with their protocol; `None` on every process but the first.

    Raises:
        VideoDecodingError: a video is broken, and `on_broken_video` is "raise".
        ValueError, OSError: model, dataset or options cannot be used, or `output_dir` holds other results.

    Example:
        >>> evaluation = evaluate_dataset("clip-vip-b16", "msrvtt-1ka", "/data/msrvtt")
        >>> evaluation.scores["raw"]["text_to_video"]["R1"]
    """
    folder = None if output_dir is None else Path(output_dir)
    with locked_folder(folder):
        found = find_dataset(dataset, data_dir)
        is_retrieval = found.task == "retrieval"
        if features is None and found.task in FROM_FEATURES:
            raise ValueError(f"{FROM_FEATURES[found.task]} stored features; give their folder as --features.")
        loaded, processor = load_model_and_processor(
            model, num_frames, max_length, HEADS.get(found.task), num_clips=num_clips
        )
        use_cpu = cpu or not torch.accelerator.is_available()
        store = None
        if features:
            wanted = found.read(split)[0] + (found.read(querybank)[0] if querybank else [])
            store = complete_features(features, wanted, processor, extractors, cpu=use_cpu, num_workers=num_workers)
            check_features(store, loaded, processor)
        elif may_read_frames(processor):
            check_pixels(loaded, processor)
        reading = {"need_videos": store is None, "skip_absent": is_retrieval and on_broken_video == "skip"}
        records, protocol = found.load(split, **reading)
        version = model_version(model, loaded.config)

        # ---- Evaluator ----
        options: dict[str, Any] = {
            "batch_size": batch_size or BATCH_SIZES.get(found.task, 16),
            "num_workers": num_workers,
            "folder": folder,
            "provenance": {**version, "dataset": protocol.name, "split": protocol.split},
        }
        if on_broken_video is not None and found.task not in FROM_FEATURES:
            options["on_broken_video"] = on_broken_video
        evaluator: Any
        if found.task == "question_answering":
            evaluator = QuestionAnsweringEvaluator(processor, features=store, **options)
        elif found.task == "captioning":
            evaluator = CaptioningEvaluator(processor, store, **options)
        elif found.task == "moment_retrieval":
            assert store is not None
            evaluator = MomentRetrievalEvaluator(
                processor, store, nms_threshold=nms, legacy_index=legacy_index, **options
            )
        else:
            check_compares(loaded)
            bank = None
            if querybank:
                bank = sample_querybank(found.load(querybank, **reading)[0], records, querybank_size)
            options["ties"] = ties
            if is_pair_scorer(loaded):
                evaluator = PairScoringEvaluator(processor, cache_gigabytes=cache_gigabytes, querybank=bank, **options)
            else:
                evaluator = RetrievalEvaluator(processor, querybank=bank, features=store, **options)
        seen = evaluator.input_protocol()
        pair_scorer = None
        if rerank:
            pair_scorer, second = load_model_and_processor(rerank)
            if type(evaluator) is not RetrievalEvaluator or not is_pair_scorer(pair_scorer):
                raise ValueError(
                    f"--rerank is {rerank} ({type(pair_scorer).__name__}), --model is {model} "
                    f"({type(loaded).__name__}), and the data are for {found.task}; expected a pair scorer, a model "
                    "that embeds texts and videos, and data for retrieval."
                )
            read_again = {**options["provenance"], "pair scorer": model_version(rerank, pair_scorer.config)}
            again = PairScoringEvaluator(
                second, cache_gigabytes=cache_gigabytes, **{**options, "provenance": read_again}
            )
            evaluator = RerankingEvaluator(evaluator, again, pair_scorer, rerank, rerank_top)
            seen |= evaluator.input_protocol()
        if folder is not None and not overwrite:
            check_earlier_results(folder, version["version"], protocol, seen, finished=False)

        # ---- Scores ----
        accelerator = Accelerator(cpu=use_cpu, mixed_precision=mixed_precision)
        if pair_scorer is not None:
            accelerator.prepare_model(pair_scorer, evaluation_mode=True)
        scores = evaluator(accelerator.prepare_model(loaded, evaluation_mode=True), records, accelerator)
        accelerator.wait_for_everyone()
        accelerator.end_training()  # leaves the process group: the rest is the work of one process
        if not accelerator.is_main_process:
            return None
        if is_retrieval:
            settings = {**evaluator.settings, **({"querybank": querybank} if querybank else {})}
            saved = SavedSimilarity(model, str(version["version"]), protocol, settings, evaluator.tensors)
            evaluation = Evaluation.of_similarity(saved, scores, ties)
        else:
            summary = {"scores": {**scores, **scores["raw"].get("overall", {})}, **evaluator.counts}
            evaluation = Evaluation(
                model, str(version["version"]), protocol, evaluator.settings, scores, evaluator.save, summary
            )
        print(evaluation, flush=True)  # before it is saved, which may fail
        if folder is not None:
            evaluation.save(folder, overwrite)
        evaluator.remove_parts()
        return evaluation
