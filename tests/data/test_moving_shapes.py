"""The moving shapes do what their captions say, and the same seed gives the same files."""

import json

import numpy as np
import pytest
from datasets import Video, load_dataset

from hf_videolang.data import moving_shapes
from hf_videolang.data.moving_shapes import (
    COLOURS,
    DIRECTIONS,
    GROUNDS,
    HELD_OUT,
    SCENE_COLOURS,
    SHAPES,
    write_moving_shapes,
    write_scenes,
    write_subtitled_scenes,
    write_subtitles,
    write_video,
)
from hf_videolang.video import decode_video
from hf_videolang.video.subtitles import read_subtitles


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_moving_shapes(tmp_path_factory.mktemp("shapes") / "shapes", num_train=30, num_test=8, seed=3)


def read_captions(folder):
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    return {row["file_name"]: row["caption"] for row in map(json.loads, lines)}


def centres(path):
    """The position of the shape in each frame, from the pixels brighter than the background; and its colour."""
    frames = decode_video(path, range(24)).frames.permute(0, 2, 3, 1).float().numpy()
    bright = frames.max(-1) > 100
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    places = [(x[mask].mean(), y[mask].mean()) for mask in bright]
    return np.array(places), np.median(frames[bright], axis=0)


def test_the_pixels_do_what_the_caption_says(shapes):
    for name, caption in read_captions(shapes / "test").items():
        _, colour, _, _, first, _, second = caption.split()
        places, pixel = centres(shapes / "test" / name)
        distance = {known: np.abs(pixel - rgb).sum() for known, rgb in COLOURS.items()}
        assert min(distance, key=distance.get) == colour
        for direction, way in ((first, places[11] - places[0]), (second, places[-1] - places[12])):
            length = np.linalg.norm(way)
            assert length > 64 / 4
            np.testing.assert_allclose(way / length, DIRECTIONS[direction], atol=0.1)


def test_shapes_differ_and_stay_inside(shapes):
    areas = {}
    for name, caption in read_captions(shapes / "train").items():
        frames = decode_video(shapes / "train" / name, range(24)).frames.amax(1) > 100
        assert not (frames[:, 0].any() or frames[:, -1].any() or frames[:, :, 0].any() or frames[:, :, -1].any())
        rows, columns = frames[0].any(1).sum().item(), frames[0].any(0).sum().item()
        areas.setdefault(caption.split()[2], []).append(frames[0].sum().item() / (rows * columns))
    mean = {shape: np.mean(found) for shape, found in areas.items()}
    # The share of the bounding box that is filled: all of it, pi / 4, about half.
    assert mean["square"] > 0.95
    assert 0.7 < mean["circle"] < 0.9
    assert {"triangle", "cross"} <= mean.keys() and mean["triangle"] < 0.65 and mean["cross"] < 0.65


def test_test_combinations_are_new_but_made_of_known_parts():
    from hf_videolang.data.moving_shapes import _split_combinations

    for num_train, num_test in ((12, 276), (240, 48), (600, 7)):
        train, test = _split_combinations(num_train, num_test, np.random.default_rng(0))
        assert (len(train), len(test)) == (num_train, num_test) and len(set(test)) == num_test
        seen = {(colour, shape, frozenset(order)) for colour, shape, order in train}
        assert not seen & {(colour, shape, frozenset(order)) for colour, shape, order in test}
        assert {kind[0] for kind in train} == set(COLOURS)
        assert {kind[1] for kind in train} == set(SHAPES)
        assert {kind[2] for kind in train} == {(a, b) for a in DIRECTIONS for b in DIRECTIONS if a != b}
        neighbours = zip(test[::2], test[1::2])
        assert all(one[:2] == two[:2] and one[2] == two[2][::-1] for one, two in neighbours)


