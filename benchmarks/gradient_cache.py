"""
Peak memory of one training step while the batch grows eightfold: at once, and in chunks with the gradient cache.

    python benchmarks/gradient_cache.py [--device cuda] [--chunk-size 8] [--output results.json]

The model has the widths of CLIP-ViP B/32 with two blocks a tower and a vocabulary of 4096, 4 frames of 224 x 224 and
32 tokens, so that a step is short and activations still dominate. Every measurement is a process of its own: loss and
gradients of random clips, no optimiser. Memory is the most that was ever resident (VmHWM; with --device cuda the most
that torch had allocated) above what the model and its gradients take before the step. On the CPU that contains the
inputs, which grow with the batch whatever one does; they are stated beside it and taken off in the ratios. On a GPU
only a chunk of them is there. Memory is measured in a run of its own, in which the C library gives back at once what
torch has freed (MALLOC_MMAP_THRESHOLD_), or one would measure what it keeps, which grows a little with the number of
chunks.
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
from typing import Any

import torch

BATCHES = (8, 16, 32, 64)
MIB = 2**20


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(batch: int, chunk_size: int, device: str) -> dict[str, float]:
    """One step in this process; with a chunk of 0 rows all at once."""
    from hf_videolang.losses import backward_in_chunks, contrastive_loss
    from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig
    from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    blocks = {"num_hidden_layers": 2}
    vocabulary = {"vocab_size": 4096, "bos_token_id": 4094, "eos_token_id": 4095, "pad_token_id": 4095}
    config = CLIPViPConfig(text_config={**blocks, **vocabulary}, vision_config={**blocks, "patch_size": 32})
    model = CLIPViPModel(config)
    model.to(device).train()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter).fill_(0)  # memory counts when it is written to

    def encode(rows):
        outputs = model(**{name: tensor.to(device) for name, tensor in rows.items()})
        return outputs.video_embeds, outputs.text_embeds

    def loss(video, text):
        return contrastive_loss(video, text, model.logit_scale)

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
    inputs = {
        "pixel_values_videos": torch.rand(batch, 4, 3, 224, 224),
        "input_ids": torch.randint(4096, (batch, 32)),
    }
    start = time.perf_counter()
    if chunk_size:
        backward_in_chunks(encode, loss, inputs, chunk_size, loss_parameters=[model.logit_scale])
    else:
        loss(*encode(inputs)).backward()
    seconds = time.perf_counter() - start
    peak = (torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")) - before
    size = sum(tensor.nbytes for tensor in inputs.values())
    return {
        "batch": batch,
        "chunk_size": chunk_size,
        "peak": peak,
        "inputs": size,
        "peak_without_inputs": peak - (0 if device == "cuda" else size),
        "seconds": seconds,
    }


def in_new_process(*arguments, **environment: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    environment = {**os.environ, **environment}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--chunk-size", type=int, default=BATCHES[0])
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each batch; medians count")
    parser.add_argument("--output", default="benchmarks/results/gradient_cache.json")
    parser.add_argument("--measure", nargs=3, metavar=("BATCH", "CHUNK", "DEVICE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        batch, chunk_size, device = args.measure
        print(json.dumps(measure(int(batch), int(chunk_size), device)))
        return
    results: dict[str, list[dict[str, Any]]] = {"at once": [], "gradient cache": []}
    print(f"{'batch':>5}{'inputs':>12}{'at once':>22}{'gradient cache':>24}   (peak less inputs, time)")
    for batch in BATCHES:
        line = f"{batch:5}"
        for name, chunk_size in {"at once": 0, "gradient cache": args.chunk_size}.items():
            result = in_new_process(batch, chunk_size, args.device, MALLOC_MMAP_THRESHOLD_="65536")
            times = [in_new_process(batch, chunk_size, args.device)["seconds"] for _ in range(args.rounds)]
            result |= {"seconds": statistics.median(times), "all_seconds": times}
            results[name].append(result)
            line += f"{result['inputs'] / MIB:8.0f} MiB" if name == "at once" else "  "
            line += f"{result['peak_without_inputs'] / MIB:10.0f} MiB{result['seconds']:6.1f} s"
        print(line, flush=True)
    growth = {name: rows[-1]["peak_without_inputs"] / rows[0]["peak_without_inputs"] for name, rows in results.items()}
    whole, cached = (rows[-1] for rows in results.values())
    memory = cached["peak_without_inputs"] / whole["peak_without_inputs"]
    seconds = cached["seconds"] / whole["seconds"]
    print(f"batch x {BATCHES[-1] // BATCHES[0]}: ", end="")
    print(f"peak x {growth['at once']:.2f} at once, x {growth['gradient cache']:.2f} with the gradient cache")
    print(f"batch {BATCHES[-1]}: the gradient cache takes {memory:.2f} x the memory and {seconds:.2f} x the time")
    environment = {
        "packages": {name: version(name) for name in ("torch", "transformers")},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "CPU, one thread",
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    report = {"growth": growth, "memory": memory, "time": seconds, "results": results}
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(report | {"environment": environment}, indent=1) + "\n")


if __name__ == "__main__":
    main()
