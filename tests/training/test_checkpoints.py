"""Incomplete checkpoints are skipped, complete ones are found."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import save_file
from transformers import TrainerState, TrainingArguments

from hf_videolang.training.checkpoints import choose_checkpoint, find_checkpoints, last_complete_checkpoint


def write_checkpoint(folder, processes=1):
    folder.mkdir(parents=True)
    save_file({"w": torch.ones(8)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "pytorch_model_fsdp.bin"):
        torch.save({"lr": 1.0}, folder / name)
    torch.save({}, folder / "scheduler.pt")
    for rank in range(processes):
        torch.save({}, folder / ("rng_state.pth" if processes == 1 else f"rng_state_{rank}.pth"))
    TrainerState(global_step=3).save_to_json(str(folder / "trainer_state.json"))


def test_newest_by_number(tmp_path):
    for step in (90, 100, 9):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-best").mkdir()
    assert [path.name for path in find_checkpoints(tmp_path)] == [
        "checkpoint-9",
        "checkpoint-90",
        "checkpoint-100",
    ]
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-100"


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "optimizer.pt",
        "pytorch_model_fsdp.bin",
        "scheduler.pt",
        "rng_state_1.pth",
        "trainer_state.json",
    ],
)
def test_a_file_cut_short_makes_it_incomplete(tmp_path, name):
    write_checkpoint(tmp_path / "checkpoint-3", processes=2)
    write_checkpoint(tmp_path / "checkpoint-6", processes=2)
    assert last_complete_checkpoint(tmp_path, 2).name == "checkpoint-6"
    data = (tmp_path / "checkpoint-6" / name).read_bytes()
    (tmp_path / "checkpoint-6" / name).write_bytes(data[:-20])
    assert last_complete_checkpoint(tmp_path, 2).name == "checkpoint-3"

    named = tmp_path / "checkpoint-6"
    args = TrainingArguments(str(tmp_path), resume_from_checkpoint=str(named), use_cpu=True)
    with pytest.raises(FileNotFoundError, match="checkpoint-6, which is no complete checkpoint"):
        choose_checkpoint(args)
    (named / name).write_bytes(data)
    assert choose_checkpoint(args) == str(named)  # a named checkpoint may be of another number of processes


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["model.safetensors", "pytorch_model_fsdp.bin"], "lacks weights"),
        (["optimizer.pt"], "lacks the optimiser (optimizer.pt or optimizer.bin or optimizer_0 or latest)"),
        (["scheduler.pt"], "lacks the schedule (scheduler.pt)"),
    ],
)
def test_a_checkpoint_without_a_needed_file_is_none(tmp_path, caplog, names, fault):
    for step in (3, 6):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    for name in names:
        (tmp_path / "checkpoint-6" / name).unlink()
    args = TrainingArguments(str(tmp_path), resume_from_checkpoint="true", use_cpu=True)
    assert choose_checkpoint(args) == str(tmp_path / "checkpoint-3")
    (line,) = caplog.messages
    assert f"checkpoint-6 {fault}" in line and line.endswith("; the run goes on from checkpoint-3.")
    args.resume_from_checkpoint = str(tmp_path / "checkpoint-6")
    with pytest.raises(FileNotFoundError, match=re.escape(fault)):
        choose_checkpoint(args)


def test_a_checkpoint_of_deepspeed_has_the_states_that_it_names(tmp_path):
    for step in (3, 6):
        folder = tmp_path / f"checkpoint-{step}"
        write_checkpoint(folder)
        for name in ("model.safetensors", "pytorch_model_fsdp.bin", "optimizer.pt"):
            (folder / name).unlink()
        (folder / f"global_step{step}").mkdir()
        (folder / "latest").write_text(f"global_step{step}")
        for kind in ("model", "optim"):
            torch.save({}, folder / f"global_step{step}" / f"zero_pp_rank_0_mp_rank_00_{kind}_states.pt")
    states = tmp_path / "checkpoint-6" / "global_step6"
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-6"
    optimizer = states / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-20])
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-3"
    shutil.rmtree(states)
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-3"
    (states.parent / "latest").write_bytes(b"\xff\0")
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-3"


def test_weights_in_several_files_are_all_needed(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-3")
    for part in ("a", "b"):
        save_file({part: torch.ones(8)}, tmp_path / "checkpoint-3" / f"{part}.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    (tmp_path / "checkpoint-3" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-3"
    (tmp_path / "checkpoint-3" / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        last_complete_checkpoint(tmp_path)


def test_one_process_has_not_saved_its_state(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-3", processes=2)
    with pytest.raises(FileNotFoundError, match="of 3 process.*found checkpoint-3"):
        last_complete_checkpoint(tmp_path, 3)
    shutil.rmtree(tmp_path / "checkpoint-3")
    with pytest.raises(FileNotFoundError, match="found none"):
        last_complete_checkpoint(tmp_path)
