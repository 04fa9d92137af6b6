"""What a number measured on a dataset must say with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Protocol:
    """The facts about a split that every printed number carries.

    Attributes:
        name: of the protocol, e.g. "msrvtt-1ka" or "my_folder (videofolder)".
        task: e.g. "retrieval".
        split: "train", "validation", "test", or several joined by "+".
        counts: what was read, e.g. `{"videos": 1000, "captions": 1000}`.
        published: the same sizes in the literature; without them, empty or the number of annotated videos.
        source: the names of the files that the split was read from.
        note: anything else that changes a number, e.g. that the sentences of a video were joined to a paragraph.

    Example:
        >>> print(Protocol("msrvtt-1ka", "retrieval", "test", {"videos": 1000, "captions": 1000}, {}, "test.csv"))
        msrvtt-1ka, test: 1000 videos, one caption a video (test.csv)
    """

    name: str
    task: str
    split: str
    counts: dict[str, int]
    published: dict[str, int]
    source: str
    note: str = ""

    @property
    def size(self) -> str:
        """The counts in words: `"4500 of 4917 videos, one caption a video"`."""
        videos = self.counts["videos"]
        published = self.published.get("videos", videos)
        parts = [f"{videos} of {published} videos" if published != videos else f"{videos} videos"]
        for what, count in self.counts.items():
            if what != "videos" and count == videos:
                parts.append(f"one {what.removesuffix('s')} a video")
            elif what != "videos":
                parts.append(f"{count} {what}" + ", each a query of its own" * (self.task == "retrieval"))
        return ", ".join(parts)

    @property
    def facts(self) -> dict[str, str]:
        """What a result states besides name and split: the size, and the note if there is one."""
        return {"size": self.size, **({"note": self.note} if self.note else {})}

    def __str__(self) -> str:
        note = self.note and f"; {self.note}"
        return f"{self.name}, {self.split}: {self.size} ({self.source}){note}"


def join_protocols(parts: Sequence[Protocol]) -> Protocol:
    """The protocol of several splits read as one, "train+validation": sizes are added."""
    is_published = all(part.published for part in parts)
    return replace(
        parts[0],
        split="+".join(part.split for part in parts),
        counts={what: sum(part.counts[what] for part in parts) for what in parts[0].counts},
        published={what: sum(part.published[what] for part in parts) for what in parts[0].published if is_published},
        source=", ".join(dict.fromkeys(part.source for part in parts)),
    )
