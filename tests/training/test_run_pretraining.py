"""The real command of pre-training: a kill, two processes, FSDP2, the finished folder, and refusals."""

import json
from collections import Counter

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.data.pretraining.order import PretrainingOrder
from hf_videolang.data.pretraining.sources import PretrainingSource
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel
from hf_videolang.training.checkpoints import last_complete_checkpoint
from hf_videolang.training.run_pretraining import main
from tests.data.shards.making_shards import SHARD_LENGTHS, write_clip_shards
from tests.training.tiny_pretraining import words
from tests.training.tiny_run import kill, run_ranks, start, variables_of, wait_for_checkpoint

MODULE = "hf_videolang.training.run_pretraining"
SAVING = ("--save_steps", "4")  # 4 and 8 lie within an epoch of three updates


@pytest.fixture(scope="module")
def unbroken(tiny_pretraining, tmp_path_factory):
    """One process, 4 epochs of 26 clips in batches of 8: 13 updates."""
    folder = tmp_path_factory.mktemp("unbroken")
    torch.set_num_threads(1)
    assert main(words(tiny_pretraining, folder, *SAVING)) == 0
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 13
    return folder


def weights(folder):
    return load_file(folder / "model.safetensors")


def logged(folder, key):
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [line[key] for line in history if key in line]


def assert_close_runs(got, expected):
    assert logged(got, "loss") == pytest.approx(logged(expected, "loss"), abs=2e-4)
    assert logged(got, "learning_rate") == pytest.approx(logged(expected, "learning_rate"))
    for name, tensor in weights(expected).items():
        torch.testing.assert_close(weights(got)[name], tensor, atol=2e-6, rtol=1e-5, msg=name)


def test_killed_run_goes_on_to_the_same_bits(tiny_pretraining, unbroken, tmp_path):
    working = (*SAVING, "--dataloader_num_workers", "2")
    process = start(MODULE, *words(tiny_pretraining, tmp_path, *working))
    wait_for_checkpoint(tmp_path, process)
    kill(process)
    assert last_complete_checkpoint(tmp_path).name in ("checkpoint-4", "checkpoint-8", "checkpoint-12")
    assert main(words(tiny_pretraining, tmp_path, *working, "--resume_from_checkpoint", "true")) == 0
    got = weights(tmp_path)
    for name, tensor in weights(unbroken).items():
        assert torch.equal(got[name], tensor), name
    assert logged(tmp_path, "loss") == logged(unbroken, "loss") and len(logged(unbroken, "loss")) == 13


def test_a_resumed_run_reads_no_clip_before_its_checkpoint(tiny_pretraining, unbroken, tmp_path, monkeypatch):
    read = []
    clip = PretrainingSource.clip
    monkeypatch.setattr(PretrainingSource, "clip", lambda *which: read.append(which[1:]) or clip(*which))
    checkpoint = unbroken / "checkpoint-8"
    assert main(words(tiny_pretraining, tmp_path, "--resume_from_checkpoint", checkpoint)) == 0
    order = PretrainingOrder({"clips": SHARD_LENGTHS}, {"clips": 1}, 8)
    assert read == [(place.shard, place.row) for step in range(8, 13) for place in order.batch(step)]
    for name, tensor in weights(unbroken).items():
        assert torch.equal(weights(tmp_path)[name], tensor), name


def test_two_processes_equal_one_with_the_joint_batch(tiny_pretraining, unbroken, tmp_path):
    """
    From the middle of an epoch of the run of one process.

    DistributedDataParallel sees two passes, of videos with texts and of frames, before each backward pass.
    """
    half = ("--per_device_train_batch_size", "4", "--dataloader_num_workers", "1")
    resumed = words(tiny_pretraining, tmp_path, *half, "--resume_from_checkpoint", unbroken / "checkpoint-4")
    run_ranks(MODULE, *resumed)
    assert_close_runs(tmp_path, unbroken)


def test_fsdp2_equals_one_process(tiny_pretraining, unbroken, tmp_path):
    """Up to the first checkpoint, where the run ends."""
    half = ("--per_device_train_batch_size", "4", "--stop_at_step", "4")
    module = "tests.training.fsdp2_pretraining_on_cpu"
    run_ranks(module, *words(tiny_pretraining, tmp_path, *half, *SAVING), variables=variables_of("fsdp2"))
    assert (tmp_path / "checkpoint-4" / "pytorch_model_fsdp.bin").exists()  # it was sharded
    assert_close_runs(tmp_path, unbroken / "checkpoint-4")


EVERY = ("--eval_strategy", "steps", "--eval_steps")


