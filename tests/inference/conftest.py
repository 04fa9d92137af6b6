from tests.training.conftest import fresh_accelerator, tiny_pairs, tiny_run  # noqa: F401
