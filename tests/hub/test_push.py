"""Pushing (the upload itself: test_hub_round_trip.py)."""

import pytest

from hf_videolang.hub.push import push_folder


def test_a_folder_without_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no model \(expected config.json and \*.safetensors\)"):
        push_folder(tmp_path, "org/name")
