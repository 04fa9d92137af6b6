"""A tiny pair scorer's model folder and recipe, for the tests of training and evaluation."""

from pathlib import Path

from tests.common.tiny.clipbert import tiny_model, tiny_processor


def write_tiny_pairs(folder: Path) -> Path:
    """Write a folder with model and processor: 2 clips of 2 frames, texts of at most 40 tokens."""
    tiny_model(max_position_embeddings=40).save_pretrained(folder)
    processor = tiny_processor(num_clips=2, fps=8, size={"longest_edge": 64})
    processor.tokenizer.model_max_length = processor.max_length = 40
    processor.save_pretrained(folder)
    return folder
