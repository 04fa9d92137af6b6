"""
Scores of texts with videos by ClipBERT: the authors' procedure against ours, in operations and in seconds.

    python benchmarks/clipbert_retrieval.py [--device cuda] [--output results.json]

The model has the full size and random weights; clips have two frames of 448 pixels, texts 6 to 18 tokens (12 on
average) of at most 20. The authors score a video with 64 texts at a time (256 in the validation of a run). For each
of these they run the CNN again, and they compute padding, every token of the last layer, and the projections of the
first. We run the CNN once a clip and compute nothing of that (`evaluation/pair_scoring.py`). Both use float32.

Four numbers are measured: all pairs against 64 and against 256 texts at a time, and the second stage of reranking,
which scores the best 1 of 20 videos of each text, as the top 50 of 1,000 do. Variants take turns; medians count.
`flop_ratio` is how many more operations the authors' procedure takes for the sizes that ran, `time_ratio` how much
more time. Operations are those of products and convolutions. They are counted for the test of MSR-VTT, too, where
clipbert §14 has the authors' figures.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from clip_vip_encode import environment
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hf_videolang.evaluation.pair_scoring import PreparedTexts, count_flops, score_videos
from hf_videolang.models.clipbert.configuration_clipbert import ClipBertConfig
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForVideoTextRetrieval

SHAPE = (1, 2, 3, 448, 448)  # clips, frames and pixels of a video
MAX_LENGTH, LENGTHS = 20, (6, 9, 12, 15, 18)
TARGETS = {"all pairs": 0.9, "reranking": 0.7}  # time_ratio as a share of flop_ratio
SPECIFICATION = {"authors": 1.31e16, "ratio": 1.36}  # clipbert §14, 1,000 x 1,000


def full_size(device: str) -> ClipBertForVideoTextRetrieval:
    with torch.device(device):
        return ClipBertForVideoTextRetrieval(ClipBertConfig()).eval()


def make_texts(count: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Random tokens `[texts, 20]` and their mask."""
    lengths = torch.tensor(LENGTHS).repeat(-(-count // len(LENGTHS)))[:count]
    mask = (torch.arange(MAX_LENGTH) < lengths[:, None]).long()
    return (torch.randint(1000, 30000, mask.shape) * mask).to(device), mask.to(device)


def authors_procedure(model, pixels, ids, mask, at_once: int) -> torch.Tensor:
    """Scores `[videos, texts]`."""
    rows = []
    for video in pixels:
        for first in range(0, len(ids), at_once):
            some = slice(first, first + at_once)
            logits = model(ids[some], video[None], mask[some]).logits
            rows.append(logits[:, 1] - logits[:, 0])
    return torch.cat(rows).view(len(pixels), len(ids)).cpu()


def our_procedure(model, pixels, ids, mask, asked) -> torch.Tensor:
    """Scores `[pairs]`."""
    tokens = [row[kept.bool()] for row, kept in zip(ids, mask)]
    return score_videos(model, pixels, asked, PreparedTexts(model, tokens, 10**9, ids.device), 10**9)


def authors_flops(videos: int, texts: int, at_once: int, unit: dict[str, int]) -> int:
    return videos * (-(-texts // at_once) * unit["clip"] + texts * unit["pair"])


def authors_units(model) -> dict[str, int]:
    """Operations of the CNN for a clip, and of a pair behind it, as the model's `forward` computes them."""
    device, unit = model.device, {}
    ids = torch.full((1, MAX_LENGTH), 5, device=device)
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            embeds = model.get_video_features(torch.zeros(1, *SHAPE, device=device)).video_embeds
        unit["clip"] = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            model(ids, video_embeds=embeds)
        unit["pair"] = counter.get_total_flops()
    return unit


def seconds(work: Callable[[], object], device: str) -> float:
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def compare(
    authors: dict[str, Callable], ours: Callable, flops: dict[str, int], own_flops: int, pairs: int, args
) -> dict:
    """Seconds of each procedure in turns; the ratio of each of the authors' variants to ours."""
    works = {"ours": ours, **authors}
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(args.rounds):
        names = list(works)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(seconds(works[name], args.device))
    middle = {name: statistics.median(values) for name, values in times.items()}
    result: dict = {"pairs": pairs, "seconds": times, "seconds_a_pair_ours": middle["ours"] / pairs, "against": {}}
    for name in authors:
        ratios = {"flop_ratio": flops[name] / own_flops, "time_ratio": middle[name] / middle["ours"]}
        result["against"][name] = {**ratios, "share": ratios["time_ratio"] / ratios["flop_ratio"]}
    return result


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--rerank-videos", type=int, default=20, help="videos and texts of the reranking")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", default="benchmarks/results/clipbert_retrieval.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    begin = time.perf_counter()
    load_before = environment()
    model = full_size(args.device)
    unit = authors_units(model)
    print(f"a clip of two frames: {unit['clip'] / 1e9:.2f} GFLOP; a padded pair: {unit['pair'] / 1e9:.2f} GFLOP")

    thousand = torch.ones(1000, 1000, dtype=torch.bool)
    lengths = torch.tensor(LENGTHS).repeat(200)
    best = torch.zeros_like(thousand)
    for text in range(1000):
        best[(torch.arange(50) * 20 + text) % 1000, text] = True  # 50 videos of each text, 50 texts of each video
    whole = {"authors": authors_flops(1000, 1000, 64, unit), "specification": SPECIFICATION}
    for name, asked in {"ours": thousand, "reranking": best}.items():
        whole[name] = count_flops(model, SHAPE, asked, lengths, args.device)
    whole["flop_ratio"] = whole["authors"] / whole["ours"]
    whole["rerank_flop_ratio"] = whole["authors"] / whole["reranking"]
    print(
        f"1,000 x 1,000: {whole['authors']:.3g} FLOPs by the authors (specification {SPECIFICATION['authors']:.3g}), "
        f"{whole['flop_ratio']:.2f} x ours (specification {SPECIFICATION['ratio']}), "
        f"{whole['rerank_flop_ratio']:.1f} x the reranking of the top 50 (target 20)"
    )

    pixels = torch.randn(args.videos, *SHAPE, device=args.device) * 60
    ids, mask = make_texts(args.texts, args.device)
    asked = torch.ones(args.videos, args.texts, dtype=torch.bool)
    scores = our_procedure(model, pixels[:1], ids[:8], mask[:8], asked[:1, :8])
    difference = (scores - authors_procedure(model, pixels[:1], ids[:8], mask[:8], 64).flatten()).abs().max().item()
    print(f"largest difference of scores: {difference:.1g}", flush=True)
    lengths = mask.sum(1).cpu()
    report: dict = {"environment": load_before, "unit": unit, "msrvtt": whole, "largest_difference": difference}
    report["all pairs"] = compare(
        {f"{n} texts at a time": lambda n=n: authors_procedure(model, pixels, ids, mask, n) for n in (64, 256)},
        lambda: our_procedure(model, pixels, ids, mask, asked),
        {f"{n} texts at a time": authors_flops(args.videos, args.texts, n, unit) for n in (64, 256)},
        count_flops(model, SHAPE, asked, lengths, args.device),
        asked.numel(),
        args,
    )

    size = args.rerank_videos
    pixels, (ids, mask) = torch.randn(size, *SHAPE, device=args.device) * 60, make_texts(size, args.device)
    best = torch.eye(size, dtype=torch.bool)
    for shift in range(1, max(1, size // 20)):
        best |= best.roll(shift, 1)
    rounds, args.rounds = args.rounds, 1  # the authors' procedure takes most of the time
    report["reranking"] = compare(
        {"all pairs": lambda: authors_procedure(model, pixels, ids, mask, 64)},
        lambda: our_procedure(model, pixels, ids, mask, best),
        {"all pairs": authors_flops(size, size, 64, unit)},
        count_flops(model, SHAPE, best, mask.sum(1).cpu(), args.device),
        int(best.sum()),
        args,
    )
    args.rounds = rounds
    for name, share in TARGETS.items():
        for against, found in report[name]["against"].items():
            print(
                f"{name}, against {against}: {found['flop_ratio']:.2f} x the operations, {found['time_ratio']:.2f} x "
                f"the time, {found['share']:.2f} of that (target {share}); "
                f"ours {report[name]['seconds_a_pair_ours']:.3f} s a pair"
            )
    first = report["all pairs"]["against"]["64 texts at a time"]
    report |= {"flop_ratio": first["flop_ratio"], "time_ratio": first["time_ratio"]}
    report["duration"] = time.perf_counter() - begin
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['duration'] / 60:.1f} minutes; raw figures in {args.output}")


if __name__ == "__main__":
    main()
