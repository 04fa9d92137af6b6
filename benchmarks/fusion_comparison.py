"""
The argument of the CLIP-ViP paper on small made-up videos: what does each way of fusing frames buy, all else equal?

    python benchmarks/fusion_comparison.py     # about an hour on one core; stopped, it continues where it was

1. An image-text model, the stand-in for CLIP, learns single pictures: "a red circle at the top left".
2. Every fusion of the library starts from its weights and is trained on moving shapes ("a red circle moves left then
   up") with the same clips, batches, number of updates and optimiser. Three tasks (TASKS):
   - order: every clip comes with its twin, its halves exchanged, as are the words of its caption. Both consist of the
     same frames: who sees a set of frames cannot tell which of the two a caption means. Time tables (temporal
     embedding, frame positions) start random, see `draw_time_table`.
   - order_from_zeros: the same with the published start of the temporal embedding.
   - retrieval: the demo's clips as they are and the published start of everything, as in the paper's comparison.
3. Tests are on combinations of colour, shape and motion that were never trained on. The learning rate of each fusion
   and task is the best of LEARNING_RATES on the data of VALIDATION_SEED; the reported seeds see only that choice.

All runs stand in results/fusion_comparison.json; fusion_comparison_report.py makes the table and the plot from it.
docs/the_papers_argument.md says what came out.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from itertools import cycle, islice, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from fusion_comparison_report import write_report
from torch import Tensor

from hf_videolang import CLIPViPConfig, CLIPViPModel, CLIPViPVideoProcessor
from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.moving_shapes import COLOURS, DIRECTIONS, SHAPES, draw_shape, write_moving_shapes
from hf_videolang.losses import contrastive_loss
from hf_videolang.metrics import retrieval_metrics
from hf_videolang.training.optimization import DecayLastAdamW, learning_rate_scheduler, parameter_groups

FUSIONS: dict[str, dict] = {  # what differs between the models, in words of the vision config
    "mean pooling": {"frame_fusion": "mean_pooling"},
    "sequence transformer": {"frame_fusion": "sequence_transformer"},
    "full attention": {"frame_fusion": "full_attention"},
    "1 proxy": {"frame_fusion": "proxy", "num_proxy_tokens": 1},
    "4 proxies": {"frame_fusion": "proxy", "num_proxy_tokens": 4},
}
LEARNING_RATES = (5e-4, 1e-3)
VALIDATION_SEED = 100
NUM_FRAMES, SIZE = 4, 32
TIE = 1e-5  # cosines closer than this count as equal: a float32 mean depends on the order of its frames by 1e-7 or so


class Clips(NamedTuple):
    """`pixels` `[clips, frames, 3, SIZE, SIZE]` and the caption of each clip."""

    pixels: Tensor
    captions: list[str]


# ---- data ----


def single_pictures(number: int, seed: int) -> Clips:
    """Clips of one frame, with captions that a single frame can carry: colour, shape and place."""
    generator = np.random.default_rng(seed)
    videos, captions = [], []
    for colour, shape, row, column in islice(cycle(product(COLOURS, SHAPES, ROWS, COLUMNS)), number):
        cell = np.array([COLUMNS.index(column), ROWS.index(row)])
        radius = 64 * generator.uniform(0.13, 0.18)
        centre = radius + 1 + (cell + generator.uniform(0, 1, 2)) / 3 * (64 - 2 * radius - 2)
        videos.append(draw_shape(shape, COLOURS[colour], tuple(centre), radius, 64)[None])
        captions.append(f"a {colour} {shape} at the {row} {column}")
    return Clips(preprocess(videos, num_frames=1), captions)


def moving_shapes(seed: int, num_train: int, num_test: int) -> tuple[Clips, Clips]:
    """The demo's videos for training and testing, written as files and read back by the library."""
    with tempfile.TemporaryDirectory() as folder:
        write_moving_shapes(folder, num_train, num_test, seed, num_frames=16)
        splits = []
        for split in (Path(folder, "train"), Path(folder, "test")):
            rows = [json.loads(line) for line in (split / "metadata.jsonl").read_text().splitlines()]
            pixels = preprocess([split / row["file_name"] for row in rows], NUM_FRAMES)
            splits.append(Clips(pixels, [row["caption"] for row in rows]))
    return splits[0], splits[1]


