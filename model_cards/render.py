"""
Write the cards of the authors' released checkpoints, from the facts in `<family>.yaml` beside this file.

    python model_cards/render.py
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard
from transformers import AutoConfig

import hf_videolang
from hf_videolang.hub.model_card import build_model_card

FOLDER = Path(__file__).parent


def render(facts_file: Path) -> dict[str, ModelCard]:
    """Repository name → card, for each size and each checkpoint of the family that the file is named after."""
    facts = yaml.safe_load(facts_file.read_text(encoding="utf-8"))
    family = facts_file.stem
    cards = {}
    for size, model in facts["sizes"].items():
        start = f"{family.replace('_', '-')}-{size}"
        for name, checkpoint in facts["checkpoints"].items():
            repository = checkpoint.get("repository", start if name == "pretrained" else f"{start}-{name}")
            values = {**model, **{key: _of_size(value, size) for key, value in checkpoint.items()}, "size": size}
            values |= {"organisation": facts["organisation"], "start": start, "repository": repository}
            cards[repository] = _card(family, facts, defaultdict(str, values))
    return cards


def _of_size(value: Any, size: str) -> Any:
    """A fact may differ between the sizes: `{b32: …, b16: …}`; a size that is not in it has none."""
    return value.get(size, "") if isinstance(value, dict) else value


def _card(family: str, facts: dict[str, Any], values: dict[str, Any]) -> ModelCard:
    config = AutoConfig.for_model(family, **values["config"])
    processor = {**(values["processor"] or {}), "max_length": values["max_length"]}
    processor["processor_class"] = config.auto_map.get("AutoProcessor", "").rpartition(".")[2]
    if "AutoVideoProcessor" in config.auto_map:
        video_processor_class = getattr(hf_videolang, config.auto_map["AutoVideoProcessor"].rpartition(".")[2])
        settings = values["video_processor"] or ({"num_frames": frames} if (frames := values["num_frames"]) else {})
        processor["video_processor"] = json.loads(video_processor_class(**settings).to_json_string())
    values["source"] = values["source"].format_map(values)
    texts = {name: text.format_map(values) for name, text in facts["texts"].items()}
    return build_model_card(
        config,
        processor,
        f"{facts['organisation']}/{values['repository']}",
        title=f"{values['title']}, {values['heading'].format_map(values)}",
        provenance="\n\n".join(filter(None, [texts["provenance"], texts["implementation"], values["warning"]])),
        training=values["training"].format_map(values),
        compute=values["compute"] or None,
        reported="\n\n".join(filter(None, [_reported(values, facts["evidence"]), values["also"]])) or None,
        licence=facts["licence"],
        base_model=values["base_model"].format_map(values) or None,
        datasets=values["datasets"],
        **facts["metadata"],
    )


def _reported(values: dict[str, Any], evidence: dict[str, str]) -> str:
    """Published numbers: of any task, row by row as the facts give them (`table`), or text-to-video recalls."""
    if values["table"]:
        header, *rows = values["table"]
        lines = [header, ["---"] * len(header), *rows]
        return "**Not reproduced here.**\n\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return _reported_recalls(values, evidence) if values["results"] else ""


def _reported_recalls(values: dict[str, Any], evidence: dict[str, str]) -> str:
    """Each row with its evidence, and the command that measures them."""
    table = ["| protocol | post-processing | R@1 | R@5 | R@10 | rests on |", "|---|---|---:|---:|---:|---|"]
    for post_processing, (*recalls, source) in values["results"].items():
        numbers = " | ".join(f"{recall:.1f}" for recall in recalls)
        table.append(f"| {values['protocol']} | {post_processing} | {numbers} | {evidence[source]} |")
    command = "hf-videolang evaluate --model {organisation}/{repository} --dataset {dataset} --data-dir DIR"
    table += ["", f"The same protocol: `{command.format_map(values)}`."]
    return "Text to video, in percent, **not reproduced here**.\n\n" + "\n".join(table)


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("*.yaml")):
        for name, card in render(file).items():
            card.save(FOLDER / f"{name}.md")
