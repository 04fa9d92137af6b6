"""
Does CLIP's text encoder help HERO to find videos and moments, and to write captions? For each of the two tasks, both
are trained on the same videos, from the same kind of start, equally long.

    python benchmarks/clip_enhanced.py [--seeds 0 1 2] [--steps 150] [--output benchmarks/results/clip_enhanced.json]
    python benchmarks/clip_enhanced.py --data-dir /data/vatex --features /data/vatex/features \\
        --clip openai/clip-vit-base-patch32 --roberta FacebookAI/roberta-base --steps 4000

Without data of yours, the videos are moving shapes with subtitles: a subtitle says where the shape goes, and to find
or write "the red circle moves left" takes both. A tiny CLIP first learns single pictures with their captions, and a
tiny RoBERTa the words of the same captions, for equally many steps. CLIP's image encoder then makes the features: a
row is the first and the last picture of 1.5 s. HERO starts from the RoBERTa, CLIP-Enhanced from both. This is the
report's argument in small: a text encoder that belongs to the features. It says nothing about the report's numbers.

It takes five minutes of one core. The captions are the sentences that are searched for. The test shows shapes in
directions in which they never move in training. The tables have a row a score, with the mean of the seeds, the lowest
and the highest. The lines below say which way it came out: one is "better" only if each of its seeds is above each of
the other's.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from s3d_encode import environment
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn.functional import cross_entropy
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM
from transformers.utils import logging

from hf_videolang.conversion.clip_enhanced import init_clip_enhanced
from hf_videolang.conversion.families import convert
from hf_videolang.data.moving_shapes import COLOURS, DIRECTIONS, SHAPES, draw_shape, write_subtitled_scenes
from hf_videolang.data.stores.feature_store import FeatureStore, VideoFeatures
from hf_videolang.training.run_captioning import main as run_captioning
from hf_videolang.training.run_moment_retrieval import main as run_moment_retrieval
from hf_videolang.video.decode import decode_video

SIZE, WIDTH, BATCH, FIRST_STEPS = 32, 64, 64, 200
ROW = 12  # frames of 1.5 s
WORDS = sorted({"the", "is", "at", "moves", "this", "one", *COLOURS, *SHAPES, *DIRECTIONS})
PLACES = {"left": (0, 1), "right": (2, 1), "up": (1, 0), "down": (1, 2)}
SCORES = {"VR": ("R1", "AveR"), "SVMR_IoU0.5": ("R1",), "VCMR_IoU0.7": ("R1", "AveR"), "captions": ("CIDEr",)}
TASKS = {
    "retrieval": (run_moment_retrieval, "hero/vatex_en_r_clip_enhanced.yaml"),
    "captions": (run_captioning, "hero/vatex_en_c_clip_enhanced.yaml"),
}
SYSTEMS = ("HERO", "CLIP-Enhanced")


# ---- what both start from ----


def tokenizer(words: list[str], ends: tuple[str, str] | None, **named: str) -> PreTrainedTokenizerFast:
    """One word, one token; with `ends` around a text."""
    made = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=named["unk_token"])
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if ends:
        special = [(end, words.index(end)) for end in ends]
        made.post_processor = processors.TemplateProcessing(f"{ends[0]} $A {ends[1]}", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=made, **named)


def pictures(seed: int) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """Batches of single pictures and their captions, without end: `[BATCH, 3, SIZE, SIZE]`."""
    generator, kinds = np.random.default_rng(seed), list(product(COLOURS, SHAPES, PLACES))
    while True:
        chosen = [kinds[number] for number in generator.permutation(len(kinds))[:BATCH]]
        shown = []
        for colour, shape, place in chosen:
            radius = SIZE * generator.uniform(0.15, 0.2)
            cell = (np.array(PLACES[place]) + generator.uniform(0.1, 0.9, 2)) / 3
            shown.append(draw_shape(shape, COLOURS[colour], tuple(radius + cell * (SIZE - 2 * radius)), radius, SIZE))
        yield (
            to_pixels(torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)),
            [f"the {colour} {shape} is at the {place}" for colour, shape, place in chosen],
        )


def to_pixels(frames: torch.Tensor) -> torch.Tensor:
    return frames.float() / 127.5 - 1


def write_starts(folder: Path) -> Path:
    """The folders `clip` and `roberta`, trained equally long, and a JSON of tiny layers as the authors write it."""
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 4, "num_hidden_layers": 2}
    clip_words, roberta_words = ["!", *WORDS, "<start>", "<end>"], ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *WORDS]
    named = {"bos_token": "<start>", "eos_token": "<end>", "unk_token": "<end>", "pad_token": "<end>"}
    for_clip = tokenizer(clip_words, ("<start>", "<end>"), **named)
    text = {**sizes, "vocab_size": len(clip_words), "max_position_embeddings": 24, "eos_token_id": len(clip_words) - 1}
    vision = {**sizes, "image_size": SIZE, "patch_size": 8}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))
    optimizer, batches = torch.optim.AdamW(clip.parameters(), lr=1e-3), pictures(0)
    for _ in range(FIRST_STEPS):
        pixels, captions = next(batches)
        ids = for_clip(captions, return_tensors="pt", padding=True)["input_ids"]
        loss = clip(input_ids=ids, pixel_values=pixels, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"CLIP: loss {loss.item():.2f} of {np.log(BATCH):.2f} on pictures after {FIRST_STEPS} steps")
    clip.eval().save_pretrained(folder / "clip")
    for_clip.save_pretrained(folder / "clip")

    special = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    for_roberta = tokenizer(roberta_words, None, **special, mask_token="<mask>")
    words = {"vocab_size": len(roberta_words), "max_position_embeddings": 160, "type_vocab_size": 1, "pad_token_id": 1}
    roberta = RobertaForMaskedLM(RobertaConfig(**words, **sizes))
    optimizer, batches = torch.optim.AdamW(roberta.parameters(), lr=1e-3), pictures(0)
    for _ in range(FIRST_STEPS):
        ids = for_roberta(next(batches)[1], return_tensors="pt", padding=True)["input_ids"]
        ids = torch.cat([torch.zeros(len(ids), 1, dtype=torch.long), ids], dim=1)
        is_masked = (torch.rand(ids.shape) < 0.3) & (ids > 4)
        logits = roberta(ids.masked_fill(is_masked, 4)).logits
        loss = cross_entropy(logits[is_masked], ids[is_masked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"RoBERTa: loss {loss.item():.2f} of {np.log(len(WORDS)):.2f} on masked words after {FIRST_STEPS} steps")
    roberta.eval().save_pretrained(folder / "roberta")
    for_roberta.save_pretrained(folder / "roberta")

    part = {**sizes, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu"}
    layers = {"f_config": 2, "c_config": 2, "q_config": 0, "d_config": 2}
    positions = {"f_config": {"max_position_embeddings": 160}}
    parts = {name: {**part, "num_hidden_layers": count, **positions.get(name, {})} for name, count in layers.items()}
    (folder / "layers.json").write_text(json.dumps(parts))
    return folder / "layers.json"


@torch.no_grad()
def write_features(clip: CLIPModel, data: Path, folder: Path) -> None:
    """Rows of the first and the last picture of every 1.5 s."""
    videos = []
    for path in sorted(data.glob("*/*.mp4")):
        frames = decode_video(path).frames
        count = len(frames) // ROW
        chosen = (frames[place::ROW][:count] for place in (0, ROW - 1))
        rows = [clip.get_image_features(pixel_values=to_pixels(one)).pooler_output for one in chosen]
        name = path.relative_to(data).with_suffix("").as_posix()
        videos.append(VideoFeatures(name, torch.cat(rows, dim=1).half().numpy()))
    facts = {"model": "tiny CLIP", "version": None, "rows_per_second": 1 / 1.5, "width": 2 * WIDTH}
    store = FeatureStore(folder, {"extractors": [{**facts, "normalized": False, "frames": "two every 1.5 s"}]})
    store.write_features("part-0", videos)


def write_caption_data(data: Path, folder: Path) -> Path:
    """The same videos, whose sentences are to be written."""
    shutil.copytree(data, folder)
    for metadata in folder.glob("*/metadata.jsonl"):
        metadata.write_text(metadata.read_text().replace('"moments": ', '"captions": '))
    return folder


# ---- training ----


def train(task: str, start: Path, args: argparse.Namespace, seed: int, output: Path) -> dict[str, float]:
    """Train by the documented script; the scores on the test, in per cent."""
    run, recipe = TASKS[task]
    dataset = {
        "data_dir": args.data[task],
        "features": args.features,
        "model": start,
        "output_dir": output,
        "seed": seed,
    }
    options: dict[str, Any] = {**dataset, "max_steps": args.steps, "warmup_steps": args.steps // 10}
    options |= {"report_to": "none", "test": "true", "select_on": "none", "eval_strategy": "no", "bf16": "false"}
    options |= {"save_strategy": "no", "load_best_model_at_end": "false", "logging_steps": args.steps}
    options |= {"dataloader_num_workers": 0, **args.options.get(task, {})}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with redirect_stdout(StringIO()):  # the tables of each run
        if run([*([] if args.options else [recipe]), *words]):
            raise SystemExit("the training failed")
    (result,) = json.loads((output / "eval_results.json").read_text())["evaluations"]
    raw = result["scores"]["raw"]
    found = {f"{kind} {name}": raw[kind][name] for kind, names in SCORES.items() if kind in raw for name in names}
    factor = 1 if task == "captions" else 100  # CIDEr is 100 times itself already, as everywhere
    return {name: factor * value for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150, help="updates of every run")
    parser.add_argument("--videos", type=int, default=24, help="moving shapes to train on")
    parser.add_argument("--data-dir", type=Path, help="VATEX; by default moving shapes are made")
    parser.add_argument("--features", type=Path, help="with --data-dir: clip-vit_slowfast features of the videos")
    parser.add_argument("--clip", help="with --data-dir")
    parser.add_argument("--roberta", help="with --data-dir")
    parser.add_argument("--output", type=Path, help="JSON of all runs")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    begin, facts = time.perf_counter(), environment()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.data_dir:
            config, named = None, {"features": "clip-vit_slowfast"}
            args.data, args.options = dict.fromkeys(TASKS, args.data_dir), {}
        else:
            config = write_starts(folder)
            data = write_subtitled_scenes(folder / "data", args.videos, 6, num_scenes=8)
            args.data = {"retrieval": data, "captions": write_caption_data(data, folder / "captions")}
            args.features, args.clip, args.roberta = folder / "features", folder / "clip", folder / "roberta"
            write_features(CLIPModel.from_pretrained(args.clip), data, args.features)
            named = {"features": "none", "video_feature_size": str(2 * WIDTH)}
            losses = {"span_loss_weight": 1.0, "span_drop_probability": 0.0, "margin": 0.2}
            both = {"learning_rate": 2e-3, "lr_scheduler_type": "linear", "train_split": "train+validation"}
            finding = {"per_device_train_batch_size": 16, "losses": json.dumps(losses), "max_moment_frames": 9}
            writing = {"per_device_train_batch_size": 4}  # videos, of eight captions each
            args.options = {"retrieval": both | finding, "captions": both | writing}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
        for seed in args.seeds:
            starts = folder / f"seed{seed}"
            convert(args.roberta, starts / "HERO", from_roberta=True, config=config, seed=seed, **named)
            init_clip_enhanced(args.clip, args.roberta, starts / "CLIP-Enhanced", config=config, seed=seed, **named)
            for name in SYSTEMS:
                scores = [train(task, starts / name, args, seed, starts / f"{name} {task}") for task in TASKS]
                runs[name].append(scores[0] | scores[1])
    print_tables(runs)
    if args.output:
        seconds = round(time.perf_counter() - begin)
        facts |= {"steps": args.steps, "seeds": args.seeds, "seconds": seconds, "runs": runs}
        args.output.write_text(json.dumps(facts, indent=1) + "\n")


def print_tables(runs: dict[str, list[dict[str, float]]]) -> None:
    scores = list(runs["HERO"][0])
    for name in SYSTEMS:
        print(f"\n{name}, mean of {len(runs[name])} seeds (lowest to highest), per cent, CIDEr × 100")
        for score in scores:
            values = [run[score] for run in runs[name]]
            print(f"  {score:18}{statistics.mean(values):6.1f}  ({min(values):.1f} to {max(values):.1f})")
    print()
    for score in scores:
        hero, enhanced = ([run[score] for run in runs[name]] for name in SYSTEMS)
        difference = statistics.mean(enhanced) - statistics.mean(hero)
        verdict = "There is no difference beyond the spread of the seeds"
        if len(hero) == 1:
            verdict = "One seed tells nothing"
        elif min(enhanced) > max(hero):
            verdict = "CLIP-Enhanced is better: each of its seeds is above each of HERO's"
        elif min(hero) > max(enhanced):
            verdict = "HERO is better: each of its seeds is above each of CLIP-Enhanced's"
        print(f"{score}: {difference:+.1f} for CLIP-Enhanced. {verdict}.")


if __name__ == "__main__":
    main()
