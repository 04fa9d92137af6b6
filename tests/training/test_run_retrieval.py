"""The real commands: kills, two processes, FSDP2, two machines, the finished folder, and refusals."""

import json
import resource
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

from hf_videolang import cli
from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.evaluation.retrieval import RetrievalEvaluator
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel
from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor
from hf_videolang.training.checkpoints import last_complete_checkpoint
from hf_videolang.training.run_retrieval import main
from hf_videolang.training.trainer import VideoTrainer
from tests.common.forks import Fork
from tests.common.hub_stand_in import HubStandIn
from tests.training.tiny_run import (
    finish,
    free_port,
    kill,
    run,
    run_ranks,
    start,
    start_ranks,
    variables_of,
    wait_for_checkpoint,
)

MODULE = "hf_videolang.training.run_retrieval"
RESUMED = ("--resume_from_checkpoint", "true")


def words(tiny_run, output_dir, *more):
    data = ["--model", tiny_run / "model", "--data_dir", tiny_run / "videos", "--output_dir", output_dir]
    return [str(word) for word in (tiny_run / "recipe.yaml", *data, *more)]


@pytest.fixture(scope="module")
def unbroken(tiny_run, tmp_path_factory):
    """One process: 4 epochs of 2 updates with 8 of 22 videos each, and what is left over, make 11 updates."""
    folder = tmp_path_factory.mktemp("unbroken")
    torch.set_num_threads(1)
    assert main(words(tiny_run, folder)) == 0
    assert len(logged(folder, "loss")) == 11
    return folder


def test_killed_twice_while_saving(tiny_run, unbroken, tmp_path):
    """First with half of the optimiser of checkpoint-6 on the disk, then with half of the final weights."""
    assert die_while_saving("checkpoint", words(tiny_run, tmp_path), tmp_path / "checkpoint-6" / "optimizer.pt") == 3
    final = words(tiny_run, tmp_path, *RESUMED, "--num_train_epochs", "30", "--max_steps", "11")
    assert die_while_saving("final", final, tmp_path / "model.safetensors") == 11
    for _ in range(2):  # nothing is left to train, now and after another kill
        assert main(words(tiny_run, tmp_path, *RESUMED)) == 0
        assert_same_bits(tmp_path, unbroken)
        assert logged(tmp_path, "loss") == logged(unbroken, "loss")


def die_while_saving(moment, command, half_written):
    """The number of the last complete checkpoint after the death."""
    process = Fork("tests.training.killed_while_saving", moment, *command)
    output = process.communicate(timeout=240)[0]
    assert process.returncode == -signal.SIGKILL, output
    assert half_written.exists() and not (half_written.parents[0] / "trainer_state.json").exists()
    folder = half_written.parent if moment == "final" else half_written.parents[1]
    return int(last_complete_checkpoint(folder).name.removeprefix("checkpoint-"))


def test_resumed_between_two_log_lines(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "videos", tmp_path / "videos")
    for file in sorted((tmp_path / "videos" / "train").glob("*.mp4"))[:5]:
        file.write_bytes(b"no video")
    seldom = ("--data_dir", tmp_path / "videos", "--on_broken_video", "replace", "--logging_steps", "4")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert main(words(tiny_run, whole, *seldom)) == 0
    assert main(words(tiny_run, resumed, *seldom, "--resume_from_checkpoint", whole / "checkpoint-6")) == 0
    assert logged(resumed, "loss") == logged(whole, "loss")
    assert logged(resumed, "broken_videos") == logged(whole, "broken_videos") != []
    assert json.loads((resumed / "eval_results.json").read_text())["broken_videos"] > 5


CACHED = ("--per_device_train_batch_size", "4", "--gradient_cache_chunk_size", "3")


