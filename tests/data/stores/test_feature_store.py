"""A feature store gives back what was written, by video and by second; what it lacks is an error that says so."""

import numpy as np
import pytest
import torch

from hf_videolang.data.stores.feature_store import FeatureStore, MissingFeaturesError, VideoFeatures, are_unit_rows
from hf_videolang.data.stores.part_store import PartStore
from hf_videolang.video import VideoDecodingError

EXTRACTOR = {"model": "tiny", "version": "sha256:0123456789abcdef", "rows_per_second": 1.0, "width": 4}
EXTRACTOR |= {"normalized": False, "frames": "30 a second"}


def numbered(rows: int) -> np.ndarray:
    return np.arange(rows * 4, dtype=np.float16).reshape(rows, 4)


@pytest.fixture
def store(tmp_path):
    store = FeatureStore(tmp_path / "store", {"extractors": [EXTRACTOR]})
    broken = VideoFeatures("broken", np.empty((0, 4)), "there is no such file")
    store.write_features("a", [VideoFeatures("kitchen", numbered(9), None, 1234, "kitchen"), broken])
    store.write_features("b", [VideoFeatures("films/street", numbered(1))])
    return FeatureStore(tmp_path / "store")


def test_features_are_those_that_were_written(store):
    assert store.video_ids == ["kitchen", "broken", "films/street"]
    assert store.dim == 4
    assert store.features("kitchen").dtype == torch.float32
    assert store.features("kitchen").tolist() == numbered(9).tolist()
    assert store.features("films/street").tolist() == numbered(1).tolist()
    assert (store.num_rows("kitchen#t=1,2"), store.num_rows("films/street")) == (9, 1)
    kitchen = store.read_features("a")[0]
    assert (kitchen.num_bytes, kitchen.source, kitchen.features.dtype) == (1234, "kitchen", np.float16)


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [(None, None, range(9)), (0.0, 9.0, range(9)), (2.5, 4.1, range(2, 5)), (7.0, None, range(7, 9)), (8, 60, [8])],
)
def test_a_segment_has_the_rows_of_the_seconds_it_touches(store, start, end, seconds):
    rows = store.rows("kitchen#t=1,2", start, end)
    assert rows.tolist() == numbered(9)[list(seconds)].tolist()


def test_rows_need_not_be_seconds(tmp_path):
    store = FeatureStore(tmp_path, {"extractors": [EXTRACTOR | {"rows_per_second": 1 / 1.5}]})
    store.write_features("a", [VideoFeatures("kitchen", numbered(10))])
    assert store.rows("kitchen", 3.0, 6.1).tolist() == numbered(10)[2:5].tolist()


def test_what_a_store_lacks_is_named(store):
    with pytest.raises(MissingFeaturesError, match=r"no features of garden; it has those of kitchen, broken"):
        store.features("garden")
    with pytest.raises(MissingFeaturesError, match=r"no features of 1 of 2 videos: garden#t=1,2"):
        store.check_complete(["kitchen#t=3,4", "garden#t=1,2"])
    with pytest.raises(VideoDecodingError, match="broken: it has no features: there is no such file"):
        store.features("broken")
    with pytest.raises(VideoDecodingError, match="9 rows of features, and none lies between 9 and 12 s"):
        store.rows("kitchen", 9, 12)


def test_another_extractor_and_another_kind_of_store_are_refused(store, tmp_path):
    with pytest.raises(ValueError, match=r"\(extractors\.0\.model: 'tiny' there, 'other' now\)"):
        FeatureStore(store.folder, {"extractors": [EXTRACTOR | {"model": "other"}]})
    PartStore(tmp_path / "captions", {"model": "blip"})
    with pytest.raises(ValueError, match="is a store, but not of features"):
        FeatureStore(tmp_path / "captions")


def test_a_store_of_an_earlier_version_is_refused_by_name(tmp_path):
    old = {"video_id": ["kitchen"], "features": [[[0.5, 1.0]]], "problem": [None], "num_bytes": [1234]}
    PartStore(tmp_path / "old", {"extractors": [EXTRACTOR]}).write("a", old)
    for provenance in (None, {"extractors": [EXTRACTOR]}):
        with pytest.raises(ValueError, match=r"/old holds features in an old layout: .* `hf-videolang extract` or"):
            FeatureStore(tmp_path / "old", provenance)


def test_a_store_with_a_damaged_part_opens_so_that_the_part_can_be_written_again(store):
    (store.folder / "a.parquet").write_bytes(b"half")
    assert FeatureStore(store.folder).names() == ["a", "b"]


def test_joined_extractors_stand_side_by_side_in_the_description(tmp_path):
    second = EXTRACTOR | {"model": None, "version": None, "frames": None, "width": 2, "normalized": True}
    store = FeatureStore(tmp_path, {"extractors": [EXTRACTOR, second]})
    assert store.dim == 6
    assert store.description == (
        "tiny (sha256:01234567), frames 30 a second, raw rows + "
        "unknown model, frames unknown, unit rows, 1 row a second"
    )


def test_unit_rows_are_told_from_raw_rows_in_float16():
    raw = np.random.default_rng(0).normal(size=(50, 512))
    assert are_unit_rows((raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float16))
    assert not are_unit_rows(raw.astype(np.float16))
