"""PretrainingOrder: no clip twice, none lost, the same on every process and from any step on."""

from collections import Counter

import numpy as np
import pytest

from hf_videolang.data.pretraining.order import PretrainingOrder

SHARDS = [7, 0, 7, 5, 7]  # 26 clips
CLIPS = {(shard, row) for shard, length in enumerate(SHARDS) for row in range(length)}


def one_source(batch_size=4, seed=42, **lengths):
    lengths = lengths or {"talks": SHARDS}
    return PretrainingOrder(lengths, dict.fromkeys(lengths, 1), batch_size, seed)


def clips_of(places):
    return [(place.shard, place.row) for place in places]


def test_a_pass_has_every_clip_once_except_a_changing_remainder():
    order = one_source()
    assert order.num_steps == {"talks": 6} and order.steps_per_epoch == 6  # 26 = 6 * 4 + 2
    left_out = []
    for epoch in range(3):
        places = [place for step in range(6 * epoch, 6 * epoch + 6) for place in order.batch(step)]
        assert {place.epoch for place in places} == {epoch} and {place.source for place in places} == {"talks"}
        seen = clips_of(places)
        assert len(seen) == len(set(seen)) == 24 and set(seen) < CLIPS
        left_out.append(frozenset(CLIPS - set(seen)))
    assert len(set(left_out)) == 3  # another remainder each time


def test_epochs_and_seeds_have_other_orders_and_shards_mix():
    order = one_source(5, talks=[1000] * 20)
    first, second = ([order.batch(step) for step in range(start, start + 50)] for start in (0, 4000))
    assert first[0][0].epoch == 0 and second[0][0].epoch == 1
    assert not any(clips_of(one) == clips_of(other) for one, other in zip(first, second))
    assert clips_of(order.batch(0)) != clips_of(one_source(5, 7, talks=[1000] * 20).batch(0))
    assert all(len({place.shard for place in batch}) == 5 for batch in first)  # a batch takes from 5 shards
    rows = [batch[0].row for batch in first]
    assert sorted(rows) != rows  # rows are not read in their order


def test_processes_take_what_one_process_takes():
    order, again = one_source(), one_source()
    for step in (0, 3, 17):  # a fresh object, in another order of calls, and in parts
        parts = [again.batch(step, range(first, first + 2)) for first in (2, 0)]
        assert parts[1] + parts[0] == order.batch(step)


def test_any_step_is_reached_at_once():
    forward = [one_source().batch(step) for step in range(20)]
    assert [one_source().batch(step) for step in reversed(range(20))] == forward[::-1]


def test_sources_take_turns_in_exact_ratios():
    order = PretrainingOrder({"talks": SHARDS, "films": [9, 8]}, {"talks": 2, "films": 3}, 4)
    turns = [order.source(step) for step in range(50)]
    for cycle in range(10):
        assert Counter(name for name, _ in turns[5 * cycle : 5 * cycle + 5]) == {"talks": 2, "films": 3}
    assert len({tuple(name for name, _ in turns[5 * cycle : 5 * cycle + 5]) for cycle in range(10)}) > 1
    for name in ("talks", "films"):  # each step of a source follows the one before
        assert [taken for source, taken in turns if source == name] == list(range(20 if name == "talks" else 30))
    seen = Counter(place for step in range(50) for place in order.batch(step))
    assert set(seen.values()) == {1}  # nothing twice in a pass over its source
    films = [place for place in seen if place.source == "films"]
    assert Counter(place.epoch for place in films) == dict.fromkeys(range(7), 16) | {7: 8}  # 4 steps of 17 clips
    same = PretrainingOrder({"films": [9, 8], "talks": SHARDS}, {"films": 3, "talks": 2}, 4)
    assert [same.batch(step) for step in range(50)] == [order.batch(step) for step in range(50)]


def test_replacements_come_from_outside_the_batch_and_no_two_slots_have_one_in_common():
    order = one_source()
    for step in (0, 4, 5, 9):
        reserves = [list(order.reserve(step, slot, np.random.default_rng(slot), 10)) for slot in range(4)]
        assert [len(reserve) for reserve in reserves] == [6, 6, 5, 5]  # 22 others
        everything = [place for reserve in reserves for place in reserve]
        assert {place.epoch for place in everything} == {step // 6}
        assert set(clips_of(everything)) == CLIPS - set(clips_of(order.batch(step)))
    few = [list(order.reserve(0, 0, np.random.default_rng(seed), 2)) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2] and len(set(few[0])) == 2
    only = one_source(25)  # one step a pass, one clip left
    reserves = [list(only.reserve(0, slot, np.random.default_rng(0), 10)) for slot in range(25)]
    assert set(clips_of(reserves[0])) == CLIPS - set(clips_of(only.batch(0))) and not any(reserves[1:])


def test_errors():
    with pytest.raises(ValueError, match="talks has 26 clips, fewer than one global batch of 27"):
        one_source(27)
    with pytest.raises(ValueError, match="ratio 0; expected 1, 2, 3"):
        PretrainingOrder({"talks": SHARDS}, {"talks": 0}, 2)
