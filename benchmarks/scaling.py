"""Compute from measurements what 100 million clips need in post-pretraining, and render docs/scaling.md.

    python benchmarks/scaling.py [--results benchmarks/results] [--output docs/scaling.md]

It reads preparation.json, loader.json, gradient_cache.json and growth.json. Run it again when one changes. ASSUMPTIONS
holds what was not measured, above all the speed of a GPU; the page calls these values assumptions.
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
GROWTH = {
    "metadata": "reading metadata",
    "shards": "opening shards in turns",
    "segments": "a segment of a video",
    "evaluation": "evaluation",
}


class Assumptions(NamedTuple):
    """What was not measured."""

    peak: float = 989e12  # bf16 operations a second of an H100 SXM or H200 without sparsity (data sheet)
    share_of_peak: float = 0.45  # that a training step uses; an aim, not a result
    records_per_shard: int = 10_000


ASSUMPTIONS = Assumptions()


def transformer(tokens: int, width: int, keys: int, layers: int = 12) -> float:
    """Operations of a tower's matrix products: q, k, v, output and the MLP (24 width²), then scores and values."""
    return layers * tokens * (24 * width**2 + 4 * width * keys)


def forward_operations(frames: int = FRAMES, patches: int = 196, proxies: int = 4) -> dict[str, float]:
    """Multiplications and additions for one sample, by input (clip_vip §1.2: 421 GFLOP for 12 frames)."""

    def video(frames: int) -> float:
        tokens = proxies + frames * patches
        blocks = transformer(frames * patches, 768, proxies + patches) + transformer(proxies, 768, tokens)
        return blocks + frames * patches * 2 * 3 * 16 * 16 * 768

    text = transformer(TOKENS, 512, TOKENS)
    return {"video": video(frames), "middle frame": video(1), "subtitle": text, "caption": text}


