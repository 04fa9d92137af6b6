"""
How far apart do two collections of texts lie for a model's text tower? This is the study in clip_vip §8.

    python benchmarks/language_gap/language_gap.py --model openai/clip-vit-base-patch32 \\
        --first subtitles=/data/hdvila:subtitle captions=/data/hdvila_captions \\
        --second msrvtt=msrvtt-9k:/data/msrvtt didemo=didemo:/data/didemo:train --output gap.json

Needs scikit-learn. Random texts of two collections are mixed and clustered by K-means into two clusters. The
normalised mutual information (NMI) of cluster and collection is 0 if the collections use language alike, and 1 if they
separate by themselves. Each --first collection is compared with each --second one.

The paper draws 1,000 texts of each collection, ten times. It does not say the rest, which is fixed here: features are
unit vectors; texts are drawn without replacement within a draw, and duplicates stay in; long texts are cut at the
tower's limit; the standard deviation over draws is that of a sample. `nmi.py` has the settings of K-means and NMI, and
`texts.py` the kinds of sources.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from zlib import crc32

import numpy as np
import torch
from nmi import language_gap
from texts import read_texts
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

import hf_videolang  # noqa: F401  registers the package's models
from hf_videolang.hub.model_version import model_version


class TextTower:
    """The text side of any two-tower model that has `get_text_features`, on the accelerator if there is one."""

    def __init__(self, model: str):
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        self.model = AutoModel.from_pretrained(model, dtype=torch.float32).eval().to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.max_length = self.model.config.get_text_config().max_position_embeddings

    @torch.no_grad()
    def __call__(self, texts: list[str], batch_size: int = 64) -> np.ndarray:
        """Unit features `[texts, dim]`."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # similar lengths need little padding
        parts = []
        for first in tqdm(range(0, len(order), batch_size), unit="batch"):
            batch = self.tokenizer(
                [texts[row] for row in order[first : first + batch_size]],
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            ).to(self.model.device)
            output = self.model.get_text_features(batch["input_ids"], attention_mask=batch["attention_mask"])
            parts.append(torch.nn.functional.normalize(output.pooler_output, dim=-1).cpu().numpy())
        return np.concatenate(parts)[np.argsort(order)]


def draw_rows(name: str, num_texts: int, samples: int, draws: int, seed: int) -> np.ndarray:
    """Random rows `[draws, samples]` of a collection. They do not depend on the collection it is compared with."""
    generator = np.random.default_rng([seed, crc32(name.encode())])
    return np.stack([generator.choice(num_texts, samples, replace=False) for _ in range(draws)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or Hub id of CLIP or a two-tower model")
    parser.add_argument("--first", nargs="+", required=True, metavar="NAME=SOURCE", help="e.g. of pre-training")
    parser.add_argument("--second", nargs="+", required=True, metavar="NAME=SOURCE", help="e.g. of benchmarks")
    parser.add_argument("--samples", type=int, default=1000, help="texts of each collection (default: 1000)")
    parser.add_argument("--draws", type=int, default=10, help="default: 10")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for all results")
    args = parser.parse_args()
    first, second = (dict(word.split("=", 1) for word in words) for words in (args.first, args.second))
    tower = TextTower(args.model)

    features = {}
    for name, source in {**first, **second}.items():
        texts = read_texts(source, args.draws * args.samples)
        rows = draw_rows(name, len(texts), args.samples, args.draws, args.seed)
        used, places = np.unique(rows, return_inverse=True)
        features[name] = tower([texts[row] for row in used])[places.reshape(rows.shape)]

    pairs = []
    for one in first:
        for other in second:
            draws = enumerate(zip(features[one], features[other]))
            nmi = [language_gap(*texts, seed=args.seed + draw) for draw, texts in draws]
            deviation = stdev(nmi) if len(nmi) > 1 else 0.0
            pairs.append({"first": one, "second": other, "nmi": nmi, "mean": mean(nmi), "std": deviation})
            print(f"{one} - {other}: NMI {mean(nmi):.3f} ± {deviation:.3f}")
    settings = {**model_version(args.model, tower.model.config), "samples": args.samples, "seed": args.seed}
    results = {"settings": settings, "sources": {**first, **second}, "pairs": pairs}
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
