"""The layout of ActivityNet Captions, which YouCook2 is distributed in as well: sentences with seconds, by video."""

from pathlib import Path

from hf_videolang.data.annotation_text import in_layout, parse_json
from hf_videolang.data.records import Record

EXPECTED = '{"v_abc": {"duration": 55.15, "timestamps": [[0.28, 55.15], …], "sentences": ["…", …]}, …}'


def read_dense_captions(path: Path) -> list[Record]:
    """Reads one record a sentence, in the order of the file, with its segment."""
    with in_layout(path, "ActivityNet Captions", EXPECTED):
        return [
            Record(video, start=float(start), end=float(end), captions=[sentence.strip()])
            for video, facts in parse_json(path.read_text(encoding="utf-8-sig")).items()
            for (start, end), sentence in zip(facts["timestamps"], facts["sentences"], strict=True)
        ]
