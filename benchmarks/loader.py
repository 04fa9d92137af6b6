"""Clips per second of the training loader, compared with bare decoding of the same frames in as many processes.

    python benchmarks/loader.py [--workers 0 1 2] [--rounds 5] [--videos FOLDER] [--output FILE.json]
    python benchmarks/loader.py --several-clips [--rounds 5] [--output FILE.json]

Twelve frames of each clip, drawn with the jitter of training, and a caption go through `RetrievalCollator` and a
DataLoader as the trainer builds it (224x224 pixels in float32, 4 clips a batch). They come from video files, from
folders of frames (JPEG), and from a tar shard. The clips are 16 videos of 320x240 pixels and 15 s made here (30 frames
a second, a key frame every 250), or those of FOLDER. They are compared with two baselines, which run in as many
processes (0 workers: this process):

- bare: PyAV, which knows the times of the wanted frames and of the key frames, decodes every frame from the nearest
  key frame on and converts the wanted ones to RGB arrays. In a folder, Pillow opens the wanted pictures. There is no
  time limit, no look at the packets, no resize, and no array leaves its process. (The loader skips B frames that no
  wanted frame needs.)
- bare + resize: also resizes and normalises them, by the plain calls of torch that give the model's input.

Workers live on from epoch to epoch; an epoch is timed from its first request to its last batch. Each worker of the
loader has a helper process that decodes while the worker resizes, so the loader uses idle cores. Without idle cores,
the processor time of all processes counts, which the last columns compare. All variants take turns in every round. The
first table gives medians, the JSON every single time and the environment. The second table says where the time of a
clip goes, in one process (processor time of this process and of the helper, best of the rounds).

With --several-clips it measures instead what several clips of a file cost a model that reads them: 16 uniform clips of
2 frames against the same 32 frames in one call of the decoder (at most 1.3 x) and against 16 calls (at most 1/3); and
the memory of a worker over 500 batches of 8 random clips at 448 pixels (flat within 5 %).
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import psutil
import torch
from datasets import Dataset
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from torch.utils.data import DataLoader
from transformers import CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.video_utils import VideoMetadata
from video_decoding import environment, write_video

from hf_videolang.data.batches.clip_reader import process_clips
from hf_videolang.data.batches.retrieval import RetrievalCollator
from hf_videolang.data.shards.write_shards import write_shards
from hf_videolang.data.video_files import VIDEO_EXTENSIONS
from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor
from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor
from hf_videolang.models.clipbert.video_processing_clipbert import ClipBertVideoProcessor
from hf_videolang.video import decode_video, probe_video
from hf_videolang.video.video_stream import VideoStream

NUM_CLIPS, NUM_KINDS, BATCH, EVERY = 16, 2, 4, 5  # every 5th frame of a clip goes into its folder
CAPTION = "a man in a red shirt shows how to slice onions in a small kitchen"
SOURCES = {"video files": "video files", "frame folders": "frame folders", "tar shard": "video files"}


def make_processor() -> CLIPViPProcessor:
    """CLIP's sizes; the tokenizer has no merges, which costs it no less time."""
    symbols = sorted(ByteLevel.alphabet())
    entries = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={entry: i for i, entry in enumerate(entries)}, merges=[])
    return CLIPViPProcessor(CLIPViPVideoProcessor(), tokenizer, max_length=70)


def make_clips(folder: Path) -> list[Path]:
    folder.mkdir()
    for number in range(NUM_CLIPS):
        path = folder / f"clip{number:02d}.mp4"
        if number < NUM_KINDS:
            write_video(str(path), 320, 240, 250)
        else:
            shutil.copy(folder / f"clip{number % NUM_KINDS:02d}.mp4", path)
    return sorted(folder.iterdir())


def make_frame_folders(videos: list[Path], folder: Path) -> list[Path]:
    made: dict[tuple, Path] = {}
    for video in videos:
        place = folder / video.stem
        info = probe_video(video)
        kind = (video.stat().st_size, info.num_frames)
        if kind in made:
            shutil.copytree(made[kind], place)
            continue
        place.mkdir(parents=True)
        frames = decode_video(video, range(0, info.num_frames, EVERY)).frames.permute(0, 2, 3, 1).numpy()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(place / f"{video.stem}_{number:03d}.jpg", quality=90)
        made[kind] = place
    return [folder / video.stem for video in videos]