def preprocess(videos: list, num_frames: int) -> Tensor:
    processor = CLIPViPVideoProcessor(size={"height": SIZE, "width": SIZE}, num_frames=num_frames)
    return processor(videos, return_tensors="pt")["pixel_values_videos"]


def twins(clips: Clips) -> Clips:
    """
    The same frames with the second half first, and the caption that belongs to that: "left then up" becomes "up then
    left". The legs of the motion keep their direction; between them there is a cut.
    """
    captions = []
    for caption in clips.captions:
        *what, first, then, second = caption.split()
        captions.append(" ".join([*what, second, then, first]))
    return Clips(clips.pixels.roll(NUM_FRAMES // 2, dims=1), captions)


def together(first: Clips, second: Clips) -> Clips:
    return Clips(torch.cat([first.pixels, second.pixels]), first.captions + second.captions)


ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
WORDS = sorted({"a", *COLOURS, *SHAPES, "at", "the", *ROWS, *COLUMNS, "moves", "then", *DIRECTIONS})


def token_ids(captions: list[str]) -> Tensor:
    """A token a word, then end tokens: the largest id, where the model pools."""
    ids = [torch.tensor([WORDS.index(word) for word in caption.split()] + [len(WORDS)]) for caption in captions]
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=len(WORDS))


# ---- models ----


def make_model(fusion: str) -> CLIPViPModel:
    """Random weights by the library's rules: added proxies N(0, 1), temporal embedding 0, the rest as CLIP."""
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), len(WORDS))
    small = {"hidden_size": 64, "num_attention_heads": 4}
    text = {"num_hidden_layers": 2, "intermediate_size": 256, "vocab_size": len(WORDS) + 1}
    vision = {"num_hidden_layers": 3, "intermediate_size": 128, "num_frames": NUM_FRAMES}
    picture = {"image_size": SIZE, "patch_size": 8}
    sequence = {
        "num_sequence_layers": 2,
        "num_sequence_heads": 4,
    }  # as the text tower, whose blocks it starts with
    return CLIPViPModel(
        CLIPViPConfig(
            projection_dim=64,
            logit_scale_init_value=2.66,  # CLIP's own start, ln(1 / 0.07)
            text_config={**small, **text, **ends},
            vision_config={**small, **vision, **picture, **sequence, **FUSIONS[fusion]},
        )
    )


def start_from(image_model: CLIPViPModel, fusion: str) -> CLIPViPModel:
    """
    The weights of the image-text model in a model with another fusion.

    CLIP-ViP (clip_vip §2): all weights are copied; added proxies and temporal embedding are new. CLIP4Clip
    (clip_vip §7): the sequence transformer starts with the first blocks and the positions of the text tower.
    """
    model, weights = make_model(fusion), image_model.state_dict()
    if model.sequence_transformer is not None:
        positions = weights["text_model.embeddings.position_embedding.weight"]
        weights["sequence_transformer.frame_position_embedding.weight"] = positions
        for name in [name for name in weights if name.startswith("text_model.encoder.layers.")]:
            weights[name.replace("text_model.encoder", "sequence_transformer")] = weights[name]
    missing, unexpected = model.load_state_dict(weights, strict=False)
    new = {f"vision_model.embeddings.{name}" for name in ("added_cls", "temporal_embedding")}
    assert set(missing) <= new and not unexpected, (missing, unexpected)
    return model


@torch.no_grad()
def draw_time_table(model: CLIPViPModel, pixels: Tensor) -> None:
    """
    Start the table that tells frames apart from normal numbers with the spread of what it is added to.

    The published start is 0 (CLIP-ViP) or 0.02 (CLIP4Clip, in CLIP's units). A clip and its twin are then alike to the
    model, and what pulls them apart grows from nothing.
    """
    if model.sequence_transformer is not None:
        features = model.visual_projection(model.vision_model(pixels, pooled_only=True).pooler_output)
        model.sequence_transformer.frame_position_embedding.weight.normal_(std=features.std().item())
    elif model.vision_model.embeddings.temporal_embedding is not None:
        patches = model.vision_model.embeddings.patch_embedding(pixels.flatten(0, 1))
        model.vision_model.embeddings.temporal_embedding.normal_(std=patches.std().item())