@pytest.fixture(scope="module")
def two_processes(tiny_run, unbroken, tmp_path_factory):
    """From the middle of the second epoch, each process with 4 of the 8 videos in chunks of 3 and 1; pushed."""
    folder = tmp_path_factory.mktemp("two_processes")
    (folder / "out").mkdir()
    for name in (".env", "token", "optimizer.pt", "notes.txt"):
        (folder / "out" / name).touch()
    (folder / "out" / "link.txt").symlink_to(unbroken / "recipe.yaml")
    start_from = ("--resume_from_checkpoint", unbroken / "checkpoint-3")
    push = ("--push_to_hub", "--hub_model_id", "org/tiny", "--hub_always_push", "true")
    with HubStandIn() as hub:
        hub_variables = hub.environment(folder / "home")
        command = words(tiny_run, folder / "out", *CACHED, *start_from, *push)
        run(MODULE, *command, processes=2, variables=hub_variables)
        return folder / "out", hub.files("org/tiny")


def test_two_processes_go_on_as_one_with_the_joint_batch(unbroken, two_processes):
    folder, pushed = two_processes
    assert logged(folder, "loss") == pytest.approx(logged(unbroken, "loss"), abs=2e-4)
    assert_equal_weights(folder, unbroken)
    assert pushed["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    files = {"config.json", "processor_config.json", "tokenizer.json", "README.md", "eval_results.json"}
    assert files <= set(pushed)
    assert "notes.txt" in pushed
    private = {".env", "token", "optimizer.pt", "link.txt", "training_args.bin"}
    assert not [name for name in pushed if name.startswith("checkpoint") or name in private]


def test_two_killed_processes_go_on_to_the_same_bits(tiny_run, unbroken, two_processes, tmp_path):
    command = words(tiny_run, tmp_path, *CACHED, "--dataloader_num_workers", "1")
    processes = start_ranks(MODULE, *command, "--resume_from_checkpoint", unbroken / "checkpoint-3")
    wait_for_checkpoint(tmp_path, processes[0], 2)
    for process in processes:
        kill(process)
    assert last_complete_checkpoint(tmp_path, 2).name in ("checkpoint-6", "checkpoint-9")
    run_ranks(MODULE, *command, *RESUMED)
    assert_same_bits(tmp_path, two_processes[0])


# Bytes that a file may have: too few for the weights; enough for the weights, but not for the optimiser.
@pytest.mark.parametrize("limit", [100_000, 1_000_000])
def test_full_disk(tiny_run, unbroken, tmp_path, capsys, monkeypatch, limit):
    save = VideoTrainer._save_checkpoint
    free = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_on_full_disk(trainer, *arguments):
        if trainer.state.global_step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, free[1]))
        save(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(VideoTrainer, "_save_checkpoint", save_on_full_disk)
        try:
            assert main(words(tiny_run, tmp_path)) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, free)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: cannot write to the output folder: ") and "save_total_limit" in line
    assert last_complete_checkpoint(tmp_path).name == "checkpoint-3"
    if limit == 1_000_000:
        assert main(words(tiny_run, tmp_path, *RESUMED)) == 0
        assert_same_bits(tmp_path, unbroken)


@pytest.fixture(scope="module")
def accumulated(tiny_run, tmp_path_factory):
    """One process that averages two batches of 8 for each of 6 updates."""
    folder = tmp_path_factory.mktemp("accumulated")
    torch.set_num_threads(1)
    assert main(words(tiny_run, folder, "--gradient_accumulation_steps", "2")) == 0
    return folder


