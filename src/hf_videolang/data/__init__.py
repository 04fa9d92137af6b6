"""Annotations become `datasets.Dataset` records, and records become batches."""

from .records import Clip, RetrievalProtocol
from .retrieval_datasets import load_retrieval_dataset, read_clips

__all__ = ["Clip", "RetrievalProtocol", "load_retrieval_dataset", "read_clips"]