class Shard:
    """Records of a shard with the columns that the collator asks for."""

    def __init__(self, shard: Any):
        self.shard = shard
        rows = [shard[row] for row in range(len(shard))]
        self.column_names = ["video_id", "captions"]
        self.columns = {name: [row[name] for row in rows] for name in self.column_names}

    def __len__(self) -> int:
        return len(self.shard)

    def __getitem__(self, row: int | str) -> Any:
        return self.columns[row] if isinstance(row, str) else self.shard[row]


def as_dataset(paths: list[Path]) -> Dataset:
    return Dataset.from_list(
        [{"video": {"path": str(path), "bytes": None}, "video_id": path.stem, "captions": [CAPTION]} for path in paths]
    )


def wanted_indices(collate: RetrievalCollator, video_id: str, total: int) -> list[int]:
    """The frames that the collator draws in its first epoch."""
    seed = int(collate._generator({"video_id": video_id}).integers(2**31))
    processor = collate.processor.video_processor
    return processor.sample_frames(VideoMetadata(total_num_frames=total), seed=seed).tolist()


def plan(path: Path, collate: RetrievalCollator) -> tuple:
    """What bare decoding knows beforehand: the path, and the time stamps of each wanted frame and its key frame."""
    if path.is_dir():
        files = sorted(path.iterdir())
        return str(path), [str(files[i]) for i in wanted_indices(collate, path.stem, len(files))]
    stream = VideoStream(str(path), path.name)
    ticks = stream.whole.ticks.tolist()
    steps = []
    for index in wanted_indices(collate, path.stem, len(ticks)):
        key = max((key for key in stream._keys if key <= index), default=0)
        steps.append((ticks[index], ticks[key]))
    stream.close()
    return str(path), steps


def bare(task: tuple) -> np.ndarray:
    """Wanted frames of one clip `[frames, height, width, 3]`."""
    path, steps = task
    if isinstance(steps[0], str):
        return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in steps])
    frames: list[np.ndarray] = []
    with av.open(path) as container:
        stream = container.streams.best("video")
        stream.thread_type = "NONE"
        decoded, position, last = container.decode(stream), -1, None
        for ticks, key in steps:
            if ticks == last:
                frames.append(frames[-1])
                continue
            if key > position:
                container.seek(key, stream=stream)
                decoded = container.decode(stream)
            for frame in decoded:
                position = frame.pts
                if position >= ticks:
                    frames.append(frame.to_ndarray(format="rgb24", threads=1))
                    break
            last = ticks
    return np.stack(frames)


def bare_with_resize(task: tuple) -> torch.Tensor:
    """The model's input for one clip `[frames, 3, 224, 224]`."""
    return resize(bare(task))


def resize(frames: np.ndarray) -> torch.Tensor:
    clip = torch.empty((len(frames), 3, 224, 224))
    for number, frame in enumerate(torch.from_numpy(frames).permute(0, 3, 1, 2)):
        picture = frame[None].contiguous().float().mul_(1 / 255)
        clip[number] = torch.nn.functional.interpolate(
            picture, (224, 224), mode="bicubic", align_corners=False, antialias=False
        )
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return clip.sub_(mean).div_(std)


def start_process() -> None:
    torch.set_num_threads(1)


def without_result(work: Callable, task: tuple) -> None:
    work(task)


def in_processes(work: Callable, tasks: list[tuple], pool: Any) -> Callable[[], None]:
    """All tasks, in this process or in a pool, where each process takes the next task and keeps the result."""

    def epoch() -> None:
        if pool is None:
            for task in tasks:
                work(task)
        else:
            pool.map(partial(without_result, work), tasks, chunksize=1)

    return epoch


