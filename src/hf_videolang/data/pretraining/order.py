"""Which clips a pre-training step takes: a function of seed and step alone, the same on every process."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

import numpy as np


class Place(NamedTuple):
    """Where a clip is, and in which pass over its source it is read."""

    source: str
    epoch: int
    shard: int
    row: int


class PretrainingOrder:
    """
    The order of a run over sources of shards with known lengths.

    *Sources* take turns in cycles of `sum(ratios)` steps. Each cycle has a new order, so the ratios are exact.

    *Clips of one source*: each pass over the source (an epoch) shuffles the shards and the rows of each shard. The
    resulting sequence is cut into `batch_size` spans of equal length, and a batch takes the next clip of each span. So
    a batch mixes as many shards as it has clips, if there are that many. It follows that

    - no clip occurs twice in a pass, and a pass leaves out fewer than `batch_size` clips, different ones each time;
    - a process that makes some slots of the batch reads some stretches of the sequence, and no two processes the same;
    - N processes with a batch of B take the same clips as one process with a batch of N * B;
    - no state has to be saved: the clips of any step follow from its number.

    Args:
        lengths: source -> number of clips in each of its shards. Other lengths give another order.
        ratios: source -> how often it is taken, relative to the others.
        batch_size: of all processes together.
        seed (defaults to 42): another seed gives another order.

    Raises:
        ValueError: a ratio is below 1, or a source has fewer clips than a batch.
    """

    def __init__(
        self, lengths: Mapping[str, Sequence[int]], ratios: Mapping[str, int], batch_size: int, seed: int = 42
    ):
        self.lengths = {name: np.array(lengths[name], dtype=np.int64) for name in sorted(lengths)}
        self.ratios = {name: ratios[name] for name in self.lengths}
        self.batch_size = batch_size
        self.seed = seed
        self.num_clips = {name: int(counts.sum()) for name, counts in self.lengths.items()}
        # A batch takes clips from as many shards at once. Each source has its own.
        self._rows = lru_cache(batch_size * len(lengths))(self._permuted)
        self.num_steps = {name: clips // batch_size for name, clips in self.num_clips.items()}
        for name, clips in self.num_clips.items():
            if self.ratios[name] < 1:
                raise ValueError(f"The source {name} has the ratio {self.ratios[name]}; expected 1, 2, 3, …")
            if clips < batch_size:
                raise ValueError(
                    f"The source {name} has {clips} clips, fewer than one global batch of {batch_size} "
                    "(per_device_train_batch_size x processes); lower per_device_train_batch_size."
                )

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps that one pass over each source takes, added up."""
        return sum(self.num_steps.values())

    def source(self, step: int) -> tuple[str, int]:
        """The source of a step, and how many earlier steps took the same source."""
        names = list(self.ratios)
        once = np.repeat(range(len(names)), list(self.ratios.values()))
        cycle, place = divmod(step, len(once))
        turns = np.random.default_rng([self.seed, cycle]).permutation(once)
        name = names[turns[place]]
        return name, cycle * self.ratios[name] + int((turns[:place] == turns[place]).sum())

    def batch(self, step: int, slots: Iterable[int] | None = None) -> list[Place]:
        """The clips of a step: all `batch_size` of them, or those in some slots."""
        source, taken = self.source(step)
        epoch, place = divmod(taken, self.num_steps[source])
        slots = range(self.batch_size) if slots is None else slots
        return [self._place(source, epoch, slot * self.num_steps[source] + place) for slot in slots]

    def reserve(self, step: int, slot: int, generator: np.random.Generator, limit: int) -> Iterator[Place]:
        """
        Up to `limit` different clips that may replace the one in this slot of a step.

        They come from the other steps of the slot's span and from the slot's share of the remainder, which no other
        slot uses. So processes that do not know each other's broken clips never put one clip into a batch twice. A
        slot has about `num_clips / batch_size` clips to choose from, and none in a source of a single batch.
        """
        source, taken = self.source(step)
        steps = self.num_steps[source]
        epoch, place = divmod(taken, steps)
        remainder = self.batch_size * steps + slot
        count = steps - 1 + (remainder < self.num_clips[source])
        for drawn in map(int, generator.choice(count, min(limit, count), replace=False)):
            position = remainder if drawn == steps - 1 else slot * steps + drawn + (drawn >= place)
            yield self._place(source, epoch, position)

    def _place(self, source: str, epoch: int, position: int) -> Place:
        shards, ends = self._shards(source, epoch)
        index = int(np.searchsorted(ends, position, side="right"))
        shard = int(shards[index])
        from_end = int(ends[index]) - position
        return Place(source, epoch, shard, int(self._rows(source, epoch, shard)[-from_end]))

    @lru_cache(maxsize=8)  # noqa: B019
    def _shards(self, source: str, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The shards of a pass in their order, and the position in the sequence at which each one ends."""
        shards = self._generator(source, epoch, 0).permutation(len(self.lengths[source]))
        return shards, self.lengths[source][shards].cumsum()

    def _permuted(self, source: str, epoch: int, shard: int) -> np.ndarray:
        rows = np.arange(self.lengths[source][shard], dtype=np.uint32)
        return self._generator(source, epoch, 1 + shard).permutation(rows)

    def _generator(self, source: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, crc32(source.encode()), *numbers])
