"""From published clips to a search that finds them, by the documented commands: prepare, train, evaluate, rerank."""

import json
import shutil

import pytest
from transformers import BertTokenizer

from hf_videolang.models.clipbert.processing_clipbert import ClipBertProcessor
from hf_videolang.models.clipbert.video_processing_clipbert import ClipBertVideoProcessor
from tests.common.forks import Fork
from tests.common.tiny import clip_vip
from tests.common.tiny.clipbert import tiny_model
from tests.parity.cases import SHARED
from tests.training.tiny_run import finish, run

DATA = SHARED / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="needs the shared clips, ../shared/data")
RECIPE = """
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
    return finish(Fork("hf_videolang.cli", *words))


@pytest.mark.timeout(900)
def test_clips_are_found_by_their_sentences(tmp_path):
    clips, notes = DATA / "video" / "clips", DATA / "video" / "annotations"
    rows = [json.loads(line) for line in (notes / "captions.jsonl").read_text().splitlines()]
    files = {row["video_id"]: clips.parent / row["file"] for row in rows}

    # The files of MSR-VTT, and its training videos, small enough to be read some hundred times
    (tmp_path / "msrvtt").mkdir()
    shutil.copy(notes / "msrvtt_style.json", tmp_path / "msrvtt" / "MSRVTT_data.json")
    shutil.copy(notes / "retrieval_test.csv", tmp_path / "msrvtt" / "MSRVTT_JSFUSION_test.csv")
    shutil.copy(notes / "train_ids.csv", tmp_path / "msrvtt" / "MSRVTT_train.9k.csv")
    for row in rows:
        if row["split"] == "train":
            (tmp_path / "msrvtt" / files[row["video_id"]].name).symlink_to(files[row["video_id"]])
    small, smaller = tmp_path / "small", ("--shortest-edge", 64, "--frames-per-second", 8)
    videolang("data", "prepare", "--data-dir", tmp_path / "msrvtt", "--output-dir", small, *smaller)

    # A tiny ClipBERT with random weights, and the words of BERT
    tokenizer = BertTokenizer.from_pretrained(DATA / "tokenizers" / "bert")
    sizes = {"vocab_size": 30522, "hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 32}
    tiny_model(**sizes).save_pretrained(tmp_path / "model")
    tokenizer.model_max_length = 32
    processor = ClipBertProcessor(ClipBertVideoProcessor(size={"longest_edge": 64}), tokenizer, max_length=32)
    processor.save_pretrained(tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    data = ("--model", tmp_path / "model", "--data_dir", small, "--output_dir", tmp_path / "trained")
    printed = run("hf_videolang.training.run_retrieval", tmp_path / "recipe.yaml", *data)
    assert "train+validation: 23 of" in printed and "69 captions" in printed

    what = ("--dataset", "msrvtt-1ka", "--data-dir", small, "--split", "train+validation")
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
