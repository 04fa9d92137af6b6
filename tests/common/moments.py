"""A folder of subtitled videos with moments, its features, and a tiny model that reads both."""

import json
from pathlib import Path

import numpy as np

from hf_videolang.data.stores.feature_store import FeatureStore, VideoFeatures
from tests.common.tiny.hero import FEATURES, tiny_model, tiny_processor

WORDS = "abcdefghijkl"
EXTRACTOR = {
    "model": "made by a test",
    "version": None,
    "rows_per_second": 1 / 1.5,
    "width": FEATURES,
    "normalized": False,
    "frames": "one every 1.5 s",
}


def write_features(folder: Path, videos: dict[str, np.ndarray], **changed) -> FeatureStore:
    store = FeatureStore(folder, {"extractors": [{**EXTRACTOR, **changed}]})
    store.write_features("part-0", [VideoFeatures(name, rows.astype(np.float16)) for name, rows in videos.items()])
    return store


def write_moments(folder: Path, num_videos: int = 12, rows: int = 12, splits: bool = True) -> Path:
    """
    Each video shows three scenes of 6 s. A scene has features and a subtitle of its own, and a query names it.

    Writes `data` (metadata and subtitles), `features` and `model` into the folder.
    """
    generator = np.random.default_rng(0)
    scenes = {word: generator.normal(size=FEATURES) * 2 for word in WORDS}
    (data := folder / "data").mkdir(parents=True)
    videos, lines = {}, []
    for number in range(num_videos):
        name = f"video{number:02}"
        words = [WORDS[(number * 3 + place * (1 + number % 3)) % len(WORDS)] for place in range(3)]
        videos[name] = np.stack([scenes[words[row * 3 // rows]] for row in range(rows)])
        videos[name] += 0.1 * generator.normal(size=videos[name].shape)
        seconds = rows * 1.5 / 3
        shown = [(word, place * seconds, (place + 1) * seconds) for place, word in enumerate(words)]
        (data / f"{name}.srt").write_text(
            "\n".join(
                f"{place}\n{_clock(start)} --> {_clock(end)}\n{word} {word}\n"
                for place, (word, start, end) in enumerate(shown, 1)
            )
        )
        split = {"split": ("test" if number % 4 == 0 else "train") if splits else "train"}
        moments = [{"text": word, "start": start, "end": end} for word, start, end in shown]
        lines.append({"file_name": f"{name}.mp4", "subtitles": f"{name}.srt", "moments": moments, **split})
    (data / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_features(folder / "features", videos)
    model = tiny_model()
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder / "model")
    tiny_processor(min_moment_frames=2).save_pretrained(folder / "model")
    return folder


def _clock(seconds: float) -> str:
    return f"00:{int(seconds // 60):02}:{int(seconds % 60):02},{round(seconds % 1 * 1000):03}"