def test_processes_that_compare_only_their_own_samples_average_their_losses(tiny_run, accumulated, tmp_path):
    """As one process does that takes the batches of both one after the other."""
    run_ranks(MODULE, *words(tiny_run, tmp_path, "--negatives", "process"))
    assert logged(tmp_path, "loss") == pytest.approx(logged(accumulated, "loss"), abs=2e-4)
    assert logged(tmp_path, "grad_norm") == pytest.approx(logged(accumulated, "grad_norm"), rel=1e-5)
    assert_equal_weights(tmp_path, accumulated)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fsdp2_equals_one_process(tiny_run, accumulated, tmp_path, precision):
    """With the gradient cache, gradient accumulation and recomputed activations."""
    options = (*CACHED, "--gradient_accumulation_steps", "2", "--activation_checkpointing", "true")
    command = words(tiny_run, tmp_path, *options, "--bf16", precision == "bfloat16")
    output, _ = run_ranks("tests.training.fsdp2_on_cpu", *command, variables=variables_of("fsdp2"))
    assert (tmp_path / "checkpoint-3" / "pytorch_model_fsdp.bin").exists()  # it was sharded
    losses, norms = ([logged(folder, key) for folder in (tmp_path, accumulated)] for key in ("loss", "grad_norm"))
    if precision == "float32":
        assert losses[0] == pytest.approx(losses[1], abs=2e-4)
        assert norms[0] == pytest.approx(norms[1], rel=1e-5)
        assert_equal_weights(tmp_path, accumulated)
    else:
        # Features of 8 bits move a logit, a hundred times a cosine, by up to 100 / 2**8 = 0.4: 5 % of losses near 10.
        assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]
        assert norms[0] == pytest.approx(norms[1], rel=0.2)
        assert "param_dtype=torch.bfloat16, reduce_dtype=torch.float32" in output  # sums of gradients are not rounded
        assert all(tensor.dtype == torch.float32 for tensor in load_file(tmp_path / "model.safetensors").values())


def test_two_machines_and_compiled_model_equal_one_process(tiny_run, unbroken, tmp_path):
    """multi_node.yaml, started once on each machine, here with one process of the CPU each."""
    port = free_port()
    options = ("--per_device_train_batch_size", "4", "--use_cpu", "true")
    compiled = ("--torch_compile", "true", "--torch_compile_backend", "aot_eager")  # inductor needs a minute
    machines = [
        start(
            MODULE,
            *words(tiny_run, tmp_path, *options, *compiled),
            processes=2,
            config="multi_node",
            launcher=(f"--machine_rank={rank}", "--main_process_ip=127.0.0.1", f"--main_process_port={port}"),
        )
        for rank in range(2)
    ]
    for machine in machines:
        finish(machine)
    assert logged(tmp_path, "loss") == pytest.approx(logged(unbroken, "loss"), abs=2e-4)
    assert_equal_weights(tmp_path, unbroken)


def assert_same_bits(one: Path, other: Path) -> None:
    expected, got = (load_file(folder / "model.safetensors") for folder in (other, one))
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


def assert_equal_weights(one: Path, other: Path) -> None:
    expected, got = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, atol=2e-6, rtol=1e-5, msg=name)


def logged(folder, key):
    return [
        line[key] for line in json.loads((folder / "trainer_state.json").read_text())["log_history"] if key in line
    ]


def results_of(folder):
    return json.loads((folder / "eval_results.json").read_text())


@pytest.fixture(scope="module")
def ten_to_choose(tmp_path_factory):
    """As many videos to validate and to test as scores must have to choose a checkpoint and to enter a card."""
    folder = write_moving_shapes(tmp_path_factory.mktemp("ten") / "videos", num_train=22, num_test=20, num_frames=8)
    lines = (folder / "test" / "metadata.jsonl").read_text().splitlines(keepends=True)
    (folder / "validation").mkdir()
    for line in lines[:10]:
        name = json.loads(line)["file_name"]
        shutil.move(folder / "test" / name, folder / "validation" / name)
    (folder / "validation" / "metadata.jsonl").write_text("".join(lines[:10]))
    (folder / "test" / "metadata.jsonl").write_text("".join(lines[10:]))
    return ["--data_dir", folder]


CHOOSING = ["--eval_strategy", "steps", "--load_best_model_at_end", "--select_on"]
EACH = ["--eval_steps", "1", "--save_steps", "1"]


