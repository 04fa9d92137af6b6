"""
Cards of the authors' released checkpoints, from the facts in a YAML file.

    python -m hf_videolang.hub.release_cards model_cards/clip_vip.yaml     # writes model_cards/clip-vip-*.md
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig
from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor

from .model_card import build_model_card

ORIGINAL = "https://github.com/microsoft/XPretrain/tree/main/CLIP-ViP"
PRETRAINING = (
    "Post-pre-trained from CLIP (`{clip}`) on HD-VILA-100M: videos with their subtitles and generated captions of the "
    "middle frame, loss (d) of the paper, AdamW, learning rate 5e-6, weight decay 0.05, 12 frames, {pretraining_batch} "
    "videos a GPU, 1024 in all, 5 epochs in the released configuration (the paper says 3)."
)
FINETUNING = (
    "Fine-tuned on {name} from `{base_model}` with the released configuration ({epochs} epochs) and the "
    "learnable-temperature contrastive loss, AdamW, learning rate 1e-6, weight decay 0.2, gradient clipping at 1.0, "
    "{num_frames} frames, {max_length} tokens, a global batch of 128{note}. The authors select the best step on the test "
    "set, after DSL; results below inherit that choice. The recipe `{recipe}.yaml` of `hf_videolang` has this "
    "configuration, but selects on validation videos{validation}."
)
MEASURING = "The same protocol: `hf-videolang evaluate --model {repo_id} --dataset {dataset} --data-dir DIR`."


def release_cards(facts: dict[str, Any]) -> dict[str, ModelCard]:
    """Repository name → card, for each size pre-trained and fine-tuned on each data set. `facts`: the YAML file."""
    cards = {}
    for size, model in facts["sizes"].items():
        base_model = f"{facts['organisation']}/clip-vip-{size}"
        zero_shot = [["MSR-VTT 1k-A, zero-shot, model of one epoch; 12 frames", "raw", *facts["zero_shot"][size]]]
        cards[f"clip-vip-{size}"] = _card(
            facts,
            model,
            base_model,
            title=f"{model['title']}, pre-trained",
            source=f"pretrain_clipvip_base_{model['patch_size']}.pt",
            processor=_processor(num_frames=12, max_length=70),
            training=PRETRAINING.format(**model),
            compute="32 V100, for a time that is not stated here.",
            reported=_reported(zero_shot, facts["evidence"], base_model, "msrvtt-1ka"),
            base_model=model["clip"],
            datasets=["hd-vila-100m"],
        )
        for dataset, task in facts["finetuned"].items():
            chosen = {**task, "epochs": task["epochs"][size], "max_length": task["max_length"][size]}
            chosen["note"] = f", {task['note'][size]}" if size in task.get("note", {}) else ""
            chosen["recipe"] = f"clip_vip/{dataset}_{size}"
            chosen["validation"] = f", {task['validation']}" if "validation" in task else ""
            rows = [[task["protocol"], post, *values] for post, values in task["results"][size].items()]
            reported = _reported(rows, facts["evidence"], f"{base_model}-{dataset}", task["dataset"])
            if also := task.get("also", {}).get(size):
                reported += f"\n\n{also}"
            cards[f"clip-vip-{size}-{dataset}"] = _card(
                facts,
                model,
                f"{base_model}-{dataset}",
                title=f"{model['title']}, fine-tuned on {task['name']}",
                source=f"the authors' fine-tuned {task['name']} file",
                processor=_processor(task["num_frames"], chosen["max_length"]),
                training=FINETUNING.format(**chosen, base_model=base_model),
                reported=reported,
                base_model=base_model,
                datasets=[dataset],
            )
    return cards


def _card(
    facts: dict, model: dict, repo_id: str, *, source: str, processor: dict[str, Any], **sections: Any
) -> ModelCard:
    file = source if source.endswith(".pt") else "CHECKPOINT.pt"
    name = f"`{source}`" if source.endswith(".pt") else source
    provenance = (
        f"Converted from {name} of the [original release]({ORIGINAL}), {model['parameters']} parameters, with "
        f"`python conversion/convert_clip_vip.py --checkpoint {file} --config ORIGINAL.json --output-dir "
        f"{repo_id.split('/')[-1]}`. `ORIGINAL.json` is the training configuration of the release: it sets the "
        f"{processor['video_processor']['num_frames']} frames and {processor['max_length']} tokens, which the "
        "checkpoint does not know. The conversion is strict: every tensor of the file is used or listed as dropped, "
        "and `conversion_report.json` carries the file's sha256.\n\nThe implementation is tested against the original code on small models with "
        "random weights, hidden states and losses within the tolerance that each reference case states (float32, "
        "CPU). **To be checked before publishing:** the numbers below on the converted file."
    )
    if "warning" in model:
        provenance += f"\n\n{model['warning']}"
    return build_model_card(
        CLIPViPConfig(vision_config={"patch_size": model["patch_size"]}),
        processor,
        repo_id=repo_id,
        provenance=provenance,
        licence=facts["licence"],
        license="other",
        license_name="to-be-checked",
        license_link="https://github.com/microsoft/XPretrain",
        **sections,
    )


def _processor(num_frames: int, max_length: int) -> dict[str, Any]:
    saved = CLIPViPVideoProcessor(num_frames=num_frames).to_json_string()
    return {"video_processor": json.loads(saved), "max_length": max_length}


def _reported(rows: list[list], evidence: dict[str, str], repo_id: str, dataset: str) -> str:
    """Published text-to-video recalls, each row with what it rests on, and the command that measures them."""
    table = ["| protocol | post-processing | R@1 | R@5 | R@10 | rests on |", "|---|---|---:|---:|---:|---|"]
    for protocol, post_processing, *recalls, source in rows:
        numbers = " | ".join(f"{recall:.1f}" for recall in recalls)
        table.append(f"| {protocol} | {post_processing} | {numbers} | {evidence[source]} |")
    table += ["", MEASURING.format(repo_id=repo_id, dataset=dataset)]
    return "Text to video, in percent, **not reproduced here**.\n\n" + "\n".join(table)


def main(facts_file: str = "model_cards/clip_vip.yaml") -> None:
    path = Path(facts_file)
    for name, card in release_cards(yaml.safe_load(path.read_text(encoding="utf-8"))).items():
        card.save(path.with_name(f"{name}.md"))


if __name__ == "__main__":
    main(*sys.argv[1:])
