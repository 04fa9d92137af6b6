"""Shards of features in the original's format."""

import pickle
import shutil
from pathlib import Path

import pytest

from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.data.tools.import_features import FeatureFolder, import_features
from tests.parity.cases import Case


def check_sharded_format(case: Case, tmp_path: Path) -> None:
    """The features. The shards of text beside them belong to pre-training, and are left alone."""
    shutil.copytree(case.path, tmp_path / "shards")
    meta = {int(shard): names for shard, names in case.meta["meta_pkl_equivalent"].items()}
    (tmp_path / "shards" / "train_meta.pkl").write_bytes(pickle.dumps(meta))
    import_features(FeatureFolder(tmp_path / "shards"), tmp_path / "store")
    store = FeatureStore(tmp_path / "store")
    assert store.video_ids == meta[0]
    for name, facts, total in zip(meta[0], case.meta["videos"], case.meta["feature_sums_float64"], strict=True):
        rows = store.features(name)
        assert len(rows) == facts["video_len"]
        assert rows.double().sum().item() == pytest.approx(total, rel=0, abs=0)


CHECKS = {"sharded_format": check_sharded_format}