def test_finished_folder(tiny_run, ten_to_choose, tmp_path, capsys):
    shorter = ["--max_steps", "4", "--eval_steps", "2", "--save_steps", "2", "--num_frames", "3", "--max_length", "40"]
    assert main(words(tiny_run, tmp_path, *ten_to_choose, *CHOOSING, "validation", "--test", *shorter)) == 0
    printed = capsys.readouterr().out
    assert "videos (videofolder), validation: 10 videos" in printed
    assert "videos (videofolder), test: 10 videos" in printed
    assert "selected on: validation" in printed and "raw      DSL   chance" in printed

    model, processor = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(model, CLIPViPModel) and isinstance(processor, CLIPViPProcessor)
    assert processor.video_processor.num_frames == 3 and processor.max_length == 40
    results, key = results_of(tmp_path), "eval_text_to_video_R1"
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    scored = {line["step"]: line[key] for line in history if key in line}
    assert set(scored) == {2, 4} and results["best"] == max(scored.values()) == scored[results["step"]]
    assert results["selected_on"] == "validation" and results["selected_by"] == "text_to_video_R1"
    assert [evaluation["split"] for evaluation in results["evaluations"]] == ["validation", "test"]
    best = load_file(tmp_path / f"checkpoint-{results['step']}" / "model.safetensors")
    assert all(torch.equal(tensor, best[name]) for name, tensor in model.state_dict().items())
    assert results["evaluations"][0]["scores"]["raw"]["text_to_video"]["R1"] == pytest.approx(results["best"])
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert recipe["num_frames"] == 3 and recipe["learning_rate"] == 1e-4
    card = (tmp_path / "README.md").read_text()
    assert "videofolder" in card and "DSL" in card and "median rank" in card and str(tmp_path.parent) not in card
    assert "Fine-tuned from `model` (a local folder) on videos (videofolder) with `hf_videolang`." in card
    assert "Compute: 1 × CPU, " in card and not {"datasets", "base_model"} & ModelCard(card).data.to_dict().keys()
    assert "decay_last_adamw" in card

    assert main(words(tiny_run, tmp_path)) == 2
    assert "--resume_from_checkpoint true" in capsys.readouterr().err


def test_results_of_half_precision_say_so(tiny_run, ten_to_choose, tmp_path, capsys):
    assert main(words(tiny_run, tmp_path, *ten_to_choose, "--bf16", "true", "--max_steps", "1", "--test")) == 0
    printed = capsys.readouterr().out
    assert "precision: bf16" in printed and "ties: original" in printed
    card = ModelCard.load(tmp_path / "README.md")
    facts = next(result.dataset_args for result in card.data.eval_results if result.dataset_split == "test")
    assert facts["precision"] == "bf16"
    assert facts["size"] == "10 videos, one caption a video"


@pytest.fixture
def first_is_best(monkeypatch):
    """Each evaluation of the process gives a lower recall than the one before."""
    evaluate, calls = RetrievalEvaluator.__call__, count(1)

    def evaluate_worse(*args):
        scores = evaluate(*args)
        scores["raw"]["text_to_video"]["R1"] = 1 / next(calls)
        return scores

    monkeypatch.setattr(RetrievalEvaluator, "__call__", evaluate_worse)


def test_the_last_checkpoint_does_not_pass_for_the_best(tiny_run, ten_to_choose, first_is_best, tmp_path):
    evaluating = [*ten_to_choose, "--select_on", "validation", "--eval_strategy", "steps"]
    assert main(words(tiny_run, tmp_path, *evaluating, *EACH, "--max_steps", "2")) == 0
    assert json.loads((tmp_path / "trainer_state.json").read_text())["best_global_step"] == 1
    results = results_of(tmp_path)
    assert results["selected_on"] == "none" and results["best"] is results["selected_by"] is None
    assert results["step"] == 2 and results["evaluations"][0]["protocol"]["selected on"] == "none"


@pytest.mark.usefixtures("columns_are_taken_whole")
def test_few_videos_choose_no_checkpoint_and_enter_no_card(tiny_run, tmp_path, capsys):
    assert main(words(tiny_run, tmp_path, *CHOOSING, "validation", *EACH, "--max_steps", "2", "--test")) == 0
    printed = capsys.readouterr().out
    assert (
        "note: validation holds 2 videos. Scores of fewer than 10 are mostly luck and do not enter the card. "
        in printed
    )
    assert "They choose no checkpoint: the last one stays.\n" in printed
    assert "note: test holds 5 videos" in printed
    assert_same_bits(tmp_path, tmp_path / "checkpoint-2")
    results = results_of(tmp_path)
    assert results["selected_on"] == "none" and results["step"] == 2
    chances = [evaluation["scores"]["chance"]["text_to_video"]["R1"] for evaluation in results["evaluations"]]
    assert chances == pytest.approx([0.5, 0.2])
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.eval_results is None and "Nothing has been measured yet." in card.text


