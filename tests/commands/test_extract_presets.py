"""`extract --preset` as users type it: pictures of the published sizes, two processes, the store that they fill."""

import torch
from transformers import CLIPConfig, CLIPModel

from hf_videolang.data.moving_shapes import write_video
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.inference.preset_extractor import load_preset
from tests.common.tiny import slowfast
from tests.training.tiny_run import run_ranks
from tests.video.making import picture


def test_two_processes_fill_a_store_of_joined_features(tmp_path):
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    texts = {**tower, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    weights = {name: tmp_path / name for name in ("clip-vit", "slowfast")}
    CLIPModel(CLIPConfig(vision_config=tower, text_config=texts, projection_dim=16)).save_pretrained(
        weights["clip-vit"]
    )
    slowfast.tiny_model(num_frames=32, depths=[1, 1, 1, 1]).save_pretrained(weights["slowfast"])
    (tmp_path / "videos").mkdir()
    for name, rate in (("talk", 25), ("frames", 3)):
        pictures = [picture(number, 48, 32) for number in range(2 * rate)]
        write_video(tmp_path / "videos" / f"{name}.mp4", pictures, frames_per_second=rate)
    given = [word for name, folder in weights.items() for word in ("--extractor", f"{name}={folder}")]
    words = ["extract", "--preset", "clip-vit_slowfast", *given, "--videos", tmp_path / "videos", "--cpu"]
    words += ["--output", tmp_path / "store", "--videos-per-part", 1, "--num-workers", 0]
    outputs = run_ranks("hf_videolang.cli", *words)
    assert "2 of 2 videos read now" in outputs[0]
    assert "note: frames: it has 3 frames a second, so slowfast sees the first 0.20 s of each 1.5 s" in outputs[0]
    store = FeatureStore(tmp_path / "store")
    assert len(store.names()) == 2 and [len(store.features(name)) for name in ("talk", "frames")] == [1, 1]
    found = []
    for extractor in load_preset("clip-vit_slowfast", weights):
        _, inputs = next(extractor.reader({"path": str(tmp_path / "videos" / "talk.mp4")}))
        found.append(extractor(inputs)[:1])
    assert inputs["frames"].shape[1:] == (32, 224, 224, 3)
    torch.testing.assert_close(store.features("talk"), torch.cat(found, dim=1), atol=2e-3, rtol=2e-3)
