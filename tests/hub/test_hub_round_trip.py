"""What a user pushes loads by repository id: with the package, without it (remote code), and offline."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file

from tests.common.hub_stand_in import HubStandIn
from tests.common.tiny.clip_vip import tiny_inputs, tiny_model, tiny_processor
from tests.parity.cases import REPOSITORY

HERE = Path(__file__).parent
HIDDEN = "hf_videolang,av,torchcodec,datasets,evaluate"
PUSHED = ["tester/pushed", "tester/saved", "tester/trained", "tester/tuned", "tester/folder"]
CODE = {
    "configuration_clip_vip.py",
    "modeling_clip_vip.py",
    "processing_clip_vip.py",
    "video_processing_clip_vip.py",
}


def run(command: list, environment: dict[str, str], cwd: Path) -> str:
    """A fresh process in another folder. If it fails, its output is the message."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load(way: str, sources: list, inputs: Path, environment: dict[str, str], cwd: Path) -> dict:
    """Records of `load.py`. `remote` hides the package and all optional packages."""
    output = cwd / f"records_{way}.json"
    hide = ["-I", REPOSITORY / "tests" / "common" / "without.py", HIDDEN] if way == "remote" else ["-I"]
    run([*hide, HERE / "load.py", way, inputs, output, *sources], environment, cwd)
    found = json.loads(output.read_text())
    assert found["imported"] is (way == "package")
    return found["records"]


def assert_same(record: dict, expected: dict, module_prefix: str) -> None:
    assert set(record["classes"]) == {"CLIPViPModel", "CLIPViPProcessor", "CLIPViPVideoProcessor"}
    assert all(module.startswith(module_prefix) for module in record["classes"].values()), record["classes"]
    for key in ("logits", "logits_from_frames"):
        torch.testing.assert_close(torch.tensor(record[key]), expected[key], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, torch.Tensor]:
    frames = torch.randint(0, 256, (6, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return {**tiny_inputs(), "frames": frames}


@pytest.fixture(scope="module")
def inputs_file(inputs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "inputs.safetensors"
    save_file(inputs, path)
    return path


@pytest.fixture(scope="module")
def expected(inputs) -> dict[str, torch.Tensor]:
    model, processor = tiny_model(), tiny_processor()
    tensors = {name: value for name, value in inputs.items() if name != "frames"}
    processed = processor(videos=[inputs["frames"]], text=["a red square moves left"], return_tensors="pt")
    with torch.no_grad():
        return {
            "logits": model(**tensors).logits_per_video,
            "logits_from_frames": model(**processed).logits_per_video,
        }


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The stand-in, after a user has published in every way."""
    scratch = tmp_path_factory.mktemp("publish")
    with HubStandIn() as hub:
        environment = {**hub.environment(scratch / "home"), "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}
        run([HERE / "publish.py", scratch], environment, scratch)
        yield hub


@pytest.mark.parametrize("repo_id", PUSHED)
def test_a_push_brings_weights_code_maps_and_card(hub, repo_id):
    files = hub.files(repo_id)
    assert set(files) >= {"model.safetensors", "tokenizer.json", "README.md", *CODE}
    assert set(json.loads(files["config.json"])["auto_map"]) >= {"AutoConfig", "AutoModel", "AutoProcessor"}
    processor = json.loads(files["processor_config.json"])
    assert "AutoProcessor" in processor["auto_map"]
    assert "AutoVideoProcessor" in processor["video_processor"]["auto_map"]
    for name, content in files.items():
        assert not (name.endswith(".py") and re.search(rb"^\s*(from|import) hf_videolang", content, re.MULTILINE)), (
            name
        )


def test_a_processor_pushed_alone_brings_its_code(hub):
    files = hub.files("tester/processor")
    assert set(files) >= {
        "processor_config.json",
        "processing_clip_vip.py",
        "video_processing_clip_vip.py",
        "remote_code.py",
    }
    assert "modeling_clip_vip.py" not in files


def test_cards_on_the_hub(hub):
    pushed, trained, tuned, folder = (
        ModelCard(hub.files(f"tester/{name}")["README.md"].decode())
        for name in ("pushed", "trained", "tuned", "folder")
    )
    assert "hf_videolang" in pushed.data.tags
    assert [result.metric_value for result in pushed.data.eval_results] == [25.0, 2.0]
    saved = ModelCard(hub.files("tester/saved")["README.md"].decode())
    for card, repo_id in ((pushed, "tester/pushed"), (saved, "tester/saved")):
        assert "automatically generated" not in card.text and f'from_pretrained("{repo_id}")' in card.text
        assert "at most 77 tokens" in card.text  # what the processor's own push made known
    assert {"video-text-retrieval", "kitchens"} <= set(pushed.data.tags) and pushed.data.model_name == "pushed"
    theirs = hub.files("tester/theirs")["README.md"].decode()
    assert "# My words" in theirs and "automatically generated" not in theirs
    assert {"video-text-retrieval", "generated_from_trainer"} <= set(trained.data.tags)
    assert "generated_from_trainer" in tuned.data.tags and "- learning_rate: 1e-06" in tuned.text
    for card, repo_id in ((tuned, "tester/tuned"), (folder, "tester/folder")):
        assert card.data.pipeline_tag == "feature-extraction" and f'from_pretrained("{repo_id}")' in card.text


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> dict[str, Path]:
    return {way: tmp_path_factory.mktemp(way) for way in ("package", "remote")}


@pytest.fixture(scope="module")
def loaded(hub, inputs_file, machines) -> dict[str, dict]:
    """Records of two machines with empty caches, one with the package and one without."""
    with ThreadPoolExecutor() as pool:
        records = {
            way: pool.submit(load, way, PUSHED, inputs_file, hub.environment(machine / "home"), machine)
            for way, machine in machines.items()
        }
        return {way: future.result() for way, future in records.items()}


@pytest.mark.parametrize("source", [*PUSHED, "saved again"])
def test_loads_with_the_package(loaded, expected, source):
    assert_same(loaded["package"][source], expected, "hf_videolang.models.clip_vip.")


@pytest.mark.parametrize("source", [*PUSHED, "saved again"])
def test_loads_without_the_package(loaded, expected, source):
    assert_same(loaded["remote"][source], expected, "transformers_modules.")


def test_loads_offline_from_the_cache(loaded, hub, machines, inputs_file, expected):
    machine, asked = machines["remote"], len(hub.requests)
    offline = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(machine / "fresh_modules")}
    environment = {**hub.environment(machine / "home"), **offline}
    records = load("remote", PUSHED[:1], inputs_file, environment, machine)
    assert_same(records["tester/pushed"], expected, "transformers_modules.tester.pushed.")
    assert len(hub.requests) == asked
