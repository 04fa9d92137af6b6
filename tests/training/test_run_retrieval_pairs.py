"""`run_retrieval` with a model that reads text and video together: the real commands on a tiny one."""

import json

import pytest
import torch

from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForPreTraining, ClipBertForVideoTextRetrieval
from hf_videolang.training.run import freeze_parts
from hf_videolang.training.run_retrieval import main
from tests.common.forks import Fork
from tests.common.tiny.clipbert import tiny_model
from tests.training.test_run_retrieval import CHOOSING, MODULE, RESUMED, assert_equal_weights, assert_same_bits, logged
from tests.training.tiny_run import kill, run_ranks, wait_for_checkpoint

RECIPE = """
extends: clipbert/finetuning.yaml
dataloader_num_workers: 0
per_device_train_batch_size: 8
per_device_eval_batch_size: 3
num_train_epochs: 1
num_clips: 3
fps: 8
size: 64
eval_strategy: "no"
load_best_model_at_end: false
select_on: none
test: false
save_steps: 3
logging_steps: 1
report_to: none
disable_tqdm: true
bf16: false
"""


@pytest.fixture(scope="module")
def words(tiny_run, tiny_pairs, tmp_path_factory):
    recipe = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    recipe.write_text(RECIPE)

    def make(output_dir, *more):
        data = ["--model", tiny_pairs, "--data_dir", tiny_run / "videos", "--output_dir", output_dir]
        return [str(word) for word in (recipe, *data, *more)]

    return make


@pytest.fixture(scope="module")
def unbroken(words, tmp_path_factory):
    """One process: 44 captions of 22 videos, 8 at once, make 6 updates."""
    folder = tmp_path_factory.mktemp("unbroken")
    torch.set_num_threads(1)
    assert main(words(folder)) == 0
    assert len(logged(folder, "loss")) == 6
    return folder


def test_two_processes_equal_one_with_the_twofold_batch(words, unbroken, tmp_path):
    run_ranks(MODULE, *words(tmp_path, "--per_device_train_batch_size", 4))
    assert_equal_weights(unbroken, tmp_path)
    assert logged(tmp_path, "loss") == pytest.approx(logged(unbroken, "loss"), abs=2e-4)


def test_a_killed_run_ends_with_the_same_bits(words, unbroken, tmp_path):
    process = Fork(MODULE, *words(tmp_path))
    wait_for_checkpoint(tmp_path, process)
    kill(process)
    assert main(words(tmp_path, *RESUMED)) == 0
    assert_same_bits(tmp_path, unbroken)


@pytest.mark.usefixtures("columns_are_taken_whole")
def test_any_model_of_the_family_gets_the_head(words, tiny_pairs, tmp_path, capsys):
    start_model = tiny_model(ClipBertForPreTraining, max_position_embeddings=40)
    start_model.save_pretrained(tmp_path / "start")
    load_model_and_processor(tiny_pairs)[1].save_pretrained(tmp_path / "start")
    more = ["--model", tmp_path / "start", *CHOOSING, "validation", "--test", "true", "--eval_captions", "first"]
    more += ["--max_steps", 2, "--eval_steps", 1, "--save_steps", 1, "--learning_rate", "1e-3"]
    assert main(words(tmp_path / "out", *more, "--freeze", "cnn", "--score_aggregation", "max")) == 0
    printed = capsys.readouterr().out
    assert "ClipBertForVideoTextRetrieval gets a new head, which starts random" in printed
    assert "test: 5 videos, one caption a video" in printed and "the first caption of each video" in printed
    model, processor = load_model_and_processor(tmp_path / "out")
    assert type(model) is ClipBertForVideoTextRetrieval and model.config.score_aggregation == "max"
    assert processor.video_processor.num_clips == 1 and processor.video_processor.single_clip == "middle"
    trained, before = model.state_dict(), start_model.state_dict()
    changed = {name for name in before.keys() & trained.keys() if not torch.equal(trained[name], before[name])}
    assert "clipbert.cnn.grid_encoder.weight" in changed
    assert not any(name.startswith("clipbert.cnn.backbone") for name in changed)

    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    (scores,) = (found["scores"] for found in results["evaluations"] if found["split"] == "test")
    assert list(scores) == ["raw", "chance"] and results["step"] in (1, 2)


def test_a_frozen_language_model_leaves_eyes_and_head_to_train():
    """clipbert A17."""
    model = tiny_model()
    freeze_parts(model, ["language_model"])
    names = [name.removeprefix("clipbert.") for name, value in model.named_parameters() if value.requires_grad]
    assert {name.split(".")[0] for name in names} == {"cnn", "visual_embeddings", "classifier"}


def test_an_aggregation_that_does_not_fit_the_loss_is_refused(words, tiny_pairs, tmp_path, capsys):
    tiny_model(retrieval_loss="ranking", max_position_embeddings=40).save_pretrained(tmp_path / "ranking")
    load_model_and_processor(tiny_pairs)[1].save_pretrained(tmp_path / "ranking")
    assert main(words(tmp_path / "out", "--model", tmp_path / "ranking", "--score_aggregation", "logsumexp")) == 2
    assert "does not fit retrieval_loss='ranking'" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--loss", "ranking"), "loss would change nothing for ClipBertForVideoTextRetrieval"),
        (("--num_clips", "0"), "num_clips is 0; expected at least 1"),
        (("--freeze", "vision"), "expected parts of the model: cnn, language_model,"),
        (("--score_aggregation", "lse"), "choose from 'mean', 'max', 'logsumexp'"),
    ],
)
def test_refusals_before_anything_is_trained(words, tmp_path, capsys, more, message):
    assert main(words(tmp_path, *more)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last
