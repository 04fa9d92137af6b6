"""Annotations become `datasets.Dataset` records, and records become batches."""

from hf_videolang.data.load_dataset import load_retrieval_dataset, read_clips
from hf_videolang.data.records import Clip, RetrievalProtocol

__all__ = ["Clip", "RetrievalProtocol", "load_retrieval_dataset", "read_clips"]
