"""What `hf-videolang extract` adds to the work that it cannot do without: decoding with resize, and the network.

    python benchmarks/extract.py [--rounds 3] [--minutes 60] [--output benchmarks/results/extract.json]

1. Decoding: `S3DVideoProcessor.read_clips` of 8 s of H.264 (320x240 and 1280x720, 30 and 25 frames a second) against
   FFmpeg's own chain through PyAV, `fps=30, scale, crop, format=rgb24`, one decoding thread in both. Ours decodes in a
   helper process, which an idle core takes up, so the clock and the processor time are both given. Target: 1.2 by the
   clock.
2. The whole: `extract_features` of 4 videos of 3 s with an S3D of the published size (random weights) on the CPU and
   one decoding process, against the sum of decoding alone and of the network alone on the same clips. Loading Python
   and the model is left out. Target: 1.1.
3. Memory: the real command on a file of 60 minutes and on one of 1 minute, 320x240, with a narrow network that sees
   pictures of 64 pixels, so that it takes minutes and not hours. What may grow with the length, the index of the file
   and its rows of 512 numbers, has its true size. The most that all its processes together ever held (proportional set
   size: shared memory is counted once). Target: 50 MB more for the long file.

All variants take turns; ratios are medians over the rounds. All in all about 5 minutes on two idle cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import psutil
import torch
import video_decoding
from loader import take_turns
from video_decoding import environment

from hf_videolang.data.shards.open_shards import find_shards
from hf_videolang.inference.extraction import extract_features
from hf_videolang.inference.feature_extractor import FeatureExtractor
from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from hf_videolang.models.s3d.modeling_s3d import S3DModel
from hf_videolang.models.s3d.processing_s3d import S3DProcessor
from hf_videolang.models.s3d.tokenization_s3d import s3d_tokenizer
from hf_videolang.models.s3d.video_processing_s3d import S3DVideoProcessor

WORDS = ["cut", "tomato"]
TARGETS = {"decoding": 1.2, "whole": 1.1, "more_megabytes": 50}
NARROW = {"stem_channels": [8, 16], "block_channels": [[8, 8, 8, 4, 4, 4]] * 9}
SMALL_PICTURES = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}


def write_video(path: Path, seconds: int, width: int = 320, height: int = 240, rate: int = 30) -> Path:
    video_decoding.SECONDS, video_decoding.RATE = seconds, rate
    video_decoding.write_video(str(path), width, height, 250)
    return path


def repeat_video(path: Path, source: Path, times: int) -> Path:
    """The packets of a video again and again, one after the other."""
    with av.open(str(path), "w") as target:
        stream: Any = None
        shift = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                original = container.streams.video[0]
                stream = stream or target.add_stream_from_template(original)
                packets = [packet for packet in container.demux(original) if packet.dts is not None]
                length = round(original.frames / original.average_rate / original.time_base)
                for packet in packets:
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    packet.time_base = original.time_base
                    target.mux(packet)
                shift += length
    return path


def ffmpeg_chain(path: Path) -> torch.Tensor:
    """The frames as `ffmpeg -vf fps=30,scale,crop` gives them: uint8 `[frames, 224, 224, 3]`."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        shape = f"{224 * stream.width // stream.height}:224"
        graph = av.filter.Graph()
        graph.threads = 1
        steps = (("fps", "30"), ("scale", shape), ("crop", "224:224"), ("format", "pix_fmts=rgb24"))
        nodes = [graph.add_buffer(template=stream), *(graph.add(*step) for step in steps), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()

        def pull() -> Iterator[np.ndarray]:
            with suppress(BlockingIOError, av.EOFError):
                while True:
                    yield graph.vpull().to_ndarray()

        for frame in container.decode(stream):
            graph.vpush(frame)
            frames += pull()
        graph.vpush(None)
        frames += pull()
    return torch.from_numpy(np.stack(frames))


def our_chain(path: Path) -> list[torch.Tensor]:
    """The same frames, channels first, 8 clips at a time, as `extract` reads them."""
    return [pixels for _, pixels in S3DVideoProcessor().read_clips(str(path), 8)]


def ratio(times: dict, ours: str, others: list[str], kind: str) -> float:
    rows = zip(times[ours][kind], *(times[name][kind] for name in others))
    return median(mine / sum(rest) for mine, *rest in rows)


def decoding(folder: Path, rounds: int) -> dict[str, Any]:
    found = {}
    for width, height, rate in ((320, 240, 30), (1280, 720, 30), (1280, 720, 25)):
        path = write_video(folder / f"{height}_{rate}.mp4", 8, width, height, rate)
        plain, mine = ffmpeg_chain(path), torch.cat(our_chain(path))
        frames = min(len(plain), len(mine))
        difference = (plain[:frames].permute(0, 3, 1, 2).float() - mine[:frames].float()).abs().mean().item()
        times = take_turns({"ffmpeg": lambda p=path: ffmpeg_chain(p), "ours": lambda p=path: our_chain(p)}, rounds)
        ratios = {kind: ratio(times, "ours", ["ffmpeg"], kind) for kind in ("clock", "processors")}
        found[f"{width}x{height}, {rate} fps"] = {"seconds": times, "grey_levels": difference, **ratios}
        share = f"{ratios['clock']:.2f} of FFmpeg's time by the clock, {ratios['processors']:.2f} by the processors"
        print(f"decoding {width}x{height} at {rate} fps: {share}, {difference:.2f} grey levels apart", flush=True)
    return found


def write_model(folder: Path, pictures: dict, **sizes: Any) -> Path:
    torch.manual_seed(0)
    model = S3DModel(S3DConfig(vocab_size=len(WORDS) + 1, **sizes)).eval()
    model.save_pretrained(folder)
    S3DProcessor(S3DVideoProcessor(**pictures), s3d_tokenizer(WORDS, 16)).save_pretrained(folder)
    return folder


def whole(folder: Path, rounds: int) -> dict[str, Any]:
    videos = folder / "videos"
    videos.mkdir()
    for number in range(4):
        write_video(videos / f"{number}.mp4", 3)
    model = S3DModel.from_pretrained(write_model(folder / "full", {})).eval()
    extractor = FeatureExtractor(model, S3DVideoProcessor())
    shards, stores = find_shards(videos, None), iter(range(1000))
    paths = sorted(videos.glob("*.mp4"))
    chunks = [inputs for path in paths for _, inputs in extractor.reader({"path": str(path)})]
    times = take_turns(
        {
            "decoding": lambda: [None for path in paths for _ in extractor.reader({"path": str(path)})],
            "network": lambda: [extractor(inputs) for inputs in chunks],
            "whole": lambda: extract_features(shards, folder / f"store{next(stores)}", [extractor], num_workers=1),
        },
        rounds,
    )
    found = ratio(times, "whole", ["decoding", "network"], "clock")
    hours = median(times["whole"]["clock"]) / (4 * 3)  # as many as there are hours of video
    print(f"whole: {found:.2f} of decoding and network one by one, {hours:.2f} h an hour of video", flush=True)
    return {"seconds": times, "clock": found, "hours_an_hour_of_video": hours}


def peak(videos: Path, model: Path, output: Path) -> float:
    """Megabytes that the command and all its processes held at most."""
    words = ["--model", model, "--videos", videos, "--output", output, "--cpu", "--num-workers", 1]
    command = [sys.executable, "-m", "hf_videolang.cli", "extract", *map(str, words)]
    process, most = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), 0
    while process.poll() is None:
        held = 0
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                held += one.memory_full_info().pss
        most = max(most, held)
        time.sleep(0.2)
    assert process.wait() == 0
    return most / 1e6


def memory(folder: Path, minutes: int) -> dict[str, float]:
    model = write_model(folder / "small", SMALL_PICTURES, **NARROW)
    found = {}
    source = write_video(folder / "quarter.mp4", 15)
    for length in (1, minutes):
        videos = folder / f"minutes_{length}"
        videos.mkdir()
        repeat_video(videos / "video.mp4", source, 4 * length)
        found[str(length)] = peak(videos, model, folder / f"store_{length}")
        print(f"peak memory, {length} minutes: {found[str(length)]:.0f} MB", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=int, default=60, help="length of the long file (default: %(default)s)")
    parser.add_argument("--output", default="benchmarks/results/extract.json")
    args = parser.parse_args()
    report: dict[str, Any] = {"environment": environment(), "targets": TARGETS, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        report["decoding"] = decoding(folder, args.rounds)
        report["whole"] = whole(folder, args.rounds)
        report["peak_megabytes"] = memory(folder, args.minutes)
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
