"""
Speed of HERO: the encoder against its matrix products, the search of a corpus against the search of all pairs, batches
from a feature store against the same bytes of a file, a second query on a video of an hour, the extraction of
features, and the writing of captions with a cache against that without.

    python -m benchmarks.hero --json benchmarks/results/hero.json

All ratios come from one run. `--small` runs everything at a small size, to see that it works.
"""

import json
import platform
import random
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPConfig, CLIPModel

from hf_videolang.data.moving_shapes import write_video
from hf_videolang.data.shards.open_shards import find_shards
from hf_videolang.data.stores.feature_store import FeatureStore, VideoFeatures
from hf_videolang.inference.extraction import extract_features
from hf_videolang.inference.moment_ranking import MomentRanking, find_moments
from hf_videolang.inference.moment_search import EncodingStore, search_moments
from hf_videolang.inference.preset_extractor import load_preset
from hf_videolang.models.hero.configuration_hero import HeroConfig
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval, HeroModel
from hf_videolang.models.hero.modeling_hero_captioning import HeroCaptionMemory, HeroForVideoCaptioning
from hf_videolang.models.slowfast.configuration_slowfast import SlowFastConfig
from hf_videolang.models.slowfast.modeling_slowfast import SlowFastModel

SMALL = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 1000}


def config(small: bool) -> HeroConfig:
    if not small:
        return HeroConfig()
    parts = dict.fromkeys(("cross_modal_config", "temporal_config", "query_config"), SMALL)
    return HeroConfig(**parts, video_feature_size=64)