def test_the_best_checkpoint_of_a_run_that_was_moved(tiny_run, ten_to_choose, first_is_best, tmp_path):
    choosing = (*ten_to_choose, *CHOOSING, "validation", *EACH, "--max_steps", "3", "--learning_rate", "1e-3")
    first, moved = tmp_path / "first", tmp_path / "moved"
    assert main(words(tiny_run, first, *choosing)) == 0
    shutil.move(first, moved)
    assert main(words(tiny_run, moved, *choosing, *RESUMED)) == 0
    results = results_of(moved)
    assert results["selected_on"] == "validation" and results["step"] == 1
    assert_same_bits(moved, moved / "checkpoint-1")

    shutil.rmtree(moved / "checkpoint-1")  # now nothing is left to choose
    assert main(words(tiny_run, moved, *choosing, *RESUMED)) == 0
    results = results_of(moved)
    assert results["selected_on"] == "none" and results["best"] is None and results["step"] == 3
    assert_same_bits(moved, moved / "checkpoint-3")


@pytest.mark.parametrize(
    ("more", "metric"),
    [
        ((), "text_to_video_R1_DSL"),
        (("--metric_for_best_model", "text_to_video_R1"), "text_to_video_R1"),  # the default, but typed
    ],
)
def test_selection_on_test_is_by_dsl_unless_the_user_chooses_and_says_so(
    tiny_run, ten_to_choose, tmp_path, more, metric
):
    assert main(words(tiny_run, tmp_path, *ten_to_choose, *CHOOSING, "test", *EACH, "--max_steps", "1", *more)) == 0
    results = results_of(tmp_path)
    assert results["selected_by"] == metric and results["selected_on"] == "test"
    (only,) = results["evaluations"]
    assert only["split"] == "test" and only["protocol"]["selected on"] == "test"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--learning_rat", "1"), "did you mean --learning_rate"),
        (RESUMED, "no complete checkpoint"),
        (
            ("--resume_from_checkpoint", "no/such/checkpoint-3"),
            "no/such/checkpoint-3, which is no complete checkpoint",
        ),
        (("--model", "no/such/folder"), "no/such/folder"),
        (
            ("--freeze", "text_tower"),
            "freeze has 'text_tower'; expected parts of the model: text_model, vision_model,",
        ),
        (("--max_length", "78"), "max_length is 78; expected 2 to 77"),
        (("--train_split", "trane"), "trane"),
        (("--train_split", "train+validation", "--select_on", "validation"), "trained on"),
        ((*CHOOSING, "test", *EACH, "--metric_for_best_model", "R1"), "'R1'; expected one of text_to_video_R1, "),
        (("--loss", "foo"), "loss is 'foo'; expected one of contrastive,"),
        (("--loss_options", '{"margins": 1}'), "do not fit the loss 'contrastive'"),
        (("--lr_multipliers", '{"logit_skale": 10}'), "lr_multipliers has 'logit_skale'"),
        (("--per_device_train_batch_size", "64"), "22 videos to train on, fewer than one global batch of 64"),
        (("--data_dir", "no/such/videos"), "no/such/videos"),
    ],
)
def test_refusals_before_anything_is_trained(tiny_run, tmp_path, capsys, more, message):
    assert main(words(tiny_run, tmp_path, *more)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--seed", "1"), "seed: 42 there, 1 now"),
        (("--learning_rate", "1e-3"), "learning_rate: 0.0001 there, 0.001 now"),
        (("--per_device_train_batch_size", "4"), "global batch: 8 there, 4 now"),
        (("--max_steps", "3"), "length: '11 updates' there, '3 updates' now"),
        (("--loss", "dual_softmax"), "loss: 'contrastive' there, 'dual_softmax' now"),
        (("--freeze", "text_model"), "trained parameters: "),
        (("--optim", "adamw_torch"), "optim: 'decay_last_adamw' there, 'adamw_torch' now"),
        (("--num_frames", "3"), "input.frames: "),
        (("--data_dir", "OTHER"), "records: "),
    ],
)
def test_a_run_does_not_resume_as_another_run(tiny_run, unbroken, tmp_path, capsys, more, message):
    other = tmp_path / "videos"
    if "OTHER" in more:
        shutil.copytree(tiny_run / "videos", other)
        metadata = other / "train" / "metadata.jsonl"
        metadata.write_text(metadata.read_text().replace("it moves", "it stands"))
    more = [str(other) if word == "OTHER" else word for word in more]
    more += ["--resume_from_checkpoint", unbroken / "checkpoint-3"]
    assert main(words(tiny_run, tmp_path / "out", *more)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "checkpoint-3 belongs to another run (" in last and message in last


def test_one_run_a_folder(tiny_run, tmp_path, capsys):
    holder = "import sys; from hf_videolang.folder_lock import locked_folder as lock\n"
    holder += "with lock(sys.argv[1]): print('locked', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        assert main(words(tiny_run, tmp_path)) == 1
        assert f"is in use by process {process.pid} on " in capsys.readouterr().err.splitlines()[-1]
        evaluation = ["evaluate", "--model", "m", "--dataset", "d", "--output-dir", str(tmp_path)]
        assert cli.main(evaluation) == 2
        assert f"is in use by process {process.pid} on " in capsys.readouterr().err
        process.kill()  # a lock dies with its process
    assert main(words(tiny_run, tmp_path, "--max_steps", "1")) == 0
    assert not (tmp_path / "_lock").exists()


def test_a_folder_without_test_split_is_trained_on_with_a_note(tiny_run, tmp_path, capsys):
    shutil.copytree(tiny_run / "videos" / "train", tmp_path / "videos")
    folder = ("--data_dir", tmp_path / "videos", "--max_steps", "1")
    assert main(words(tiny_run, tmp_path / "out", *folder, "--test", "true")) == 0
    assert "note: the dataset has no test split" in capsys.readouterr().out
    assert results_of(tmp_path / "out")["evaluations"] == []
    assert main(words(tiny_run, tmp_path / "other", *folder, "--select_on", "test")) == 2
    assert "has no split test" in capsys.readouterr().err


def test_absent_videos_are_left_out_of_training_and_counted(tiny_run, tmp_path, capsys):
    shutil.copytree(tiny_run / "videos", tmp_path / "videos")
    absent = [tmp_path / "videos" / "train" / f"train00{number:02d}.mp4" for number in (3, 4)]
    for file in absent:
        file.unlink()
    short = ("--data_dir", tmp_path / "videos", "--max_steps", "1")
    assert main(words(tiny_run, tmp_path / "out", *short)) == 2
    assert "annotated videos have no file" in capsys.readouterr().err
    assert main(words(tiny_run, tmp_path / "out", *short, "--on_broken_video", "replace")) == 0
    assert "(videofolder), train: 20 of 22 videos" in capsys.readouterr().out
    shutil.move(tmp_path / "videos" / "test" / "test0000.mp4", absent[0])
    assert main(words(tiny_run, tmp_path / "other", *short, "--on_broken_video", "replace", "--test", "true")) == 2
    assert "1 of 5 annotated videos have no file" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_video_is_one_line(tiny_run, tmp_path, capsys, workers):
    shutil.copytree(tiny_run / "videos" / "train", tmp_path / "videos")
    for file in (tmp_path / "videos").glob("*.mp4"):
        file.write_bytes(b"no video")
    folder = ("--data_dir", tmp_path / "videos", "--dataloader_num_workers", workers)
    assert main(words(tiny_run, tmp_path / "out", *folder)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: cannot decode {tmp_path / 'videos'}") and ".mp4: " in last
    assert "on_broken_video: replace" in last and "hf-videolang data check" in last
