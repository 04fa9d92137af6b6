"""
Time of VideoCLIP's two towers, batch 64, against their matrix products alone.

    python benchmarks/videoclip.py [--rounds 5] [--threads 1] [--output benchmarks/results/videoclip.json]

Published sizes, random weights, float32, no gradient: videos of 32 rows through the projector and 6 layers (34
positions), texts of 63 tokens through 12 layers. The products are those of the linear layers and of the attention,
with the real shapes, as plain `a @ b`. Tower and products take turns; the ratio is the median over the rounds. Target
1.15.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from s3d_encode import environment

from hf_videolang.models.videoclip.configuration_videoclip import VideoCLIPConfig
from hf_videolang.models.videoclip.modeling_videoclip import VideoCLIPModel

BATCH, SECONDS, TOKENS, TARGET = 64, 32, 63, 1.15
WIDTH, INNER, HEADS, FEATURES = 768, 3072, 12, 512


def products(positions: int, layers: int, projected_rows: int) -> Callable[[], None]:
    """Every product of a tower with `positions` a sample; `projected_rows` go through the projector first."""
    rows, head = BATCH * positions, WIDTH // HEADS
    shapes = [(1, projected_rows, FEATURES, WIDTH), (1, projected_rows, WIDTH, WIDTH)] if projected_rows else []
    shapes += layers * [
        *4 * [(1, rows, WIDTH, WIDTH)],
        (1, rows, WIDTH, INNER),
        (1, rows, INNER, WIDTH),
        (BATCH * HEADS, positions, head, positions),
        (BATCH * HEADS, positions, positions, head),
    ]
    factors = {
        shape: (torch.randn(shape[0], shape[1], shape[2]), torch.randn(shape[0], shape[3], shape[2]).transpose(1, 2))
        for shape in set(shapes)
    }

    def run() -> None:
        for shape in shapes:
            left, right = factors[shape]
            left[0] @ right[0] if shape[0] == 1 else left @ right

    return run


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/videoclip.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = VideoCLIPModel(VideoCLIPConfig()).eval()
    video = torch.nn.functional.normalize(torch.randn(BATCH, SECONDS, FEATURES), dim=-1)
    text = torch.randint(1000, 30000, (BATCH, TOKENS))
    work: dict[str, tuple[Callable, Callable]] = {
        "video tower": (
            lambda: model.get_video_features(video_features=video),
            products(SECONDS + 2, 6, BATCH * SECONDS),
        ),
        "text tower": (lambda: model.get_text_features(text), products(TOKENS, 12, 0)),
    }
    report: dict = {"environment": environment(), "threads": args.threads, "target": TARGET}
    for name, turns in work.items():
        times = [[seconds(turn) for turn in turns] for _ in range(args.rounds + 1)][1:]
        ratio = statistics.median(tower / bare for tower, bare in times)
        report[name] = {"seconds": times, "ratio": ratio}
        tower, bare = (statistics.median(column) for column in zip(*times))
        print(f"{name:12}{tower:8.2f} s, products {bare:6.2f} s, ratio {ratio:.2f} (target {TARGET})", flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
