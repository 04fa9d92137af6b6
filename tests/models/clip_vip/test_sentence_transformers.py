"""A saved folder in sentence-transformers, as it is (DESIGN §3)."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from hf_videolang.data.moving_shapes import write_moving_shapes, write_video
from tests.common.tiny.clip_vip import tiny_model, tiny_processor

pytest.importorskip("sentence_transformers", reason="needs the extra `embed`")

PROGRAM = """
import sys
import numpy as np
import hf_videolang
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1])
assert {"text", "video"} <= set(model.modalities), model.modalities
video = model.encode(sys.argv[3:])
text = model.encode(["a red circle moves left", "something else"])
np.savez(sys.argv[2], video=video, text=text, similarity=model.similarity(text, video))
model.encode(["nowhere.mp4", "clip.webm"])
"""


def test_folder_encodes_texts_and_video_paths_of_different_lengths_in_one_call(tmp_path):
    model, processor = tiny_model(), tiny_processor()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    folder = write_moving_shapes(tmp_path / "data", num_train=12, num_test=2)
    paths = sorted(str(path) for path in (folder / "test").glob("*.mp4"))
    short = np.random.default_rng(0).integers(0, 255, (3, 40, 56, 3), dtype=np.uint8)
    paths.append(str(write_video(tmp_path / "three_frames.mp4", list(short))))

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), str(tmp_path / "out.npz"), *paths],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "'nowhere.mp4' is encoded as a sentence, not as a video." in done.stderr
    assert done.stderr.count("is encoded as a sentence") == 1
    out = np.load(tmp_path / "out.npz")
    inputs = processor(text=["a red circle moves left", "something else"], videos=paths, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs)
    video = torch.from_numpy(out["video"])
    video = video / video.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(video, expected.video_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        torch.from_numpy(out["similarity"]),
        expected.text_embeds @ expected.video_embeds.T,
        atol=1e-5,
        rtol=1e-5,
    )
