from tests.training.conftest import fresh_accelerator, tiny_run  # noqa: F401
