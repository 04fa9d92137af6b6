"""What post-pretraining CLIP-ViP B/16 on 100 million clips needs, computed from measured figures: renders docs/scaling.md.

    python benchmarks/scaling.py [--results benchmarks/results] [--output docs/scaling.md]

Reads preparation.json, loader.json and gradient_cache.json; run it again when one of them is new. What was not measured
here, above all the speed of a GPU, stands in ASSUMPTIONS and is called an assumption on the page.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[1]
CLIPS, GLOBAL_BATCH, FRAMES, TOKENS = 100_000_000, 1024, 12, 70
PARAMETERS = 149_632_257  # clip_vip §1
GPUS = (8, 32, 64)


class Assumptions(NamedTuple):
    """Not measured here."""

    peak: float = 989e12  # bf16 operations a second of an H100 SXM or H200 without sparsity, by the maker's data sheet
    share_of_peak: float = 0.45  # of a training step; the aim of benchmarks/clip_vip_encode.py, not a result
    records_per_shard: int = 10_000


ASSUMPTIONS = Assumptions()


def transformer(tokens: int, width: int, keys: int, layers: int = 12) -> float:
    """Operations of the matrix products of a tower: q, k, v, output and the MLP (24 width²), scores and values."""
    return layers * tokens * (24 * width**2 + 4 * width * keys)


def forward_operations(frames: int = FRAMES, patches: int = 196, proxies: int = 4) -> dict[str, float]:
    """Multiplications and additions for one sample, by what is encoded (clip_vip §1.2: 421 GFLOP for 12 frames)."""

    def video(frames: int) -> float:
        tokens = proxies + frames * patches
        blocks = transformer(frames * patches, 768, proxies + patches) + transformer(proxies, 768, tokens)
        return blocks + frames * patches * 2 * 3 * 16 * 16 * 768

    text = transformer(TOKENS, 512, TOKENS)
    return {"video": video(frames), "middle frame": video(1), "subtitle": text, "caption": text}


class Needs(NamedTuple):
    """Everything the page says that depends on the results."""

    operations: float  # of one clip in training: forward and twice as much backward
    clips_per_gpu: float  # a second
    gpu_hours: float  # a pass
    decode: dict[str, float]  # kind of clip -> processor seconds a clip
    kilobytes: dict[str, float]  # of a clip
    prepare: float  # processor seconds a clip
    tar_overhead: float
    index_bytes: float  # a record
    cache_growth: float  # of peak memory while the batch grows eightfold
    cache_time: float


def needs(results: dict[str, Any], assumptions: Assumptions = ASSUMPTIONS) -> Needs:
    """
    Args:
        results: name of a file of benchmarks/results without extension -> its content.
    """
    preparation, loader, cache = (results[name] for name in ("preparation", "loader", "gradient_cache"))
    videos, shard = preparation["videos"], preparation["shard"]
    from_tar = [
        row
        for row in loader["seconds"]
        if (row["source"], row["what"]) == ("tar shard", "loader") and row["workers"] > 0
    ]
    decode = {
        name: median(preparation["decode"][name]["processors"]) / videos["number"] for name in ("prepared", "original")
    }
    decode["loader"] = median(from_tar[-1]["processors"]) / loader["clips"]
    operations = 3 * sum(forward_operations().values())
    speed = assumptions.peak * assumptions.share_of_peak / operations
    return Needs(
        operations=operations,
        clips_per_gpu=speed,
        gpu_hours=CLIPS / speed / 3600,
        decode=decode,
        kilobytes={
            "prepared": videos["bytes_after"] / videos["number"] / 1e3,
            "original": videos["bytes_before"] / videos["number"] / 1e3,
        },
        prepare=preparation["prepare"]["processors"] / videos["number"],
        tar_overhead=shard["tar_bytes"] / shard["video_bytes"] - 1,
        index_bytes=shard["index_bytes"] / shard["records"],
        cache_growth=cache["growth"]["gradient cache"],
        cache_time=cache["time"],
    )


def render(results: dict[str, Any], assumptions: Assumptions = ASSUMPTIONS) -> str:
    n, videos = needs(results, assumptions), results["preparation"]["videos"]
    cpu = results["preparation"]["environment"]["cpu"]
    per_clip = {name: value / 1e9 for name, value in forward_operations().items()}
    saved = n.decode["original"] - n.decode["prepared"]

    def by_gpus(gpus: int) -> str:
        rate = gpus * n.clips_per_gpu
        step = GLOBAL_BATCH / rate
        reduced = 2 * (gpus - 1) / gpus * 4 * PARAMETERS / 1e9
        cells = [
            f"{gpus}",
            f"{GLOBAL_BATCH // gpus}",
            f"{n.gpu_hours / gpus:.1f} h",
            f"{rate:,.0f}",
            f"{rate * n.decode['prepared']:,.0f}",
            f"{rate * n.decode['original']:,.0f}",
            f"{rate * n.kilobytes['prepared'] / 1e6:.2f} GB/s",
            f"{rate * n.kilobytes['original'] / 1e6:.1f} GB/s",
            f"{reduced:.2f} GB in {step:.3f} s",
        ]
        return f"| {' | '.join(cells)} |"

    cores = 64
    limited = cores / n.decode["prepared"]
    return f"""<!-- Rendered by benchmarks/scaling.py from benchmarks/results/*.json; change the script, not this page. -->
# What 100 million clips need

Post-pretraining of CLIP-ViP B/16 (OCL, variant d: {FRAMES} frames, the middle frame, subtitle and caption of {TOKENS} tokens,
global batch {GLOBAL_BATCH:,}) for one pass over {CLIPS / 1e6:.0f} million clips. The paper made 3 passes, the authors' configuration says
5: multiply. `python benchmarks/scaling.py` renders this page again from `benchmarks/results/*.json`.

**Measured here** (on a CPU, {cpu}; no GPU was at hand): processor time of decoding, preparing and loading; bytes; memory and
time of the gradient cache. **Assumed:** a GPU of {assumptions.peak / 1e12:.0f} Tflop/s in bf16 (H100 SXM or H200, the maker's data sheet) of which a training
step uses {assumptions.share_of_peak:.0%}. That share is an aim, not a result: at half of it GPU hours double, and cores and network halve.
Clips: {videos["number"]} filmed ones of {videos["seconds"] / videos["number"]:.1f} s, {videos["median_width"]:.0f}x{videos["median_height"]:.0f} in the median ("as they are"), and the same prepared at 6 frames a second with a
shortest edge of 224 pixels (`benchmarks/preparation.py`). Larger or longer clips cost more: run it on yours with `--data-dir`.
Not computed: captioning the {CLIPS / 1e6:.0f} million middle frames, whose cost is that of the captioning model that you choose.

## GPU hours
Forward operations of the matrix products: video {per_clip["video"]:.0f} + middle frame {per_clip["middle frame"]:.1f} + two texts {2 * per_clip["caption"]:.1f} = {sum(per_clip.values()):.0f} GFLOP. Backward is
twice that: {n.operations / 1e12:.2f} TFLOP a clip.

- one GPU: {assumptions.peak / 1e12:.0f} · {assumptions.share_of_peak} / {n.operations / 1e12:.2f} = {n.clips_per_gpu:.0f} clips/s
- one pass: {CLIPS / 1e6:.0f} million / {n.clips_per_gpu:.0f} / 3600 = **{n.gpu_hours:.0f} GPU hours**; three passes {3 * n.gpu_hours:.0f}
- with the gradient cache, one more forward pass, so 4/3 of the operations: {n.gpu_hours * 4 / 3:.0f} GPU hours a pass ({n.cache_time:.2f} times the time in
  `benchmarks/gradient_cache.py`, on a CPU)
- updates a pass: {CLIPS:,} / {GLOBAL_BATCH:,} = {CLIPS // GLOBAL_BATCH:,}

## Decoding cores
| clips | processor time a clip | core hours a pass | cores for each GPU |
|---|---|---|---|
| prepared | {n.decode["prepared"]:.3f} s | {CLIPS * n.decode["prepared"] / 3600:,.0f} | {n.clips_per_gpu * n.decode["prepared"]:.0f} |
| as they are | {n.decode["original"]:.3f} s | {CLIPS * n.decode["original"] / 3600:,.0f} | {n.clips_per_gpu * n.decode["original"]:.0f} |
| 15 s of 320x240 at 30 frames a second, through the whole loader from a tar (`benchmarks/loader.py`) | {n.decode["loader"]:.3f} s | {CLIPS * n.decode["loader"] / 3600:,.0f} | {n.clips_per_gpu * n.decode["loader"]:.0f} |

Cores a GPU = {n.clips_per_gpu:.0f} clips/s · time a clip. A machine of 8 GPUs and {cores} cores reads {cores} / {n.decode["prepared"]:.3f} = {limited:,.0f} prepared clips/s, which is
{limited / 8 / n.clips_per_gpu:.0%} of what its GPUs take: **decoding, not the GPU, sets the pace** unless cores are many or clips are prepared.

Preparing costs {n.prepare:.2f} s a clip, {CLIPS * n.prepare / 3600:,.0f} core hours once, anywhere, and saves {saved:.3f} s a clip and pass: by processor time alone it pays
after {n.prepare / saved:.1f} passes. It pays at once where cores beside the GPUs, storage or network are short.

## Storage and network
| | a clip | {CLIPS / 1e6:.0f} million |
|---|---|---|
| prepared | {n.kilobytes["prepared"]:.0f} kB | {n.kilobytes["prepared"] * CLIPS / 1e9:.1f} TB |
| as they are | {n.kilobytes["original"]:.0f} kB | {n.kilobytes["original"] * CLIPS / 1e9:.1f} TB |
| what tar and JSON add to prepared clips | {100 * n.tar_overhead:.1f} % | {n.tar_overhead * n.kilobytes["prepared"] * CLIPS / 1e9:.2f} TB |
| index of the tar shards | {n.index_bytes:.1f} bytes | {n.index_bytes * CLIPS / 1e9:.1f} GB |
| embeddings for a search index, 512 numbers of 2 bytes (arithmetic; there is no such index in the package yet) | 1.0 kB | {512 * 2 * CLIPS / 1e9:.0f} GB |

At {assumptions.records_per_shard:,} clips a shard that is {CLIPS // assumptions.records_per_shard:,} shards of {assumptions.records_per_shard * n.kilobytes["prepared"] * (1 + n.tar_overhead) / 1e6:.1f} GB. The order of a run is computed from the lengths of the shards alone;
nothing is kept for each clip, and any step is reached at once.

| GPUs | batch a GPU | one pass | clips/s | cores, prepared | cores, as they are | reading, prepared | reading, as they are | gradients, a GPU and update |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(map(by_gpus, GPUS))}

Gradients: a ring of N GPUs sends 2 (N - 1) / N times {PARAMETERS / 1e6:.1f} million numbers of 4 bytes in every update. The gathered
features are small beside it: {GLOBAL_BATCH:,} · 4 · 512 · 4 bytes = {GLOBAL_BATCH * 4 * 512 * 4 / 1e6:.1f} MB.

## Which setting carries it
- **Processes:** `multi_gpu.yaml`, `multi_node.yaml` (DistributedDataParallel). Weights, gradients and both moments in float32 take
  16 bytes · {PARAMETERS / 1e6:.1f} million = {16 * PARAMETERS / 1e9:.1f} GB a GPU: there is nothing to shard, and `fsdp2.yaml` would only add traffic.
- **Batch:** where {GLOBAL_BATCH // GPUS[0]} clips do not fit a GPU, `gradient_cache_chunk_size`: while the batch grew eightfold, its peak memory grew
  {n.cache_growth:.2f}-fold (`benchmarks/gradient_cache.py`; on the CPU, small model). More GPUs need it less: {GLOBAL_BATCH // GPUS[-1]} clips each on {GPUS[-1]}.
- **Data stream:** tar shards (`hf-videolang data shard`) of prepared clips on a disk or store that gives the reading rate of the
  table; `dataloader_num_workers` a process = cores of the machine / its GPUs. A cache of decoded frames would take {FRAMES * 298 * 224 * 3 * CLIPS / 1e12:.0f} TB at
  {FRAMES} frames of 298x224: only for fine-tuning.
"""


def read_results(folder: Path) -> dict[str, Any]:
    """
    Raises:
        FileNotFoundError: a benchmark was not run.
    """
    return {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("preparation", "loader", "gradient_cache")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "scaling.md")
    args = parser.parse_args()
    args.output.write_text(render(read_results(args.results)), encoding="utf-8")
    print(args.output)


if __name__ == "__main__":
    main()
