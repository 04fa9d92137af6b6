"""Questions about real clips, and their sentences, from a folder to answers and scores, by the documented commands."""

import csv
import json
import shutil

import pytest
from torch import nn
from transformers import BertTokenizer, set_seed

from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForPreTraining
from hf_videolang.models.clipbert.processing_clipbert import ClipBertProcessor
from hf_videolang.models.clipbert.video_processing_clipbert import ClipBertVideoProcessor
from tests.common.tiny import clip_vip
from tests.common.tiny.clipbert import tiny_config, tiny_model, tiny_processor
from tests.parity.cases import SHARED
from tests.training.tiny_run import run

VIDEOS = SHARED / "data" / "video"
pytestmark = pytest.mark.skipif(not VIDEOS.exists(), reason="needs the shared video set, ../shared/data/video")
TRAIN = "hf_videolang.training.run_question_answering"
RECIPE = """
select_on: none
train_split: train+validation
per_device_train_batch_size: 12
optim: decay_last_adamw
learning_rate: 2.0e-3
lr_scheduler_type: linear
warmup_steps: 0.1
num_clips: 1
num_frames: 1
sampling: uniform
save_strategy: "no"
logging_steps: 20
report_to: none
disable_tqdm: true
"""

RETRIEVAL = """
extends: clipbert/my_videos.yaml
dataset: msrvtt-1ka
train_split: train+validation
select_on: none
eval_strategy: "no"
load_best_model_at_end: false
num_clips: 1
sampling: uniform
size: 64
max_length: 32
num_negatives: 7
per_device_train_batch_size: 12
max_steps: 220
learning_rate: 2.0e-3
dataloader_num_workers: 0
save_strategy: "no"
report_to: none
disable_tqdm: true
"""


def videolang(*words) -> str:
    return run("hf_videolang.cli", *words)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """After pre-training, as it were: random weights of a tiny size, and BERT's real tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    set_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 40, "initializer_range": 0.1}
    model = ClipBertForPreTraining(tiny_config(vocab_size=30522, stem_channels=16, **sizes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    model.save_pretrained(folder)
    processor = tiny_processor(size={"longest_edge": 64}, image_std=[60.0] * 3)
    processor.tokenizer = BertTokenizer.from_pretrained(SHARED / "data" / "tokenizers" / "bert", model_max_length=40)
    processor.max_length, processor.padding = 40, "longest"
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The 37 clips and the files of MSR-VTT, small and fast to read: some need all frames decoded to read one."""
    folder, notes = tmp_path_factory.mktemp("clips"), VIDEOS / "annotations"
    shutil.copytree(VIDEOS / "clips", folder / "msrvtt")
    shutil.copy(notes / "msrvtt_style.json", folder / "msrvtt" / "MSRVTT_data.json")
    shutil.copy(notes / "retrieval_test.csv", folder / "msrvtt" / "MSRVTT_JSFUSION_test.csv")
    shutil.copy(notes / "train_ids.csv", folder / "msrvtt" / "MSRVTT_train.9k.csv")
    options = ("--frames-per-second", "4", "--shortest-edge", "64")
    words = ("data", "prepare", "--data-dir", folder / "msrvtt", "--output-dir", folder / "small")
    run("hf_videolang.cli", *words, *options)
    return folder / "small"


