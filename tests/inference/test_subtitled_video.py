"""
Moments and answers in subtitled videos with known borders, from the files to the seconds, by the documented commands.

Models start from random weights and learn the videos by heart, or learn to find what they have never seen.
"""

import json
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from torch import nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase, set_seed

from hf_videolang.cli import main as command
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.moving_shapes import (
    COLOURS,
    DIRECTIONS,
    SHAPES,
    write_subtitled_scenes,
)
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.moment_retrieval import MomentRetrievalEvaluator
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.processing_hero import HeroProcessor
from hf_videolang.training.run_moment_retrieval import main as train_moments
from tests.common.tiny.hero import PART, SPECIAL, tiny_config, word_tokenizer

RATE, SIDE = 8, 32  # frames a second and pixels of the videos
RECIPE = {
    "select_on": "none",
    "per_device_train_batch_size": 16,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "linear",
    "warmup_steps": 20,
    "save_strategy": "no",
    "logging_steps": 50,
    "report_to": "none",
    "disable_tqdm": True,
}
LOSSES = {
    "video_ranking_weight": 8.0,
    "query_ranking_weight": 8.0,
    "span_loss_weight": 1.0,
    "span_drop_probability": 0.0,
    "margin": 0.2,
}


def write_extractor(folder: Path) -> Path:
    """A small CLIP with random weights."""
    set_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**vision, "vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=32))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)  # so that pictures differ in their features
    model.save_pretrained(folder)
    return folder


def extract(folder: Path, videos: Path) -> list[str]:
    """The words of the command that writes the folder."""
    extractor = write_extractor(folder.parent / "extractor")
    where = ["--videos", videos, "--output", folder, "--num-workers", "0", "--batch-size", "64", "--cpu"]
    return [str(word) for word in ("extract", "--preset", "clip-vit", "--extractor", f"clip-vit={extractor}", *where)]


def write_base(folder: Path, model_class: type, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A small model with random weights."""
    set_seed(0)
    part = {**PART, "num_hidden_layers": 1, "max_position_embeddings": 110}
    config = tiny_config(
        cross_modal_config={**part, "vocab_size": len(tokenizer)},
        temporal_config=part,
        query_config=part,
        video_feature_size=32,
        max_frames=100,
        features="clip-vit",
    )
    config.architectures = [model_class.__name__]
    model_class(config).save_pretrained(folder)
    HeroProcessor(tokenizer, features="clip-vit", max_moment_frames=9).save_pretrained(folder)
    return folder


def options(**given) -> list[str]:
    values = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in given.items()}
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def recall(run: Path, data: Path, features: Path, split: str, shift: int = 0) -> dict[str, float]:
    """R@1 at IoU 0.7 of each kind of search; with `shift`, each video has the subtitles of another one."""
    model, processor = load_model_and_processor(str(run))
    records, _ = find_dataset(str(data)).load(split, need_videos=False)
    paths = np.roll(records["subtitles"][:], shift).tolist()
    records = records.remove_columns("subtitles").add_column("subtitles", paths)
    scores = MomentRetrievalEvaluator(processor, FeatureStore(features))(model, records, Accelerator(cpu=True))
    return {kind: scores["raw"][f"{kind}_IoU0.7"]["R1"] for kind in ("VCMR", "SVMR")}


def test_unseen_combinations_are_found(tmp_path):
    """Shapes of the test move as they never do in training. Chance knows all borders, and picks one of 48 scenes."""
    data, features = write_subtitled_scenes(tmp_path / "data", num_scenes=8), tmp_path / "features"
    assert command(extract(features, data)) == 0
    words = ["the", "now", "it", "goes", "moves", *COLOURS, *SHAPES, *DIRECTIONS]
    base = write_base(tmp_path / "base", HeroForVideoTextRetrieval, word_tokenizer([*SPECIAL, *words]))
    where = {"model": base, "data_dir": data, "features": features, "output_dir": tmp_path / "run"}
    recipe = {**RECIPE, "train_split": "train+validation", "max_steps": 200}
    assert train_moments(options(**recipe, **where, losses=LOSSES)) == 0
    (evaluation,) = json.loads((tmp_path / "run" / "eval_results.json").read_text())["evaluations"]
    found = evaluation["scores"]["raw"]["VCMR_IoU0.7"]["R1"]
    assert found > 5 / 48
    shuffled = recall(tmp_path / "run", data, features, "test", shift=1)
    assert shuffled["VCMR"] < found / 2 and shuffled["SVMR"] < 0.75 * evaluation["scores"]["raw"]["SVMR_IoU0.7"]["R1"]
