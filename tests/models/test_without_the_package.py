"""
Saved folders in a process that has neither the package nor PyAV. It takes seconds to start and loads all of them.

CLIP-ViP is loaded in tests/hub, CLIP-Enhanced in tests/conversion, ClipBERT with its own video file beside its tests.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_videolang.conversion.families import convert
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from tests.common.tiny import hero, slowfast, videoclip
from tests.conversion.s3d.original_file import write_original
from tests.models.answers import answers
from tests.parity.cases import REPOSITORY


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of each family: S3D's is converted, the others are saved."""
    folder = tmp_path_factory.mktemp("saved")
    checkpoint, dictionary = write_original(folder)
    convert(checkpoint, folder / "s3d", dictionary=dictionary)
    captioning = hero.tiny_model(HeroForVideoCaptioning)
    captioning.generation_config.max_new_tokens = 6
    saved = {
        "videoclip": (videoclip.tiny_model(with_s3d=True), videoclip.tiny_processor()),
        "slowfast": (slowfast.tiny_model(), slowfast.tiny_processor()),
        "hero": (hero.tiny_model(HeroForMultipleChoice), hero.tiny_processor()),
        "captions": (captioning, hero.tiny_processor()),
    }
    for name, parts in saved.items():
        for part in parts:
            part.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def remote(folder) -> dict[str, torch.Tensor]:
    hide = [REPOSITORY / "tests" / "common" / "without.py", "hf_videolang,av,torchcodec,datasets,evaluate"]
    command = [sys.executable, "-I", *hide, Path(__file__).with_name("answers.py"), folder, folder / "found.pt"]
    subprocess.run([*map(str, command)], check=True, cwd=folder)
    return torch.load(folder / "found.pt")


@pytest.fixture(scope="module")
def expected(folder) -> dict[str, torch.Tensor]:
    return answers(folder, remote=False)


NAMES = ["s3d", "videoclip", "videoclip from features", "slowfast", "hero", "hero states", "captions"]


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_folder_gives_the_same_numbers(remote, expected, name):
    assert remote.keys() == {*NAMES}
    torch.testing.assert_close(remote[name], expected[name], atol=2e-6, rtol=1e-5)
