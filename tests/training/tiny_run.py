"""What the tests of training and evaluation share: a tiny model folder, real videos, and the real commands."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.training.checkpoints import last_complete_checkpoint
from hf_videolang.training.recipes import RECIPES
from tests.common.tiny.clip_vip import tiny_model, tiny_processor

REPOSITORY = Path(__file__).parents[2]
RECIPE = """
dataset: videofolder
per_device_train_batch_size: 8
per_device_eval_batch_size: 3
learning_rate: 1.0e-4
num_train_epochs: 4
eval_strategy: "no"
eval_on_start: false
load_best_model_at_end: false
select_on: none
test: false
save_steps: 3
logging_steps: 1
report_to: none
disable_tqdm: true
"""


def write_tiny_run(folder: Path) -> Path:
    """`folder/model`, `folder/videos` (24 to train and validate, 5 to test; two captions each) and `folder/recipe.yaml`."""
    tiny_model().save_pretrained(folder / "model")
    tiny_processor(60).save_pretrained(folder / "model")
    write_moving_shapes(folder / "videos", num_train=24, num_test=5, num_frames=8)
    for split in ("train", "test"):  # a second sentence, so that there is a caption to choose
        metadata = folder / "videos" / split / "metadata.jsonl"
        lines = metadata.read_text().replace('"caption": "a', '"captions": ["one').splitlines()
        metadata.write_text("".join(line.replace('"}', '", "it moves"]}') + "\n" for line in lines))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


# One thread a process: sums in one order, hence equal bits in a test and its subprocesses.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
OFFLINE = {"HF_HUB_OFFLINE": "1"}


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
    `python -m WORDS`, with several processes `accelerate launch --config_file CONFIG.yaml LAUNCHER -m WORDS`; with
    further environment variables, else without the Hub.
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


def run(*words, **options) -> str:
    """As `start`, to the end; the output, after a check that all went well."""
    process = start(*words, **options)
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    return output


def wait_for_checkpoint(folder: Path, process, num_processes: int = 1) -> Path:
    """The first complete checkpoint of a run that is going on."""
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no complete checkpoint in {folder}"
        try:
            return last_complete_checkpoint(folder, num_processes)
        except FileNotFoundError:
            time.sleep(0.005)


def kill(process) -> None:
    """kill -9 of the launcher and its workers, which torchrun puts into sessions of their own."""
    for victim in [*psutil.Process(process.pid).children(recursive=True), process]:
        victim.kill()
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
