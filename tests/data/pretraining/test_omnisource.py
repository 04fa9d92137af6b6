"""PretrainingCollator on tar shards of real videos: the batch, workers and processes, and bad clips."""

import logging
import re
import shutil

import pyarrow
import pyarrow.parquet
import pytest
import torch
from torch.utils.data import DataLoader

from hf_videolang.data.pretraining.omnisource import MissingTextError, PretrainingCollator
from hf_videolang.data.pretraining.order import PretrainingOrder
from hf_videolang.data.pretraining.sources import open_sources
from hf_videolang.data.shards.open_shards import find_shards
from hf_videolang.data.stores.caption_store import CaptionStore
from hf_videolang.video import VideoDecodingError, decode_video
from tests.common.tiny.clip_vip import tiny_processor
from tests.data.shards.making_shards import SHARD_LENGTHS, write_clip_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_clip_shards(tmp_path_factory.mktemp("clips"))


def make_collator(settings, batch_size=4, slots=None, **options):
    sources = open_sources(settings if isinstance(settings, dict) else str(settings))
    order = PretrainingOrder({s.name: s.lengths for s in sources}, {s.name: s.ratio for s in sources}, batch_size)
    return PretrainingCollator(tiny_processor(60), sources, order, slots, **options)


def texts(collator, batch, name="input_ids"):
    """Without spaces, because the tiny tokenizer knows only letters and decodes digits as words."""
    decoded = collator.processor.tokenizer.batch_decode(batch[name], skip_special_tokens=True)
    return [text.replace(" ", "") for text in decoded]


def numbers(collator, batch, name="input_ids"):
    return [int(re.search(r"\d+", text)[0]) for text in texts(collator, batch, name)]


def test_an_epoch_over_two_processes_with_workers_has_every_clip_once(shards):
    """26 clips give three global batches of 8 and leave out two. One process without workers gives the same."""
    alone = make_collator(shards, 8)
    expected = [alone([step]) for step in range(3)]
    halves = []
    for rank in range(2):
        collator = make_collator(shards, 8, range(4 * rank, 4 * rank + 4))
        halves.append(list(DataLoader(range(3), collate_fn=collator, num_workers=2)))
    seen = []
    for whole, *parts in zip(expected, *halves, strict=True):
        assert whole.keys() == parts[0].keys()
        for name in whole.keys() - {"num_broken_videos", "num_missing_texts"}:
            assert torch.equal(torch.cat([part[name] for part in parts]), whole[name]), name
        seen += numbers(alone, whole)
        assert numbers(alone, whole) == numbers(alone, whole, "caption_input_ids")
    assert len(seen) == len(set(seen)) == 24 and set(seen) < set(range(sum(SHARD_LENGTHS)))
    alone.set_epoch(1)  # steps are counted from the start of an epoch
    second = [number for step in range(3) for number in numbers(alone, alone([step]))]
    assert len(set(second)) == 24 and second != seen
    alone.set_epoch(0)
    again = alone([2])
    assert all(torch.equal(again[name], expected[2][name]) for name in again)


def test_a_batch_has_frames_middle_frame_and_texts(shards):
    collator = make_collator(shards)
    batch = collator([0])
    assert batch["pixel_values_videos"].shape == (4, 4, 3, 32, 32)
    assert batch["pixel_values_frames"].shape == (4, 1, 3, 32, 32)
    processor = collator.processor
    videos = shards.parent / "videos" / "train"
    for row, number in enumerate(numbers(collator, batch)):
        assert texts(collator, batch)[row] == f"somebodysays{number}"
        assert texts(collator, batch, "caption_input_ids")[row] == f"apictureof{number}"
        frames = decode_video(videos / f"train{number:04d}.mp4").frames
        assert len(frames) == 10
        middle = processor(images=[frames[5]])["pixel_values_videos"]  # int(10 / 2)
        assert torch.equal(batch["pixel_values_frames"][row], middle[0])
        every = processor(videos=[frames], do_sample_frames=False)["pixel_values_videos"][0]
        where = [
            min((i for i in range(10) if torch.equal(frame, every[i])), default=None)
            for frame in batch["pixel_values_videos"][row]
        ]
        assert None not in where and where == sorted(where)  # frames of this video, in order
    collator.set_epoch(1)
    other = [collator([step]) for step in range(6)]
    assert not any(torch.equal(batch["pixel_values_videos"], one["pixel_values_videos"]) for one in other)


