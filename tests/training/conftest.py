import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from tests.training.tiny_pairs import write_tiny_pairs
from tests.training.tiny_pretraining import write_tiny_pretraining
from tests.training.tiny_run import write_tiny_run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    return write_tiny_run(tmp_path_factory.mktemp("tiny_run"))


@pytest.fixture(scope="session")
def tiny_pretraining(tmp_path_factory):
    return write_tiny_pretraining(tmp_path_factory.mktemp("tiny_pretraining"))


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory):
    return write_tiny_pairs(tmp_path_factory.mktemp("tiny_pairs"))


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate remembers precision and device for the life of a process; each test starts without that memory."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
