"""
What saved folders of the families compute: `answers.py FOLDER OUTPUT` loads all of FOLDER as remote code.

Run where the package is missing; `answers` gives the same with the package.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultipleChoice,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
)

FRAMES = torch.arange(9 * 3 * 40 * 48).remainder(251).view(9, 3, 40, 48).to(torch.uint8)
SHOWN = [{"start": 0.0, "end": 4.0, "text": "a b"}]


@torch.no_grad()
def answers(folder: Path, remote: bool) -> dict[str, Tensor]:
    def load(auto_class: Any, name: str) -> Any:
        loaded = auto_class.from_pretrained(folder / name, trust_remote_code=remote or None)
        assert type(loaded).__module__.startswith("transformers_modules." if remote else "hf_videolang.models.")
        return loaded

    found = {}
    for name in ("s3d", "videoclip"):
        model, processor = load(AutoModel, name), load(AutoProcessor, name)
        inputs = processor(videos=[FRAMES], text=["cut the pan", "a b"], return_tensors="pt")
        found[name] = model(**inputs).logits_per_video
        alone = load(AutoVideoProcessor, name)(FRAMES)["pixel_values_videos"]
        assert torch.equal(alone, inputs["pixel_values_videos"])
    rows = {"video_features": torch.arange(64.0).sin().view(1, 4, 16), "input_ids": torch.arange(2, 9)[None]}
    found["videoclip from features"] = model(**rows).logits_per_video

    pixels = load(AutoVideoProcessor, "slowfast")(FRAMES)
    assert load(AutoModel, "slowfast") is not None
    found["slowfast"] = load(AutoModelForVideoClassification, "slowfast")(**pixels).logits

    processor = load(AutoProcessor, "hero")
    inputs = processor(video_features=torch.ones(6, 16), subtitles=SHOWN, question="c", choices=["a", "b b"])
    output = load(AutoModelForMultipleChoice, "hero")(**inputs)
    assert processor.post_process_moments(output)
    found["hero"] = output.logits
    video = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    found["hero states"] = load(AutoModel, "hero")(**video).last_hidden_state

    inputs = load(AutoProcessor, "captions")(video_features=torch.ones(6, 16), segments=[(0.0, 3.0), (3.0, 9.0)])
    found["captions"] = load(AutoModelForImageTextToText, "captions").generate(**inputs, num_beams=2)
    return found


if __name__ == "__main__":
    torch.save(answers(Path(sys.argv[1]), remote=True), sys.argv[2])
    assert "hf_videolang" not in sys.modules
