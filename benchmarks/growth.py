"""How time and memory grow with the data: metadata, shards, segments of a long file, evaluation. About four minutes.

    python benchmarks/growth.py [--small] [--output benchmarks/results/growth.json]

Each measurement runs in its own interpreter, at three sizes; `--small` divides the sizes by 16, to try the script.
Time is processor time, so other work on the machine matters little. Memory is the peak resident size (VmHWM) minus the
resident size before the work. The exponent is the slope in a plot of both logarithms: 1 is linear, 0 is constant.

- metadata: `find_dataset` and `load` on a folder whose metadata.jsonl has that many rows; files are empty.
- shards: one pass in turns, as training reads, over two clips of each of that many tars of 2,000 clips.
- segments: minutes of a video; one segment of 10 s, twelve frames, after another one was read. "first" is the first.
- evaluation: scores (raw and DSL) of that many texts and as many videos, so that there are size² pairs.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from video_decoding import environment

SIZES = {
    "metadata": (10_000, 40_000, 160_000),
    "shards": (128, 512, 2048),
    "segments": (4, 16, 64),
    "evaluation": (5_000, 10_000, 20_000),
}
WHAT = {"metadata": "rows", "shards": "shards", "segments": "minutes", "evaluation": "texts and videos"}


def make_metadata(folder: Path, rows: int) -> None:
    with open(folder / "metadata.jsonl", "w") as metadata:
        for row in range(rows):
            name = f"{row // 1000}/{row}.mp4"
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
            metadata.write(json.dumps({"file_name": name, "captions": [f"caption {row}"]}) + "\n")


def make_shards(folder: Path, shards: int) -> None:
    from hf_videolang.data.shards.tar_shard import TarShard

    with tarfile.open(folder / "first", "w", format=tarfile.USTAR_FORMAT) as tar:
        for clip in range(2000):
            tar.addfile(tarfile.TarInfo(f"{clip:06d}.mp4"))
            tar.addfile(tarfile.TarInfo(f"{clip:06d}.txt"))
    for shard in range(shards):  # one file by many names takes no disk
        os.link(folder / "first", folder / f"{shard:04d}.tar")
        if shard == 0:
            len(TarShard(str(folder / "0000.tar")))
        else:
            os.link(folder / ".0000.tar.index.parquet", folder / f".{shard:04d}.tar.index.parquet")


def make_segments(folder: Path, minutes: int) -> None:
    import av

    with av.open(str(folder / "long.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt, stream.codec_context.gop_size = 48, 64, "yuv420p", 60
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        for number in range(minutes * 60 * 30):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_metadata(folder: Path, rows: int) -> Callable[[], object]:
    import datasets  # noqa: F401  loaded before the work

    from hf_videolang.data.load_dataset import find_dataset

    return lambda: find_dataset(str(folder)).load("train")


def read_shards(folder: Path, shards: int) -> Callable[[], object]:
    import pyarrow.parquet  # noqa: F401

    from hf_videolang.data.shards.tar_shard import TarShard

    found = [TarShard(str(folder / f"{shard:04d}.tar")) for shard in range(shards)]
    return lambda: [shard[row]["video_id"] for row in (7, 1200) for shard in found]


def read_segments(folder: Path, minutes: int) -> Callable[[], object]:
    from hf_videolang.video import decode_video

    def read() -> None:
        start = minutes * 60 * 0.6
        frames = np.arange(12) * 25
        decode_video(folder / "long.mp4", frames.tolist(), start=start, end=start + 10, timeout=None)

    return read


def score_evaluation(folder: Path, size: int) -> Callable[[], object]:
    from hf_videolang.evaluation.retrieval import score_similarity
    from hf_videolang.metrics import Product

    common, texts, videos = (torch.randn(size, 512) for _ in range(3))
    embeds = [torch.nn.functional.normalize(common + 3 * noise, dim=1) for noise in (texts, videos)]
    return lambda: score_similarity(Product(*embeds), torch.arange(size))


MAKE = {"metadata": make_metadata, "shards": make_shards, "segments": make_segments}
WORK = {
    "metadata": read_metadata,
    "shards": read_shards,
    "segments": read_segments,
    "evaluation": score_evaluation,
}


def memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def measure(name: str, size: int, folder: Path) -> dict[str, float]:
    """Of one kind and size, in this process."""
    torch.set_num_threads(1)
    work = WORK[name](folder, size)
    found: dict[str, float] = {}
    if name == "segments":  # the first makes the index
        begin = time.process_time()
        work()
        found["first"] = time.process_time() - begin
    before, begin = memory("VmRSS"), time.process_time()
    repeats = 5 if name == "segments" else 1
    for _ in range(repeats):
        work()
    seconds = (time.process_time() - begin) / repeats
    return {"size": size, "seconds": seconds, "peak_bytes": memory("VmHWM") - before, **found}


def exponent(rows: list[dict[str, float]], column: str) -> float:
    return float(np.polyfit(*(np.log([row[key] for row in rows]) for key in ("size", column)), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "growth.json")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, size, folder = args.measure
        print(json.dumps(measure(name, int(size), Path(folder))))
        return
    report: dict = {"environment": environment()}
    for name, sizes in SIZES.items():
        rows = []
        for size in sizes:
            size = size // 16 or 1 if args.small else size
            folder = Path(tempfile.mkdtemp())
            MAKE.get(name, lambda *_: None)(folder, size)
            command = [sys.executable, __file__, "--measure", name, str(size), str(folder)]
            home = {**os.environ, "HF_HOME": str(folder / "home")}
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=home).stdout
            rows.append(json.loads(output.splitlines()[-1]))
            shutil.rmtree(folder)
            row = rows[-1]
            first = f", the first {row['first']:.3f} s" if "first" in row else ""
            print(
                f"{size:>8,} {WHAT[name]}: {row['seconds']:8.3f} s, {row['peak_bytes'] / 1e6:6.0f} MB{first}",
                flush=True,
            )
        grows = {column: exponent(rows, column) for column in ("seconds", "peak_bytes")}
        print(f"         exponents: time {grows['seconds']:.2f}, memory {grows['peak_bytes']:.2f}")
        report[name] = {"what": WHAT[name], "sizes": rows, "exponents": grows}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