def test_finished_folder(tiny_pretraining, tmp_path, capsys):
    shards, videos = str(tiny_pretraining / "shards"), str(tiny_pretraining / "videos")
    write_clip_shards(tmp_path / "more", clip03={"bytes": b"no video"}, clip09={"caption": None})
    sources = {"talks": {"data": shards, "ratio": 2}, "films": {"data": str(tmp_path / "more" / "shards")}}
    sets = {"tested": videos, "validated": {"dataset": "videofolder", "data_dir": videos, "split": "validation"}}
    more = ("--evaluation", json.dumps(sets), *EVERY, "5", "--num_frames", "3", "--max_length", "40")
    policies = ("--on_broken_video", "replace", "--on_missing_text", "replace", "--max_steps", "9")
    output = tmp_path / "out"
    mixed = [*words(tiny_pretraining, output, *more, *policies), "--sources", json.dumps(sources)]
    assert main(mixed) == 0
    printed = capsys.readouterr().out
    assert "talks: 26 clips in 4 shards, ratio 2" in printed and "films: 26 clips in 4 shards, ratio 1" in printed
    assert "videos (videofolder), test: 1 videos" in printed and "raw      DSL   chance" in printed
    assert "note: tested holds 1 videos. Scores of fewer than 10" in printed and "note: validated holds" in printed

    model, processor = AutoModel.from_pretrained(output), AutoProcessor.from_pretrained(output)
    assert isinstance(model, CLIPViPModel) and processor.max_length == 40
    assert processor.video_processor.num_frames == 3
    last = weights(output / "checkpoint-9")  # nothing is selected
    assert all(torch.equal(tensor, last[name]) for name, tensor in model.state_dict().items())
    assert len(logged(output, "eval_tested_text_to_video_R1")) == 2  # after update 5 and at the end
    results = json.loads((output / "eval_results.json").read_text())
    assert results["selected_on"] == "none" and len(results["evaluations"]) == 2
    order = PretrainingOrder(dict.fromkeys(sources, SHARD_LENGTHS), {"talks": 2, "films": 1}, 8)
    planned = Counter(
        7 * place.shard + place.row for step in range(9) for place in order.batch(step) if place.source == "films"
    )
    assert results["broken_videos"] == planned[3] and sum(logged(output, "missing_texts")) == planned[9]
    assert planned[3] and planned[9]
    assert yaml.safe_load((output / "recipe.yaml").read_text())["num_frames"] == 3
    card = (output / "README.md").read_text()
    assert "talks, films" in card and "median rank" not in card and str(tmp_path) not in card


def test_a_chosen_checkpoint_is_reported_as_chosen(tiny_pretraining, tmp_path):
    videos = write_moving_shapes(tmp_path / "videos", num_train=12, num_test=10, num_frames=8)
    sets = json.dumps({"tested": str(videos)})
    choosing = ("--load_best_model_at_end", "--metric_for_best_model", "tested_text_to_video_R1")
    each = ("--evaluation", sets, *EVERY, "1", "--save_steps", "1", "--max_steps", "2")
    assert main(words(tiny_pretraining, tmp_path / "out", *each, *choosing)) == 0
    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert results["selected_on"] == "tested" and results["step"] in (1, 2)
    assert results["evaluations"][0]["protocol"]["selected on"] == "tested"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--sources", "no/such/folder"), "no/such/folder"),
        (("--sources", '{"a": '), 'argument --sources: {"a":  is not JSON'),
        (("--sources", '{"a": {"date": 1}}'), "The source a is {'date': 1}"),
        (("--loss", "foo"), "loss is 'foo'; expected one of vs_fc,"),
        (("--on_broken_video", "skip"), "invalid choice: 'skip'"),
        (("--freeze", "text_tower"), "freeze has 'text_tower'"),
        (("--per_device_train_batch_size", "64"), "clips has 26 clips, fewer than one global batch of 64"),
        (("--evaluation", "msrvtt-1ka"), "evaluation has 'msrvtt-1ka'; expected a mapping"),
        (("--evaluation", '{"a": {"data_dir": "x"}}'), "expected a mapping of names to folders"),
        (("--resume_from_checkpoint", "true"), "no complete checkpoint"),
    ],
)
def test_refusals_before_anything_is_trained(tiny_pretraining, tmp_path, capsys, more, message):
    assert main(words(tiny_pretraining, tmp_path, *more)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--per_device_train_batch_size", "4"), "global batch: 8 there, 4 now"),
        (("--seed", "1"), "seed: 42 there, 1 now"),
        (("--gradient_accumulation_steps", "2"), "gradient_accumulation_steps: 1 there, 2 now"),
        (("--sources", "FEWER"), "source clips.clips: 26 there"),
    ],
)
def test_a_run_does_not_resume_as_another_run(tiny_pretraining, unbroken, tmp_path, capsys, more, message):
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for shard in sorted((tiny_pretraining / "shards").glob("*.tar"))[:3]:
        (fewer / shard.name).symlink_to(shard)
    more = [str(fewer) if word == "FEWER" else word for word in more]
    more += ["--resume_from_checkpoint", unbroken / "checkpoint-4"]
    assert main(words(tiny_pretraining, tmp_path / "out", *more)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "belongs to another run" in last and message in last


def test_a_clip_without_text_is_one_line(tmp_path, tiny_pretraining, capsys):
    shards = write_clip_shards(tmp_path, **{f"clip{number:02d}": {"caption": ""} for number in range(26)})
    assert main(words(tiny_pretraining, tmp_path / "out", "--sources", shards, "--dataloader_num_workers", "1")) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: clip") and "has no caption; on_missing_text: replace" in last
