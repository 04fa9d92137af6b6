"""
Time and peak memory of the contrastive loss with its gradients: ours, open_clip's formula, and the definition.

    python benchmarks/contrastive_loss.py [--batch 4096] [--device cuda] [--output results.json]

- ours: `hf_videolang.losses.contrastive_loss`. It scales the features and reads one matrix in both directions.
- open_clip: `logit_scale * image @ text.T` and `logit_scale * text @ image.T`, as its ClipLoss computes them.
- definition: each direction scales a matrix of its own, `scale * (video @ text.T)`.

Each measurement is a process of its own with one thread on the CPU; the variants take turns, and medians count. Memory
is the most that was ever resident (VmHWM; on a GPU what torch had allocated) above what the features take before. As
in gradient_cache.py, memory is measured in runs of its own, in which the C library gives back at once what is freed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, normalize

from hf_videolang.losses import contrastive_loss

MIB = 2**20


def open_clip(video, text, logit_scale):
    scale, pairs = logit_scale.exp(), torch.arange(len(video), device=video.device)
    to_text, to_video = scale * video @ text.T, scale * text @ video.T
    return (cross_entropy(to_text, pairs) + cross_entropy(to_video, pairs)) / 2


def definition(video, text, logit_scale):
    pairs = torch.arange(len(video), device=video.device)
    to_text, to_video = (logit_scale.exp() * (a @ b.T) for a, b in ((video, text), (text, video)))
    return cross_entropy(to_text, pairs) + cross_entropy(to_video, pairs)


VARIANTS = {"ours": contrastive_loss, "open_clip": open_clip, "definition": definition}


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(name: str, batch: int, dim: int, device: str) -> dict[str, float]:
    """Loss and gradients twice in this process: the peak of the first time, and the seconds of the second."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features = [normalize(torch.randn(batch, dim, device=device)).requires_grad_() for _ in range(2)]
    logit_scale = torch.tensor(4.6, device=device, requires_grad=True)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
    VARIANTS[name](*features, logit_scale).backward()
    peak = (torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")) - before
    start = time.perf_counter()
    VARIANTS[name](*features, logit_scale).backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return {"peak": peak, "seconds": time.perf_counter() - start}


def in_new_process(*arguments, **environment: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    environment = {**os.environ, **environment}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default="benchmarks/results/contrastive_loss.json")
    parser.add_argument("--measure", nargs=4, metavar=("NAME", "BATCH", "DIM", "DEVICE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, batch, dim, device = args.measure
        print(json.dumps(measure(name, int(batch), int(dim), device)))
        return
    size = (args.batch, args.dim, args.device)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(args.rounds):
        for name in VARIANTS:
            seconds[name].append(in_new_process(name, *size)["seconds"])
    peaks = {name: in_new_process(name, *size, MALLOC_MMAP_THRESHOLD_="65536")["peak"] for name in VARIANTS}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{args.batch} x {args.dim}:    seconds  / open_clip       MiB  / open_clip")
    for name in VARIANTS:
        time_ratio, peak_ratio = medians[name] / medians["open_clip"], peaks[name] / peaks["open_clip"]
        print(f"{name:12}{medians[name]:14.3f}{time_ratio:13.2f}{peaks[name] / MIB:10.0f}{peak_ratio:13.2f}")
    report = {
        "batch": args.batch,
        "dim": args.dim,
        "seconds": seconds,
        "medians": medians,
        "peaks": peaks,
        "environment": {
            "packages": {"torch": version("torch")},
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if args.device == "cuda" else "CPU, one thread",
            "cores": os.cpu_count(),
            "load_before": os.getloadavg()[0],
        },
    }
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
