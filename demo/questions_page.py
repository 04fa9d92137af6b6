"""The page of the demo on questions: the scores, and for some questions the frames that the model saw."""

from html import escape
from pathlib import Path

from frames_taken import frames_taken
from page import STYLE
from transformers import AutoProcessor

from hf_videolang.evaluation.scores import score_table

TRAINING = (
    "Each test video shows shapes in a colour that they never have in training. Training videos that ask for colours "
    "show blots, or shapes in their other colours; those that ask for shapes show them in colours without a name, "
    "some of which resemble the absent one. A model that had learnt which pairs are absent would never answer by one."
)


def write_page(output: Path, results: dict, rows: list[dict], predictions: dict[str, dict]) -> Path:
    """
    Write `index.html` with its pictures.

    Args:
        output: folder of the demo.
        results: of `hf-videolang evaluate`, as saved.
        rows: records of the questions to show.
        predictions: `question_id` → line of predictions.jsonl.
    """
    pictures = output / "pictures"
    pictures.mkdir()
    video_processor = AutoProcessor.from_pretrained(output / "model").video_processor
    scores = results["scores"]
    chance = scores["chance"]["overall"]["accuracy"]
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>hf_videolang demo</title><style>{STYLE}</style>",
        "<h1>A tiny ClipBERT is asked about colours and shapes that it never saw together</h1>",
        f"<p>{escape(TRAINING)}</p>",
        f"<div class='numbers'><div><b>{scores['accuracy']:.1%}</b>accuracy</div>",
        f"<div><b>{chance:.1%}</b>by chance</div></div><h2>Questions</h2>",
    ]
    for number, row in enumerate(rows):
        picture = pictures / f"question{number}.png"
        frames_taken(row["video"]["path"], video_processor).save(picture)
        prediction = predictions[row["question_id"]]
        right = prediction["answer"] == row["answer"]
        best = ", ".join(f"{one['answer']} {one['probability']:.0%}" for one in prediction["top"][:3])
        parts.append(
            f"<p>“{escape(row['question'])}” <span{' class=right' if right else ''}>{escape(best)}</span><br>"
            f"<img src='pictures/{picture.name}' alt='the video, and the frames that the model read'></p>"
        )
    parts += [
        "<p><small>Above, the whole video; below each mark, a frame that the model read.</small></p>",
        f"<h2>Scores</h2><p><small>{escape(results['line'])}</small></p><pre>",
        escape(score_table({name: column for name, column in scores.items() if isinstance(column, dict)})),
        "</pre>",
    ]
    page = output / "index.html"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page
