"""The layout of ActivityNet Captions, in which YouCook2 comes as well: sentences with their seconds, by video."""

import json
from pathlib import Path

from hf_videolang.data.benchmarks.annotation_files import Annotation, in_layout

EXPECTED = '{"v_abc": {"duration": 55.15, "timestamps": [[0.28, 55.15], …], "sentences": ["…", …]}, …}'


def read_dense_captions(path: Path) -> list[Annotation]:
    """One annotation a sentence, in the order of the file, with its segment.

    Raises:
        ValueError: the file is in another layout, or a video has not as many sentences as time stamps.
    """
    with in_layout(path, "ActivityNet Captions", EXPECTED):
        annotations = []
        for video, record in json.loads(path.read_text(encoding="utf-8-sig")).items():
            for (start, end), sentence in zip(record["timestamps"], record["sentences"], strict=True):
                annotations.append(Annotation(video, [sentence.strip()], float(start), float(end)))
        return annotations
