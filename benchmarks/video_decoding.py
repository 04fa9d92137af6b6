"""Frames per second of `decode_video` against the bare libraries, for short and long distances between key frames.

    python benchmarks/video_decoding.py [--rounds 15] [--output benchmarks/results/video_decoding.json]

Twelve frames, spread evenly, are read from 15 s of H.264 made here, with one FFmpeg thread. All variants take turns in
one process; the table gives the best time of each, because other work on the machine only ever adds, and the JSON every
single time and the environment. Baselines:

- torchcodec: `VideoDecoder(path, num_ffmpeg_threads=1).get_frames_at(indices)`.
- PyAV: a loop that is told the number of frames and the distance of key frames beforehand, so that it reads no packet
  table, decodes from the nearest key frame on and converts only the wanted frames.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
import torch
import torchcodec

from hf_videolang.video import decode_video, uniform_indices

RATE, SECONDS, NUM_FRAMES = 30, 15, 12
VIDEOS = {"320x240": (320, 240), "1280x720": (1280, 720)}
KEY_FRAME_DISTANCES = (30, 250)


def write_video(path: str, width: int, height: int, key_frame_distance: int) -> None:
    """A drifting texture with a camera's noise, so that decoding costs what it does in filmed clips."""
    random = np.random.default_rng(0)
    texture = random.integers(0, 256, (height // 16 + 40, width // 16 + 40, 3)).repeat(16, 0).repeat(16, 1)
    with av.open(path, "w") as container:
        options = {"crf": "23", "preset": "veryfast", "bf": "2", "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = key_frame_distance
        for i in range(RATE * SECONDS):
            picture = texture[i : i + height, 2 * (i % 100) :][:, :width] + random.normal(0, 4, (height, width, 1))
            picture = picture.clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def select(total: int) -> list[int]:
    return uniform_indices(total, NUM_FRAMES).tolist()


def bare_torchcodec(path: str, key_frame_distance: int) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, num_ffmpeg_threads=1)
    return decoder.get_frames_at(select(len(decoder))).data


def bare_pyav(path: str, key_frame_distance: int) -> torch.Tensor:
    frames = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        ticks = round(1 / (RATE * stream.time_base))
        decoded, position = container.decode(stream), 0
        for index in select(RATE * SECONDS):
            key = index // key_frame_distance * key_frame_distance
            if key > position:
                container.seek(key * ticks, stream=stream)
                decoded = container.decode(stream)
            for frame in decoded:
                position = frame.pts // ticks + 1
                if position == index + 1:
                    frames.append(frame.to_ndarray(format="rgb24", threads=1))
                    break
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def ours(backend: str, timeout: float | None) -> Callable[[str, int], torch.Tensor]:
    return lambda path, _: decode_video(path, select, backend=backend, timeout=timeout).frames  # type: ignore[arg-type]


def measure(variants: dict[str, Callable], path: str, key_frame_distance: int, rounds: int) -> dict[str, list[float]]:
    pictures = {name: variant(path, key_frame_distance) for name, variant in variants.items()}  # warm, and equal
    first = next(iter(pictures.values()))
    assert all(torch.equal(first, other) for other in pictures.values())
    times: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begin = time.perf_counter()
            variants[name](path, key_frame_distance)
            times[name].append(time.perf_counter() - begin)
    return times


def environment() -> dict:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = {name: version(name) for name in ("torch", "numpy", "av", "torchcodec")}
    return {
        "python": platform.python_version(),
        "packages": packages,
        "ffmpeg_of_pyav": av.ffmpeg_version_info,
        "ffmpeg_of_torchcodec": torchcodec.ffmpeg_major_version,
        "cpu": models[0].split(": ")[1] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", default="benchmarks/results/video_decoding.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    report = {"environment": environment(), "num_frames": NUM_FRAMES, "rounds": args.rounds, "seconds": []}
    print("video        key frames  library     bare (frames/s)  in this process      in the helper (default)")
    for size, (width, height) in VIDEOS.items():
        for distance in KEY_FRAME_DISTANCES:
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "video.mp4")
                write_video(path, width, height, distance)
                variants = {
                    "torchcodec bare": bare_torchcodec,
                    "torchcodec in this process": ours("torchcodec", None),
                    "torchcodec in the helper": ours("torchcodec", 60.0),
                    "pyav bare": bare_pyav,
                    "pyav in this process": ours("pyav", None),
                    "pyav in the helper": ours("pyav", 60.0),
                }
                times = measure(variants, path, distance, args.rounds)
            report["seconds"].append({"video": size, "key_frame_distance": distance, "times": times})
            best = {name: min(values) for name, values in times.items()}
            for library in ("torchcodec", "pyav"):
                bare = best[f"{library} bare"]
                cells = [f"{size:12} every {distance:4}  {library:10}  {NUM_FRAMES / bare:8.1f}        "]
                for place in ("in this process", "in the helper"):
                    seconds = best[f"{library} {place}"]
                    cells.append(f"{NUM_FRAMES / seconds:8.1f}  {seconds / bare:4.2f} x time")
                print("  ".join(cells), flush=True)
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
