"""
Time and peak memory of S3D's video network against the same network in plain eager PyTorch.

    python benchmarks/s3d_encode.py [--rounds 5] [--threads 1] [--output benchmarks/results/s3d_encode.json]

Input: 4 clips of 30 frames of 224 x 224, float32 in 0..1, random weights of the published widths. "Plain" is
`tests/models/s3d/plain_twin.py`: the operations of s3d §1 one after the other, each batch norm on its own, in torch's
default layout. The two take turns in one process; the ratio of times is the median over the rounds. Peak memory comes
from fresh processes: the most that was ever resident (VmHWM) less what was resident before the call. Targets: time
0.8, memory 1.0, outputs equal to 1e-5 relative to the largest value. On a GPU, where there is one, the same in bf16.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from hf_videolang.models.s3d.modeling_s3d import S3DVideoModel
from tests.common.tiny.s3d import random_statistics
from tests.models.s3d.plain_twin import original_network

TARGETS = {"time": 0.8, "memory": 1.0, "difference": 1e-5}


def build() -> tuple[S3DVideoModel, torch.Tensor]:
    torch.manual_seed(0)
    model = S3DVideoModel(S3DConfig()).eval()
    random_statistics(model)
    return model, torch.rand(4, 30, 3, 224, 224)


@torch.no_grad()
def encode(kind: str, model: S3DVideoModel, clips: torch.Tensor) -> torch.Tensor:
    """[4, 30, 3, 224, 224] -> [4, 512]"""
    return model.fc(original_network(model, clips)) if kind == "plain" else model(clips).video_embeds


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def take_turns(model: S3DVideoModel, clips: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for turn in range(rounds + 1):
        for kind in times:
            value = seconds(lambda kind=kind: encode(kind, model, clips))
            if turn:  # the first round warms up
                times[kind].append(value)
    return times


def ratio(times: dict[str, list[float]]) -> float:
    return statistics.median(ours / plain for ours, plain in zip(times["ours"], times["plain"], strict=True))


def resident(field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def peak_memory(kind: str, threads: int) -> int:
    """Bytes over the built model and its input, in a fresh process."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import torch, s3d_encode as b; "
        f"torch.set_num_threads({threads}); model, clips = b.build(); before = b.resident('VmRSS'); "
        f"b.encode({kind!r}, model, clips); print(b.resident('VmHWM') - before)"
    )
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def environment() -> dict:
    cpu_info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(": ")[1] for line in cpu_info.splitlines() if line.startswith("model name")]
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "transformers")},
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/s3d_encode.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report: dict = {"environment": environment(), "targets": TARGETS, "threads": args.threads}
    model, clips = build()
    plain, ours = encode("plain", model, clips), encode("ours", model, clips)
    report["difference"] = ((ours - plain).abs().max() / plain.abs().max()).item()
    report["seconds"] = take_turns(model, clips, args.rounds)
    report["time"] = ratio(report["seconds"])
    report["bytes"] = {kind: peak_memory(kind, args.threads) for kind in ("plain", "ours")}
    report["memory"] = report["bytes"]["ours"] / report["bytes"]["plain"]
    for kind, times in report["seconds"].items():
        print(f"{kind:6}{statistics.median(times):8.2f} s{report['bytes'][kind] / 1e6:8.0f} MB")
    for name, target in TARGETS.items():
        print(f"{name:12}{report[name]:10.3g}   target {target:g}")
    if torch.cuda.is_available():
        model, clips = model.to("cuda", torch.bfloat16), clips.to("cuda", torch.bfloat16)
        report["gpu_seconds"] = take_turns(model, clips, 4 * args.rounds)
        report["gpu_time"] = ratio(report["gpu_seconds"])
        print(f"GPU, bf16   {report['gpu_time']:10.3g}   target {TARGETS['time']:g}")
    else:
        print("GPU: did not run, no CUDA device here")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
