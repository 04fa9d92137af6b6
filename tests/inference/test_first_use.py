"""Features that nobody extracted yet: commands and training make them, by the extractors that a model names."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from transformers import CLIPConfig, CLIPModel

from hf_videolang.cli import main
from hf_videolang.data.moving_shapes import write_subtitled_scenes, write_video
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.inference.captioning import caption_segments, even_segments
from hf_videolang.inference.moment_search import moments_of_video
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from hf_videolang.models.hero.processing_hero import HeroProcessor
from hf_videolang.training.run_moment_retrieval import main as train
from tests.common.tiny.hero import FEATURES, tiny_model, tiny_processor

SECONDS = 9  # six rows


def write_clip(path, seed: int):
    generator = np.random.default_rng(seed)
    pictures = [np.full((32, 48, 3), generator.integers(0, 255, 3), np.uint8) for _ in range(SECONDS)]
    return write_video(path, [picture for picture in pictures for _ in range(2)], frames_per_second=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`clip`, an extractor of 16 numbers; `model`, `asking` and `captioning`, which name it; `videos`."""
    folder = tmp_path_factory.mktemp("first_use")
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**vision, "vocab_size": 40, "max_position_embeddings": 8}
    vision |= {"image_size": 224, "patch_size": 56}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=FEATURES)).save_pretrained(
        folder / "clip"
    )
    classes = {"asking": HeroForMultipleChoice, "captioning": HeroForVideoCaptioning}
    models = {"model": tiny_model()} | {name: tiny_model(head) for name, head in classes.items()}
    for name, model in models.items():
        model.config.architectures = [type(model).__name__]
        model.save_pretrained(folder / name)
        tiny_processor(features="clip-vit").save_pretrained(folder / name)
    (folder / "videos").mkdir()
    rows = []
    for number in range(4):
        write_clip(folder / "videos" / f"v{number}.mp4", number)
        moments = [{"text": "ab"[half], "start": 4.5 * half, "end": 4.5 * half + 4.5} for half in (0, 1)]
        split = "test" if number == 3 else "train"
        rows.append({"file_name": f"v{number}.mp4", "moments": moments, "split": split})
    (folder / "videos" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def videos(made, tmp_path):
    """A folder that a test may change: links to the videos, without their metadata."""
    (tmp_path / "videos").mkdir()
    for video in (made / "videos").glob("*.mp4"):
        (tmp_path / "videos" / video.name).write_bytes(video.read_bytes())
    return tmp_path / "videos"


def moments(made, video, *more) -> int:
    command = ["moments", video, "a", "--model", made / "model", "--cpu", "--json", *more]
    return main([str(word) for word in command])


def found(capsys) -> list[dict]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])["moments"]


def test_moments_extracts_once_and_again_what_has_changed(made, videos, tmp_path, capsys, monkeypatch):
    extractor, kept = ("--extractor", f"clip-vit={made / 'clip'}"), ("--store", tmp_path / "kept")
    (videos / "broken.mp4").write_bytes(b"no video")
    assert moments(made, videos, *extractor, *kept) == 1
    captured = capsys.readouterr()
    assert "broken.mp4" in captured.err and "cannot decode" in captured.err
    first = json.loads(captured.out.splitlines()[-1])["moments"]
    assert len(first) == 5
    (videos / "broken.mp4").unlink()
    store = FeatureStore(tmp_path / "kept" / "features")
    assert store.name == "clip-vit" and store.extractors[0]["version"].startswith("sha256:")
    assert store.features(store.id_of(videos / "v0.mp4")).shape == (6, FEATURES)

    with monkeypatch.context() as patch:  # the second query loads no extractor
        patch.setattr("hf_videolang.inference.first_use.load_preset", None)
        assert moments(made, videos, *kept) == 0
        assert found(capsys) == first
    write_clip(videos / "v0.mp4", 77)
    assert moments(made, videos / "v0.mp4", *extractor, *kept) == 0
    changed = found(capsys)
    assert moments(made, videos / "v0.mp4", *extractor) == 0  # without a store: the same, and nothing is kept
    assert found(capsys) == changed
    model, processor = load_model_and_processor(made / "model")
    weights = {"clip-vit": str(made / "clip")}
    assert [
        asdict(one) for one in moments_of_video(videos / "v0.mp4", "a", model, processor, extractors=weights)
    ] == changed


