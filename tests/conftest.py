"""Shared by all tests."""

import pytest
from transformers import set_seed


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Each test draws the same random numbers, whichever tests ran before it."""
    set_seed(0)
