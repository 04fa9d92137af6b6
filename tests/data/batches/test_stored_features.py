"""Stored features in place of videos: the same tensors, the same draws, and errors before the work begins."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_videolang.data.batches.clip_reader import check_features
from hf_videolang.data.batches.retrieval import RetrievalCollator
from hf_videolang.data.moving_shapes import write_video
from hf_videolang.data.stores.feature_store import FeatureStore, MissingFeaturesError, VideoFeatures
from hf_videolang.video import VideoDecodingError
from tests.common.tiny import clip_vip, hero, s3d, videoclip

CUTS = {"short": (None, None), "long": (1.6, 4.1), "long#t=0,2.2": (0.0, 2.2), "long#t=6,": (6.0, None)}
EXTRACTOR = {"model": "s3d", "version": "1", "rows_per_second": 1.0, "width": 16, "normalized": True}


@pytest.fixture(scope="module")
def models():
    """A VideoCLIP, and the S3D that it has inside, which gives a row a second."""
    model = videoclip.tiny_model(with_s3d=True)
    processor = s3d.tiny_processor(fps=4)
    return model, videoclip.tiny_processor(), model.s3d, processor


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A video of 1.3 s and one of 9 s, and three segments of it."""
    folder, generator = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for name, number in (("short", 13), ("long", 90)):
        squares = generator.integers(0, 256, (number, 6, 8, 3), dtype=np.uint8)
        write_video(folder / f"{name}.mp4", squares.repeat(8, axis=1).repeat(8, axis=2), frames_per_second=10)
    rows = [
        {
            "video": {"path": str(folder / f"{video_id.partition('#')[0]}.mp4"), "bytes": None},
            "video_id": video_id,
            "captions": [f"caption {video_id}", "another"],
            "start": start,
            "end": end,
        }
        for video_id, (start, end) in CUTS.items()
    ]
    return Dataset.from_list(rows)


@pytest.fixture(scope="module")
def store(models, dataset, tmp_path_factory):
    """All rows of both files, as S3D gives them alone, as unit rows."""
    *_, extractor, processor = models
    store = FeatureStore(tmp_path_factory.mktemp("store"), {"extractors": [EXTRACTOR]})
    videos = []
    for record in dataset.select(range(2)):
        with torch.no_grad():
            rows = extractor(**processor(videos=[record["video"]["path"]])).video_features[0]
        rows = torch.nn.functional.normalize(rows, dim=-1)
        videos.append(VideoFeatures(record["video_id"], rows.numpy()))
    store.write_features("part", videos)
    return store


@pytest.mark.parametrize("training", [False, True])
def test_raw_and_stored_give_the_same_tensor(models, dataset, store, training):
    model, processor, *_ = models
    records = [dataset[row] for row in range(len(dataset))]
    raw = RetrievalCollator(processor, dataset, training)(records)
    stored = RetrievalCollator(processor, dataset, training, features=store)(records)
    pixels = raw.pop("pixel_values_videos")
    with torch.no_grad():
        rows = model._rows(None, pixels, raw["video_attention_mask"])
    assert stored["video_attention_mask"].sum(dim=1).tolist() == [2, 4, 3, 3]
    torch.testing.assert_close(stored.pop("video_features"), rows, rtol=0, atol=1e-3)
    assert stored.keys() == raw.keys()
    for name, tensor in raw.items():  # captions, masks and indices; the draws of training, too
        assert torch.equal(stored[name], tensor), name


def test_a_video_without_features_is_found_before_the_work(models, dataset, store):
    others = dataset.map(lambda row: {"video_id": row["video_id"].replace("short", "other")})
    with pytest.raises(MissingFeaturesError, match=r"no features of 1 of 4 videos: other"):
        RetrievalCollator(models[1], others, False, features=store)


