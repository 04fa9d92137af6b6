"""
Load model and processor from Hub ids and record what they compute.

`load.py package|remote INPUTS OUTPUT SOURCE …`: INPUTS is a safetensors file of model inputs and uint8 `frames`;
OUTPUT becomes a JSON of one record a source, and one of the last source saved to a folder and loaded from there.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor


def load(source: str, trust_remote_code: bool | None) -> tuple:
    return tuple(
        auto_class.from_pretrained(source, trust_remote_code=trust_remote_code)
        for auto_class in (AutoModel, AutoProcessor, AutoVideoProcessor)
    )


def record(loaded: tuple, inputs: dict[str, torch.Tensor]) -> dict:
    model, processor, _ = loaded
    frames = inputs.pop("frames")
    processed = processor(videos=[frames], text=["a red square moves left"], return_tensors="pt")
    with torch.no_grad():
        logits, from_frames = model(**inputs).logits_per_video, model(**processed).logits_per_video
    return {
        "classes": {kind.__name__: kind.__module__ for kind in map(type, loaded)},
        "logits": logits.tolist(),
        "logits_from_frames": from_frames.tolist(),
    }


def main(way: str, inputs: str, output: str, *sources: str) -> None:
    if way == "package":
        import hf_videolang  # noqa: F401
    trust_remote_code = True if way == "remote" else None
    records = {}
    for source in sources:
        loaded = load(source, trust_remote_code)
        records[source] = record(loaded, load_file(inputs))
    saved = str(Path(output).with_name(f"saved_again_{way}"))
    for part in loaded[:2]:
        part.save_pretrained(saved)
    records["saved again"] = record(load(saved, trust_remote_code), load_file(inputs))
    Path(output).write_text(json.dumps({"records": records, "imported": "hf_videolang" in sys.modules}))


if __name__ == "__main__":
    main(*sys.argv[1:])
