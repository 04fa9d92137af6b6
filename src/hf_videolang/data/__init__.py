"""Annotations become records, records become `datasets.Dataset`s, and those become batches."""

from hf_videolang.data.load_dataset import find_dataset, load_dataset
from hf_videolang.data.protocol import Protocol
from hf_videolang.data.records import Record

__all__ = ["Protocol", "Record", "find_dataset", "load_dataset"]