def write_folder(folder, clips, rows):
    """`rows` are (name of a clip, split, columns). The clips are copied."""
    folder.mkdir()
    lines = []
    for name, split, columns in rows:
        shutil.copy(clips / f"{name}.mp4", folder)
        lines.append(json.dumps({"file_name": f"{name}.mp4", "split": split, **columns}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def evaluate(model, folder, output):
    """What the command saves of the questions that were trained on."""
    words = ["--model", model, "--dataset", folder, "--split", "train+validation", "--cpu", "--output-dir", output]
    videolang("evaluate", *words)
    return json.loads((output / "results.json").read_text())


def test_answers_of_a_list(base, clips, tmp_path):
    """23 training questions are learnt by heart. Of the 14 answers of the test, 10 are in no training question."""
    rows = [
        (f"video{one['video_id']}", split, {"question": one["question"], "answer": one["answer"]})
        for split in ("train", "test")
        for one in json.loads((VIDEOS / "annotations" / f"{split}_qa.json").read_text())
    ]
    write_folder(tmp_path / "folder", clips, rows)
    (tmp_path / "recipe.yaml").write_text(RECIPE + "num_train_epochs: 30\n")
    words = ["--model", base, "--data_dir", tmp_path / "folder", "--output_dir", tmp_path / "run"]
    printed = run(TRAIN, tmp_path / "recipe.yaml", *words)
    assert "train+validation: 23 videos, one question a video" in printed
    assert "outside the vocabulary: 10 of 14 answers, counted as wrong" in printed
    results = evaluate(tmp_path / "run", tmp_path / "folder", tmp_path / "results")
    assert results["questions"] == 23 and results["scores"]["accuracy"] >= 0.9
    for name in ("video6.gif", "video1.mkv", "video30.mov"):
        words = [VIDEOS / "clips" / name, "what is it?", "--model", tmp_path / "run", "--json"]
        output = run("hf_videolang.cli", "ask", *words)
        assert len(json.loads(output.splitlines()[-1])["answers"]) == 5


@pytest.mark.timeout(900)
def test_options(base, clips, tmp_path):
    """
    Questions with five options, and five captions of which one belongs to the video, are learnt by heart. Chance is
    20 %.
    """
    rows = []
    for split in ("train", "test"):
        with open(VIDEOS / "annotations" / f"{split}_action_style.tsv", newline="") as file:
            for one in csv.DictReader(file, delimiter="\t"):
                options = [one[f"a{number}"] for number in range(1, 6)]
                columns = {"question": one["question"], "choices": options, "answer": int(one["answer"])}
                rows.append((one["gif_name"], "train", {**columns, "answer_type": "question"}))
    for one in map(json.loads, (VIDEOS / "annotations" / "caption_multiple_choice.jsonl").read_text().splitlines()):
        columns = {"question": "", "choices": one["options"], "answer": one["answer"], "answer_type": "caption"}
        rows.append((one["video_id"], "train", columns))
    write_folder(tmp_path / "folder", clips, rows)
    (tmp_path / "recipe.yaml").write_text(RECIPE + "num_train_epochs: 25\ntest: false\n")
    words = ["--model", base, "--data_dir", tmp_path / "folder", "--output_dir", tmp_path / "run"]
    run(TRAIN, tmp_path / "recipe.yaml", *words)
    scores = evaluate(tmp_path / "run", tmp_path / "folder", tmp_path / "results")["scores"]
    for kind in ("question", "caption"):
        assert scores["raw"][kind]["questions"] == 37 and scores["raw"][kind]["accuracy"] >= 0.9
        assert scores["chance"][kind]["accuracy"] == pytest.approx(0.2)


@pytest.mark.timeout(900)
def test_clips_are_found_by_their_sentences(clips, tmp_path):
    rows = [json.loads(line) for line in (VIDEOS / "annotations" / "captions.jsonl").read_text().splitlines()]
    files = {row["video_id"]: VIDEOS / row["file"] for row in rows}

    # A tiny ClipBERT with random weights, and the words of BERT
    tokenizer = BertTokenizer.from_pretrained(SHARED / "data" / "tokenizers" / "bert")
    sizes = {"vocab_size": 30522, "hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 32}
    tiny_model(**sizes).save_pretrained(tmp_path / "model")
    tokenizer.model_max_length = 32
    processor = ClipBertProcessor(ClipBertVideoProcessor(size={"longest_edge": 64}), tokenizer, max_length=32)
    processor.save_pretrained(tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(RETRIEVAL)
    data = ("--model", tmp_path / "model", "--data_dir", clips, "--output_dir", tmp_path / "trained")
    printed = run("hf_videolang.training.run_retrieval", tmp_path / "recipe.yaml", *data)
    assert "train+validation: 23 of" in printed and "69 captions" in printed

    what = ("--dataset", "msrvtt-1ka", "--data-dir", clips, "--split", "train+validation")
    videolang("evaluate", "--model", tmp_path / "trained", *what, "--output-dir", tmp_path / "scores")
    scores = json.loads((tmp_path / "scores" / "results.json").read_text())["scores"]["raw"]
    assert scores["text_to_video"]["R1"] >= 0.8 and scores["video_to_text"]["R1"] >= 0.8

    # A two-tower model that knows nothing finds in all 37 clips as they were published, and the trained one reranks
    clip_vip.tiny_model().save_pretrained(tmp_path / "two_towers")
    clip_vip.tiny_processor(60).save_pretrained(tmp_path / "two_towers")
    (tmp_path / "all").mkdir()
    lines = [{"file_name": files[row["video_id"]].name, "captions": row["captions"]} for row in rows]
    (tmp_path / "all" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for file in files.values():
        shutil.copy(file, tmp_path / "all")
    what = ("--dataset", tmp_path / "all", "--split", "train+validation", "--output-dir", tmp_path / "reranked")
    both = ("--model", tmp_path / "two_towers", "--rerank", tmp_path / "trained", "--rerank-top", 30)
    printed = videolang("evaluate", *both, *what)
    assert "reranked (top 30)" in printed and "37 videos, 111 captions" in printed
    scores = json.loads((tmp_path / "reranked" / "results.json").read_text())["scores"]
    before, after = (scores[name]["text_to_video"]["R1"] for name in ("raw", "reranked (top 30)"))
    assert after > 0.2 > before
