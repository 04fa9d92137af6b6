"""Shared by all tests."""

import os

import pytest
import torch
from datasets.arrow_dataset import Column
from transformers import set_seed

# The suite runs a worker on each core. More threads, here and in subprocesses, would only wait for one another.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Each test draws the same random numbers, whichever tests ran before it."""
    set_seed(0)


@pytest.fixture
def columns_are_taken_whole(monkeypatch):
    """A pass over a column of `datasets` row by row takes eight times as long as the list `column[:]`: it fails."""

    def refuse(column):
        raise AssertionError(f"column {column.column_name} is read row by row")

    monkeypatch.setattr(Column, "__iter__", refuse)
