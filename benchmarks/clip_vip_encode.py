"""
Time and peak memory of CLIP-ViP's video encoding, B/16, 12 frames, random weights, against what it cannot do without.

    python benchmarks/clip_vip_encode.py [--rounds 3] [--output benchmarks/results/clip_vip_encode.json]

Two baselines take turns with the model in one process:

- products: every matrix product of the forward pass alone, with the real shapes, as plain `a @ b`: patch embedding,
  the linear layers, and queries times keys and weights times values of the attention (421 GFLOP a clip).
- dense: the same weights and maths written plainly: one `scaled_dot_product_attention` over all tokens under a dense
  boolean mask, convolution for the patches, quick GELU as its formula.

The ratios are medians over the rounds of time / time of the products in the same round. A forward pass is held against
the products once, forward plus backward against three times the products: backward needs two products for each. The
full output and the pooled feature (`pooled_only`, the default, which skips most of the last block) are held against
the same products. Backward runs once, and the dense baseline once (its backward for one clip alone), whatever the
rounds. All in all eight to nine minutes on two idle cores. Page faults stand beside the time: each gives the process a
page of fresh memory. With MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=8589934592 the C library keeps what
torch has freed, and there are none.

Memory: fresh interpreters with one thread; the most that was ever resident (VmHWM), in all and less what was resident
once the whole model (both towers) was built. The original, run in the same way, takes 4.0 GB in all for one clip with
backward and 6.3 GB for two; the target is 80 % of that.

On a GPU (videos/s of the forward pass and of a contrastive training step in bf16, with and without torch.compile) the
share is of the best bf16 matrix product measured there. Without a GPU this part says that it did not run.
"""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel

FRAMES, PATCHES, PROXIES, WIDTH, HEADS, BLOCKS, PROJECTION = 12, 196, 4, 768, 12, 12, 512
TOKENS = PROXIES + FRAMES * PATCHES
ORIGINAL_PEAK = {1: 4.0e9, 2: 6.3e9}  # bytes, forward + backward
TARGETS = {"full output": 1.10, "pooled feature": 1.02, "memory": 0.80, "gpu forward": 0.55, "gpu step": 0.45}

Product = tuple[int, int, int, int, int]  # times, batch, rows, inner, columns


def b16() -> CLIPViPModel:
    torch.manual_seed(0)
    return CLIPViPModel(CLIPViPConfig(vision_config={"patch_size": 16}))