def test_seed_decides_every_byte(shapes, tmp_path):
    again = write_moving_shapes(tmp_path / "again", num_train=30, num_test=8, seed=3)
    other = write_moving_shapes(tmp_path / "other", num_train=30, num_test=8, seed=4)
    for name in ("train/train0007.mp4", "test/test0000.mp4", "test/metadata.jsonl"):
        assert (again / name).read_bytes() == (shapes / name).read_bytes()
    assert read_captions(other / "test") != read_captions(shapes / "test")
    with pytest.raises(FileExistsError):
        write_moving_shapes(again)


def test_it_is_a_standard_videofolder(shapes, tmp_path):
    loaded = load_dataset("videofolder", data_dir=str(shapes), cache_dir=str(tmp_path))
    for split in ("train", "test"):
        rows = loaded[split].cast_column("video", Video(decode=False))
        assert {row["video"]["path"].rsplit("/", 1)[1]: row["caption"] for row in rows} == read_captions(
            shapes / split
        )


def test_write_video_keeps_pixels_and_rate(tmp_path):
    y, x = np.mgrid[:32, :48]
    frames = [np.stack([x * 4, y * 6, np.full_like(x, 20 * i)], -1).astype(np.uint8) for i in range(7)]
    decoded = decode_video(write_video(tmp_path / "ramp.mp4", frames, frames_per_second=5), range(7))
    assert decoded.info.frames_per_second == 5
    difference = np.abs(decoded.frames.permute(0, 2, 3, 1).numpy().astype(int) - np.stack(frames))
    assert difference.mean() < 3  # chroma is stored at half resolution


@pytest.mark.parametrize("num_train, num_test", [(11, 8), (30, 277)])
def test_too_few_or_too_many(num_train, num_test, tmp_path):
    with pytest.raises(ValueError, match=f"num_train={num_train}, num_test={num_test}"):
        write_moving_shapes(tmp_path / "shapes", num_train, num_test)


def nearest(pixel, names):
    return min(names, key=lambda name: np.abs(pixel - np.array(names[name])).sum())


def test_scenes_show_what_their_questions_ask(tmp_path, monkeypatch):
    """The asked colour is that of the pixels on the asked ground. No training scene has a combination of the test."""
    drawn = []
    draw = moving_shapes.moving_shape_frames
    monkeypatch.setattr(
        moving_shapes, "moving_shape_frames", lambda *scene, **how: drawn.append(scene[:2]) or draw(*scene, **how)
    )
    folder = write_scenes(tmp_path / "scenes", num_train=24, num_test=9, seed=2)
    for split, count in (("train", 24), ("test", 9)):
        rows = [json.loads(line) for line in (folder / split / "metadata.jsonl").read_text().splitlines()]
        assert len(rows) == 2 * count
        for number, pair in enumerate(zip(rows[::2], rows[1::2])):
            scenes = [drawn.pop(0) for _ in range(3)]
            assert pair[0]["file_name"] == pair[1]["file_name"] and pair[0]["question"] != pair[1]["question"]
            kinds = [row["answer_type"] for row in pair]
            assert kinds == (["colour", "shape"] if split == "test" else [["colour", "shape"][number % 2]] * 2)
            frames = decode_video(folder / split / pair[0]["file_name"]).frames.permute(0, 2, 3, 1).float().numpy()
            assert len(frames) == 36
            shown = {}
            for frame, (colour, shape) in zip(frames[6::12], scenes):
                ground = np.median(frame[:: len(frame) - 1, :: len(frame) - 1].reshape(-1, 3), axis=0)  # the corners
                shown[nearest(ground, GROUNDS)] = (colour, shape)
                if kinds == ["shape", "shape"]:  # colours that no answer names
                    assert all(abs(np.array(colour) - named).max() > 45 for named in SCENE_COLOURS.values())
                    continue
                assert isinstance(shape, str) == (split == "test" or number % 4 == 2)  # else a blot
                assert not isinstance(shape, str) or ((colour, shape) in HELD_OUT) == (split == "test")
                vivid = np.ptp(frame, axis=-1)  # neither the ground nor the black rim
                inside = frame[vivid > 0.9 * vivid.max()]
                assert nearest(np.median(inside, axis=0), SCENE_COLOURS) == colour
            assert shown.keys() == GROUNDS.keys()
            for row in pair:
                (ground,) = [name for name in GROUNDS if f"the {name} ground" in row["question"]]
                assert shown[ground][row["answer_type"] == "shape"] == row["answer"]
    assert not drawn and {colour for colour, _ in HELD_OUT} == set(SCENE_COLOURS)