def test_ask_extracts_and_gives_what_stored_features_give(made, videos, tmp_path, capsys):
    command = ["ask", videos / "v1.mp4", "a", "--choices", "b", "c", "--model", made / "asking", "--json"]
    extractor = ["--extractor", f"clip-vit={made / 'clip'}"]
    results = []
    for more in (extractor, [*extractor, "--features", tmp_path / "store"], ["--features", tmp_path / "store"]):
        assert main([*map(str, command), *map(str, more)]) == 0
        results.append(json.loads(capsys.readouterr().out.splitlines()[-1])["answers"])
    assert results[0] == results[1] == results[2]
    rows = FeatureStore(tmp_path / "store").features(str(videos / "v1.mp4"))
    np.savez_compressed(tmp_path / "v1.npz", features=rows.numpy(), allow_pickle=True)
    assert main([*map(str, command), "--features", str(tmp_path / "v1.npz")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["answers"] == results[0]


def test_caption_extracts_from_moving_shapes(made, tmp_path, capsys):
    write_subtitled_scenes(tmp_path, num_train=1, num_test=0, num_scenes=4)
    video, store = tmp_path / "train" / "train0000.mp4", tmp_path / "store"
    command = ["caption", video, "--model", made / "captioning", "--every", 6, "--format", "json", "--cpu"]
    command += ["--extractor", f"clip-vit={made / 'clip'}"]
    assert main([*map(str, command)]) == 0
    captions = json.loads(capsys.readouterr().out)["captions"]
    assert main([*map(str, command), "--features", str(store)]) == 0
    assert json.loads(capsys.readouterr().out)["captions"] == captions
    model, processor = load_model_and_processor(made / "captioning")
    rows = FeatureStore(store).features(str(video))
    assert len(rows) > processor.max_frames  # it is read in windows
    segments = even_segments(1.5 * len(rows), 6)
    expected = caption_segments(model, processor, rows, video.with_suffix(".srt"), segments)
    assert captions == [asdict(one) for one in expected]


def test_ask_names_a_file_that_is_not_there_or_broken(made, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for name, code, message in (
        ("absent.mp4", 2, "no file to extract features from: absent.mp4"),
        (tmp_path / "broken.mp4", 1, "it has no features"),
    ):
        command = ["ask", name, "a", "--choices", "b", "c", "--model", made / "asking"]
        assert main([*map(str, command), "--extractor", f"clip-vit={made / 'clip'}"]) == code
        assert message in capsys.readouterr().err


def test_training_extracts_the_splits_that_it_reads(made, tmp_path):
    words = ["--model", made / "model", "--data_dir", made / "videos", "--features", tmp_path / "store"]
    words += ["--output_dir", tmp_path / "run", "--extractors", json.dumps({"clip-vit": str(made / "clip")})]
    words += ["--max_steps", 1, "--per_device_train_batch_size", 2, "--select_on", "none", "--report_to", "none"]
    words += ["--gradient_accumulation_steps", 1, "--dataloader_num_workers", 0, "--max_length", 20]
    words = [str(word) for word in ("hero/moments.yaml", *words)]
    assert train(words) == 0
    assert set(FeatureStore(tmp_path / "store").video_ids) == {"v1", "v2"}  # v0 is the validation split
    assert HeroProcessor.from_pretrained(tmp_path / "run").features == "clip-vit"


def test_training_leaves_out_broken_videos_if_told(made, videos, tmp_path, capsys):
    (videos / "metadata.jsonl").write_bytes((made / "videos" / "metadata.jsonl").read_bytes())
    (videos / "v1.mp4").write_bytes(b"no video")
    words = ["--model", made / "model", "--data_dir", videos, "--features", tmp_path / "store", "--max_length", 20]
    words += ["--output_dir", tmp_path / "run", "--extractors", json.dumps({"clip-vit": str(made / "clip")})]
    words += ["--per_device_train_batch_size", 64, "--select_on", "none", "--dataloader_num_workers", 0]
    words = [str(word) for word in ("hero/moments.yaml", *words)]
    assert train(words) == 2
    assert "1 of 2 training videos do not decode: v1 (" in capsys.readouterr().err
    assert train([*words, "--on_broken_video", "skip"]) == 2  # two queries are left, no batch of 64
    assert "2 queries to train on, fewer than one global batch of 64" in capsys.readouterr().err


def test_evaluation_continues_a_store(made, tmp_path, capsys):
    command = ["evaluate", "--model", made / "model", "--dataset", made / "videos", "--num-workers", 0]
    command += ["--extractor", f"clip-vit={made / 'clip'}", "--features", tmp_path / "store"]
    for split in ("validation", "test"):
        assert main([str(word) for word in (*command, "--split", split)]) == 0
        printed = capsys.readouterr().out
        assert "features: clip (sha256:" in printed and "VCMR IoU0.7" in printed
    assert set(FeatureStore(tmp_path / "store").video_ids) == {"v0", "v3"}


def test_a_folder_for_features_must_be_named(made, videos, capsys):
    row = {"file_name": "v0.mp4", "question": "a", "choices": ["b", "c"], "answer": 0}
    (videos / "metadata.jsonl").write_text(json.dumps(row))
    assert main(["evaluate", "--model", str(made / "asking"), "--dataset", str(videos)]) == 2
    assert "reads features, not frames; name a folder for them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("features", "words", "message"),
    [
        (None, (), "does not say which features it was trained on"),
        ("ours", (), "features called ours: there is no preset 'ours'"),
        ("clip-vit", ("--extractor", "slowfast=DIR"), "weights are given for slowfast"),
        ("slowfast", (), "needs weights: convert the released file"),
        ("clip-vit", ("--extractor", "clip-vit"), "is no NAME=DIR"),
        ("clip-vit", ("--features", "absent.npz"), "absent.npz"),
    ],
)
def test_what_cannot_be_extracted_is_one_line(made, videos, tmp_path, capsys, features, words, message):
    for file in (made / "model").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tiny_processor(features=features).save_pretrained(tmp_path)
    command = ["moments", str(videos / "v0.mp4"), "a", "--model", str(tmp_path), "--cpu"]
    assert main([*command, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
