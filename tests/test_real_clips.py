"""From the originals' files to scores and labelled seconds, by real commands on the shared clips."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor

from hf_videolang.cli import main
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.models.s3d.video_processing_s3d import S3DVideoProcessor
from tests.common.tiny.s3d import tiny_model
from tests.conversion.s3d.original_file import original_name, write_original
from tests.conversion.videoclip.original_files import random_values, separate, write
from tests.parity.cases import SHARED
from tests.training.tiny_run import run

VIDEOS, TOKENIZER = SHARED / "data" / "video", SHARED / "data" / "tokenizers" / "bert"
SIZE = {"width": 64, "inner": 128, "vocabulary": 30522, "positions": 64, "features": 16}
SMALL = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
LABELS = ["a person walks up to a table", "an empty room with a table", "cars on a road", "a dog and a basket"]
CLI, TRAIN = "hf_videolang.cli", "hf_videolang.training.run_retrieval"
COMMANDS = """
hf-videolang convert s3d_howto100m.pth --dictionary s3d_dict.npy --output-dir s3d
hf-videolang convert checkpoint_best.pt --s3d s3d --output-dir videoclip
hf-videolang extract --model s3d --videos my_folder --output features
hf-videolang evaluate --model videoclip --dataset my_folder --features features
hf-videolang segment lesson.mp4 --labels steps.txt --model videoclip
hf-videolang segment lesson.mp4 --query "the onion goes into the pan" --model videoclip
"""
CONVERT_S3D, CONVERT, EXTRACT, *ASK = COMMANDS.strip().splitlines()
LINES = """
import hf_videolang
from transformers import AutoModel, AutoProcessor
processor, model = AutoProcessor.from_pretrained("videoclip"), AutoModel.from_pretrained("videoclip")
inputs = processor(videos="lesson.mp4", text=["crack eggs", "slice onions"], return_tensors="pt")
print(model(**inputs).logits_per_video.softmax(-1))
from hf_videolang.inference.segmentation import segment_video
for part in segment_video("lesson.mp4", ["crack eggs", "slice onions"], model, processor): print(part)
"""
pytestmark = pytest.mark.skipif(
    not (VIDEOS.is_dir() and TOKENIZER.is_dir()), reason=f"the shared data are not here ({VIDEOS})"
)


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (VIDEOS / "annotations" / name).read_text().splitlines()]


def s3d_that_tells_clips_apart() -> dict[str, torch.Tensor]:
    """Random weights, but the statistics of batch norms are those of clips. Otherwise all rows would be alike."""
    model = tiny_model(frames_per_clip=30)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = None  # the mean over what follows
            module.reset_running_stats()
    some = [str(VIDEOS / line["file"]) for line in lines("captions.jsonl") if line["duration"] < 4]
    pixels = S3DVideoProcessor(**SMALL, max_clips=1)(some, return_tensors="pt")["pixel_values_videos"]
    with torch.no_grad():
        model.video_model.train().encode_clips(pixels)
    return {original_name(name): value for name, value in model.state_dict().items()}


def command(line: str, folder: Path, *words) -> None:
    """Run a line of `COMMANDS` as it stands in a folder; `words` may follow it."""
    line_words = shlex.split(line)[1:]
    subprocess.run([sys.executable, "-m", CLI, *line_words, *map(str, words)], cwd=folder, check=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The clips as `my_folder`; `s3d` and `videoclip` of random files in the original layouts; and `features`."""
    folder = tmp_path_factory.mktemp("real_clips")
    write_original(folder, values=s3d_that_tells_clips_apart())
    values = random_values(separate(SIZE, 2, 2))
    values |= {name: torch.ones_like(value) for name, value in values.items() if name.endswith("LayerNorm.weight")}
    write(values, folder / "checkpoint_best.pt")
    command(CONVERT_S3D, folder)
    command(CONVERT, folder, "--tokenizer", TOKENIZER)
    for name in ("s3d", "videoclip"):  # small pictures
        processor = AutoProcessor.from_pretrained(folder / name)
        processor.video_processor = AutoVideoProcessor.from_pretrained(folder / name, **SMALL)
        processor.save_pretrained(folder / name)
    shutil.copytree(VIDEOS / "clips", folder / "my_folder")
    rows = []
    for line in lines("captions.jsonl"):
        rows.append({"file_name": Path(line["file"]).name, "captions": line["captions"], "split": line["split"]})
    (folder / "my_folder" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command(EXTRACT, folder)
    return folder


def recall(results: Path, column: str = "raw") -> float:
    return json.loads((results / "results.json").read_text())["scores"][column]["text_to_video"]["R1"]


def test_the_faces_run_as_they_stand(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    shutil.copy("my_folder/video9.mp4", "lesson.mp4")
    Path("steps.txt").write_text("crack eggs\nslice onions\n")
    evaluate, label, search = (shlex.split(line)[1:] for line in ASK)
    assert main(evaluate) == 0
    assert "features: s3d (sha256:" in capsys.readouterr().out
    assert main(label) == 0
    table = re.findall(r"^ +0:(\d\d) +0:(\d\d) +\S+  (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert main(search) == 0
    assert capsys.readouterr().out.count("the onion goes into the pan") in range(1, 4)  # of 10 seconds
    Path("lines.py").write_text(LINES)
    runpy.run_path("lines.py")
    shares, *parts = capsys.readouterr().out.splitlines()
    assert shares.startswith("tensor([[") and len(parts) == len(table)
    for part, (start, end, text) in zip(parts, table):
        assert f"start={int(start)}.0, end={int(end)}.0, label={text!r}" in part


@pytest.mark.timeout(900)
def test_from_the_original_files_to_scores_and_labelled_seconds(folder, tmp_path, capsys):
    data, features = folder / "my_folder", folder / "features"
    store = FeatureStore(features)
    assert len(store.video_ids) == 37 and len(store.features("video4")) == 140

    # Fine-tune on the training clips until the model knows them, and look at the others.
    tuned = tmp_path / "tuned"
    words = ["videoclip/my_videos.yaml", "--model", folder / "videoclip", "--data_dir", data, "--features", features]
    words += ["--train_split", "train+validation", "--select_on", "none", "--per_device_train_batch_size", 23]
    words += ["--max_steps", 150, "--learning_rate", 1e-3, "--dataloader_num_workers", 0, "--save_strategy", "no"]
    words += ["--eval_strategy", "no", "--load_best_model_at_end", "false"]
    run(TRAIN, *words, "--output_dir", tuned, "--report_to", "none", "--disable_tqdm", "true")
    score = [CLI, "evaluate", "--model", tuned, "--dataset", data, "--features", features, "--num-workers", 0, "--cpu"]
    run(*score, "--split", "train+validation", "--output-dir", tmp_path / "train")
    table = run(*score, "--split", "test", "--output-dir", tmp_path / "test")
    assert recall(tmp_path / "train") >= 0.9
    assert recall(tmp_path / "test", "chance") == pytest.approx(1 / 14)

    model, processor = AutoModel.from_pretrained(tuned), AutoProcessor.from_pretrained(tuned)
    correct = []
    for line in lines("caption_multiple_choice.jsonl"):
        if line["split"] == "test":
            inputs = processor(video_features=store.features(line["video_id"]), text=line["options"])
            correct.append(model(**inputs).logits_per_video.argmax().item() == line["answer"])
    with capsys.disabled():
        print(f"\n{table.partition('post-processing')[2]}\nmultiple choice {np.mean(correct):.1%}, chance 20.0%")

    with torch.no_grad():
        for name in ("video9.mp4", "video30.mov", "video3.mp4"):
            raw = model(**processor(videos=str(data / name))).video_embeds
            stored = model(**processor(video_features=store.features(Path(name).stem))).video_embeds
            torch.testing.assert_close(stored, raw, atol=2e-3, rtol=2e-3)

    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    files = ["--json", tmp_path / "parts.json", "--picture", tmp_path / "timeline.png"]
    words = [data / "video4.mp4", "--labels", tmp_path / "labels.txt", "--model", tuned, "--cpu", *files]
    printed = run(CLI, "segment", *words)
    parts = json.loads((tmp_path / "parts.json").read_text())["parts"]
    assert "140 seconds" in printed and all(part["label"] in printed for part in parts)
    assert [part["start"] for part in parts] == [0, *(part["end"] for part in parts[:-1])] and parts[-1]["end"] == 140
    assert np.asarray(Image.open(tmp_path / "timeline.png").convert("L")).std() > 10
