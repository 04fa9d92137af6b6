"""Annotations become `datasets.Dataset` records, and records become batches."""

from hf_videolang.data.load_dataset import load_dataset, read_clips
from hf_videolang.data.records import Clip, Protocol

__all__ = ["Clip", "Protocol", "load_dataset", "read_clips"]
