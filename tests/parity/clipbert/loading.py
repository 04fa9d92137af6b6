"""Which tensors pass from one checkpoint to another model, compared with the original's lists."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMultipleChoice, AutoModelForPreTraining, AutoModelForVisualQuestionAnswering

from hf_videolang.conversion.families import convert
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForVideoTextRetrieval
from tests.parity.cases import SHARED, Case

HEADS = {
    "retrieval (ce)": (ClipBertForVideoTextRetrieval, {}),
    "multiple choice": (AutoModelForMultipleChoice, {}),
    "open-ended QA": (AutoModelForVisualQuestionAnswering, {"num_labels": 23}),
    "count regression": (AutoModelForVisualQuestionAnswering, {"problem_type": "regression"}),
}


def check_checkpoint_loading(case: Case, tmp_path: Path) -> None:
    home = case.path if (case.path / case.meta["checkpoints"][0]).is_file() else SHARED / "reference/clipbert/any"
    paths = [home.parent / name.removeprefix("../") for name in case.meta["checkpoints"]]
    if not paths[0].is_file():
        pytest.skip("the checkpoints of the other cases are not here")
    pretraining = torch.load(paths[0], weights_only=True)
    for name, path in zip(("pretraining", "retrieval (ce)"), paths, strict=True):
        convert(path, tmp_path / name, config=path.with_name("original_config.json"))
    for name, transfer in case.read_json()["transfers"].items():
        source, _, target = name.partition(" -> ")
        if target in HEADS:
            check_head(transfer, tmp_path / source, *HEADS[target])
    check_bert_and_cnn(case, pretraining, paths[0].with_name("original_config.json"), tmp_path)


def check_head(transfer: dict, folder: Path, auto, options: dict) -> None:
    """A new head starts at its initialisation, a layer of another shape too if that is asked for, all else loads."""
    _, report = auto.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    new = set(report["missing_keys"]) | {entry[0] for entry in report["mismatched_keys"]}
    assert {f"transformer.{name}" for name in new} == set(transfer["kept_at_initialisation"])


def check_bert_and_cnn(case: Case, checkpoint: dict, config: Path, tmp_path: Path) -> None:
    """
    The grid-feature CNN and a BERT with new or with old names of its layer norms: all of both is loaded, where the
    original loses the old names.
    """
    transfers = case.read_json()["transfers"]
    cnn = {name.removeprefix("cnn.feature."): value for name, value in checkpoint.items() if "cnn.feature." in name}
    assert len(cnn) == transfers["grid_feat_R-50 -> pretraining.cnn.feature"]["n_loaded"]
    torch.save({"model": cnn, "iteration": 7}, tmp_path / "grid_feat_R-50.pth")
    bert = {
        name.removeprefix("transformer."): value
        for name, value in checkpoint.items()
        if name.startswith("transformer.") and "visual_embeddings" not in name
    }
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in bert.items()
    }
    lost = transfers["text transformer, LayerNorm named gamma/beta -> pretraining.transformer"]
    assert set(lost["ignored_from_checkpoint"]) == set(old) - set(bert)
    states = []
    for number, values in enumerate((bert, old)):
        torch.save(values, tmp_path / f"bert_{number}.bin")
        folder = tmp_path / f"start_{number}"
        report = convert(tmp_path / "grid_feat_R-50.pth", folder, bert=tmp_path / f"bert_{number}.bin", config=config)
        model = AutoModelForPreTraining.from_pretrained(folder)
        states.append(model.state_dict())
        new = {f"transformer.bert.{name.removeprefix('clipbert.')}" for name in report["created"]}
        unused = "transformer.bert.visual_embeddings.position_embeddings.weight"
        kept = lost["kept_at_initialisation"]
        expected = {f"transformer.{name}" for name in kept if "visual" in name} - {unused}
        assert new - {"transformer.bert.cnn.grid_encoder.weight"} == expected
        assert report["dropped"]["iteration"] == "state of the detector's training"
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    whole = AutoModelForPreTraining.from_pretrained(tmp_path / "pretraining").state_dict()
    for name, value in whole.items():
        assert torch.equal(states[0][name], value) == (name not in report["created"]), name


CHECKS = {"checkpoint_loading": check_checkpoint_loading}
