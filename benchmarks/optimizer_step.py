"""
Milliseconds of one update of all parameters of CLIP-ViP B/32: DecayLastAdamW against torch's own AdamW.

    python benchmarks/optimizer_step.py [--device cuda] [--rounds 9] [--output benchmarks/results/optimizer_step.json]

The variants take turns in one process, with one thread on the CPU; the table gives medians and ratios to
`torch.optim.AdamW(foreach=True)`, which passes over the parameters once for each of its operations.
"""

import argparse
import json
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import torch

from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel
from hf_videolang.training.optimization import DecayLastAdamW

VARIANTS = {
    "torch AdamW, foreach": lambda parameters, **options: torch.optim.AdamW(parameters, foreach=True, **options),
    "torch AdamW, fused": lambda parameters, **options: torch.optim.AdamW(parameters, fused=True, **options),
    "DecayLastAdamW": DecayLastAdamW,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", default="benchmarks/results/optimizer_step.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with torch.device("meta"):
        shapes = [
            parameter.shape for parameter in CLIPViPModel(CLIPViPConfig(vision_config={"patch_size": 32})).parameters()
        ]
    optimizers = {}
    for name, make in VARIANTS.items():
        parameters = [torch.nn.Parameter(torch.randn(shape, device=args.device)) for shape in shapes]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizers[name] = make(parameters, lr=1e-6, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
        optimizers[name].step()  # warm, with its state
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(args.rounds):
        for name, optimizer in optimizers.items():
            start = time.perf_counter()
            optimizer.step()
            if args.device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    baseline = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:24}{1000 * median:9.1f} ms{median / baseline:8.2f} x")
    environment = {
        "packages": {name: version(name) for name in ("torch", "transformers")},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "CPU, one thread",
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    report = {
        "parameters": sum(shape.numel() for shape in shapes),
        "seconds": times,
        "medians": medians,
        "environment": environment,
    }
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