def test_what_the_loss_does_not_compare_is_not_prepared(shards):
    batch = make_collator(shards, features=("video", "subtitle", "caption"))([0])
    assert "pixel_values_frames" not in batch and "caption_input_ids" in batch
    batch = make_collator(shards, features=("video", "text"))([0])
    assert batch.keys() == {
        "pixel_values_videos",
        "input_ids",
        "attention_mask",
        "num_broken_videos",
        "num_missing_texts",
    }


def test_texts_of_a_video(shards):
    def video_texts(**options):
        collator = make_collator(shards, 13, **options)
        return [text for step in range(2) for text in texts(collator, collator([step]))]

    assert all(text.startswith("apictureof") for text in video_texts(video_text="caption"))
    for text in video_texts(video_text="caption_and_subtitle"):
        assert re.fullmatch(r"apictureof(\d+)\.withsubtitle:somebodysays\1", text)
    either = [text.startswith("apicture") for text in video_texts(video_text="either")]
    assert 6 < sum(either) < 20  # of 26 draws; 0.3 % of all seeds lie outside
    assert video_texts(video_text="either") == video_texts(video_text="either")


def test_captions_from_a_store(shards, tmp_path):
    store = CaptionStore(tmp_path / "store", {"model": "none"})
    first = 0
    for index, length in enumerate(SHARD_LENGTHS):
        ids = [f"clip{number:02d}" for number in range(first, first + length)]
        sentences = [f"generated {video_id[4:]}" for video_id in ids]
        store.write_captions(f"clips-{index}-00000000", ids[:5], sentences[:5], [None] * 5)
        if length > 5:
            store.write_captions(f"clips-{index}-00000005", ids[5:], sentences[5:], [None] * (length - 5))
        first += length
    collator = make_collator({"talks": {"data": str(shards), "captions": str(tmp_path / "store")}}, 26)
    batch = collator([0])
    assert all(text.startswith("generated") for text in texts(collator, batch, "caption_input_ids"))
    assert numbers(collator, batch) == numbers(collator, batch, "caption_input_ids")


def test_a_caption_store_of_other_shards_is_refused(shards, tmp_path):
    """Other names; the same names, seen in the first record; and a store of some of the shards, which is fine."""
    sources = {"talks": {"data": str(shards), "captions": str(tmp_path)}}
    store = CaptionStore(tmp_path, {"model": "none"})
    store.write_captions("films-0-00000000", ["clip00"], ["a film"], [None])
    with pytest.raises(ValueError, match="no captions of clips-0, clips-1, .* than the source talks"):
        make_collator(sources)
    store.write_captions("clips-0-00000000", ["clip99"], ["a film"], [None])
    with pytest.raises(ValueError, match="row 0 of clips-0 was clip99 and is now clip00"):
        make_collator(sources)
    store.write_captions("clips-0-00000000", ["clip00"], ["a film"], [None])
    assert "26 clips in 4 shards, 1 of them captioned" in str(make_collator(sources).sources["talks"])


def test_a_caption_store_recognises_its_videos_and_refuses_others_of_the_same_names(shards, tmp_path):
    """Shards that were copied, or packed again in another format; and other videos under the same names and ids."""
    store = CaptionStore(tmp_path / "store", {"model": "none"})
    for shard in find_shards(shards):
        rows = [shard[row] for row in range(len(shard))]
        ids, sentences = [row["video_id"] for row in rows], [row["caption"] for row in rows]
        sizes = [len(row["video"]["bytes"]) for row in rows]
        store.write_captions(f"{shard.name}-00000000", ids, sentences, [None] * len(rows), sizes)
        (tmp_path / "parquet").mkdir(exist_ok=True)
        table = pyarrow.Table.from_pylist([{**row, "caption": "no"} for row in rows])
        pyarrow.parquet.write_table(table, tmp_path / "parquet" / f"{shard.name}.parquet")
    shutil.copytree(shards, tmp_path / "copy", copy_function=shutil.copyfile)
    other = write_clip_shards(tmp_path / "other", **{f"clip{number:02d}": {"bytes": b"x"} for number in range(26)})

    def make(folder):
        return make_collator({"talks": {"data": str(folder), "captions": str(store.folder)}}, 26)

    for folder in (tmp_path / "copy", tmp_path / "parquet"):
        collator = make(folder)
        batch = collator([0])
        assert numbers(collator, batch) == numbers(collator, batch, "caption_input_ids")
    with pytest.raises(ValueError, match="row 0 of clips-0 was clip00 of .* and is now clip00 of 1 bytes"):
        make(other)


