"""
What every family's model must pass. A family's test file gives a tiny model and its inputs, and runs all of it:

    @pytest.mark.parametrize("check", MODEL_CHECKS)
    def test_model(check, tmp_path):
        check(TinyModel(tiny_model, tiny_inputs(), outputs=("text_embeds", "video_embeds")), tmp_path)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

CLOSE = {"atol": 2e-6, "rtol": 1e-5}
MASKS = {"attention_mask": ["input_ids"], "video_attention_mask": ["pixel_values_videos", "video_features"]}


@dataclass
class TinyModel:
    """
    A model under test.

    Args:
        make: builds it, in eval mode, with the same random weights each time.
        inputs: of `forward`, a batch of at least 2, with masks of which some are 0.
        outputs: fields of the output to compare; row i belongs to row i of the batch.
        training_inputs: added to `inputs` so that the output has a `loss`.
    """

    make: Callable[[], PreTrainedModel]
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    training_inputs: dict[str, Any] = field(default_factory=lambda: {"return_loss": True})

    @torch.no_grad()
    def run(self, model: torch.nn.Module, inputs: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        output = model(**(self.inputs if inputs is None else inputs))
        return {name: output[name] for name in self.outputs}

    def loss(self, model: torch.nn.Module) -> Tensor:
        return model(**self.inputs, **self.training_inputs).loss


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name].float(), value, **(tolerance or CLOSE), msg=lambda m, n=name: f"{n}: {m}"
        )


def check_saving_and_loading(tiny: TinyModel, tmp_path: Path) -> None:
    """Sharded, by its own class and by each Auto class that its config names, to the same bits."""
    model = tiny.make()
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    own_name, expected = type(model).__name__, tiny.run(model)
    auto_names = [name for name, reference in model.config.auto_map.items() if reference.endswith(f".{own_name}")]
    for loader in (type(model), *(getattr(transformers, name) for name in auto_names)):
        loaded, report = loader.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is type(model)
        assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
        for tensor in loaded.parameters():
            tensor.data = tensor.data.clone()  # mapped from a file it may be unaligned, and its products differ
        assert_close(tiny.run(loaded), expected, atol=0, rtol=0)


def check_missing_weights(tiny: TinyModel, tmp_path: Path) -> None:
    """A missing or reshaped weight raises. On request, a missing one gets a finite value and no other changes."""
    model = tiny.make()
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    for name in (min(weights), max(weights)):
        save_file({key: value for key, value in weights.items() if key != name}, file, {"format": "pt"})
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            type(model).from_pretrained(tmp_path)
        loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
        assert set(report["missing_keys"]) == {name}
        assert loaded.state_dict()[name].isfinite().all()
        state = loaded.state_dict()
        for key, value in weights.items():
            assert key == name or torch.equal(state[key], value), f"{key} was overwritten"
    save_file(weights | {name: torch.zeros(3, 1, 4, 1, 5)}, file, {"format": "pt"})
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        type(model).from_pretrained(tmp_path)


def check_meta_device(tiny: TinyModel, tmp_path: Path) -> None:
    config = tiny.make().config
    with torch.device("meta"):
        model = type(tiny.make())(config)
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def check_padding(tiny: TinyModel, tmp_path: Path) -> None:
    """A padded row gives what it gives alone, whatever the padding holds, with both kinds of attention."""
    values_of = {
        mask: [name for name in names if name in tiny.inputs] for mask, names in MASKS.items() if mask in tiny.inputs
    }
    assert values_of and all((tiny.inputs[mask] == 0).any() for mask in values_of), "the inputs have no padding"
    model = tiny.make()
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        together, disturbed = tiny.run(model), dict(tiny.inputs)
        for mask, names in values_of.items():
            for name in names:
                if tiny.inputs[name].is_floating_point():
                    disturbed[name] = tiny.inputs[name].clone()
                    disturbed[name][tiny.inputs[mask] == 0] = 1e3
        assert_close(tiny.run(model, disturbed), together)
        for row in range(len(tiny.inputs[mask])):
            alone = {name: value[row : row + 1] for name, value in tiny.inputs.items()}
            for mask, names in values_of.items():
                real = alone[mask][0].bool()
                alone |= {name: alone[name][:, real] for name in (mask, *names)}
            rows = {name: value[row : row + 1] for name, value in together.items()}
            assert_close(tiny.run(model, alone), rows)


def check_gradient_checkpointing(tiny: TinyModel, tmp_path: Path) -> None:
    """The same gradients, bit for bit, without and with checkpointing of both kinds."""
    plain = _gradients(tiny, tiny.make().train())
    for reentrant in (True, False):
        model = tiny.make().train()
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
        assert_close(_gradients(tiny, model), plain, atol=0, rtol=0)


def _gradients(tiny: TinyModel, model: PreTrainedModel) -> dict[str, Tensor]:
    tiny.loss(model).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def check_compilation(tiny: TinyModel, tmp_path: Path) -> None:
    """`torch.compile` takes the model as one graph."""
    model = tiny.make()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_close(tiny.run(compiled), tiny.run(model))


def check_export(tiny: TinyModel, tmp_path: Path) -> None:
    """`torch.export` with a free batch size."""
    model, batch = tiny.make(), torch.export.Dim("batch", min=1, max=64)
    shapes = {name: {0: batch} for name in tiny.inputs}
    program = torch.export.export(model, (), tiny.inputs, dynamic_shapes=shapes, strict=False)
    twice = {name: torch.cat([value, value]) for name, value in tiny.inputs.items()}
    assert_close(tiny.run(program.module(), twice), tiny.run(model, twice))


def check_bfloat16(tiny: TinyModel, tmp_path: Path) -> None:
    model = tiny.make()
    expected, found = tiny.run(model), tiny.run(model.to(torch.bfloat16))
    assert all(value.dtype == torch.bfloat16 for value in found.values())
    assert_close(found, expected, atol=0.02, rtol=0.02)


def check_offloading(tiny: TinyModel, tmp_path: Path) -> None:
    """All parts on disk, and where `device_map="auto"` places them."""
    model = tiny.make()
    model.save_pretrained(tmp_path / "model")
    device_map = {name: "disk" for name, _ in model.named_children()}
    device_map |= {name: "cpu" for name, _ in model.named_parameters(recurse=False)}
    loaded = type(model).from_pretrained(tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "disk")
    assert any(parameter.is_meta for parameter in loaded.parameters())
    assert_close(tiny.run(loaded), tiny.run(model))
    loaded = type(model).from_pretrained(tmp_path / "model", device_map="auto")
    inputs = {name: value.to(loaded.device) for name, value in tiny.inputs.items()}
    assert_close({name: value.cpu() for name, value in tiny.run(loaded, inputs).items()}, tiny.run(model))


def check_lora(tiny: TinyModel, tmp_path: Path) -> None:
    """Adapters on all linear layers train alone, save, load and merge to the same outputs."""
    model = get_peft_model(tiny.make(), LoraConfig(r=4, target_modules="all-linear"))
    before = tiny.run(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # in the first step, one of the two factors has no gradient
        optimizer.zero_grad()
        tiny.loss(model).backward()
        optimizer.step()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained and all("lora_" in name for name in trained)
    model.eval()
    after = tiny.run(model)
    assert any(not torch.allclose(after[name], before[name], atol=1e-3) for name in after)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny.make(), tmp_path)
    assert_close(tiny.run(loaded), after)
    assert_close(tiny.run(loaded.merge_and_unload()), after, atol=1e-4, rtol=1e-4)


def check_overfitting(tiny: TinyModel, tmp_path: Path) -> None:
    """A few steps learn one batch by heart."""
    torch.manual_seed(0)
    model = tiny.make().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = tiny.loss(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10, losses


MODEL_CHECKS = [check for name, check in globals().items() if name.startswith("check_")]
