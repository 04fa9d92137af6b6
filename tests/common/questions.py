"""A folder of coloured squares with questions, and a tiny model of each kind of head."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import set_seed

from hf_videolang.data.moving_shapes import COLOURS, write_video
from hf_videolang.hub.question_heads import with_new_head
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForPreTraining
from tests.common.tiny.clipbert import tiny_model, tiny_processor

WORDS = ("red", "green", "blue", "yellow")


def write_question_folder(folder: Path, rows: list[dict] | None = None, names: tuple[str, ...] = WORDS) -> Path:
    """A second of video for each colour, and `rows` as metadata; by default one open question a video."""
    folder.mkdir(parents=True)
    for name in names:
        frame = np.full((48, 64, 3), COLOURS[name], np.uint8)
        write_video(folder / f"{name}.mp4", [frame] * 12)
    write_questions(
        folder, rows or [{"file_name": f"{name}.mp4", "question": "what colour?", "answer": name} for name in names]
    )
    return folder


def write_questions(folder: Path, rows: list[dict]) -> None:
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def choices_of(name: str) -> dict:
    return {"file_name": f"{name}.mp4", "question": "which?", "choices": list(WORDS), "answer": name}


def answering_model(head: str = "open", answers: tuple[str, ...] = WORDS):
    """Tiny, with random weights and the given answers."""
    set_seed(0)
    base = tiny_model(ClipBertForPreTraining)
    with torch.no_grad():
        return with_new_head(base, head, answers)


def save_model(folder: Path, head: str | None = "open", answers: tuple[str, ...] = WORDS, **processor_options) -> Path:
    """A model folder; without a head, one after pre-training."""
    model = tiny_model(ClipBertForPreTraining) if head is None else answering_model(head, answers)
    model.save_pretrained(folder)
    options = {"size": {"longest_edge": 64}, "num_clips": 2, **processor_options}
    tiny_processor(**options).save_pretrained(folder)
    return folder
