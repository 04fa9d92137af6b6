"""FFmpeg's own filters on a whole file, as the reference for frames that are chosen by number."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
from av.filter import Graph


def through_ffmpeg(path: Path, look: Callable, *filters: tuple[str, str]) -> tuple[list, list]:
    """What `look` sees of the frames that leave FFmpeg's filters, and of those that go in."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        graph = Graph()
        nodes = [graph.add_buffer(template=stream), *(graph.add(*each) for each in filters), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        outgoing, incoming = [], []
        for frame in (*container.decode(stream), None):
            incoming.append(frame and look(frame))
            graph.vpush(frame)
            with suppress(BlockingIOError, EOFError):
                while True:
                    outgoing.append(look(graph.vpull()))
    return outgoing, incoming
