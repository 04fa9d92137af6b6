"""
How far apart two collections of texts lie for a CLIP text tower: the language-gap analysis of CLIP-ViP.

  hf-videolang language-gap --model openai/clip-vit-base-patch32 --first subtitles=hdvila.jsonl:subtitle \\
      captions=captions_store --second msrvtt=msrvtt-9k:/data/msrvtt didemo=didemo.txt --output-dir gap

Texts drawn at random from both collections are mixed and clustered by K-means with two clusters. The normalised mutual
information (NMI) of cluster and collection is 0 where the two speak alike, and 1 where they fall apart by themselves.
Every --first is compared with every --second: a table, gap.json with all draws and choices, and a picture of each pair.

The paper draws 1000 texts of each, ten times. It leaves open what is fixed here as follows and can be changed: features
are unit vectors (--raw-features), K-means starts ten times from k-means++ (--num-starts), and the NMI is divided by the
arithmetic mean of the entropies (--average). Texts are drawn without replacement within a draw, doubles stay in, the
standard deviation over draws is that of a sample, and texts are cut at the tower's length.

A collection is [NAME=]SOURCE, and SOURCE one of: FILE.txt (a text a line); FILE.jsonl, .csv or .parquet with a column of
texts or lists of texts (FILE:COLUMN names it); a caption store; a video folder with metadata; BENCHMARK:FOLDER or
BENCHMARK:FOLDER:SPLIT; SHARDS:COLUMN, a field of tar or Parquet shards, evenly taken.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args
from zlib import crc32

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoModel, AutoTokenizer

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.text_collections import read_texts
from hf_videolang.hub.loading import errors_naming
from hf_videolang.hub.model_version import model_version
from hf_videolang.metrics.language_gap import Average, language_gap

COLOURS = ("#0072B2", "#E69F00")  # of Okabe and Ito, told apart by colour-blind readers and in grey
MARKERS = ("o", "^")


def add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_argument_group("what to compare")
    what.add_argument("--model", required=True, help="CLIP or CLIP-ViP, folder or Hub id; its text tower is used")
    what.add_argument(
        "--first", nargs="+", required=True, metavar="[NAME=]SOURCE", help="collections, e.g. of pre-training"
    )
    what.add_argument(
        "--second", nargs="+", required=True, metavar="[NAME=]SOURCE", help="collections, e.g. of benchmarks"
    )
    how = parser.add_argument_group("protocol")
    how.add_argument("--samples", type=int, default=1000, help="texts of each collection (default: %(default)s)")
    how.add_argument("--draws", type=int, default=10, help="times to draw them (default: %(default)s)")
    how.add_argument("--seed", type=int, default=0, help="of drawing and of K-means (default: %(default)s)")
    how.add_argument(
        "--raw-features", action="store_true", help="cluster the features as they are, not as unit vectors"
    )
    how.add_argument(
        "--num-starts",
        type=int,
        default=10,
        help="of K-means, the best of which counts (default: %(default)s)",
    )
    how.add_argument(
        "--average",
        choices=get_args(Average),
        default="arithmetic",
        help="of the entropies (default: %(default)s)",
    )
    run = parser.add_argument_group("running")
    run.add_argument("--batch-size", type=int, default=64, help="texts at once (default: %(default)s)")
    run.add_argument("--cpu", action="store_true", help="do not use a GPU")
    parser.add_argument_group("results").add_argument(
        "--output-dir", type=Path, required=True, help="gets gap.json and <first>-<second>.png"
    )


@dataclass(frozen=True)
class Pair:
    """NMI of each draw for two collections."""

    first: str
    second: str
    nmi: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.nmi))

    @property
    def std(self) -> float | None:
        """Of a sample; `None` for a single draw."""
        return float(np.std(self.nmi, ddof=1)) if len(self.nmi) > 1 else None

    def facts(self) -> dict[str, Any]:
        return {**asdict(self), "mean": self.mean, "std": self.std}

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


def main(args: Namespace) -> int:
    try:
        first, second = _name_sources(args.first), _name_sources(args.second)
        sources = {**first, **second}
        if clash := [name for name in first if name in second and first[name] != second[name]]:
            raise ValueError(f"{clash[0]} is the name of two collections; write NAME={first[clash[0]]}.")
        if min(args.samples, args.draws, args.num_starts, args.batch_size) < 1:
            raise ValueError("--samples, --draws, --num-starts and --batch-size must be at least 1.")
        if args.seed < 0:
            raise ValueError(f"--seed is {args.seed}; expected at least 0.")
        texts = {name: read_texts(source, args.draws * args.samples) for name, source in sources.items()}
        drawn = {name: draw_rows(name, len(found), args) for name, found in texts.items()}
        tower = TextTower(args.model, args.cpu)
        features = {}
        for name, rows in drawn.items():
            used, places = np.unique(rows, return_inverse=True)
            encoded = tower([texts[name][row] for row in used], args.batch_size, name)
            if not args.raw_features:
                encoded /= np.linalg.norm(encoded, axis=1, keepdims=True)
            features[name] = encoded[places.reshape(rows.shape)]
        args.output_dir.mkdir(parents=True, exist_ok=True)
        pairs = [_compare(one, other, features, args) for one in first for other in second]
    except (ValueError, OSError, ImportError) as error:
        print(f"hf-videolang language-gap: {error}", file=sys.stderr)
        return 2
    settings = {
        **tower.version,
        "texts": f"{args.draws} draws of {args.samples} from each, cut at {tower.max_length} tokens",
        "seed": args.seed,
        "features": "as they are" if args.raw_features else "unit vectors",
        "clustering": f"K-means, 2 clusters, best of {args.num_starts} starts by k-means++",
        "NMI average": args.average,
    }
    collections = {
        name: {"source": sources[name], "texts": len(texts[name]), "cut": tower.num_cut[name]} for name in sources
    }
    results = {"settings": settings, "collections": collections, "pairs": [pair.facts() for pair in pairs]}
    with atomic_file(args.output_dir / "gap.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print("; ".join(f"{name}: {value}" for name, value in settings.items()))
    for name, facts in collections.items():
        print(f"{name}: {facts['texts']} texts of {facts['source']}, {facts['cut']} of those drawn are cut")
    print(f"\nNMI of cluster and collection, mean ± standard deviation of the draws\n{_table(pairs)}")
    print(f"\n{args.output_dir}: gap.json and a picture of each pair")
    return 0


def draw_rows(name: str, num_texts: int, args: Namespace) -> np.ndarray:
    """Rows of a collection `[draws, samples]`: the same ones whatever it is compared with."""
    if num_texts < args.samples:
        raise ValueError(
            f"{name} has {num_texts} texts, fewer than the {args.samples} of a draw; lower --samples or add texts."
        )
    generator = np.random.default_rng([args.seed, crc32(name.encode())])
    return np.stack([generator.choice(num_texts, args.samples, replace=False) for _ in range(args.draws)])


class TextTower:
    """
    The text side of a CLIP or CLIP-ViP, on its device.

    Args:
        model: folder or Hub id.
        cpu: do not use a GPU.

    Attributes:
        max_length: tokens of a text, the rest is cut; rows of the position table.
        version: see `model_version`.
        num_cut: longer texts, by title.

    Raises:
        ValueError: another kind of model, or missing weights.
        OSError: there is no such model.
    """

    def __init__(self, model: str, cpu: bool = False):
        with errors_naming(model):
            config = AutoConfig.from_pretrained(model)
        if config.model_type not in ("clip", "clip_vip"):
            raise ValueError(f"{model} is a {config.model_type} model; expected clip or clip_vip.")
        loaded, facts = AutoModel.from_pretrained(model, dtype=torch.float32, output_loading_info=True)
        if facts["missing_keys"]:
            raise ValueError(f"The checkpoint of {model} lacks {', '.join(sorted(facts['missing_keys'])[:5])}.")
        use_gpu = torch.accelerator.is_available() and not cpu
        device = torch.accelerator.current_accelerator() if use_gpu else "cpu"
        self.model: Any = loaded.eval().to(device)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self.max_length: int = config.text_config.max_position_embeddings
        self.version = model_version(model, config)
        self.num_cut: dict[str, int] = {}

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], batch_size: int = 64, title: str = "texts") -> np.ndarray:
        """Projected features `[texts, dim]`, float32, not normalised."""
        lengths = [len(tokens) for tokens in self.tokenizer(list(texts), verbose=False)["input_ids"]]
        self.num_cut[title] = sum(length > self.max_length for length in lengths)
        order = np.argsort(lengths, kind="stable")  # so that little is padded
        parts = []
        for first in tqdm(range(0, len(order), batch_size), desc=title, unit="batch"):
            batch = self.tokenizer(
                [texts[row] for row in order[first : first + batch_size]],
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            ).to(self.model.device)
            output = self.model.get_text_features(batch["input_ids"], attention_mask=batch["attention_mask"])
            parts.append(output.pooler_output.cpu().numpy())
        return np.concatenate(parts)[np.argsort(order)]


def plot_pair(pair: Pair, features: np.ndarray, clusters: np.ndarray, path: Path) -> None:
    """
    Left, the texts of the first draw in the plane of their two principal components; right, the NMI of every draw.

    Args:
        pair: names and NMI.
        features: `[texts, dim]` of the first draw, half of them from the first collection.
        clusters: int `[texts]`.
        path: of the picture.

    Raises:
        ImportError: matplotlib or scikit-learn is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from sklearn.decomposition import PCA
    except ImportError as error:
        raise ImportError("The picture needs matplotlib: pip install 'hf_videolang[language-gap]'") from error
    components = PCA(2, random_state=0).fit(features)
    points, shares = components.transform(features), components.explained_variance_ratio_
    sources = np.arange(len(features)) * 2 // len(features)
    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    scatter, bars = figure.subplots(1, 2, width_ratios=[3, 2])
    for source, name in enumerate((pair.first, pair.second)):
        for cluster, marker in enumerate(MARKERS):
            chosen = points[(sources == source) & (clusters == cluster)]
            label = f"{name}, cluster {cluster + 1} ({len(chosen)})"
            scatter.scatter(*chosen.T, s=18, alpha=0.6, linewidths=0, c=COLOURS[source], marker=marker, label=label)
    scatter.set_title(f"Texts of draw 1: NMI {pair.nmi[0]:.3f}")
    scatter.set_xlabel(f"1st principal component ({shares[0]:.0%} of the variance)")
    scatter.set_ylabel(f"2nd principal component ({shares[1]:.0%})")
    scatter.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, markerscale=1.8)
    bars.bar(np.arange(len(pair.nmi)) + 1, pair.nmi, color="#999999")
    bars.axhline(pair.mean, color="black", linewidth=1)
    bars.set_ylim(0, 1)
    bars.set_title(f"{len(pair.nmi)} draws: mean {pair}")
    bars.set_xlabel("draw")
    bars.set_ylabel("NMI (0: they speak alike, 1: they fall apart)")
    figure.suptitle(f"Language gap between {pair.first} and {pair.second}")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _name_sources(given: Sequence[str]) -> dict[str, str]:
    """Name → source; without a name, the file's or folder's own."""
    named: dict[str, str] = {}
    for word in given:
        name, equals, source = word.partition("=")
        if not equals or "/" in name:
            name, source = Path(word.partition(":")[0]).stem, word
        if named.setdefault(name, source) != source:
            raise ValueError(f"{name} is the name of two collections; write NAME={source}.")
    return named


def _compare(first: str, second: str, features: Mapping[str, np.ndarray], args: Namespace) -> Pair:
    """All draws of two collections, and the picture of the first."""
    options = {"num_starts": args.num_starts, "average": args.average}
    draws = list(zip(features[first], features[second]))
    gaps = [language_gap(*draw, seed=args.seed + number, **options) for number, draw in enumerate(draws)]
    pair = Pair(first, second, [nmi for nmi, _ in gaps])
    plot_pair(pair, np.concatenate(draws[0]), gaps[0][1], args.output_dir / f"{first}-{second}.png")
    return pair


def _table(pairs: Sequence[Pair]) -> str:
    """A row each for the first collections, a column each for the second."""
    columns = list(dict.fromkeys(pair.second for pair in pairs))
    width = max(len(name) for name in [*columns, "0.000 ± 0.000"]) + 2
    lines = [f"{'':<20}" + "".join(f"{name:>{width}}" for name in columns)]
    for first in dict.fromkeys(pair.first for pair in pairs):
        cells = [f"{pair!s:>{width}}" for pair in pairs if pair.first == first]
        lines.append(f"{first:<20}" + "".join(cells))
    return "\n".join(lines)
