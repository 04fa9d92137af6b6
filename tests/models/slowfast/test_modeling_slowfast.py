"""SlowFast: the checks of every family that concern it, its size, and what its pathways see."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from hf_videolang.models.slowfast.configuration_slowfast import SlowFastConfig
from hf_videolang.models.slowfast.modeling_slowfast import SlowFastForVideoClassification, SlowFastModel
from tests.common import model_checks
from tests.common.model_checks import TinyModel
from tests.common.tiny.slowfast import SIDE, tiny_config, tiny_inputs, tiny_model

CHECKS = [
    model_checks.check_saving_and_loading,
    model_checks.check_meta_device,
    model_checks.check_bfloat16,
    model_checks.check_compilation,
    model_checks.check_export,
    model_checks.check_offloading,
    model_checks.check_overfitting,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_model(check, tmp_path):
    labels = {"labels": torch.tensor([1, 4])}
    check(TinyModel(lambda: tiny_model(dropout=0.0), tiny_inputs(), ("logits",), labels), tmp_path)


def test_missing_weights(tmp_path):
    """Those of the network raise. A classifier may be new, with a warning."""
    model_checks.check_missing_weights(
        TinyModel(lambda: tiny_model().slowfast, tiny_inputs(), ("pooler_output",)), tmp_path
    )
    tiny_model().slowfast.save_pretrained(tmp_path)
    loaded, report = SlowFastForVideoClassification.from_pretrained(tmp_path, output_loading_info=True, num_labels=3)
    assert report["missing_keys"] == {"classifier.weight", "classifier.bias"} and loaded.config.num_labels == 3
    assert SlowFastForVideoClassification.from_pretrained(tmp_path).classifier.weight.isfinite().all()


def test_it_has_the_parameters_that_were_counted():
    with torch.device("meta"):
        model = SlowFastForVideoClassification(SlowFastConfig(num_labels=400))
    assert sum(parameter.numel() for parameter in model.parameters()) == 34_566_488  # slowfast §1
    assert model.config.hidden_size == model.classifier.in_features == 2304


@torch.no_grad()
def test_the_pooled_features_are_slow_then_fast_and_feed_the_classifier(tmp_path):
    whole = tiny_model()
    whole.save_pretrained(tmp_path)
    model, inputs = SlowFastModel.from_pretrained(tmp_path), tiny_inputs()
    output = model(**inputs)
    assert output.slow_hidden_state.shape == (2, 256, 2, 1, 1) and output.fast_hidden_state.shape == (2, 64, 8, 1, 1)
    means = [state.mean(dim=(2, 3, 4)) for state in (output.slow_hidden_state, output.fast_hidden_state)]
    assert torch.equal(output.pooler_output, torch.cat(means, dim=1))
    torch.testing.assert_close(whole(**inputs).logits, whole.classifier(output.pooler_output))


@torch.no_grad()
def test_the_slow_pathway_sees_every_fourth_frame():
    """Of 32 frames those of slowfast §1. The first convolutions of the stages see one instant at a time."""
    model, pixels = tiny_model().slowfast, torch.randn(1, 32, 3, SIDE, SIDE)
    slow, fast = model._pathways(pixels)
    assert fast.shape[2] == 32
    assert torch.equal(slow[0].transpose(0, 1), pixels[0, [0, 4, 8, 13, 17, 22, 26, 31]])


def test_the_dropout_acts_in_training_alone():
    model, inputs = tiny_model(dropout=0.9), tiny_inputs()
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eval()
    assert not torch.equal(model(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("shape", [(1, 6, 3, 32, 32), (8, 3, 32, 32), (1, 8, 1, 32, 32)])
def test_wrong_input_is_told(shape):
    with pytest.raises(ValueError, match=r"expected \[batch, frames, 3, height, width\] with 8 frames"):
        tiny_model()(torch.zeros(shape))


def test_wrong_settings_are_told():
    with pytest.raises(StrictDataclassError, match="a multiple of alpha, 4"):
        tiny_config(num_frames=10)
    with pytest.raises(StrictDataclassError, match="one for each of 4 stages"):
        tiny_config(depths=[1, 1])
