"""Stored features in the commands: evaluation and training with `--features`, and what they refuse."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from hf_videolang.cli import main
from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.data.stores.feature_store import FeatureStore, VideoFeatures
from hf_videolang.training.run_retrieval import main as train
from tests.common.tiny import s3d, videoclip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`s3d`, `videoclip` with the same S3D inside, `videos`, and `features` of them."""
    folder = tmp_path_factory.mktemp("features")
    extractor, model = s3d.tiny_model(), videoclip.tiny_model(with_s3d=True)
    model.s3d.load_state_dict(extractor.video_model.state_dict())
    extractor.save_pretrained(folder / "s3d")
    s3d.tiny_processor(fps=4).save_pretrained(folder / "s3d")
    model.save_pretrained(folder / "videoclip")
    videoclip.tiny_processor().save_pretrained(folder / "videoclip")
    write_moving_shapes(folder / "videos", num_train=12, num_test=4, num_frames=26)
    words = ["--model", folder / "s3d", "--videos", folder / "videos", "--output", folder / "features", "--cpu"]
    words += ["--videos-per-part", 6]
    assert main(["extract", *map(str, words), "--num-workers", "0"]) == 0
    return folder


def evaluate(folder, *words) -> int:
    words = ["--model", folder / "videoclip", "--dataset", folder / "videos", "--num-workers", 0, *words]
    return main(["evaluate", *map(str, words)])


def test_features_give_the_scores_of_the_videos(folder, tmp_path, capsys):
    assert evaluate(folder, "--output-dir", tmp_path / "raw") == 0
    shutil.copytree(folder, tmp_path / "copy")
    for video in (tmp_path / "copy" / "videos").rglob("*.mp4"):
        video.unlink()  # nobody needs the videos any more
    features = ("--features", folder / "features")
    assert evaluate(tmp_path / "copy", *features, "--output-dir", tmp_path / "stored") == 0
    assert "features: s3d (sha256:" in capsys.readouterr().out
    assert evaluate(tmp_path / "copy", *features, "--output-dir", tmp_path / "stored") == 0  # the same results again
    assert evaluate(folder, "--output-dir", tmp_path / "stored") == 2
    assert "--overwrite" in capsys.readouterr().err
    raw, stored = (load_file(tmp_path / name / "similarity.safetensors") for name in ("raw", "stored"))
    torch.testing.assert_close(stored["similarity"], raw["similarity"], rtol=2e-3, atol=2e-3)
    settings = json.loads((tmp_path / "stored" / "results.json").read_text())["settings"]
    assert settings["features"].startswith("s3d (sha256:") and "unit rows, 1 row a second" in settings["features"]
    assert "pixels" not in settings


def test_training_reads_features(folder, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        f"model: {folder / 'videoclip'}\ndata_dir: {folder / 'videos'}\nfeatures: {folder / 'features'}\n"
        f"output_dir: {tmp_path / 'run'}\nper_device_train_batch_size: 4\nnum_train_epochs: 1\nselect_on: none\n"
        "report_to: none\nsave_strategy: 'no'\nlearning_rate: 1.0e-3\ndisable_tqdm: true\n"
        "loss: ranking\n"
    )
    assert train([str(tmp_path / "recipe.yaml")]) == 0
    before, after = (load_file(path / "model.safetensors") for path in (folder / "videoclip", tmp_path / "run"))
    changed = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"video_model", "text_model"}  # S3D is not even read
    (result,) = json.loads((tmp_path / "run" / "eval_results.json").read_text())["evaluations"]
    assert "unit rows" in result["protocol"]["features"]


def test_a_model_that_reads_features_alone_is_refused_before_a_video_is_decoded(folder, tmp_path, capsys):
    videoclip.tiny_model().save_pretrained(tmp_path / "videoclip")
    videoclip.tiny_processor().save_pretrained(tmp_path / "videoclip")
    shutil.copytree(folder / "videos", tmp_path / "videos")
    for video in (tmp_path / "videos").rglob("*.mp4"):
        video.write_text("no video")
    assert evaluate(tmp_path) == 2
    assert "this model holds no S3D" in capsys.readouterr().err.splitlines()[-1]
    words = ["--model", tmp_path / "videoclip", "--data_dir", tmp_path / "videos", "--output_dir", tmp_path / "run"]
    assert train(["videoclip/my_videos.yaml", *map(str, words), "--max_length", "12"]) == 2
    assert "this model holds no S3D" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("rows", "facts", "message"),
    [
        (torch.eye(2, 8), {"width": 8}, "does not fit the model: video_features is (1, 1, 8); expected"),
        (3 * torch.eye(2, 16), {}, "rows of features have norms from 3 to 3; this model was trained on"),
        (torch.eye(2, 16), {}, "has no features of 4 of 4 videos"),
    ],
)
def test_a_store_that_does_not_fit_is_one_line_and_exit_code_2(folder, tmp_path, capsys, rows, facts, message):
    extractor = {"model": None, "version": None, "rows_per_second": 1.0, "width": 16, "normalized": True} | facts
    store = FeatureStore(tmp_path / "store", {"extractors": [extractor]})
    store.write_features("part", [VideoFeatures("other", rows.numpy())])
    assert evaluate(folder, "--features", tmp_path / "store", "--output-dir", tmp_path / "results") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (tmp_path / "results" / "results.json").exists()


def test_a_store_of_a_run_that_was_killed_and_moved_names_what_it_lacks(folder, tmp_path, capsys):
    moved = shutil.copytree(folder / "features", tmp_path / "moved")
    parts = sorted(moved.glob("[!.]*.parquet"))
    lost = FeatureStore(moved).read_features(parts[0].stem)
    parts[0].unlink()
    (moved / f".{parts[0].stem}.0123abcd.part.parquet").write_bytes(b"half")
    assert evaluate(folder, "--features", moved, "--split", "train+validation+test") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"moved has no features of {len(lost)} of 16 videos: {lost[0].video_id}" in error
    assert "Run `hf-videolang extract` with this output folder again: it adds what is missing." in error
    for part in parts[1:]:
        part.unlink()
    assert evaluate(folder, "--features", moved) == 2
    assert "has no features of any video. Run `hf-videolang extract` again" in capsys.readouterr().err
    assert evaluate(folder, "--features", tmp_path) == 2
    assert "is not a store" in capsys.readouterr().err
    assert evaluate(folder, "--features", tmp_path / "moved", "--extractor", f"s3d={folder / 's3d'}") == 0
    assert set(FeatureStore(tmp_path / "moved").video_ids) < set(FeatureStore(folder / "features").video_ids)
