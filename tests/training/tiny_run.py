"""A tiny model folder, real videos and the real commands, for the tests of training and evaluation."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.training.checkpoints import last_complete_checkpoint
from hf_videolang.training.recipes import RECIPES
from tests.common.forks import ENVIRONMENT, OFFLINE, Fork
from tests.common.tiny.clip_vip import tiny_model, tiny_processor

REPOSITORY = Path(__file__).parents[2]
RECIPE = """
dataset: videofolder
per_device_train_batch_size: 8
per_device_eval_batch_size: 3
optim: decay_last_adamw
learning_rate: 1.0e-4
lr_scheduler_type: cosine
warmup_steps: 0.01
weight_decay: 0.2
adam_beta2: 0.98
adam_epsilon: 1.0e-6
num_train_epochs: 4
select_on: none
test: false
save_steps: 3
logging_steps: 1
report_to: none
disable_tqdm: true
"""


def write_tiny_run(folder: Path) -> Path:
    """Write `model`, `videos` (24 to train and validate, 5 to test; two captions each) and `recipe.yaml`."""
    tiny_model().save_pretrained(folder / "model")
    tiny_processor(60).save_pretrained(folder / "model")
    write_moving_shapes(folder / "videos", num_train=24, num_test=5, num_frames=8)
    for split in ("train", "test"):  # a second sentence, so that there is a caption to choose
        metadata = folder / "videos" / split / "metadata.jsonl"
        lines = metadata.read_text().replace('"caption": "a', '"captions": ["one').splitlines()
        metadata.write_text("".join(line.replace('"}', '", "it moves"]}') + "\n" for line in lines))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(
    *words,
    processes: int = 1,
    config: str = "cpu",
    launcher: tuple[str, ...] = ("--main_process_port=0",),  # a free port
    variables: dict | None = None,
) -> subprocess.Popen:
    """
    Start `python -m WORDS`, or for several processes `accelerate launch --config_file CONFIG.yaml LAUNCHER -m WORDS`.

    `variables` are further environment variables; by default the Hub is off.
    """
    command = [sys.executable, "-m"]
    if processes > 1:
        file = RECIPES / "accelerate" / f"{config}.yaml"
        command += ["accelerate.commands.launch", f"--config_file={file}", f"--num_processes={processes}"]
        command += [*launcher, "-m"]
    return subprocess.Popen(
        [*command, *map(str, words)],
        cwd=REPOSITORY,
        env=os.environ | ENVIRONMENT | (variables or OFFLINE),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen | Fork) -> str:
    """Wait for a command, check that it succeeds, and return its output."""
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    return output


def run(*words, **options) -> str:
    """`start` and `finish`."""
    return finish(start(*words, **options))


def start_ranks(*words, processes: int = 2, variables: dict | None = None) -> list[Fork]:
    """The processes of a launch with the variables that a launcher sets, but without the seconds that it takes."""
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    return [Fork(*words, variables=(variables or {}) | group | rank) for rank in ranks]


def run_ranks(*words, **options) -> list[str]:
    """`start_ranks`, and `finish` every process."""
    return [finish(process) for process in start_ranks(*words, **options)]


def variables_of(config: str) -> dict[str, str]:
    """What `accelerate launch` puts into the environment for CONFIG.yaml."""
    words = ["--config_file", str(RECIPES / "accelerate" / f"{config}.yaml"), "--main_process_port=0", "script"]
    return prepare_multi_gpu_env(_validate_launch_command(launch_command_parser().parse_args(words))[0])


def wait_for_checkpoint(folder: Path, process, num_processes: int = 1) -> Path:
    """Wait for the first complete checkpoint of a running command."""
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no complete checkpoint in {folder}"
        try:
            return last_complete_checkpoint(folder, num_processes)
        except FileNotFoundError:
            time.sleep(0.005)


def kill(process) -> None:
    """kill -9 the launcher and its workers, which torchrun puts into their own sessions."""
    for victim in [*psutil.Process(process.pid).children(recursive=True), process]:
        victim.kill()
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
