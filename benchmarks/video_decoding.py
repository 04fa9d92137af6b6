"""Frames per second of `decode_video` against the bare libraries, for short and long distances between key frames.

    python benchmarks/video_decoding.py [--rounds 15] [--output benchmarks/results/video_decoding.json]

Twelve frames, spread evenly, are read from 15 s of H.264 made here, with one FFmpeg thread. All variants take turns in
one process. The table has the best time of each, because other work on the machine only adds to it; the JSON has every
time and the environment. Baselines:

- torchcodec: `VideoDecoder(path, num_ffmpeg_threads=1).get_frames_at(indices)`. It needs FFmpeg on the system, and is
  left out where it cannot load.
- PyAV: a loop that knows the number of frames and the distance of key frames beforehand. It reads no packet table,
  decodes from the nearest key frame on, and converts only the wanted frames.
- index unverified: ours, but every frame is taken for what the packets promise. `decode_video here` divided by it is
  the price of finding the files whose packets are wrong; at most 1.05 is wanted.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from hf_videolang.video import Cut, decode_video, uniform_indices
from hf_videolang.video.decode import stack_pictures
from hf_videolang.video.video_stream import VideoStream

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


def wanted(num_frames: int) -> list[int]:
    return uniform_indices(num_frames, NUM_FRAMES).tolist()


def bare_torchcodec(path: str, key_frame_distance: int) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, num_ffmpeg_threads=1)
    return decoder.get_frames_at(wanted(len(decoder))).data


def bare_pyav(path: str, key_frame_distance: int) -> torch.Tensor:
    frames = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        ticks = round(1 / (RATE * stream.time_base))
        decoded, position = container.decode(stream), 0
        for index in wanted(RATE * SECONDS):
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


def ours(timeout: float | None) -> Callable[[str, int], torch.Tensor]:
    def select(cut: Cut) -> list[int]:
        return wanted(cut.num_frames)

    return lambda path, _: decode_video(path, select, timeout=timeout).frames


class TrustingStream(VideoStream):
    """Believes its index: it does not look whether the decoder shows each frame in its place, and undamaged."""

    def _indexed_frame(self, number: int) -> Any:
        keys_before = bisect_right(self._keys, number)
        if keys_before and (key := self._keys[keys_before - 1]) > self._next:
            self._container.seek(int(self._ticks[key]), stream=self._stream)
            self._frames = self._decode()
        self._next = number + 1
        return next(frame for frame in self._frames if self._number(frame.pts) == number)


def index_unverified(path: str, key_frame_distance: int) -> torch.Tensor:
    with closing(TrustingStream(path, path)) as stream:
        return stack_pictures(stream, wanted(stream.info.num_frames))


VARIANTS: dict[str, Callable[[str, int], torch.Tensor]] = {
    "torchcodec bare": bare_torchcodec,
    "pyav bare": bare_pyav,
    "index unverified": index_unverified,
    "decode_video here": ours(None),
    "decode_video in a helper": ours(60.0),
}


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
    packages = {name: version(name) for name in ("torch", "numpy", "av")}
    return {
        "python": platform.python_version(),
        "packages": packages,
        "ffmpeg_of_pyav": av.ffmpeg_version_info,
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
    print("frames/s     key frames  " + "  ".join(f"{name:>25}" for name in VARIANTS))
    for size, (width, height) in VIDEOS.items():
        for distance in KEY_FRAME_DISTANCES:
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "video.mp4")
                write_video(path, width, height, distance)
                variants = dict(VARIANTS)
                try:
                    bare_torchcodec(path, distance)
                except (ImportError, OSError, RuntimeError):
                    del variants["torchcodec bare"]
                times = measure(variants, path, distance, args.rounds)
            report["seconds"].append({"video": size, "key_frame_distance": distance, "times": times})
            rates = [f"{NUM_FRAMES / min(times[name]):25.1f}" if name in times else f"{'-':>25}" for name in VARIANTS]
            print(f"{size:12} every {distance:4}  " + "  ".join(rates), flush=True)
            price = min(times["decode_video here"]) / min(times["index unverified"])
            print(
                f"{'':12} decode_video here takes {price:.3f} times as long as with the index unverified", flush=True
            )
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
