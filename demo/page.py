"""The page of the demo: result, loss curve, tables, and queries with film strips."""

from html import escape
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor

from hf_videolang.evaluation.scores import score_table

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.numbers { display: flex; gap: 1rem; } .numbers div { background: #f2f4f7; border-radius: 8px; padding: 1rem 1.5rem; }
.numbers b { display: block; font-size: 2rem; } pre { background: #f2f4f7; padding: 1rem; overflow-x: auto; }
.answer { display: flex; align-items: center; gap: 1rem; margin: .4rem 0; }
.answer img { border-radius: 4px; height: 80px; }
.right { color: #0a7d33; } small { color: #666; }
"""


def write_page(
    output: Path,
    history: list[dict],
    before: dict,
    after: dict,
    answers: dict[str, list[tuple[str, float]]],
    captions: dict[str, list[str]],
) -> Path:
    """
    Write `index.html` with its pictures.

    Args:
        output: folder of the demo.
        history: `log_history` of the Trainer.
        before, after: scores of the test split, as `hf-videolang evaluate` saves them.
        answers: query -> paths of videos with their probabilities, the best first.
        captions: path of a test video -> its captions.
    """
    pictures = output / "pictures"
    pictures.mkdir()
    loss_curve(history, pictures / "loss.svg")
    read_clip = AutoProcessor.from_pretrained(output / "model").video_processor.read_clip  # the frames the model sees
    numbers = [
        ("before training", 100 * before["raw"]["text_to_video"]["R1"]),
        ("after training", 100 * after["raw"]["text_to_video"]["R1"]),
        ("by chance", 100 / len(captions)),
    ]
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>hf_videolang demo</title><style>{STYLE}</style>",
        f"<h1>A tiny CLIP-ViP finds videos by text: R@1 on {len(captions)} videos that it never trained on</h1>",
        "<div class='numbers'>",
        *(f"<div><b>{value:.1f} %</b>{escape(name)}</div>" for name, value in numbers),
        "</div><h2>Queries</h2>",
    ]
    for query, found in answers.items():
        parts.append(f"<p>“{escape(query)}”</p>")
        for path, probability in found:
            strip = film_strip(read_clip({"path": path}), pictures / f"{Path(path).stem}.png")
            right = query in captions[path]
            parts.append(
                f"<div class='answer'><img src='pictures/{escape(strip.name)}' alt=''><span"
                f"{' class=right' if right else ''}>{probability:.1%}{' ✓' if right else ''}"
                f"<br><small>{escape(captions[path][0])}</small></span></div>"
            )
    parts += [
        "<h2>Training</h2><img src='pictures/loss.svg' alt='loss and validation R@1 over updates'>",
        f"<h2>Scores on the test videos, before</h2><pre>{escape(score_table(before))}</pre>",
        f"<h2>… and after</h2><pre>{escape(score_table(after))}</pre>",
        "<p><small>Recalls in per cent. <code>make demo</code> made this page and printed its commands; the recipe is "
        "in <code>recipe.yaml</code>.</small></p>",
    ]
    page = output / "index.html"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def loss_curve(history: list[dict], path: Path) -> None:
    """Training loss, and R@1 on the validation videos, over updates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    key = "eval_text_to_video_R1"
    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    axes.plot(*zip(*((row["step"], row["loss"]) for row in history if "loss" in row), strict=True), color="#1f6feb")
    axes.set_xlabel("update")
    axes.set_ylabel("loss", color="#1f6feb")
    right = axes.twinx()
    right.plot(
        *zip(*((row["step"], 100 * row[key]) for row in history if key in row), strict=True),
        "o-",
        color="#0a7d33",
    )
    right.set_ylabel("validation R@1 (%)", color="#0a7d33")
    right.set_ylim(0, 100)
    figure.savefig(path)


def film_strip(frames: torch.Tensor, path: Path, height: int = 96) -> Path:
    """The frames of a clip (uint8 `[frames, 3, height, width]`) side by side."""
    images = [Image.fromarray(np.asarray(frame.permute(1, 2, 0))) for frame in frames]
    images = [image.resize((round(image.width * height / image.height), height)) for image in images]
    strip = Image.new("RGB", (sum(image.width + 2 for image in images) - 2, height), "white")
    left = 0
    for image in images:
        strip.paste(image, (left, 0))
        left += image.width + 2
    strip.save(path)
    return path