def test_a_video_folder_and_parquet_are_sources_too(shards, tmp_path):
    videos = shards.parent / "videos"
    folder = {"data": str(videos), "subtitle_column": "captions", "caption_column": "captions"}
    collator = make_collator({"folder": folder}, 8)
    assert all(re.fullmatch(r"a\w+moves\w+then\w+", text) for text in texts(collator, collator([0])))
    rows = [
        {
            "video": {"bytes": (videos / "train" / f"train{number:04d}.mp4").read_bytes(), "path": None},
            "words": ["said", f"{number}."],
            "seen": f"picture {number}",
        }
        for number in range(6)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "clips.parquet", row_group_size=2)
    table = {"data": str(tmp_path / "clips.parquet"), "subtitle_column": "words", "caption_column": "seen"}
    collator = make_collator({"table": table}, 6)
    batch = collator([0])
    assert sorted(texts(collator, batch)) == [f"said{number}." for number in range(6)]
    assert numbers(collator, batch) == numbers(collator, batch, "caption_input_ids")


@pytest.fixture(scope="module")
def bad_shards(tmp_path_factory):
    """Clip 3 is not a video, clip 9 has no caption, and clip 20 has a blank subtitle."""
    folder = tmp_path_factory.mktemp("bad_clips")
    return write_clip_shards(folder, clip03={"bytes": b"no video"}, clip09={"caption": None}, clip20={"subtitle": " "})


def test_a_first_record_without_text_is_not_a_missing_column(tmp_path):
    shards = write_clip_shards(tmp_path, clip00={"caption": None}, clip01={"subtitle": None})
    batches, counts = run_through(make_collator(shards, 8, on_missing_text="replace"))
    assert not {0, 1} & {number for batch in batches for number in batch} and sum(counts) > 0


def run_through(collator, slots=range(26)):
    """The numbers of the clips of each batch in a pass, and the two counts."""
    batches = [collator([step]) for step in range(collator.order.steps_per_epoch)]
    counts = [sum(int(batch[name]) for batch in batches) for name in ("num_broken_videos", "num_missing_texts")]
    return [numbers(collator, batch) for batch in batches], counts


def test_bad_clips_are_replaced_and_counted(bad_shards, caplog):
    replacing = {"on_broken_video": "replace", "on_missing_text": "replace"}
    collator = make_collator(bad_shards, 13, **replacing)
    with caplog.at_level(logging.WARNING):
        batches, counts = run_through(collator)
    places = [collator.order.batch(step) for step in range(2)]
    original = [[7 * place.shard + place.row for place in batch] for batch in places]
    assert counts == [1, 2]
    for batch, planned in zip(batches, original):
        assert not {3, 9, 20} & set(batch)
        for number, first in zip(batch, planned):
            assert number == first or (first in (3, 9, 20) and number not in planned)
    messages = caplog.text
    for part in (
        "cannot decode clip03 in clips-0",
        "clip09 in clips-1 has no caption",
        "clip20 in clips-2 has no subtitle",
    ):
        assert part in messages
    # The replacement does not depend on which process makes the batch.
    parts = [make_collator(bad_shards, 13, slots, **replacing) for slots in (range(6), range(6, 13))]
    for step in range(2):
        assert [number for part in parts for number in numbers(part, part([step]))] == batches[step]


