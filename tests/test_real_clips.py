"""From the originals' files to scores and labelled seconds, by real commands on the shared clips."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor

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


def convert(folder: Path) -> None:
    """`s3d` and `videoclip` from random files in the original layouts, with small pictures."""
    checkpoint, dictionary = write_original(folder, values=s3d_that_tells_clips_apart())
    run(CLI, "convert", checkpoint, "--dictionary", dictionary, "--output-dir", folder / "s3d")
    values = random_values(separate(SIZE, 2, 2))
    values |= {name: torch.ones_like(value) for name, value in values.items() if name.endswith("LayerNorm.weight")}
    checkpoint = write(values, folder / "checkpoint_best.pt")
    options = ("--s3d", folder / "s3d", "--tokenizer", TOKENIZER)
    run(CLI, "convert", checkpoint, *options, "--output-dir", folder / "videoclip")
    for name in ("s3d", "videoclip"):
        processor = AutoProcessor.from_pretrained(folder / name)
        processor.video_processor = AutoVideoProcessor.from_pretrained(folder / name, **SMALL)
        processor.save_pretrained(folder / name)


def write_folder(folder: Path) -> None:
    shutil.copytree(VIDEOS / "clips", folder)
    rows = []
    for line in lines("captions.jsonl"):
        rows.append({"file_name": Path(line["file"]).name, "captions": line["captions"], "split": line["split"]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def recall(results: Path, column: str = "raw") -> float:
    return json.loads((results / "results.json").read_text())["scores"][column]["text_to_video"]["R1"]


@pytest.mark.skipif(not (VIDEOS.is_dir() and TOKENIZER.is_dir()), reason=f"the shared data are not here ({VIDEOS})")
@pytest.mark.timeout(900)
def test_from_the_original_files_to_scores_and_labelled_seconds(tmp_path, capsys):
    convert(tmp_path)
    write_folder(tmp_path / "clips")
    data, features = tmp_path / "clips", tmp_path / "features"
    run(CLI, "extract", "--model", tmp_path / "s3d", "--videos", data, "--output", features, "--cpu")
    store = FeatureStore(features)
    assert len(store.video_ids) == 37 and len(store.features("video4")) == 140

    # Fine-tune on the training clips until the model knows them, and look at the others.
    tuned = tmp_path / "tuned"
    words = ["videoclip/my_videos.yaml", "--model", tmp_path / "videoclip", "--data_dir", data, "--features", features]
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