def test_captions_of_scenes_name_what_a_ground_shows(tmp_path):
    """No caption in training names a combination of the test; one scene makes one question in training."""
    folder = write_scenes(tmp_path / "captions", num_train=12, num_test=4, seed=1, task="retrieval", num_scenes=2)
    for split, count in (("train", 12), ("test", 4)):
        rows = [json.loads(line) for line in (folder / split / "metadata.jsonl").read_text().splitlines()]
        assert len(rows) == count
        for row in rows:
            _, colour, shape, _, _, ground, _ = row["caption"].split()
            assert ((colour, shape) in HELD_OUT) == (split == "test")
            shown = {}
            for frame in decode_video(folder / split / row["file_name"], [6, 18]).frames.permute(0, 2, 3, 1).numpy():
                vivid = np.ptp(frame.astype(int), axis=-1)
                inside = frame[vivid > 0.9 * vivid.max()]
                shown[nearest(frame[0, 0], GROUNDS)] = nearest(np.median(inside, axis=0), SCENE_COLOURS)
            assert shown[ground] == colour
    single = write_scenes(tmp_path / "single", num_train=2, num_test=1, num_scenes=1)
    counts = [len((single / split / "metadata.jsonl").read_text().splitlines()) for split in ("train", "test")]
    assert counts == [2, 2]


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_subtitles_are_read_back(tmp_path, suffix):
    entries = [("this one is red", 0.0, 6.0), ("that one, too", 3599.9996, 3661.25)]
    found = read_subtitles(write_subtitles(tmp_path / f"a{suffix}", entries))
    assert [(one["text"], one["start"], one["end"]) for one in found] == [
        entries[0],
        ("that one, too", 3600.0, 3661.25),
    ]


def test_subtitled_scenes_show_what_their_sentences_say(tmp_path):
    """Colour and direction are those of the pixels. The test asks for ways that a shape never moves in training."""
    folder = write_subtitled_scenes(tmp_path / "scenes", num_train=3, num_test=2, num_scenes=6)
    ways, texts = {"train": set(), "test": set()}, []
    for split, found in ways.items():
        for line in (folder / split / "metadata.jsonl").read_text().splitlines():
            row = json.loads(line)
            video = decode_video(folder / split / row["file_name"])
            frames = video.frames.permute(0, 2, 3, 1).float().numpy()
            said = {one["start"]: one for one in read_subtitles(folder / split / row["subtitles"])}
            assert len(said) == 6 and len(row["moments"]) == (6 if split == "train" else 4)
            for moment in row["moments"]:
                _, colour, shape, _, direction = moment["text"].split()
                found.add((shape, direction))
                start, end = moment["start"], moment["end"]
                assert said[start] == {"start": start, "end": end, "text": f"now it goes {direction}"}
                assert end - start in (6.0, 9.0) and end <= len(frames) / 8
                centres = []
                for frame in frames[int(start * 8) : int(start * 8) + 12]:
                    inside = frame.max(-1) > 100
                    centres.append(np.argwhere(inside).mean(axis=0))
                    assert nearest(np.median(frame[inside], axis=0), COLOURS) == colour
                way = (centres[-1] - centres[0])[::-1] * DIRECTIONS[direction]
                assert max(way) > 6 and min(abs(way)) < 2
            texts += [moment["text"] for moment in row["moments"]] if split == "test" else []
    assert not ways["train"] & ways["test"] and len(set(texts)) == len(texts) == 8