def test_two_bad_clips_of_a_batch_never_get_one_replacement(tmp_path):
    """Also in two processes, which do not know each other's; a resumed run begins at any step."""
    bad = {f"clip{number:02d}": {"caption": None} for number in range(0, 26, 3)}
    shards, replacing = write_clip_shards(tmp_path, **bad), {"on_missing_text": "replace"}
    alone = make_collator(shards, 8, **replacing)
    halves = [make_collator(shards, 8, slots, **replacing) for slots in (range(4), range(4, 8))]
    for step in range(7, -1, -1):
        batch = numbers(alone, alone([step]))
        assert len(set(batch)) == 8 and not {number for number in batch if number % 3 == 0}
        assert [number for half in halves for number in numbers(half, half([step]))] == batch


def test_the_original_writes_none_for_a_missing_caption(bad_shards):
    collator = make_collator(bad_shards, 13, on_broken_video="replace", on_missing_text="none")
    captions = {}
    for step in range(2):
        batch = collator([step])
        captions |= dict(zip(texts(collator, batch), texts(collator, batch, "caption_input_ids")))
    assert captions["somebodysays9"] == "none"  # the tokenizer lower-cases
    assert list(captions.values()).count("none") == 1


def test_a_clip_that_lacks_both_texts_is_counted_once(tmp_path):
    shards = write_clip_shards(tmp_path, clip09={"caption": None, "subtitle": None})
    assert run_through(make_collator(shards, 13, on_missing_text="none"))[1] == [0, 1]


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_clips_raise_by_default_and_are_named(bad_shards, workers):
    def run(**options):
        list(DataLoader(range(2), collate_fn=make_collator(bad_shards, 13, **options), num_workers=workers))

    with pytest.raises(VideoDecodingError, match="^cannot decode clip03 in clips-0: "):
        run(on_missing_text="replace")
    with pytest.raises(
        MissingTextError, match="^clip(09 in clips-1 has no caption|20 in clips-2 has no subtitle); on"
    ):
        run(on_broken_video="replace")


@pytest.mark.parametrize("times", [{"start": "0.1"}, {"end": [1]}, {"start": 0.2, "end": 0.1}, {"end": 0}])
def test_a_clip_with_invalid_times_is_a_bad_clip(tmp_path, times):
    shards = write_clip_shards(tmp_path, clip03=times)
    assert run_through(make_collator(shards, 13, on_broken_video="replace"))[1] == [1, 0]
    message = "cannot decode clip03 in clips-0: its row has .*; expected seconds, the end after the start"
    with pytest.raises(VideoDecodingError, match=message):
        run_through(make_collator(shards, 13))


def test_a_clip_without_a_whole_replacement_raises(tmp_path):
    everything = {f"clip{number:02d}": {"caption": None} for number in range(1, 26)}
    shards = write_clip_shards(tmp_path, **everything)
    with pytest.raises(MissingTextError, match="has no caption"):
        make_collator(shards, 13, on_missing_text="replace")([0])
    make_collator(shards, 13, features=("video", "text"))([0])  # nothing is missing if no caption is needed


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({}, {}, "sources is empty"),
        ({"a": {"date": "x"}}, {}, r"The source a is \{'date': 'x'\}; expected data and perhaps captions"),
        (
            {"a": {"data": "SHARDS", "subtitle_column": "words"}},
            {},
            "no 'words' but video, video_id, subtitle, caption",
        ),
        (
            {"a": {"data": "SHARDS", "caption_column": "words"}},
            {},
            "caption_column .* or set captions to a caption store",
        ),
    ],
)
def test_errors(shards, settings, options, message):
    for given in settings.values():
        if isinstance(given, dict) and given.get("data") == "SHARDS":
            given["data"] = str(shards)
    settings = {name: str(shards) if given == "SHARDS" else given for name, given in settings.items()}
    with pytest.raises(ValueError, match=message):
        make_collator(settings, **options)


def test_a_column_of_numbers_is_named(tmp_path):
    shards = write_clip_shards(tmp_path, **{f"clip{number:02d}": {"subtitle": 5} for number in range(26)})
    with pytest.raises(VideoDecodingError, match="its subtitle is .*; the source clips needs a column of texts"):
        make_collator(shards)([0])