def train(
    model: CLIPViPModel,
    clips: Clips,
    learning_rate: float,
    steps: int,
    batch_size: int,
    seed: int,
    twinned=False,
) -> None:
    """
    Contrastive training with optimiser, schedule and loss of clip_vip §4. No caption comes twice in a batch: of
    `batch_size` captions one clip each is drawn, or, `twinned`, half as many clips and the twin of each.
    """
    groups = parameter_groups(model.named_parameters(), learning_rate, weight_decay=0.2)
    optimizer = DecayLastAdamW(groups, lr=learning_rate)
    scheduler = learning_rate_scheduler(optimizer, steps, warmup=0.1)
    generator = np.random.default_rng(seed)
    clips_of = defaultdict(list)
    for row, caption in enumerate(clips.captions):
        clips_of[" ".join(sorted(caption.split())) if twinned else caption].append(row)
    kinds = list(clips_of.values())
    model.train()
    for _ in range(steps):
        chosen = generator.permutation(len(kinds))[: batch_size // 2 if twinned else batch_size]
        rows = [generator.choice(kinds[kind]) for kind in chosen]
        batch = Clips(clips.pixels[rows], [clips.captions[row] for row in rows])
        if twinned:
            batch = together(batch, twins(batch))
        outputs = model(input_ids=token_ids(batch.captions), pixel_values_videos=batch.pixels)
        contrastive_loss(outputs.video_embeds, outputs.text_embeds, model.logit_scale).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


# ---- tests ----


@torch.inference_mode()
def similarities(model: CLIPViPModel, clips: Clips) -> Tensor:
    """Cosines `[captions, clips]`."""
    model.eval()
    videos = [model(pixel_values_videos=some).video_embeds for some in clips.pixels.split(64)]
    return model(input_ids=token_ids(clips.captions)).text_embeds @ torch.cat(videos).T


def order_scores(model: CLIPViPModel, test: Clips) -> dict[str, float]:
    """
    Which of a clip and its twin does a caption mean, and which of their two captions belongs to a clip? Shares of
    right answers, a tie counts half; and the largest difference between the cosines of a caption to clip and twin.
    """
    scores = similarities(model, together(test, twins(test)))
    right = scores.diagonal()
    other_clip = scores.roll(len(test.captions), dims=1).diagonal()
    other_caption = scores.roll(len(test.captions), dims=0).diagonal()
    return {
        "caption_to_clip": share_won(right - other_clip),
        "clip_to_caption": share_won(right - other_caption),
        "largest_difference": (right - other_clip).abs().max().item(),
    }


def share_won(margins: Tensor) -> float:
    return ((margins > TIE).float() + 0.5 * (margins.abs() <= TIE).float()).mean().item()


def retrieval_scores(model: CLIPViPModel, test: Clips) -> dict[str, float]:
    """Text to video over all test clips, and what of the caption the clip found first has right."""
    scores = similarities(model, test)
    metrics = retrieval_metrics(scores)
    first_found = [test.captions[clip] for clip in scores.argmax(dim=1)]

    def share(what: Callable[[str], object]) -> float:
        pairs = zip(test.captions, first_found, strict=True)
        return float(np.mean([what(asked) == what(found) for asked, found in pairs]))

    return {
        **{name: metrics["text_to_video"][name] for name in ("R1", "R5", "R10", "MeanR")},
        "mean_recall": float(np.mean([metrics["text_to_video"][f"R{k}"] for k in (1, 5, 10)])),
        "video_to_text_R1": metrics["video_to_text"]["R1"],
        "first_has_colour_and_shape": share(lambda caption: caption.split()[1:3]),
        "first_has_motion": share(lambda caption: caption.split()[4:]),
        "first_has_places": share(places),
    }


def places(caption: str) -> set[str]:
    """The places of a motion without their order: which corner or line. "left then up" = "down then right"."""
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}
    first, _, second = caption.split()[-3:]
    return {first, second} if second == opposite[first] else {first, opposite[second]}


# ---- the runs ----


class Task(NamedTuple):
    name: str
    fusions: tuple[str, ...]
    twinned: bool
    random_time_table: bool
    scores: Callable[[CLIPViPModel, Clips], dict[str, float]]
    criterion: str  # the score that chooses the learning rate


TASKS = (
    Task("order", tuple(FUSIONS), True, True, order_scores, "caption_to_clip"),
    Task("order_from_zeros", ("4 proxies",), True, False, order_scores, "caption_to_clip"),
    Task("retrieval", tuple(FUSIONS), False, False, retrieval_scores, "mean_recall"),
)


