"""
Memory and time of a training step of ClipBERT: 2 videos of 4 clips of 2 frames, 448 pixels, two captions each.

    python benchmarks/clipbert_train.py [--device cuda] [--output results.json]

Loss and gradients, no optimiser. Memory is the most that was resident in the first step (VmHWM; with --device cuda the
most that torch had allocated) above what the model and its gradients take. On the CPU that contains the pixels, the
same for all; they are stated beside it. Memory and time are measured in processes of their own. In the first the C
library gives back at once what torch has freed (MALLOC_MMAP_THRESHOLD_), or one would measure what it keeps, which is
more with many small steps. The model has the full size and random weights; the first two stages of the CNN do not
train, as always.

- all clips at once: one forward pass, as `run_retrieval` trains;
- one by one: a forward pass a clip, as in the authors' loop;
- activation checkpointing: activations are computed again in the backward pass, those of the CNN clip by clip
  (`activation_checkpointing: true` in a recipe). At most 0.5 x the memory for at most 1.45 x the time; its gradients
  equal the others to 1e-5;
- channels-last: the CNN's weights and pictures in that layout;
- bf16: under autocast.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from clip_vip_encode import environment
from gradient_cache import MIB, resident

from hf_videolang.models.clipbert.configuration_clipbert import ClipBertConfig
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForVideoTextRetrieval

VARIANTS = ("at once", "one by one", "checkpointing", "channels-last", "bf16")
TARGETS = {"memory": 0.5, "time": 1.45, "gradients": 1e-5}
VIDEOS, CLIPS, FRAMES, LENGTH = 2, 4, 2, 20


def make_inputs(size: int, device: str) -> dict[str, torch.Tensor]:
    inputs = {
        "input_ids": torch.randint(1000, 30000, (2 * VIDEOS, LENGTH)),
        "pixel_values_videos": torch.randn(VIDEOS, CLIPS, FRAMES, 3, size, size) * 60,
        "labels": torch.tensor([1, 0] * VIDEOS),
        "video_index": torch.arange(VIDEOS).repeat_interleave(2),
    }
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def make_step(
    variant: str, size: int, device: str
) -> tuple[ClipBertForVideoTextRetrieval, Callable[[], torch.Tensor]]:
    """The model, and a function that computes loss and gradients."""
    torch.manual_seed(0)
    with torch.device(device):
        model = ClipBertForVideoTextRetrieval(ClipBertConfig(score_aggregation="logsumexp")).train()
    if variant == "checkpointing":
        model.activation_checkpointing_enable()
    if variant == "channels-last":
        model.clipbert.cnn.to(memory_format=torch.channels_last)
    inputs = make_inputs(size, device)

    def one_by_one() -> torch.Tensor:
        pixels, labels = inputs["pixel_values_videos"], inputs["labels"]
        texts = {"input_ids": inputs["input_ids"], "video_index": inputs["video_index"]}
        clips = [model(**texts, pixel_values_videos=pixels[:, clip]).logits for clip in range(CLIPS)]
        return torch.nn.functional.cross_entropy(model.pool_clips(torch.stack(clips)), labels)

    def step() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16) if variant == "bf16" else nullcontext():
            loss = one_by_one() if variant == "one by one" else model(**inputs).loss
        loss.backward()
        return loss.detach()

    return model, step


def measure(variant: str, size: int, device: str, steps: int, threads: int) -> dict:
    """Memory of the first step, seconds of the next `steps`, in this process."""
    torch.set_num_threads(threads)
    model, step = make_step(variant, size, device)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter).fill_(0)  # memory counts when it is written to
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
    step()
    peak = (torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")) - before
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        step().item()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return {"variant": variant, "peak": peak, "seconds": times}


def difference_of_gradients(size: int, threads: int) -> float:
    """The largest difference that checkpointing makes to a gradient, as a share of its largest entry."""
    torch.set_num_threads(threads)
    gradients = []
    for variant in ("at once", "checkpointing"):
        model, step = make_step(variant, size, "cpu")
        torch.manual_seed(1)  # the same dropout
        step()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    one, other = gradients
    found = [name for name in one if one[name] is not None]
    return max(((one[n] - other[n]).abs().max() / one[n].abs().max().clamp(min=1e-12)).item() for n in found)


def in_new_process(*arguments, **environment: str) -> dict:
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    environment = {**os.environ, **environment}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each variant; the fastest counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", default="benchmarks/results/clipbert_train.json")
    parser.add_argument("--measure", nargs=5, metavar=("VARIANT", "SIZE", "DEVICE", "STEPS", "THREADS"))
    args = parser.parse_args()
    if args.measure:
        variant, size, device, steps, threads = args.measure
        print(json.dumps(measure(variant, int(size), device, int(steps), int(threads))))
        return
    begin, load_before = time.perf_counter(), environment()
    report: dict = {"environment": load_before, "targets": TARGETS, "size": args.size}
    report["pixels"] = make_inputs(args.size, "cpu")["pixel_values_videos"].nbytes
    report["gradients"] = difference_of_gradients(min(args.size, 224), args.threads)
    print(f"checkpointing changes gradients by {report['gradients']:.1g} at most (target {TARGETS['gradients']:.0e})")
    results = {}
    for variant in VARIANTS:
        settings = (variant, args.size, args.device)
        results[variant] = in_new_process(*settings, args.steps, args.threads)
        results[variant]["peak"] = in_new_process(*settings, 0, args.threads, MALLOC_MMAP_THRESHOLD_="65536")["peak"]
        found, plain = results[variant], results["at once"]
        found["time_ratio"] = min(found["seconds"]) / min(plain["seconds"])
        found["memory_ratio"] = found["peak"] / plain["peak"]
        print(
            f"{variant:14} {found['peak'] / MIB:7.0f} MiB ({report['pixels'] / MIB:.0f} of them pixels), "
            f"{min(found['seconds']):6.1f} s: {found['memory_ratio']:.2f} x the memory, "
            f"{found['time_ratio']:.2f} x the time",
            flush=True,
        )
    report |= {"results": results, "duration": time.perf_counter() - begin}
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['duration'] / 60:.1f} minutes; raw figures in {args.output}")


if __name__ == "__main__":
    main()
