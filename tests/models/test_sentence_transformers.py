"""Saved folders in sentence-transformers, as they are (DESIGN §3): those of two families in one process."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from hf_videolang.data.moving_shapes import write_video
from tests.common.tiny import clip_vip, videoclip

pytest.importorskip("sentence_transformers", reason="needs the extra `embed`")

TEXTS = ["a red circle moves left", "something else"]
PROGRAM = f"""
import sys
import numpy as np
import hf_videolang
from sentence_transformers import SentenceTransformer

for name in ("clip_vip", "videoclip"):
    model = SentenceTransformer(name)
    assert {{"text", "video"}} <= set(model.modalities), model.modalities
    video, text = model.encode(sys.argv[1:]), model.encode({TEXTS})
    np.savez(name, video=video, text=text, similarity=model.similarity(text, video))
    if name == "clip_vip":
        model.encode(["nowhere.mp4", "clip.webm"])
assert model.similarity_fn_name == "dot"
"""


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """What the program wrote, the paths of videos of different lengths, and the errors that it printed."""
    folder, generator = tmp_path_factory.mktemp("sentence_transformers"), np.random.default_rng(0)
    for name, family in (("clip_vip", clip_vip), ("videoclip", videoclip)):
        options = {"with_s3d": True} if family is videoclip else {}
        family.tiny_model(**options).save_pretrained(folder / name)
        family.tiny_processor().save_pretrained(folder / name)
    paths = [
        str(write_video(folder / f"{count}.mp4", generator.integers(0, 255, (count, 40, 56, 3), np.uint8)))
        for count in (24, 12, 3)
    ]
    command = [sys.executable, "-c", PROGRAM, *paths]
    done = subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True)
    return folder, paths, done.stderr


def test_texts_and_video_paths_of_different_lengths_are_encoded_in_one_call(encoded):
    folder, paths, errors = encoded
    assert "'nowhere.mp4' is encoded as a sentence, not as a video." in errors
    assert errors.count("is encoded as a sentence") == 1
    out = {name: torch.from_numpy(value) for name, value in np.load(folder / "clip_vip.npz").items()}
    with torch.no_grad():
        expected = clip_vip.tiny_model()(**clip_vip.tiny_processor()(text=TEXTS, videos=paths))
    torch.testing.assert_close(normalize(out["video"], dim=-1), expected.video_embeds, atol=1e-5, rtol=1e-5)
    similarity = expected.text_embeds @ expected.video_embeds.T
    torch.testing.assert_close(out["similarity"], similarity, atol=1e-5, rtol=1e-5)


def test_videoclip_is_compared_by_dot_product(encoded):
    folder, paths, _ = encoded
    out = {name: torch.from_numpy(value) for name, value in np.load(folder / "videoclip.npz").items()}
    with torch.no_grad():
        expected = videoclip.tiny_model(with_s3d=True)(**videoclip.tiny_processor()(text=TEXTS, videos=paths))
    torch.testing.assert_close(out["text"], expected.text_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out["similarity"], expected.logits_per_text, atol=1e-5, rtol=1e-5)