def test_a_video_that_did_not_decode_keeps_its_policy(models, dataset, tmp_path):
    store = FeatureStore(tmp_path, {"extractors": [EXTRACTOR]})
    rows = np.eye(9, 16)
    store.write_features("a", [VideoFeatures("short", np.empty((0, 16)), "damaged"), VideoFeatures("long", rows)])
    records = [dataset[0], dataset[1]]
    with pytest.raises(VideoDecodingError, match="short: it has no features: damaged"):
        RetrievalCollator(models[1], dataset, False, features=store)(records)
    skipping = RetrievalCollator(models[1], dataset, False, "skip", features=store)
    batch = skipping(records)
    assert batch["video_index"].tolist() == [1] and batch["num_broken_videos"].tolist() == [1]
    assert skipping(records[:1])["video_features"].shape == (1, 6, 16)  # a stand-in


@pytest.mark.parametrize(
    ("changed", "rows", "message"),
    [
        ({"width": 8}, np.eye(2, 8), r"does not fit the model: video_features is \(1, 1, 8\); expected .* 16\]"),
        ({}, 3 * np.eye(2, 16), r"does not fit the model: rows of features have norms from 3 to 3"),
        ({"normalized": False}, np.eye(2, 16), r"holds raw rows \(.*\), but the model's config .*=True: .* unit"),
        ({"rows_per_second": 0.5}, np.eye(2, 16), r"has 0\.5 rows a second, but the model reads 1 a second"),
        ({"rows_per_second": None}, np.eye(1, 16), r"has one vector a clip, but the model reads 1 a second"),
    ],
)
def test_a_store_that_does_not_fit_is_refused(models, tmp_path, changed, rows, message):
    store = FeatureStore(tmp_path, {"extractors": [EXTRACTOR | changed]})
    store.write_features("a", [VideoFeatures("short", rows)])
    with pytest.raises(ValueError, match=message):
        check_features(store, *models[:2])


def test_a_model_of_raw_rows_refuses_unit_rows(models, store, monkeypatch):
    monkeypatch.setattr(models[0].config, "normalize_features", False)
    with pytest.raises(ValueError, match=r"holds unit rows \(.*\), but .* normalize_features=False: .* with --raw"):
        check_features(store, *models[:2])


def test_a_model_takes_the_features_that_it_was_trained_on(tmp_path, caplog):
    model = hero.tiny_model()
    names = {"clip-vit_slowfast": ("clip-vit", "slowfast"), "unknown": (None, None), "ours": ("ours",)}
    for name, parts in names.items():
        width = hero.FEATURES // len(parts)
        entry = {"model": None, "rows_per_second": 1 / 1.5, "width": width, "normalized": False}
        store = FeatureStore(tmp_path / name, {"extractors": [{"features": part, **entry} for part in parts]})
        store.write_features("a", [VideoFeatures("short", np.ones((2, hero.FEATURES)))])
    stores = {name: FeatureStore(tmp_path / name) for name in names}
    knowing, unknowing = hero.tiny_processor(features="clip-vit_slowfast"), hero.tiny_processor()
    check_features(stores["clip-vit_slowfast"], model, knowing)
    assert not caplog.messages
    message = r"holds features ours \(.*\), and the model was trained on clip-vit_slowfast\."
    with pytest.raises(ValueError, match=message):
        check_features(stores["ours"], model, knowing)
    check_features(stores["unknown"], model, knowing)
    check_features(stores["ours"], model, unknowing)
    check_features(stores["unknown"], model, unknowing)
    first, second, third = caplog.messages
    assert "of unknown name (" in first and "trained on clip-vit_slowfast; they may not fit" in first
    assert "features ours (" in second and "trained on unknown ones" in second
    assert "of unknown name (" in third and "trained on unknown ones" in third


def test_a_model_that_reads_frames_takes_no_features(store):
    with pytest.raises(ValueError, match="holds features, but CLIPViPModel reads frames"):
        check_features(store, clip_vip.tiny_model(), clip_vip.tiny_processor())