def products_of_the_forward_pass(clips: int, pooled_only: bool = False) -> list[Product]:
    """Every matrix product of the video tower. With `pooled_only` the last block makes one token a clip."""

    def block(queries: int) -> list[Product]:
        attention = [(clips * HEADS, PROXIES if queries > 1 else 1, TOKENS)]
        if queries > 1:
            attention += [(clips * FRAMES * HEADS, PATCHES, PROXIES + PATCHES)]
        return [
            (2, 1, clips * TOKENS, WIDTH, WIDTH),  # keys, values
            (2, 1, clips * queries, WIDTH, WIDTH),  # queries, output
            (1, 1, clips * queries, WIDTH, 4 * WIDTH),
            (1, 1, clips * queries, 4 * WIDTH, WIDTH),
            *((1, batch, rows, WIDTH // HEADS, keys) for batch, rows, keys in attention),
            *((1, batch, rows, keys, WIDTH // HEADS) for batch, rows, keys in attention),
        ]

    blocks = (BLOCKS - 1) * block(TOKENS) + block(1 if pooled_only else TOKENS)
    return [
        (1, 1, clips * FRAMES * PATCHES, 3 * 16 * 16, WIDTH),
        *blocks,
        (1, 1, clips, WIDTH, PROJECTION),
    ]


def flop(products: list[Product]) -> int:
    return sum(2 * times * batch * rows * inner * columns for times, batch, rows, inner, columns in products)


def run_products(clips: int, dtype: torch.dtype) -> Callable[[], None]:
    todo, factors = products_of_the_forward_pass(clips), {}
    for _, batch, rows, inner, columns in todo:
        left, right = (
            torch.randn(batch, rows, inner, dtype=dtype),
            torch.randn(batch, columns, inner, dtype=dtype),
        )
        if batch == 1:  # weights as nn.Linear keeps them: [columns, inner]
            factors[batch, rows, inner, columns] = left[0], right[0].t()
        else:
            factors[batch, rows, inner, columns] = left, right.transpose(1, 2).contiguous()

    def run() -> None:
        for times, *shape in todo:
            left, right = factors[tuple(shape)]
            for _ in range(times):
                left @ right

    return run


def dense_encode(model: CLIPViPModel, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The baseline: pixels [B, 12, 3, 224, 224] -> last hidden state and projected feature."""
    tower, embeddings = model.vision_model, model.vision_model.embeddings
    patches = embeddings.patch_embedding(pixels.flatten(0, 1)).flatten(2).transpose(1, 2)
    patches = patches.unflatten(0, (-1, FRAMES)) + embeddings.position_embedding.weight[1:]
    patches = patches + embeddings.temporal_embedding[:, :, None]
    proxies = torch.cat([embeddings.class_embedding[None], embeddings.added_cls])
    proxies = (proxies + embeddings.position_embedding.weight[0]).expand(len(pixels), -1, -1)
    hidden = tower.pre_layrnorm(torch.cat([proxies, patches.flatten(1, 2)], dim=1))
    frame = torch.cat([torch.full((PROXIES,), -1), torch.arange(FRAMES).repeat_interleave(PATCHES)])
    mask = (frame[:, None] == frame[None]) | (frame[:, None] < 0) | (frame[None] < 0)
    for layer in tower.encoder.layers:
        attention, normed = layer.self_attn, layer.layer_norm1(hidden)
        query, key, value = (
            projection(normed).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        hidden = hidden + attention.out_proj(attended.transpose(1, 2).flatten(2))
        inner = layer.mlp.fc1(layer.layer_norm2(hidden))
        hidden = hidden + layer.mlp.fc2(inner * torch.sigmoid(1.702 * inner))
    return hidden, model.visual_projection(tower.post_layernorm(hidden[:, 0]))


def encode(model: CLIPViPModel, pixels: torch.Tensor, kind: str) -> tuple[torch.Tensor, ...]:
    if kind == "dense":
        return dense_encode(model, pixels)
    output = model.get_video_features(pixels, pooled_only=kind == "pooled feature")
    hidden = output.last_hidden_state
    return (output.pooler_output,) if hidden is None else (hidden, output.pooler_output)


def forward(model: CLIPViPModel, pixels: torch.Tensor, kind: str) -> None:
    with torch.no_grad():
        encode(model, pixels, kind)


def forward_backward(model: CLIPViPModel, pixels: torch.Tensor, kind: str) -> None:
    model.zero_grad()
    sum(output.sum() for output in encode(model, pixels, kind)).backward()


def seconds_and_faults(work: Callable[[], None]) -> tuple[float, int]:
    faults, begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    work()
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults


def time_on_cpu(
    clips: int, threads: int, dtype: torch.dtype, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Seconds and page faults of every variant, round by round; the slow ones take part in the first round only."""
    torch.set_num_threads(threads)
    model, pixels = b16().to(dtype), torch.randn(clips, FRAMES, 3, 224, 224, dtype=dtype)
    products = run_products(clips, dtype)
    fast = {"products": products}
    fast |= {kind: lambda kind=kind: forward(model, pixels, kind) for kind in ("full output", "pooled feature")}
    slow = {
        "full output + backward": lambda: forward_backward(model, pixels, "full output"),
        "dense": lambda: forward(model, pixels, "dense"),
        "dense + backward": lambda: forward_backward(model, pixels, "dense"),
    }
    if clips > 1 or dtype != torch.float32:
        del slow["dense + backward"]
    products(), fast["full output"]()  # warm
    times: dict[str, list[float]] = {name: [] for name in (*fast, *slow)}
    faults: dict[str, list[int]] = {name: [] for name in (*fast, *slow)}

    def measure(name: str, work: Callable[[], None]) -> None:
        value, count = seconds_and_faults(work)
        times[name].append(value)
        faults[name].append(count)

    for turn in range(rounds):
        names = list(fast)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            measure(name, fast[name])
        if turn == 0:
            for name, work in slow.items():
                measure(name, work)
    return times, faults


def ratios(times: dict[str, list[float]]) -> dict[str, float]:
    return {
        name: statistics.median(
            value / product / (3 if "backward" in name else 1)
            for value, product in zip(values, times["products"], strict=False)
        )
        for name, values in times.items()
    }


def resident(field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def peak_memory(clips: int, kind: str, backward: bool) -> dict[str, int]:
    """In this interpreter, which should have done nothing before."""
    torch.set_num_threads(1)
    model = b16()
    built = resident("VmRSS")
    (forward_backward if backward else forward)(model, torch.randn(clips, FRAMES, 3, 224, 224), kind)
    peak = resident("VmHWM")
    return {"peak": peak, "over_model": peak - built}


def peak_memory_in_a_new_process(*args: int | str | bool) -> dict[str, int]:
    code = f"import json, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import clip_vip_encode as b; "
    code += f"print(json.dumps(b.peak_memory{args!r}))"
    output = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def seconds_on_gpu(work: Callable[[], None], repeats: int = 10) -> float:
    """Median of single calls, each waited for."""
    times = []
    for turn in range(repeats + 3):
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if turn >= 3:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def matrix_peak() -> float:
    """FLOP/s of the best bf16 product of two square matrices."""
    best = 0.0
    for size in (4096, 8192, 16384):
        left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * size**3 / seconds_on_gpu(lambda left=left, right=right: left @ right))
    return best


def time_on_gpu(clips: int) -> list[dict]:
    """bf16 weights: the forward pass to the pooled feature, and a step (both towers, loss, backward, AdamW)."""
    peak, results = matrix_peak(), []
    pixels = torch.randn(clips, FRAMES, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
    texts = torch.randint(0, 49406, (clips, 77), device="cuda")
    texts[:, -1] = 49407
    needed = flop(products_of_the_forward_pass(clips, pooled_only=True))  # the text tower's are not counted
    for compiled in (False, True):
        model = b16().to("cuda", torch.bfloat16)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        called = torch.compile(model) if compiled else model

        def encode_videos(called: Callable = called) -> None:
            with torch.no_grad():
                called(pixel_values_videos=pixels)

        def step(called: Callable = called, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            called(input_ids=texts, pixel_values_videos=pixels, return_loss=True).loss.backward()
            optimizer.step()

        for name, work, factor in (("gpu forward", encode_videos, 1), ("gpu step", step, 3)):
            torch.cuda.reset_peak_memory_stats()
            value = seconds_on_gpu(work)
            result = {"what": name, "compiled": compiled, "clips": clips, "videos_per_second": clips / value}
            result |= {"share_of_peak": factor * needed / value / peak, "peak_flop_per_second": peak}
            result |= {"memory": torch.cuda.max_memory_allocated()}
            results.append(result)
            print(
                f"  {name}, {clips} clips, {'compiled' if compiled else 'eager':8}: {clips / value:8.1f} videos/s, "
                f"{result['share_of_peak']:5.1%} of {peak / 1e12:.0f} TFLOP/s (target {TARGETS[name]:.0%})",
                flush=True,
            )
    return results


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
        "malloc": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu-batch", type=int, default=64)
    parser.add_argument("--output", default="benchmarks/results/clip_vip_encode.json")
    args = parser.parse_args()
    report: dict = {"environment": environment(), "targets": TARGETS, "cpu": [], "memory": [], "gpu": None}
    begin = time.perf_counter()

    runs = [(torch.float32, clips, threads) for clips in args.batches for threads in args.threads]
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        runs += [(torch.bfloat16, args.batches[0], threads) for threads in args.threads[:1]]
    else:
        print("bf16 on the CPU did not run: this one has neither avx512_bf16 nor AMX.")
    for dtype, clips, threads in runs:
        times, faults = time_on_cpu(clips, threads, dtype, args.rounds)
        ratio, gigaflop = ratios(times), flop(products_of_the_forward_pass(clips)) / 1e9
        report["cpu"].append(
            {
                "dtype": str(dtype),
                "clips": clips,
                "threads": threads,
                "seconds": times,
                "ratios": ratio,
                "page_faults": faults,
            }
        )
        print(f"\n{dtype}, {clips} clip(s), {threads} thread(s); the products are {gigaflop:.0f} GFLOP")
        for name, values in times.items():
            product = "3 x the products" if "backward" in name else "the products"
            target = f" (target {TARGETS[name]:.2f})" if name in TARGETS else ""
            print(
                f"  {name:24}{statistics.median(values):8.2f} s {ratio[name]:6.2f} x {product}{target}, "
                f"{statistics.median(faults[name]):,.0f} page faults",
                flush=True,
            )

    print("\nPeak memory, one thread, in all (less the built model)")
    for clips in args.batches:
        kinds = [("full output", False), ("pooled feature", True), ("full output", True), ("dense", True)]
        for kind, backward in kinds if clips == 1 else kinds[:3]:
            memory = peak_memory_in_a_new_process(clips, kind, backward)
            report["memory"].append({"clips": clips, "kind": kind, "backward": backward, **memory})
            line = f"  {clips} clip(s), {kind + (' + backward' if backward else ''):26}{memory['peak'] / 1e9:6.2f} GB"
            line += f" ({memory['over_model'] / 1e9:.2f} GB)"
            if backward and clips in ORIGINAL_PEAK:
                line += (
                    f", {memory['peak'] / ORIGINAL_PEAK[clips]:.0%} of the original's (target {TARGETS['memory']:.0%})"
                )
            print(line, flush=True)

    def write() -> None:
        report["duration"] = time.perf_counter() - begin
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        Path(args.output).write_text(json.dumps(report, indent=1) + "\n")

    write()  # a GPU too small for the batch must not cost what is measured already
    print("\nGPU")
    if torch.cuda.is_available():
        report["gpu"] = time_on_gpu(args.gpu_batch)
        write()
    else:
        print("  did not run: no CUDA device here")
    print(f"\n{report['duration'] / 60:.1f} minutes; raw figures in {args.output}")


if __name__ == "__main__":
    main()
