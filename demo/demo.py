"""
The main job from end to end, with nothing to download: real video files, a tiny model with random weights, the real
training and evaluation commands, the saved folder loaded by AutoModel, three queries, and a page to look at.

    make demo                # writes videos of moving coloured shapes
    make demo DATA=my_clips  # your own folder of clips with metadata.jsonl

Everything goes to demo_output/; open demo_output/index.html.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
import yaml
from page import write_page
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModel, AutoProcessor, CLIPTokenizer

from hf_videolang import CLIPViPConfig, CLIPViPModel, CLIPViPProcessor, CLIPViPVideoProcessor
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.moving_shapes import write_moving_shapes
from hf_videolang.training.recipes import RECIPES

REPOSITORY = Path(__file__).resolve().parents[1]
PROCESSES = 2
RECIPE = {
    "extends": "clip_vip/my_videos.yaml",
    # A tiny model that has learnt nothing yet needs larger steps.
    "learning_rate": 1.0e-3,
    "weight_decay": 0.01,
    "warmup_steps": 0.1,
    "num_frames": None,  # as the model's processor
    "max_length": None,
    "per_device_eval_batch_size": 32,
    "eval_steps": 75,
    "save_steps": 75,
    "dataloader_num_workers": 1,
    "dataloader_persistent_workers": True,
    "report_to": "none",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with your own clips and their captions")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "demo_output", help="default: demo_output")
    arguments = parser.parse_args()
    started, output = time.perf_counter(), arguments.output.absolute()
    if output.exists() and not (output / "initial" / "config.json").is_file():
        sys.exit(f"{output} exists and no demo wrote it; choose another --output.")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)

    say("1. Data")
    if arguments.data:
        data, epochs = own_clips(arguments.data.absolute(), output / "data"), 30
    else:
        data, epochs = write_moving_shapes(output / "data", num_train=480, num_test=48, seed=7, num_frames=16), 50
    dataset = find_dataset(str(data))
    split = "test" if "test" in dataset.splits else "validation"
    (train, _), (test, _) = dataset.load("train"), dataset.load(split)
    print(f"{len(train)} videos to train on, {len(test)} ({split}) to test on, in {data}")
    print(f"for example {test[0]['video_id']}: {test[0]['captions'][0]!r}")

    say("2. A tiny model with random weights")
    make_model([caption for row in train for caption in row["captions"]], output / "initial")

    say("3. Before: retrieval on the test videos")
    before = evaluate(output / "initial", data, split, output / "before")

    say(f"4. Fine-tuning on {PROCESSES} processes")
    folders = {"model": str(output / "initial"), "data_dir": str(data), "output_dir": str(output / "model")}
    size = {"num_train_epochs": epochs, "per_device_train_batch_size": min(24, len(train) // PROCESSES)}
    (output / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | folders | size, sort_keys=False))
    launch = ["accelerate.commands.launch", "--config_file", RECIPES / "accelerate" / "cpu.yaml"]
    run(*launch, "--num_processes", PROCESSES, "-m", "hf_videolang.training.run_retrieval", output / "recipe.yaml")

    say("5. After: the same test videos, never trained on")
    after = evaluate(output / "model", data, split, output / "after")

    say("6. The saved folder, loaded by AutoModel, answers queries")
    queries = [test[i * len(test) // 3]["captions"][0] for i in range(3)]
    answers = search(output / "model", queries, [row["video"]["path"] for row in test])
    for query, found in answers.items():
        print(f"\n{query!r}")
        for path, probability in found:
            print(f"  {probability:6.1%}  {Path(path).name}")

    history = json.loads((output / "model" / "trainer_state.json").read_text())["log_history"]
    captions = {row["video"]["path"]: row["captions"] for row in test}
    page = write_page(output, history, before, after, answers, captions)
    print(
        f"\nText-to-video R@1 on {len(test)} test videos: {recall(before):.1f} % before, {recall(after):.1f} % after; "
        f"chance {100 / len(test):.1f} %. {time.perf_counter() - started:.0f} s in all."
    )
    print(f"The page: {page}")


def say(title: str) -> None:
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)


def run(*words) -> None:
    """Print and run `python -m WORDS`, and stop the demo if it fails."""
    command = ["-m", *map(str, words)]
    print("$ python " + " ".join(word.replace(f"{REPOSITORY}/", "") for word in command), flush=True)
    if code := subprocess.run([sys.executable, *command], check=False, cwd=REPOSITORY).returncode:
        sys.exit(f"The command above failed with exit code {code}.")


def own_clips(folder: Path, output: Path) -> Path:
    """
    A folder that `find_dataset` reads: `folder` itself if it has metadata, else `output`, which gets metadata from
    `captions.jsonl` in `folder` or in `annotations/` next to it (lines with `file`, `captions` and perhaps `split`).
    """
    if any(folder.rglob("metadata.*")):
        return folder
    places = (folder / "captions.jsonl", folder.parent / "annotations" / "captions.jsonl")
    captions = next((file for file in places if file.is_file()), None)
    if captions is None:
        sys.exit(
            f"{folder} has no metadata.jsonl, so nothing says what its videos show. Write one with lines like "
            '{"file_name": "kitchen.mp4", "captions": ["a chef slices onions"]}.'
        )
    output.mkdir()
    os.environ["HF_VIDEOLANG_TRUST_DATA"] = "1"  # these metadata lead to the videos in another folder
    with (output / "metadata.jsonl").open("w") as metadata:
        for row in map(json.loads, captions.read_text().splitlines()):
            name = Path(row["file"]).name
            row = {"file_name": str(folder / name), "captions": row["captions"], "split": row.get("split", "train")}
            metadata.write(json.dumps(row) + "\n")
    return output


def make_model(captions: list[str], folder: Path) -> None:
    """Save a CLIP-ViP of about half a million random weights, with a tokenizer that it learns from the captions."""
    tokenizer = make_tokenizer(captions)
    size = len(tokenizer)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    small = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    config = CLIPViPConfig(
        projection_dim=64,
        logit_scale_init_value=3.0,
        text_config={**small, "num_hidden_layers": 2, "vocab_size": size, "pad_token_id": size - 1, **ends},
        vision_config={**small, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8, "num_frames": 6},
    )
    torch.manual_seed(0)
    model = CLIPViPModel(config)
    embeddings = model.vision_model.embeddings
    with torch.no_grad():  # places and times differ from the start, as in a trained CLIP
        embeddings.temporal_embedding.normal_(std=0.6)
        embeddings.position_embedding.weight.normal_(std=0.6)
    model.save_pretrained(folder)
    video_processor = CLIPViPVideoProcessor(size={"height": 32, "width": 32}, num_frames=6)
    CLIPViPProcessor(video_processor, tokenizer, max_length=24).save_pretrained(folder)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {size} words and word parts, in {folder}")


def make_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """CLIP's byte-pair encoding, learnt from the captions. The end token has the largest id, as the model needs."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    entries = dict.fromkeys([*learnt["vocab"], *(symbol + "</w>" for symbol in pre_tokenizers.ByteLevel.alphabet())])
    vocabulary = {entry: index for index, entry in enumerate([*entries, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in learnt["merges"]], model_max_length=77)


def evaluate(model: Path, data: Path, split: str, output: Path) -> dict:
    """Scores of the split by the evaluation command, which prints protocol and table."""
    given = ["--model", model, "--dataset", data, "--split", split, "--output-dir", output]
    run("hf_videolang.cli", "evaluate", *given)
    return json.loads((output / "results.json").read_text())["scores"]


def recall(scores: dict) -> float:
    """Text-to-video R@1 in per cent, no post-processing."""
    return 100 * scores["raw"]["text_to_video"]["R1"]


def search(folder: Path, queries: list[str], videos: list[str]) -> dict[str, list[tuple[str, float]]]:
    """The three most probable videos of each query."""
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    inputs = processor(videos=videos, text=queries, return_tensors="pt")
    with torch.inference_mode():
        probabilities = model(**inputs).logits_per_text.softmax(dim=-1)
    top = probabilities.topk(min(3, len(videos)))
    return {
        query: [(videos[i], p) for i, p in zip(row.tolist(), values.tolist(), strict=True)]
        for query, row, values in zip(queries, top.indices, top.values, strict=True)
    }


if __name__ == "__main__":
    main()
