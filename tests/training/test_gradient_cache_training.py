"""RetrievalTrainer with and without the gradient cache: equal losses, gradient norms and weights."""

import pytest
import torch

from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.training.run import freeze_parts
from tests.training.test_retrieval_trainer import make_trainer


def trained(tiny_run, folder, chunk_size, **options):
    """History and weights after three updates."""
    options = {"max_steps": 3, "per_device_train_batch_size": 5, "learning_rate": 1e-4, **options}
    trainer = make_trainer(tiny_run, folder, gradient_cache_chunk_size=chunk_size, **options)
    chunks = []
    encode = trainer.encode
    trainer.encode = lambda model, rows: chunks.append(len(rows["input_ids"])) or encode(model, rows)
    trainer.train()
    history = [line for line in trainer.state.log_history if "loss" in line]
    return history, trainer.model.state_dict(), chunks


@pytest.mark.parametrize(
    "options",
    [
        # both batches of an update in chunks of 2, 2 and 1
        {"gradient_accumulation_steps": 2, "max_grad_norm": 0.5},
        {"activation_checkpointing": True, "max_grad_norm": 0.0, "on_broken_video": "replace"},
    ],
    ids=["accumulated and clipped", "recomputed activations"],
)
def test_trains_as_without(tiny_run, tmp_path, options):
    expected, weights, whole = trained(tiny_run, tmp_path, None, **options)
    history, cached_weights, chunks = trained(tiny_run, tmp_path, 2, **options)
    assert set(whole) == {5} and chunks == [2, 2, 1] * 2 * len(whole)
    for line, reference in zip(history, expected, strict=True):
        assert line.keys() == reference.keys()
        assert line["loss"] == pytest.approx(reference["loss"], abs=2e-4)
        assert line["grad_norm"] == pytest.approx(reference["grad_norm"], rel=1e-4)
    assert_equal(cached_weights, weights)


def assert_equal(got, expected):
    for name, tensor in expected.items():
        if not name.endswith("k_proj.bias"):  # its gradient is rounding alone, which AdamW makes as large as any other
            torch.testing.assert_close(got[name], tensor, atol=5e-6, rtol=0, msg=name)


def test_bfloat16(tiny_run, tmp_path):
    """A chunk as large as the batch gives the same bits; smaller chunks differ by rounding."""
    expected, weights, _ = trained(tiny_run, tmp_path, None, bf16=True)
    history, same, _ = trained(tiny_run, tmp_path, 5, bf16=True)
    assert [line["loss"] for line in history] == [line["loss"] for line in expected]
    assert all(torch.equal(same[name], tensor) for name, tensor in weights.items())
    history, _, _ = trained(tiny_run, tmp_path, 2, bf16=True)
    for line, reference in zip(history, expected, strict=True):
        assert line["loss"] == pytest.approx(reference["loss"], rel=0.05)
        assert line["grad_norm"] == pytest.approx(reference["grad_norm"], rel=0.2)


def test_frozen_text_tower(tiny_run, tmp_path):
    """Also without the cache: a frozen tower does not move, everything else does."""
    weights = []
    for chunk_size in (None, 2):
        model, _ = load_model_and_processor(tiny_run / "model")
        freeze_parts(model, ["text_model"])
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        weights.append(trained(tiny_run, tmp_path, chunk_size, model=model)[1])
        for name, tensor in before.items():
            assert torch.equal(weights[-1][name], tensor) == name.startswith("text_model."), name
    assert_equal(*weights)


def test_only_a_chunk_is_on_the_device(tiny_run, tmp_path):
    assert make_trainer(tiny_run, tmp_path, gradient_cache_chunk_size=2).get_train_dataloader().device is None
    assert make_trainer(tiny_run, tmp_path).get_train_dataloader().device is not None
