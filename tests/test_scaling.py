"""docs/scaling.md is what its script makes of the committed results, and its arithmetic is right."""

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("scaling", REPOSITORY / "benchmarks" / "scaling.py")
scaling = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scaling)

RESULTS = {
    "preparation": {
        "environment": {"cpu": "a CPU"},
        "prepare": {"processors": 8.0},
        "videos": {
            "number": 4,
            "seconds": 40,
            "median_width": 640,
            "median_height": 360,
            "frames_before": 1200,
            "frames_after": 240,
            "bytes_before": 4_000_000,
            "bytes_after": 800_000,
        },
        "decode": {"original": {"processors": [9.0, 0.8, 0.8]}, "prepared": {"processors": [0.2, 0.2, 9.0]}},
        "shard": {"records": 1000, "video_bytes": 100, "tar_bytes": 102, "index_bytes": 20_000},
    },
    "loader": {
        "clips": 16,
        "seconds": [
            {"source": "tar shard", "what": "loader", "workers": 0, "processors": [99]},
            {"source": "tar shard", "what": "loader", "workers": 1, "processors": [1.6, 3.2, 1.6]},
            {"source": "video files", "what": "loader", "workers": 1, "processors": [99]},
        ],
    },
    "gradient_cache": {"growth": {"at once": 5.0, "gradient cache": 1.0}, "time": 1.5},
    "growth": {
        name: {
            "what": "rows",
            "sizes": [{"size": 10**power, "seconds": 0.5, "peak_bytes": 3e6, "first": 1.25} for power in (1, 2, 4)],
            "exponents": {"seconds": 0.98, "peak_bytes": 0.0},
        }
        for name in ("metadata", "shards", "segments", "evaluation")
    },
}


def test_the_page_is_what_the_script_renders():
    page = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
    rendered = scaling.render(scaling.read_results(REPOSITORY / "benchmarks" / "results"))
    assert page == rendered, "run `python benchmarks/scaling.py`"


def test_operations_are_those_of_the_specification():
    operations = scaling.forward_operations()
    assert operations["video"] == pytest.approx(421e9, rel=2e-3)  # clip_vip §1.2
    # 70 tokens in 12 layers of width 512: q, k, v, out 4 * 512^2, MLP 8 * 512^2, scores and values 2 * 70 * 512
    by_hand = 12 * 70 * 2 * (12 * 512**2 + 2 * 70 * 512)
    assert operations["caption"] == operations["subtitle"] == by_hand


def test_needs_by_hand():
    needs = scaling.needs(RESULTS, scaling.Assumptions(peak=10 * needs_operations(), share_of_peak=0.5))
    assert needs.clips_per_gpu == pytest.approx(5)  # half of ten clips a second
    assert needs.gpu_hours == pytest.approx(1e8 / 5 / 3600)
    assert needs.decode == pytest.approx({"prepared": 0.05, "original": 0.2, "loader": 0.1})
    assert needs.kilobytes == {"prepared": 200, "original": 1000}
    assert needs.prepare == 2 and needs.index_bytes == 20 and needs.tar_overhead == pytest.approx(0.02)
    page = scaling.render(RESULTS, scaling.Assumptions(peak=10 * needs_operations(), share_of_peak=0.5))
    assert "| prepared | 0.050 s | 1,389 | 0 |" in page  # 1e8 * 0.05 / 3600 core hours
    assert "| prepared | 200 kB | 20.0 TB |" in page and "| as they are | 1000 kB | 100.0 TB |" in page
    assert "| reading metadata, rows | 10 / 100 / 10,000 | 0.5 / 0.5 / 0.5 | 0.98 | 3 / 3 / 3 MB | 0.00 |" in page
    assert "after 13.3 passes" in page  # 2 / (0.2 - 0.05)
    assert "| 8 | 128 | 694.4 h | 40 | 2 | 8 | 0.01 GB/s | 0.0 GB/s | 1.05 GB in 25.600 s |" in page


def needs_operations() -> float:
    return 3 * sum(scaling.forward_operations().values())