def through_loader(dataset: Any, collate: RetrievalCollator, workers: int) -> Callable[[], None]:
    loader: DataLoader = DataLoader(
        dataset, BATCH, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0
    )

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def processor_time() -> float:
    """Processor seconds of this process and all its descendants."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def take_turns(variants: dict[Any, Callable], rounds: int, repeat: int = 1) -> dict[Any, dict[str, list[float]]]:
    """Seconds of every variant in every round, by the clock and by the processors, after one warm-up round."""
    seconds: dict[Any, dict[str, list[float]]] = {name: {"clock": [], "processors": []} for name in variants}
    names = list(variants)
    for turn in range(-1, rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            busy, begin = processor_time(), time.perf_counter()
            for _ in range(repeat):
                variants[name]()
            clock, busy = time.perf_counter() - begin, processor_time() - busy
            if turn >= 0:
                seconds[name]["clock"].append(clock / repeat)
                seconds[name]["processors"].append(busy / repeat)
    return seconds


def stages(task: tuple, collate: RetrievalCollator, record: dict) -> dict[str, Callable]:
    """The steps that the loader takes for a clip in a video file, one by one."""
    processor, path = collate.processor, task[0]
    indices = wanted_indices(collate, record["video_id"], probe_video(path).num_frames)
    arrays = bare(task)
    frames = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    pixels = resize(arrays)
    options = {"do_sample_frames": False, "input_data_format": "channels_first", "return_tensors": "pt"}
    given = processor(videos=[frames], **options)["pixel_values_videos"][0]
    torch.testing.assert_close(given, pixels, rtol=0, atol=1e-5)
    return {
        "bare decoding": lambda: bare(task),
        "decode_video in this process": lambda: decode_video(path, indices, timeout=None),
        "decode_video in its helper": lambda: decode_video(path, indices),
        "bare resize and normalisation": lambda: resize(arrays),
        "processor, frames": lambda: processor(videos=[frames], **options),
        "processor, caption": lambda: processor(text=[CAPTION], return_tensors="pt"),
        "copy to shared memory": lambda: pixels.clone().share_memory_(),
        "collator": lambda: collate([record]),
    }


class ClipsOnly:
    """A processor of videos alone, as the clip reader takes it."""

    def __init__(self, **options):
        self.video_processor = ClipBertVideoProcessor(**options)


def resident_of_worker(path: Path, batches: int = 500) -> dict[str, float]:
    """Bytes that a worker keeps after a tenth of its batches and after all; each holds 8 random clips of one video."""

    def collate(rows: list[int]) -> int:
        processor = ClipsOnly(num_clips=8)
        frames = processor.video_processor.read_clip(str(path), seed=rows[0])
        assert process_clips(processor, [frames], 1)["pixel_values_videos"].shape[1:3] == (8, 2)
        return psutil.Process().memory_info().rss

    loader: DataLoader = DataLoader(range(batches), 1, collate_fn=collate, num_workers=1)  # type: ignore[arg-type]
    sizes = list(loader)
    return {"early": sizes[batches // 10], "last": sizes[-1], "most": max(sizes[batches // 10 :])}


def measure_several_clips(rounds: int, batches: int, output: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = make_clips(Path(temporary) / "videos")[0]
        processor = ClipBertVideoProcessor(num_clips=16)
        single = ClipBertVideoProcessor(sampling="uniform")
        info = probe_video(path)
        indices = single.sample_frames(VideoMetadata(total_num_frames=info.num_frames, fps=30), num_clips=16).tolist()
        clips = [indices[first : first + 2] for first in range(0, 32, 2)]
        variants = {
            "16 clips": lambda: processor.read_clip(str(path)),
            "one call of the decoder": lambda: decode_video(path, sorted(indices)),
            "16 calls": lambda: [decode_video(path, clip) for clip in clips],
        }
        times = take_turns(variants, rounds, repeat=3)
        memory = resident_of_worker(path, batches)
    middle = {name: median(found["clock"]) for name, found in times.items()}
    report = {"environment": environment(), "seconds": times, "memory_of_worker": memory}
    report["against_one_call"] = middle["16 clips"] / middle["one call of the decoder"]
    report["against_16_calls"] = middle["16 clips"] / middle["16 calls"]
    report["growth_of_worker"] = memory["last"] / memory["early"]
    for name, value in middle.items():
        print(f"{name:24} {1e3 * value:7.1f} ms")
    print(
        f"{report['against_one_call']:.2f} x one call (target 1.3), {report['against_16_calls']:.2f} x 16 calls (0.33)"
    )
    print(
        f"a worker grows by {report['growth_of_worker'] - 1:+.1%} from batch {batches // 10} to {batches} (target 5 %)"
    )
    Path(output).write_text(json.dumps(report, indent=1) + "\n")


def print_tables(num_clips: int, workers: list[int], times: dict[Any, dict], parts: dict[str, dict]) -> None:
    print(f"{num_clips} clips: clips/s of           bare   + resize   loader    its time against   its processor time")
    print("source           workers                                   bare   + resize   bare   + resize")
    middle = {key: {kind: median(values) for kind, values in found.items()} for key, found in times.items()}
    for source, baseline in SOURCES.items():
        for count in workers:
            loader = middle[source, "loader", count]
            stands = [middle[baseline, what, count] for what in ("bare", "bare + resize")]
            rates = [num_clips / one["clock"] for one in (*stands, loader)]
            ratios = [loader[kind] / one[kind] for kind in ("clock", "processors") for one in stands]
            print(f"{source:16} {count:5}       ", *(f"{rate:9.1f}" for rate in rates), "  ", end="")
            print(*(f"{ratio:7.2f} x" for ratio in ratios))
    print("\none clip (video file), milliseconds of the processors")
    for name, found in parts.items():
        print(f"  {name:34} {1e3 * min(found['processors']):7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=Path, help="folder of video files to read instead of made ones")
    parser.add_argument("--several-clips", action="store_true", help="measure what several clips of a file cost")
    parser.add_argument("--batches", type=int, default=500, help="of the worker whose memory is measured")
    parser.add_argument("--output", help="default: benchmarks/results/loader.json or loader_clips.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.output = args.output or f"benchmarks/results/loader{'_clips' * args.several_clips}.json"
    if args.several_clips:
        measure_several_clips(args.rounds, args.batches, args.output)
        return
    processor = make_processor()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.videos:
            videos = [file for file in sorted(args.videos.iterdir()) if file.suffix in VIDEO_EXTENSIONS[:4]]
        else:
            videos = make_clips(folder / "videos")
        folders = make_frame_folders(videos, folder / "frames")
        datasets: dict[str, Any] = {"video files": as_dataset(videos), "frame folders": as_dataset(folders)}
        report = write_shards(datasets["video files"], folder / "shards")
        datasets["tar shard"] = Shard(report.shards[0])
        collators = {name: RetrievalCollator(processor, dataset, training=True) for name, dataset in datasets.items()}
        tasks = {
            name: [plan(path, collators[name]) for path in paths]
            for name, paths in (("video files", videos), ("frame folders", folders))
        }
        if not args.videos:
            batch = collators["video files"]([datasets["video files"][0]])
            expected = bare_with_resize(tasks["video files"][0])
            torch.testing.assert_close(batch["pixel_values_videos"][0], expected, rtol=0, atol=1e-5)

        variants: dict[tuple[str, str, int], Callable] = {}
        pools = {n: get_context("fork").Pool(n, start_process) if n else None for n in args.workers}
        for workers, pool in pools.items():
            for name, found in tasks.items():
                variants[name, "bare", workers] = in_processes(bare, found, pool)
                variants[name, "bare + resize", workers] = in_processes(bare_with_resize, found, pool)
            for name, dataset in datasets.items():
                variants[name, "loader", workers] = through_loader(dataset, collators[name], workers)
        result: dict[str, Any] = {
            "environment": environment(),
            "clips": len(videos),
            "videos": str(args.videos.name) if args.videos else "made here",
        }
        times = take_turns(variants, args.rounds)
        record = datasets["video files"][0]
        parts = take_turns(stages(tasks["video files"][0], collators["video files"], record), args.rounds, repeat=10)
        for pool in filter(None, pools.values()):
            pool.terminate()

    result["seconds"] = [dict(zip(("source", "what", "workers"), key)) | found for key, found in times.items()]
    result["seconds_of_one_clip"] = parts
    print_tables(len(videos), args.workers, times, parts)
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
