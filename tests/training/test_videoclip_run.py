"""A model that compares dot products, from videos to scores: it trains, is evaluated, and its S3D stays as it is."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

from hf_videolang.cli import main as command
from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.training.run_retrieval import main
from tests.common.tiny import s3d
from tests.common.tiny.videoclip import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`model` with S3D inside, and `videos`: 12 to train and validate, 10 to test."""
    folder = tmp_path_factory.mktemp("dot_product")
    tiny_model(with_s3d=True).save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    write_moving_shapes(folder / "videos", num_train=12, num_test=10, num_frames=8)
    return folder


def evaluate(*words) -> int:
    return command(["evaluate", *map(str, words), "--num-workers", "0", "--cpu"])


def test_the_table_has_raw_scores_and_says_why(folder, tmp_path, capsys):
    assert evaluate("--model", folder / "model", "--dataset", folder / "videos", "--output-dir", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "similarity: dot product, so without DSL and QB-Norm, which are made for cosines" in printed
    assert "post-processing: none" in printed
    assert "raw" in printed and " DSL" not in printed.partition("\n\n")[2]
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["scores"]) == {"raw", "chance"}

    assert evaluate("--similarity", tmp_path / "similarity.safetensors") == 0
    assert capsys.readouterr().out == printed

    saved, model = load_file(tmp_path / "similarity.safetensors"), AutoModel.from_pretrained(folder / "model")
    processor = AutoProcessor.from_pretrained(folder / "model")
    lines = [json.loads(line) for line in (folder / "videos" / "test" / "metadata.jsonl").read_text().splitlines()]
    videos = [str(folder / "videos" / "test" / line["file_name"]) for line in lines]
    with torch.no_grad():
        output = model(**processor(videos=videos, text=[line["caption"] for line in lines]))
    torch.testing.assert_close(saved["similarity"], output.logits_per_text, atol=1e-4, rtol=1e-5)


def test_s3d_alone_is_evaluated_with_shorter_texts(folder, tmp_path, capsys):
    s3d.tiny_model().save_pretrained(tmp_path / "s3d")
    s3d.tiny_processor(fps=4).save_pretrained(tmp_path / "s3d")
    words = ("--model", tmp_path / "s3d", "--dataset", folder / "videos", "--max-length")
    assert evaluate(*words, 3) == 0
    assert "text: at most 3 words" in capsys.readouterr().out
    assert evaluate(*words, 6) == 2
    assert "max_length is 6; expected 2 to 5" in capsys.readouterr().err


def test_qb_norm_is_refused(folder, capsys):
    assert evaluate("--model", folder / "model", "--dataset", folder / "videos", "--querybank", "train") == 2
    assert "QB-Norm is made for cosines, but a model with a VideoCLIPProcessor" in capsys.readouterr().err


def test_fine_tuning_changes_the_towers_and_leaves_s3d_alone(folder, tmp_path):
    words = ["videoclip/my_videos.yaml", "--model", folder / "model", "--data_dir", folder / "videos"]
    words += ["--output_dir", tmp_path, "--max_length", "12", "--per_device_train_batch_size", "5"]
    words += ["--dataloader_num_workers", "0", "--max_steps", "4", "--learning_rate", "1e-2", "--report_to", "none"]
    words += ["--logging_steps", "1", "--select_on", "test", "--warmup_steps", "2", "--disable_tqdm", "true"]
    assert main([*map(str, words)]) == 0
    before, after = (load_file(place / "model.safetensors") for place in (folder / "model", tmp_path))
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor) is name.startswith("s3d."), name
    results = json.loads((tmp_path / "eval_results.json").read_text())
    assert results["selected_by"] == "text_to_video_R1" and set(results["evaluations"][0]["scores"]) == {
        "raw",
        "chance",
    }
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    rates = [line["learning_rate"] for line in state["log_history"] if "learning_rate" in line]
    assert rates == pytest.approx([0, 5e-3, 1e-2, 1e-2 * (1 - 1 / 999_998)])
