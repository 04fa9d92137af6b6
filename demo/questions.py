"""
Questions about videos from end to end, with nothing to download: videos of two scenes each, a tiny ClipBERT with
random weights, the real commands for training, evaluation and asking, and a page to look at.

    make demo TASK=questions

The test videos show shapes in colours that they never have in training. Everything goes to demo_output/; open
demo_output/index.html.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import torch
import yaml
from questions_page import write_page
from torch import nn
from torchvision.ops import FrozenBatchNorm2d
from transformers import BertTokenizer, set_seed

from demo import PROCESSES, REPOSITORY, run, say
from hf_videolang import ClipBertConfig, ClipBertForPreTraining, ClipBertProcessor, ClipBertVideoProcessor
from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.data.moving_shapes import HELD_OUT, write_scenes
from hf_videolang.training.recipes import RECIPES

RECIPE = {
    "extends": "clipbert/my_questions.yaml",
    # A tiny model that has learnt nothing yet needs larger steps.
    "learning_rate": 1.0e-3,
    # With other colours and shapes held out, 0.3 learnt faster than 0.1, and did better on what it had not seen.
    "label_smoothing_factor": 0.3,
    "train_split": "train+validation",
    "select_on": "none",
    "load_best_model_at_end": False,
    # A frame of each scene.
    "num_clips": 2,
    "eval_num_clips": 2,
    "num_frames": 1,
    "fps": 4,
    "sampling": "uniform",
    "size": 40,
    "max_length": 16,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
    "save_strategy": "no",
    "dataloader_num_workers": 1,
    "dataloader_persistent_workers": True,
    "report_to": "none",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "demo_output", help="default: demo_output")
    parser.add_argument("--videos", type=int, default=1440, help="to train on; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=9, help="default: %(default)s")
    arguments = parser.parse_args()
    started, output = time.perf_counter(), arguments.output.absolute()
    if output.exists() and not (output / "initial" / "config.json").is_file():
        sys.exit(f"{output} exists and no demo wrote it; choose another --output.")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)

    say("1. Data")
    size = {"num_scenes": 2, "size": 40, "frames_per_second": 4}
    data = write_scenes(output / "data", arguments.videos, max(4, arguments.videos // 10), seed=3, **size)
    train, protocol = load_dataset(str(data), split="train+validation")
    test, test_protocol = load_dataset(str(data))
    print(protocol, test_protocol, f"for example: {test[0]['question']!r} {test[0]['answer']!r}", sep="\n")

    say("2. A tiny model with random weights")
    make_model(train, output / "initial")

    say(f"3. Fine-tuning on {PROCESSES} processes")
    folders = {"model": str(output / "initial"), "data_dir": str(data), "output_dir": str(output / "model")}
    recipe = RECIPE | folders | {"num_train_epochs": arguments.epochs}
    (output / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    launch = ["accelerate.commands.launch", "--config_file", RECIPES / "accelerate" / "cpu.yaml"]
    script = "hf_videolang.training.run_question_answering"
    run(*launch, "--num_processes", PROCESSES, "-m", script, output / "recipe.yaml")

    say("4. The test videos: colours and shapes that were never combined in training")
    print(", ".join(map(" ".join, HELD_OUT)))
    given = ["--model", output / "model", "--dataset", data, "--split", "test", "--output-dir", output / "results"]
    run("hf_videolang.cli", "evaluate", *given)
    results = json.loads((output / "results" / "results.json").read_text())

    say("5. Three questions")
    rows = [test[2 * (number * (len(test) // 2) // 3) + number % 2] for number in range(3)]
    for row in rows:
        run("hf_videolang.cli", "ask", row["video"]["path"], row["question"], "--model", output / "model")

    predictions = map(json.loads, (output / "results" / "predictions.jsonl").read_text().splitlines())
    page = write_page(output, results, rows, {one["question_id"]: one for one in predictions})
    scores = results["scores"]
    chance = scores["chance"]["overall"]["accuracy"]
    print(f"\nAccuracy on {results['questions']} questions: {scores['accuracy']:.1%}; chance {chance:.1%}.")
    print(f"{time.perf_counter() - started:.0f} s in all. The page: {page}")


def make_model(train, folder: Path) -> None:
    """Random weights; the frozen norms of the CNN get the statistics of some frames, as if it had been trained."""
    words = sorted({word for question in train["question"] for word in question.replace("?", " ?").split()})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=16)
    video_processor = ClipBertVideoProcessor(size={"longest_edge": 40}, image_mean=[60.0] * 3, image_std=[60.0] * 3)
    processor = ClipBertProcessor(video_processor, tokenizer, max_length=16, padding="longest")
    set_seed(0)
    config = ClipBertConfig(
        vocab_size=len(vocabulary),
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        max_position_embeddings=16,
        max_grid_rows=4,
        max_grid_columns=4,
        stem_channels=16,
        bottleneck_channels=16,
        res2_channels=32,
        depths=[1, 1, 1, 1],
        num_frozen_stages=0,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
    )
    model = ClipBertForPreTraining(config)
    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, FrozenBatchNorm2d):
            hooks.append(module.register_forward_pre_hook(take_statistics))
    videos = processor(videos=[row["video"]["path"] for row in train.select(range(0, len(train), 2)).take(64)])
    with torch.no_grad():
        model.get_video_features(**videos)
    for hook in hooks:
        hook.remove()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    print(
        f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters, {len(words)} words, in {folder}"
    )


def take_statistics(norm: FrozenBatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
    norm.running_mean.copy_(inputs[0].mean(dim=(0, 2, 3)))
    norm.running_var.copy_(inputs[0].var(dim=(0, 2, 3)))


if __name__ == "__main__":
    main()