def fastest(run: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


# ---- encoder ----


def videos(count: int, width: int, words: int) -> dict[str, Tensor]:
    """Videos of 40 to 100 frames. A subtitle has 1 to 5 frames and 3 to 40 tokens, as in TV shows."""
    draw, rows = random.Random(0), []
    for _ in range(count):
        frames, subtitles, shown = draw.randint(40, 100), [], []
        while len(shown) < frames:
            shown += [len(subtitles)] * draw.randint(1, 5)
            subtitles.append(draw.choice([5, 8, 10, 12, 15, 20, 30, 40]))
        rows.append((subtitles, shown[:frames]))
    longest, most = max(len(shown) for _, shown in rows), max(len(subtitles) for subtitles, _ in rows)
    tokens = torch.zeros(count, most, dtype=torch.long)
    frame_subtitles = torch.full((count, longest), -1)
    for number, (subtitles, shown) in enumerate(rows):
        tokens[number, : len(subtitles)] = torch.tensor(subtitles)
        frame_subtitles[number, : len(shown)] = torch.tensor(shown)
    mask = (torch.arange(int(tokens.max())) < tokens[..., None]).long()
    return {
        "video_features": torch.randn(count, longest, width),
        "video_attention_mask": (frame_subtitles >= 0).long(),
        "subtitle_input_ids": torch.randint(4, words, mask.shape),
        "subtitle_attention_mask": mask,
        "frame_subtitles": frame_subtitles,
    }


def products(model: HeroModel, cross_tokens: int, frames: int) -> Callable[[], None]:
    """The linear layers alone, over real tokens."""
    cross, temporal = model.cross_modal_model, model.temporal_model

    def linears(layers: Any) -> list[Any]:
        return [module for module in layers.modules() if isinstance(module, torch.nn.Linear)]

    work = [(linear, cross_tokens) for linear in linears(cross.encoder)]
    work += [(linear, frames) for linear in (*linears(temporal.encoder), cross.frame_embeddings.dense)]
    work.append((model.frame_transform.dense, frames))
    inputs = {(count, one.in_features): torch.randn(count, one.in_features) for one, count in work}

    def run() -> None:
        for linear, count in work:
            linear(inputs[count, linear.in_features])

    return run


def padded(model: HeroModel, inputs: dict[str, Tensor]) -> Tensor:
    """A straightforward implementation of hero §2: one row a subtitle, padded to the longest."""
    cross, mask = model.cross_modal_model, inputs["video_attention_mask"]
    shown, features = inputs["frame_subtitles"], inputs["video_features"] * mask[..., None]
    frames = cross.embed_frames(features, shown)
    rows, places = [], []
    for video in range(len(shown)):
        for subtitle in range(inputs["subtitle_input_ids"].shape[1]):
            own = (shown[video] == subtitle).nonzero()[:, 0]
            ids = inputs["subtitle_input_ids"][video, subtitle]
            ids = ids[inputs["subtitle_attention_mask"][video, subtitle] == 1]
            if len(ids):
                text = cross.embeddings(ids, torch.arange(len(ids)))
                rows.append(torch.cat([frames[video, own], text]))
                places.append((video, own))
    longest = max(map(len, rows))
    states = torch.stack([pad(row, (0, 0, 0, longest - len(row))) for row in rows])
    hidden = torch.stack([pad(torch.zeros(len(row)), (0, longest - len(row)), value=-10000.0) for row in rows])
    states = cross.encoder(states, attention_mask=hidden[:, None, None]).last_hidden_state
    read = torch.zeros_like(frames)
    for row, (video, own) in enumerate(places):
        read[video, own] = states[row, : len(own)]
    return model.temporal_model(model.frame_transform(features) + read, mask)


@torch.inference_mode()
def encoder(small: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    model = HeroModel(config(small)).eval()
    count = 4 if small else 32
    sizes = model.config.video_feature_size, model.config.cross_modal_config.vocab_size
    some = videos(2, *sizes)
    is_frame = some["video_attention_mask"] == 1
    expected = padded(model, some)[is_frame]
    torch.testing.assert_close(model(**some).last_hidden_state[is_frame], expected, atol=1e-4, rtol=1e-3)
    inputs = videos(count, *sizes)
    frames = int(inputs["video_attention_mask"].sum())
    tokens = frames + int(inputs["subtitle_attention_mask"].sum())
    repeats = 2  # after the run above
    found = {
        "videos": count,
        "cross_modal_tokens": tokens,
        "frames": frames,
        "seconds": fastest(lambda: model(**inputs), repeats),
        "seconds_of_matrix_products": fastest(products(model, tokens, frames), repeats),
        "seconds_padded": fastest(lambda: padded(model, inputs), 1),
    }
    found["over_matrix_products"] = found["seconds"] / found["seconds_of_matrix_products"]
    found["padded_over_matrix_products"] = found["seconds_padded"] / found["seconds_of_matrix_products"]
    return found


# ---- corpus ----


def all_pairs(model, text, frames, mask, ranking) -> list[list[tuple]]:
    """Every span of every video for each query, then sorted (hero §9.1)."""
    scores = model.video_scores(text, frames, mask)
    starts, ends = model.span_logits(model.frame_similarity(text, frames), mask)
    products = starts.softmax(-1)[..., :, None] * ends.softmax(-1)[..., None, :]
    length = torch.arange(frames.shape[1]) - torch.arange(frames.shape[1])[:, None]
    products *= (length >= ranking.min_frames) & (length < ranking.max_frames)
    best, kept = scores.topk(min(ranking.max_videos, scores.shape[1]), dim=1)
    result = []
    for query in range(len(text)):
        own = products[query, kept[query]] * (ranking.score_scale * best[query]).exp()[:, None, None]
        order = own.flatten().topk(ranking.max_predictions).indices
        video, first, last = torch.unravel_index(order, own.shape)
        result.append(list(zip(kept[query][video].tolist(), first.tolist(), last.tolist())))
    return result


def search(way: str, num_queries: int, num_videos: int, small: bool, threads: int, connection: Any) -> None:
    """In a process of its own, whose peak memory is that of this way."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, ranking = HeroForVideoTextRetrieval(config(small)).eval(), MomentRanking()
    with torch.inference_mode():
        frames = torch.randn(num_videos, 100, model.config.hidden_size)
        mask = torch.ones(num_videos, 100, dtype=torch.long)
        text = torch.randn(num_queries, model.config.hidden_size)
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far, of making the model, does not count
        before = megabytes("VmRSS")
        start = time.perf_counter()
        if way == "stream":
            own = torch.zeros(num_queries, dtype=torch.long)
            found = []
            for number, one in enumerate(find_moments(model, text, frames, mask, own, ranking)):
                if number < 8:
                    found.append([(v, round(s / 1.5), round(e / 1.5) - 1) for v, s, e, _ in one.moments])
        else:
            found = all_pairs(model, text, frames, mask, ranking)
        seconds = time.perf_counter() - start
    connection.send({"seconds": seconds, "megabytes": megabytes("VmHWM") - before, "found": found[:8]})


def megabytes(field: str) -> float:
    """Memory of this process, as Linux counts it: `VmRSS` now, or `VmHWM` at its peak."""
    return int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0]) / 1024


def in_process(*arguments: Any) -> dict[str, Any]:
    context = get_context("spawn")
    receiver, sender = context.Pipe()
    process = context.Process(target=search, args=(*arguments, sender))
    process.start()
    result = receiver.recv()
    process.join()
    return result


def corpus(small: bool) -> dict[str, Any]:
    num_queries, num_videos, part = (64, 120, 8) if small else (10_000, 2_000, 16)
    stream = in_process("stream", num_queries, num_videos, small, 2)
    fewer = in_process("stream", num_queries // 10, num_videos, small, 2)
    pairs = in_process("pairs", part, num_videos, small, 2)
    same = [a == b for one, other in zip(stream["found"], pairs["found"]) for a, b in zip(one, other)]
    return {
        "queries": num_queries,
        "videos": num_videos,
        "seconds": stream["seconds"],
        "megabytes": stream["megabytes"],
        "megabytes_of_a_tenth_of_the_queries": fewer["megabytes"],
        "all_pairs_measured_on_queries": part,
        "all_pairs_seconds_scaled": pairs["seconds"] * num_queries / part,
        "all_pairs_megabytes_of_the_part": pairs["megabytes"],
        "faster": pairs["seconds"] * num_queries / part / stream["seconds"],
        "memory_share": stream["megabytes"] / pairs["megabytes"],
        "equal_predictions": sum(same) / len(same),
    }


# ---- loading ----


def loading(small: bool) -> dict[str, Any]:
    """Batches of 32 videos in random order, from a store and as bytes of one file, both in the memory of the disk."""
    torch.set_num_threads(1)
    count, width, size = (40, 64, 8) if small else (512, 4352, 32)
    draw = np.random.default_rng(0)
    rows = draw.integers(40, 101, count)
    extractor = {"model": None, "rows_per_second": 1 / 1.5, "width": width, "normalized": False}
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder) / "store", {"extractors": [extractor]})
        plain = Path(folder) / "plain"
        with open(plain, "wb") as file:
            for first in range(0, count, 64):
                videos = [
                    VideoFeatures(str(number), draw.standard_normal((rows[number], width), np.float32).astype("f2"))
                    for number in range(first, min(first + 64, count))
                ]
                store.write_features(f"part-{first}", videos)
                file.writelines(video.features.tobytes() for video in videos)
        ends = np.cumsum(rows) * width * 2
        order = draw.permutation(count)[: count // size * size].reshape(-1, size)
        store = FeatureStore(store.folder)
        store.features("0")  # finds the places of all videos

        def read_bytes() -> None:
            with open(plain, "rb", buffering=0) as file:
                for batch in order:
                    for number in batch:
                        file.seek(ends[number] - rows[number] * width * 2)
                        file.read(rows[number] * width * 2)

        def read_rows() -> None:
            for batch in order:
                for number in batch:
                    store.features(str(number))

        def read_batches() -> None:
            for batch in order:
                pad_sequence([store.features(str(number)) for number in batch], batch_first=True)

        found = {
            "videos": count,
            "batch": size,
            "megabytes_a_batch": ends[-1] / 1e6 / (count / size),
            "bytes_batches_a_second": len(order) / fastest(read_bytes, 3),
            "store_batches_a_second": len(order) / fastest(read_rows, 3),
            "padded_batches_a_second": len(order) / fastest(read_batches, 3),
        }
    found["store_over_bytes"] = found["store_batches_a_second"] / found["bytes_batches_a_second"]
    return found


# ---- a video of an hour ----


class Texts:
    """Stands for the processor of a query: the tokens of a sentence and HERO's settings."""

    seconds_per_feature, min_moment_frames, max_moment_frames, video_score_scale = 1.5, 2, 16, 20.0

    def __call__(self, text: list[str]) -> transformers.BatchFeature:
        ids = torch.randint(4, 900, (len(text), 12))
        return transformers.BatchFeature({"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def second_query(small: bool) -> dict[str, Any]:
    torch.set_num_threads(2)
    model = HeroForVideoTextRetrieval(config(small)).eval()
    encoded = {
        "frames": torch.randn(60, 40, model.config.hidden_size),
        "mask": torch.ones(60, 40, dtype=torch.long),
        "starts": torch.arange(60) * 60.0,
    }
    with tempfile.TemporaryDirectory() as folder:
        store = EncodingStore(folder, {"model": "random"})
        store.get("talk", {}, lambda: encoded)

        def run() -> None:
            search_moments(model, Texts(), {"talk": store.get("talk", {}, lambda: encoded)}, "a man sits")

        return {"seconds": fastest(run, 3)}


# ---- features of a video ----


def extraction(small: bool) -> dict[str, Any]:
    """CLIP and SlowFast of the published sizes, side by side, on the CPU; and the part of it that is decoding."""
    torch.set_num_threads(2)
    seconds, rate = (3, 10) if small else (30, 30)
    tower = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
    sizes = {"vision_config": tower, "text_config": tower} if small else {}
    picture = np.random.default_rng(0).integers(0, 256, (18, 32, 3), np.uint8).repeat(40, 0).repeat(40, 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        CLIPModel(CLIPConfig(**sizes)).save_pretrained(folder / "clip-vit")
        slowfast = SlowFastConfig(**({"stem_channels": [8, 2], "depths": [1, 1, 1, 1]} if small else {}))
        SlowFastModel(slowfast).save_pretrained(folder / "slowfast")
        (folder / "videos").mkdir()
        path = folder / "videos" / "talk.mp4"
        write_video(path, (np.roll(picture, 4 * number, axis=1) for number in range(seconds * rate)), rate)
        extractors = load_preset("clip-vit_slowfast", {name: folder / name for name in ("clip-vit", "slowfast")})
        start = time.perf_counter()
        for extractor in extractors:
            for _ in extractor.reader({"path": str(path)}):
                pass
        decoding = time.perf_counter() - start
        report = extract_features(find_shards(folder / "videos", None), folder / "store", extractors)
    return {
        "picture": "1280x720",
        "seconds_of_video": seconds,
        "video_seconds_a_second": seconds / report.seconds,
        "share_of_decoding": decoding / report.seconds,
    }


@torch.inference_mode()
def captions(small: bool) -> dict[str, Any]:
    """Captions of 30 words by one thread, from an encoded video of 100 frames: with a cache, without, and 4 beams."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = HeroForVideoCaptioning(config(small)).eval()
    shape = 1, model.config.max_frames, model.config.hidden_size
    memory = HeroCaptionMemory(torch.randn(shape), torch.ones(shape[:2], dtype=torch.long))
    # No end token, so that all captions have 30 words.
    options: dict[str, Any] = {"max_new_tokens": 30, "eos_token_id": None}
    ways: dict[str, dict[str, Any]] = {"cache": {}, "recomputed": {"use_cache": False}, "4 beams": {"num_beams": 4}}
    result = {}
    for segments in (1, 32):
        frames = {name: value.expand(segments, *value.shape[1:]) for name, value in memory.items()}
        written, seconds = {}, dict.fromkeys(ways, float("inf"))
        for _ in range(7 if segments == 1 else 1):  # in turns; the fastest counts
            for way, more in ways.items():
                start = time.perf_counter()
                written[way] = model.generate(encoder_outputs=HeroCaptionMemory(**frames), **options, **more)
                seconds[way] = min(seconds[way], time.perf_counter() - start)
        result[f"{segments} segments"] = {
            **{f"{way}, seconds": value for way, value in seconds.items()},
            "cache is faster by": seconds["recomputed"] / seconds["cache"],
            "equal words": torch.equal(written["cache"], written["recomputed"]),
            "4 beams take longer by": seconds["4 beams"] / seconds["cache"],
        }
    return result


SECTIONS = (encoder, corpus, loading, second_query, extraction, captions)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", nargs="+", choices=[section.__name__ for section in SECTIONS], help="default: all")
    args = parser.parse_args()
    environment = {
        "machine": platform.machine(),
        "processor": platform.processor(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "small": args.small,
    }
    results: dict[str, Any] = {"environment": environment}
    for measure in SECTIONS:
        if args.only and measure.__name__ not in args.only:
            continue
        start = time.perf_counter()
        results[measure.__name__] = measure(args.small)
        print(measure.__name__, json.dumps(results[measure.__name__], indent=1))
        print(f"measured in {time.perf_counter() - start:.0f} s", flush=True)
        if args.json:
            args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