class Needs(NamedTuple):
    """Everything on the page that depends on the results."""

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
        results: name of a file in benchmarks/results without extension -> its content.
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
    million = f"{CLIPS / 1e6:.0f} million"
    peak = f"{assumptions.peak / 1e12:.0f}"
    forward = {name: value / 1e9 for name, value in forward_operations().items()}
    saved = n.decode["original"] - n.decode["prepared"]
    cores = 64
    readable = cores / n.decode["prepared"]
    shard_clips = assumptions.records_per_shard

    def row(*cells: object) -> str:
        return f"| {' | '.join(map(str, cells))} |"

    def header(*cells: str) -> str:
        return f"{row(*cells)}\n|{'---|' * len(cells)}"

    def grown(title: str, measured: dict[str, Any]) -> str:
        sizes, exponents = measured["sizes"], measured["exponents"]
        return row(
            f"{title}, {measured['what']}",
            " / ".join(f"{one['size']:,}" for one in sizes),
            " / ".join(f"{one['seconds']:.3g}" for one in sizes),
            f"{exponents['seconds']:.2f}",
            " / ".join(f"{one['peak_bytes'] / 1e6:.0f}" for one in sizes) + " MB",
            f"{exponents['peak_bytes']:.2f}",
        )

    def decoding(clips: str, seconds: float) -> str:
        return row(clips, f"{seconds:.3f} s", f"{CLIPS * seconds / 3600:,.0f}", f"{n.clips_per_gpu * seconds:.0f}")

    def storage(clips: str, kilobytes: float) -> str:
        return row(clips, f"{kilobytes:.0f} kB", f"{kilobytes * CLIPS / 1e9:.1f} TB")

    def by_gpus(gpus: int) -> str:
        rate = gpus * n.clips_per_gpu
        return row(
            gpus,
            GLOBAL_BATCH // gpus,
            f"{n.gpu_hours / gpus:.1f} h",
            f"{rate:,.0f}",
            f"{rate * n.decode['prepared']:,.0f}",
            f"{rate * n.decode['original']:,.0f}",
            f"{rate * n.kilobytes['prepared'] / 1e6:.2f} GB/s",
            f"{rate * n.kilobytes['original'] / 1e6:.1f} GB/s",
            f"{2 * (gpus - 1) / gpus * 4 * PARAMETERS / 1e9:.2f} GB in {GLOBAL_BATCH / rate:.3f} s",
        )

    columns = ["GPUs", "batch a GPU", "one pass", "clips/s", "cores, prepared", "cores, as they are"]
    columns += ["reading, prepared", "reading, as they are", "gradients, a GPU and update"]
    prepared_terabytes = n.kilobytes["prepared"] * CLIPS / 1e9
    shard_gigabytes = shard_clips * n.kilobytes["prepared"] * (1 + n.tar_overhead) / 1e6
    whole_loader = "15 s of 320x240 at 30 frames a second, through the loader from a tar (`benchmarks/loader.py`)"
    return f"""<!-- Rendered by benchmarks/scaling.py from benchmarks/results/*.json. Do not edit this page. -->
# What 100 million clips need

This page computes what it takes to post-pretrain CLIP-ViP B/16 in one pass over {million} clips: variant d, {FRAMES}
frames, the middle frame, subtitle and caption of {TOKENS} tokens, global batch {GLOBAL_BATCH:,}. The paper made 3
passes, the authors' configuration says 5: multiply. To render the page again, run `python benchmarks/scaling.py`.

**Measured** on a CPU ({cpu}; no GPU was available): the processor time of decoding, preparing and loading, the bytes,
and the memory and time of the gradient cache.
**Assumed:** a GPU with {peak} Tflop/s in bf16 (H100 SXM or H200, the maker's data sheet), of which a training step
uses {assumptions.share_of_peak:.0%}. This share is an aim, not a result. At half of it, GPU hours double, and cores
and network halve.

The {videos["number"]} clips are filmed, last {videos["seconds"] / videos["number"]:.1f} s and measure
{videos["median_width"]:.0f}x{videos["median_height"]:.0f} (median). They were read "as they are", and prepared at 6
frames a second with a shortest edge of 224 pixels (`benchmarks/preparation.py`). Larger or longer clips cost more: run
it on yours with `--data-dir`. The page leaves out the captions of {million} middle frames, whose cost depends on the
captioning model.

## GPU hours
The matrix products of a forward pass take: video {forward["video"]:.0f} + middle frame {forward["middle frame"]:.1f} +
two texts {2 * forward["caption"]:.1f} = {sum(forward.values()):.0f} GFLOP. A backward pass takes twice as many, which
makes {n.operations / 1e12:.2f} TFLOP a clip.

- One GPU: {peak} · {assumptions.share_of_peak} / {n.operations / 1e12:.2f} = {n.clips_per_gpu:.0f} clips/s.
- One pass: {million} / {n.clips_per_gpu:.0f} / 3600 = **{n.gpu_hours:.0f} GPU hours**. Three passes:
  {3 * n.gpu_hours:.0f}.
- With the gradient cache, which adds a forward pass (4/3 of the operations): {n.gpu_hours * 4 / 3:.0f} GPU hours a
  pass. `benchmarks/gradient_cache.py` measured {n.cache_time:.2f} times the time, on a CPU.
- Updates a pass: {CLIPS:,} / {GLOBAL_BATCH:,} = {CLIPS // GLOBAL_BATCH:,}.

## Decoding cores
{header("clips", "processor time a clip", "core hours a pass", "cores for each GPU")}
{decoding("prepared", n.decode["prepared"])}
{decoding("as they are", n.decode["original"])}
{decoding(whole_loader, n.decode["loader"])}

Cores for a GPU = {n.clips_per_gpu:.0f} clips/s · time a clip. A machine with 8 GPUs and {cores} cores reads {cores} /
{n.decode["prepared"]:.3f} = {readable:,.0f} prepared clips/s, {readable / 8 / n.clips_per_gpu:.0%} of what its GPUs
can take. **Decoding, not the GPU, sets the pace**, unless there are many cores or the clips are prepared.

Preparing takes {n.prepare:.2f} s a clip, {CLIPS * n.prepare / 3600:,.0f} core hours once on any machine, and saves
{saved:.3f} s a clip and pass. In processor time alone it pays off after {n.prepare / saved:.1f} passes. It pays off at
once if cores beside the GPUs, storage or network are scarce.

## Storage and network
{header("", "a clip", million)}
{storage("prepared", n.kilobytes["prepared"])}
{storage("as they are", n.kilobytes["original"])}
{row("tar and JSON add", f"{100 * n.tar_overhead:.1f} %", f"{n.tar_overhead * prepared_terabytes:.2f} TB")}
{row("index of the shards", f"{n.index_bytes:.1f} bytes", f"{n.index_bytes * CLIPS / 1e9:.1f} GB")}

Shards of {shard_clips:,} clips make {CLIPS // shard_clips:,} files of {shard_gigabytes:.1f} GB. The order of a run
follows from the lengths of the shards. Nothing is stored for single clips, and a run can start at any step.

{header(*columns)}
{chr(10).join(map(by_gpus, GPUS))}

Gradients: in each update, a ring of N GPUs sends 2 (N - 1) / N times {PARAMETERS / 1e6:.1f} million numbers of 4
bytes. The gathered features are small in comparison: {GLOBAL_BATCH:,} · 4 · 512 · 4 bytes =
{GLOBAL_BATCH * 4 * 512 * 4 / 1e6:.1f} MB.

## What grows
Measured with `benchmarks/growth.py`, in processor time of one thread. Memory is what comes on top of the loaded
libraries and inputs. An exponent of 1 is linear growth, 0 none.

{header("what", "sizes", "seconds", "exponent", "memory", "exponent")}
{chr(10).join(grown(title, results["growth"][name]) for name, title in GROWTH.items())}

A process keeps no index of a shard. The first segment of a long video reads all its packets
({results["growth"]["segments"]["sizes"][-1]["first"]:.1f} s for the longest); the index then stays on disk, below
`HF_HOME`. Scores of more than 2^26 pairs are computed in blocks: their memory does not grow with the pairs.

## Settings
- **Processes:** `multi_gpu.yaml` or `multi_node.yaml` (DistributedDataParallel). Weights, gradients and both moments
  in float32 take 16 bytes · {PARAMETERS / 1e6:.1f} million = {16 * PARAMETERS / 1e9:.1f} GB a GPU. There is nothing to
  shard: `fsdp2.yaml` would add traffic.
- **Batch:** if {GLOBAL_BATCH // GPUS[0]} clips do not fit on a GPU, set `gradient_cache_chunk_size`. When the batch
  grew eightfold, the cache's peak memory grew {n.cache_growth:.2f}-fold (`benchmarks/gradient_cache.py`; CPU, small
  model). {GPUS[-1]} GPUs hold {GLOBAL_BATCH // GPUS[-1]} clips each.
- **Data:** tar shards (`hf-videolang data shard`) of prepared clips, on a disk or store with the reading rate of the
  table. Set `dataloader_num_workers` to the cores of the machine divided by its GPUs.
"""


def read_results(folder: Path) -> dict[str, Any]:
    return {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("preparation", "loader", "gradient_cache", "growth")
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