class Seed:
    """The videos and the image-text model of one seed."""

    def __init__(self, seed: int, options: argparse.Namespace):
        print(f"seed {seed}: videos and image-text model", end=", ", flush=True)
        self.seed = seed
        self.train, self.test = moving_shapes(seed, options.num_train, options.num_test)
        torch.manual_seed(seed)
        self.image_model = make_model("mean pooling")
        train(self.image_model, single_pictures(options.num_pictures, seed), 1e-3, options.image_steps, 72, seed)
        unseen = similarities(self.image_model, single_pictures(216, seed + 1_000_000))
        self.image_R1 = retrieval_metrics(unseen)["text_to_video"]["R1"]
        print(f"which finds {self.image_R1:.0%} of 216 new pictures at first place", flush=True)


def run(data: Seed, task: Task, fusion: str, learning_rate: float, options: argparse.Namespace) -> dict:
    began = time.process_time()
    torch.manual_seed(data.seed)
    model = start_from(data.image_model, fusion)
    if task.random_time_table:
        draw_time_table(model, data.train.pixels[:64])
    steps = options.order_steps if task.twinned else options.retrieval_steps
    train(model, data.train, learning_rate, steps, options.batch_size, data.seed, task.twinned)
    return {
        "seed": data.seed,
        "task": task.name,
        "fusion": fusion,
        "learning_rate": learning_rate,
        **task.scores(model, data.test),
        "image_model_R1": data.image_R1,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each fusion and task")
    parser.add_argument("--order_steps", type=int, default=600, help="updates of each run in order")
    parser.add_argument("--retrieval_steps", type=int, default=900, help="updates of each run in retrieval")
    parser.add_argument("--image_steps", type=int, default=600, help="updates of the image-text model")
    parser.add_argument("--batch_size", type=int, default=48)
    parser.add_argument("--num_pictures", type=int, default=2160, help="for the image-text model")
    parser.add_argument("--num_train", type=int, default=768, help="training videos")
    parser.add_argument("--num_test", type=int, default=96, help="test videos, each with a caption of its own")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.output / "fusion_comparison.json"
    settings = {key: value for key, value in vars(options).items() if key not in ("output", "seeds")}
    settings |= {
        "learning_rates": list(LEARNING_RATES),
        "validation_seed": VALIDATION_SEED,
        "fusions": FUSIONS,
    }
    settings |= {"num_frames": NUM_FRAMES, "size": SIZE, "tie": TIE}
    chance = {f"R{k}": k / options.num_test for k in (1, 5, 10)}
    report = {"settings": settings, "environment": environment(), "chance": chance, "runs": []}
    if path.exists():
        report = json.loads(path.read_text())
        if report["settings"] != settings:
            raise SystemExit(f"{path} has runs with other settings; choose another --output, or delete it.")
    done = {(r["seed"], r["task"], r["fusion"], r["learning_rate"]): r for r in report["runs"]}
    prepared: dict[int, Seed] = {}

    def result(seed: int, task: Task, fusion: str, learning_rate: float) -> dict:
        key = (seed, task.name, fusion, learning_rate)
        if key not in done:
            if seed not in prepared:
                prepared.clear()  # one seed at a time in memory
                prepared[seed] = Seed(seed, options)
            done[key] = run(prepared[seed], task, fusion, learning_rate, options)
            report["runs"].append(done[key])
            with atomic_file(path) as file:
                file.write_text(json.dumps(report, indent=1) + "\n")
            score, seconds = done[key][task.criterion], done[key]["cpu_seconds"]
            print(f"  {task.name:16} {fusion:20} lr {learning_rate:g}: {score:6.1%}  {seconds} s", flush=True)
        return done[key]

    best = {}
    for task in TASKS:
        for fusion in task.fusions:
            scores = {rate: result(VALIDATION_SEED, task, fusion, rate)[task.criterion] for rate in LEARNING_RATES}
            best[task, fusion] = max(scores, key=scores.__getitem__)
    for seed in range(options.seeds):
        for (task, fusion), rate in best.items():
            result(seed, task, fusion, rate)
    write_report(path)


def environment() -> dict:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "numpy", "av", "hf_videolang")},
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": 1,
    }


if __name__ == "__main__":
    main()
