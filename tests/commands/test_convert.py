"""`hf-videolang convert` and its launch files, as they are typed."""

import json
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from hf_videolang import cli
from hf_videolang.commands.convert import launch
from hf_videolang.conversion import clip_vip
from tests.common.hub_stand_in import HubStandIn
from tests.conversion.clip_vip.random_checkpoints import TINY, random_tensors, wrapper_keys, write_checkpoint
from tests.parity.cases import REPOSITORY


class Payload:
    def __reduce__(self):
        return os.mkdir, ("run",)


def test_a_checkpoint_of_the_originals_is_converted_and_pushed(tmp_path):
    case = REPOSITORY / "tests" / "fixtures" / "clip_vip" / "vip_t4"
    words = ["convert", case / "checkpoint.pt", "--config", case / "original_config.json"]
    words += ["--output-dir", "deep/clip-vip", "--push-to-hub", "lab/clip-vip"]
    with HubStandIn() as hub:
        result = subprocess.run(
            [sys.executable, "-m", "hf_videolang.cli", *words],
            cwd=tmp_path,
            env=os.environ | hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("deep/clip-vip: CLIP-ViP wrapper") and "note: No tokenizer" in result.stderr
        pushed = hub.files("lab/clip-vip")
    folder = tmp_path / "deep" / "clip-vip"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: data for name, data in pushed.items() if name != ".gitattributes"
    }
    card = (folder / "README.md").read_text()
    assert "lab/clip-vip" in card
    command = "hf-videolang convert checkpoint.pt --config original_config.json --output-dir clip-vip"
    assert f"with `{command}`" in card
    assert [path.name for path in folder.parent.iterdir()] == ["clip-vip"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epoch 3, loss 1.2\n" * 9, "model.pt is not a checkpoint: it starts with b'epoch 3"),
        (pickle.dumps(Payload(), protocol=2), f"is refused and nothing in it was run: its pickle names {os.name}"),
        (None, "model.pt does not exist"),
    ],
)
def test_the_error_is_one_line(tmp_path, monkeypatch, capsys, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("model.pt").write_bytes(content)
    assert cli.main(["convert", "model.pt", "--output-dir", "converted"]) == 1
    out, error = capsys.readouterr()
    assert not out and message in error and error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"model.pt"}


def test_a_launch_file_takes_the_checkpoint_as_an_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_checkpoint(random_tensors(wrapper_keys(TINY)), Path("model.pt"))
    monkeypatch.setattr(sys, "argv", ["convert.py", "--checkpoint", "model.pt", "--output-dir", "converted"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(REPOSITORY / "conversion" / "convert_clip_vip.py"), run_name="__main__")
    assert end.value.code == 0
    assert AutoModel.from_pretrained("converted").config.vision_config.num_proxy_tokens == 4


def test_options_reach_the_family(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hub_clip = wrapper_keys(TINY, video_proxy=False, prefix="")
    write_checkpoint(random_tensors(hub_clip), Path("clip.safetensors"))
    assert launch(clip_vip, ["--checkpoint", "clip.safetensors", "--output-dir", "a", "--seed", "7"]) == 0
    assert cli.main(["convert", "clip.safetensors", "--output-dir", "b"]) == 0
    seeds = [json.loads(Path(folder, "conversion_report.json").read_text())["seed"] for folder in "ab"]
    assert seeds == [7, 42]


def test_a_folder_that_cannot_be_made_is_an_error_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(random_tensors(wrapper_keys(TINY)), "model.pt")
    Path("taken").write_text("a file")
    assert cli.main(["convert", "model.pt", "--output-dir", "taken/converted"]) == 1
    assert "taken" in capsys.readouterr().err
