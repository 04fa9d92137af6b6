"""Kinds `metrics` and `distributed_eval_order`: the evaluation of the original, and ours."""

from collections import Counter
from math import ceil
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, SequentialSampler

from hf_videolang.evaluation.retrieval import encode_pairs, score_similarity
from hf_videolang.metrics import dual_softmax, retrieval_metrics
from tests.parity.cases import Case

DIRECTIONS = {"t2v": "text_to_video", "v2t": "video_to_text"}


def check_metrics(case: Case, tmp_path: Path) -> None:
    assert case.tolerances["metrics"] == "exact"
    for name, expected in case.meta["expected_metrics"].items():
        similarity = case.inputs[f"{name}/similarity"]
        reweighted = dual_softmax(similarity)
        torch.testing.assert_close(
            reweighted,
            case.expected[f"{name}/similarity_dsl"],
            atol=case.tolerances["similarity_dsl_atol"],
            rtol=0,
        )
        for setting, scores in {"simple": similarity, "DSL": reweighted}.items():
            found = retrieval_metrics(scores)
            for direction, values in expected[setting].items():
                assert found[DIRECTIONS[direction]] == values, (name, setting, direction)
        scores = score_similarity(similarity, torch.arange(len(similarity)))
        for direction in DIRECTIONS:
            assert scores["DSL"][DIRECTIONS[direction]] == expected["DSL"][direction], (name, direction)
        if multi := expected.get("multi"):
            assert retrieval_metrics(similarity, multi["labels"])["text_to_video"] == multi["t2v"], (name, "multi")


def original_order(num_items: int, world_size: int, batch_size: int) -> list[int]:
    """
    The order of the original's evaluation. Its list is padded from its start to a multiple of `world_size`. Process r
    reads items r, r + world_size, …, and after every step the batches of all processes are concatenated.
    """
    per_process = ceil(num_items / world_size)
    padded = [index % num_items for index in range(per_process * world_size)]
    return [
        item
        for start in range(0, per_process, batch_size)
        for rank in range(world_size)
        for item in padded[rank::world_size][start : start + batch_size]
    ]


def our_order(num_items: int, world_size: int, batch_size: int) -> list[int]:
    """
    The order of items in the table of `encode_pairs` when Accelerate shards the batches, with some items repeated.

    `encode_pairs` gets the batches of all processes, which stands for gathering them.
    """
    batches = BatchSampler(SequentialSampler(range(num_items)), batch_size, drop_last=False)
    shares = [
        torch.tensor(batch) for rank in range(world_size) for batch in BatchSamplerShard(batches, world_size, rank)
    ]
    names = ("item", "video_index", "caption_index", "caption_video_index")
    everyone = SimpleNamespace(
        device="cpu",
        reduce=lambda tensor: tensor,
        gather=lambda tensor: tensor,
        pad_across_processes=lambda tensor, **_: tensor,
    )
    pairs = encode_pairs(
        lambda item: SimpleNamespace(video_embeds=item[:, None], text_embeds=-item[:, None]),
        [{"num_broken_videos": torch.tensor(0), **dict.fromkeys(names, share)} for share in shares],
        {"captions": [[str(item)] for item in range(num_items)]},
        everyone,
    )
    assert torch.equal(pairs.text_embeds, -pairs.video_embeds)
    assert pairs.labels.tolist() == list(range(num_items))
    return pairs.video_embeds[:, 0].int().tolist()


def check_distributed_eval_order(case: Case, tmp_path: Path) -> None:
    assert case.meta["cases"]
    for setting in case.meta["cases"]:
        sizes = {name: setting[name] for name in ("num_items", "world_size", "batch_size")}
        gathered = original_order(**sizes)
        kept = gathered[: setting["num_items"]]
        assert gathered == setting["gathered_order"]
        assert kept == setting["kept_after_truncation"]
        assert sorted(item for item, times in Counter(kept).items() if times > 1) == setting["duplicated"]
        assert sorted(set(gathered) - set(kept)) == setting["lost"]
        assert our_order(**sizes) == list(range(setting["num_items"])), sizes


CHECKS = {"metrics": check_metrics, "distributed_eval_order": check_distributed_eval_order}
