"""A small dataset of real video files that needs no download: moving coloured shapes with captions.

To find the video for "a red circle moves left then up", a model must see the appearance *and* the order in time. The
test videos show combinations of colour, shape and motion that do not occur in training, in either order of the two
directions. Each single colour, shape and ordered motion does occur in training.

Scenes are videos of several shapes, one after the other, with questions or captions about one of them, or with
subtitles and the moment of each.
"""

import json
from collections.abc import Callable, Iterable
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_videolang.video.subtitles import subtitle_text

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 90, 230),
    "yellow": (235, 210, 50),
    "purple": (160, 60, 200),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "cross")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # x grows to the right, y downwards

# Of scenes
SCENE_COLOURS = {name: rgb for name, rgb in COLOURS.items() if name != "white"} | {"cyan": (40, 200, 210)}
SCENE_SHAPES = (*SHAPES, "ring", "bar")
GROUNDS = {"grey": (110, 110, 110), "white": (245, 245, 245), "brown": (130, 90, 50)}
# Of each colour, the one of the six shapes with which only the test shows it.
HELD_OUT = list(zip(SCENE_COLOURS, SCENE_SHAPES, strict=True))


def write_video(path: str | Path, frames: Iterable[np.ndarray], frames_per_second: int = 12) -> Path:
    """Write an H.264 .mp4 of RGB frames, uint8 `[height, width, 3]` with even sides. Equal frames give equal bytes."""
    import av

    path, frames = Path(path), list(frames)
    height, width = frames[0].shape[:2]
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", frames_per_second, {"preset": "ultrafast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = width, height, "yuv420p", 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def draw_shape(
    shape: str | np.ndarray,
    colour: tuple[int, int, int],
    centre: tuple[float, float],
    radius: float,
    size: int,
    ground: tuple[int, int, int] = (30, 30, 30),
    rim: float = 0.0,
) -> np.ndarray:
    """
    An RGB picture, uint8 `[size, size, 3]`, of a shape on a plain ground. Edges are blurred by one pixel.

    The shape has a name, or is a blot of discs `[discs, 3]`: x, y and radius as shares of `radius`. The share `rim` of
    the way from edge to middle is black.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    x, y = (x - centre[0]) / radius, (y - centre[1]) / radius
    # At most 1 inside
    if isinstance(shape, str):
        distance = {
            "circle": np.hypot(x, y),
            "square": np.maximum(abs(x), abs(y)) / 0.85,
            "triangle": np.maximum(y / 0.8, abs(x) * 1.8 - y),
            "cross": np.maximum(np.minimum(abs(x), abs(y)) / 0.3, np.maximum(abs(x), abs(y))),
            "ring": abs(np.hypot(x, y) - 0.75) / 0.25,
            "bar": np.maximum(abs(x), abs(y) / 0.35),
        }[shape]
    else:
        distance = np.min([np.hypot(x - right, y - down) / share for right, down, share in shape], axis=0)
    picture = np.array(ground, np.float32)
    for share, paint in ((1.0, (0, 0, 0)), (1 - rim, colour)) if rim else ((1.0, colour),):
        inside = np.clip((share - distance) * radius + 0.5, 0, 1)[..., None]
        picture = picture * (1 - inside) + np.array(paint, np.float32) * inside
    return picture.astype(np.uint8)


def moving_shape_frames(
    colour: str | tuple[int, int, int],
    shape: str | np.ndarray,
    directions: tuple[str, str],
    generator: np.random.Generator,
    size: int,
    num_frames: int,
    ground: tuple[int, int, int] = (30, 30, 30),
    radii: tuple[float, float] = (0.13, 0.18),
    ways: tuple[float, float] = (0.5, 0.6),
    rim: float = 0.0,
) -> list[np.ndarray]:
    """
    The frames of one video: the shape moves in the first direction for half the time, then in the second.

    The colour is a name or RGB, `shape` and `rim` are as of [`draw_shape`]. The radius and the length of each way are
    drawn between two shares of `size`.
    """
    radius = size * generator.uniform(*radii)
    half = num_frames // 2
    steps = np.repeat([DIRECTIONS[name] for name in directions], [half, num_frames - half], axis=0)
    way = np.cumsum(steps * size * generator.uniform(*ways) / half, axis=0)
    # The starting point is drawn so that the shape stays in the picture.
    low, high = radius + 1 - way.min(axis=0), size - radius - 1 - way.max(axis=0)
    way = way + generator.uniform(low, high)
    rgb = (COLOURS | SCENE_COLOURS)[colour] if isinstance(colour, str) else colour
    return [draw_shape(shape, rgb, tuple(centre), radius, size, ground, rim) for centre in way]


def _split_combinations(num_train: int, num_test: int, generator: np.random.Generator):
    """Lists of (colour, shape, (first, second)) for training (with repeats if needed) and test (all different)."""
    pairs = list(combinations(DIRECTIONS, 2))
    kinds = [(colour, shape, pair) for colour, shape, pair in product(COLOURS, SHAPES, pairs)]
    kinds = [kinds[i] for i in generator.permutation(len(kinds))]
    # The first len(pairs) kinds for training cover every colour, shape and pair.
    cover = [(list(COLOURS)[i % len(COLOURS)], SHAPES[i % len(SHAPES)], pair) for i, pair in enumerate(pairs)]
    kinds = cover + [kind for kind in kinds if kind not in cover]
    held_out = -(-num_test // 2)
    limit = 2 * (len(kinds) - len(cover))
    if num_test > limit or num_train < 2 * len(cover):
        raise ValueError(
            f"num_train={num_train}, num_test={num_test}; expected at least {2 * len(cover)} training videos, to show "
            f"every colour, shape and motion, and at most {limit} test videos, to leave enough combinations."
        )

    def in_both_orders(chosen):
        return [(colour, shape, order) for colour, shape, pair in chosen for order in (pair, pair[::-1])]

    train = in_both_orders(kinds[: len(kinds) - held_out])
    test = in_both_orders(kinds[len(kinds) - held_out :])
    return [train[i % len(train)] for i in range(num_train)], test[:num_test]


def write_moving_shapes(
    folder: str | Path,
    num_train: int = 240,
    num_test: int = 48,
    seed: int = 0,
    *,
    num_frames: int = 24,
) -> Path:
    """
    Write `folder/{train,test}/*.mp4` with a `metadata.jsonl` each: a standard `videofolder`.

    Args:
        folder: created if absent. It must not contain `train` or `test` yet.
        num_train: training videos, at least 12. Beyond 288 minus the test's combinations, combinations repeat with
            another starting point.
        num_test: test videos, at most 276, each with its own caption. Neighbours differ only in the order of the
            directions.
        seed: the same seed gives the same files, byte by byte.
        num_frames: of each video, at 12 a second and 64x64 pixels.

    Raises:
        ValueError: `num_train` or `num_test` is out of range.

    Example:
        >>> dataset, _ = load_dataset(str(write_moving_shapes("shapes")), split="train")
    """
    generator = np.random.default_rng(seed)
    combinations = dict(zip(("train", "test"), _split_combinations(num_train, num_test, generator)))

    def make(split: str, number: int, path: Path) -> list[dict[str, Any]]:
        colour, shape, directions = combinations[split][number]
        frames = moving_shape_frames(colour, shape, directions, generator, 64, num_frames)
        write_video(path, frames)
        return [{"caption": f"a {colour} {shape} moves {directions[0]} then {directions[1]}"}]

    return _write_folder(Path(folder), {split: len(kinds) for split, kinds in combinations.items()}, make)


def _write_folder(
    folder: Path, counts: dict[str, int], make: Callable[[str, int, Path], list[dict[str, Any]]]
) -> Path:
    """`make(split, number, path)` writes a video and returns its rows of the metadata."""
    for split, count in counts.items():
        (folder / split).mkdir(parents=True)
        with open(folder / split / "metadata.jsonl", "w", encoding="utf-8") as metadata:
            for number in range(count):
                name = f"{split}{number:04d}.mp4"
                for row in make(split, number, folder / split / name):
                    metadata.write(json.dumps({"file_name": name, **row}) + "\n")
    return folder


def write_scenes(
    folder: str | Path,
    num_train: int = 240,
    num_test: int = 48,
    seed: int = 0,
    *,
    task: Literal["question_answering", "retrieval"] = "question_answering",
    num_scenes: int = 3,
    size: int = 64,
    frames_per_second: int = 12,
) -> Path:
    """
    Write videos of several scenes, a second each, as a `videofolder` like that of [`write_moving_shapes`].

    A scene shows a shape that moves, on a ground of its own colour. The shape has a black rim, which looks the same
    whatever its colour. A text is about one scene: the questions "what colour is the shape on the grey ground?" and
    "which shape is on the grey ground?", or the caption "a red square on a grey ground".

    In the test videos, all shapes have colours that they never have in training (`HELD_OUT`). A model would learn
    that, too, and never give these answers together. So the questions name only the ground; a training video that asks
    for shapes shows them in colours without a name, dark red for example; and every other one that asks for colours
    shows blots. Videos with captions show named shapes in named colours alone.

    Args:
        folder: created if absent. It must not contain `train` or `test` yet.
        num_train, num_test: videos. Each has two questions, in training of one kind about two scenes, or one caption.
        seed: the same seed gives the same files, byte by byte.
        task: which texts are written.
        num_scenes: seconds of a video, 1 to 3.
        size: height and width in pixels, even.
        frames_per_second: of each video.

    Example:
        >>> dataset, _ = load_dataset(str(write_scenes("scenes")), split="train")
        >>> dataset[0]["question"], dataset[0]["answer"]
        ('what colour is the shape on the white ground?', 'green')
    """
    generator = np.random.default_rng(seed)
    combined = [kind for kind in product(SCENE_COLOURS, SCENE_SHAPES) if kind not in HELD_OUT]
    kinds = {"train": combined, "test": HELD_OUT}

    def make(split: str, number: int, path: Path) -> list[dict[str, Any]]:
        grounds = generator.permutation(list(GROUNDS)[:num_scenes]).tolist()
        scenes = [kinds[split][i] for i in generator.permutation(len(kinds[split]))[:num_scenes]]
        asked = ["caption"] if task == "retrieval" else ["colour", "shape"]
        if split == "train":
            asked = [asked[number % len(asked)]] * min(len(asked), num_scenes)
        frames: list[np.ndarray] = []
        for ground, (colour, shape) in zip(grounds, scenes, strict=True):
            directions = generator.permutation(list(DIRECTIONS))[:2].tolist()
            paint: Any = _unnamed_colour(generator) if set(asked) == {"shape"} else colour
            form: Any = _blot(generator) if set(asked) == {"colour"} and number % 4 == 0 else shape
            scene = (paint, form, tuple(directions), generator, size, frames_per_second, GROUNDS[ground])
            frames += moving_shape_frames(*scene, radii=(0.34, 0.4), ways=(0.05, 0.1), rim=0.17)
        write_video(path, frames, frames_per_second)
        texts = []
        for place, kind in enumerate(asked, start=number):
            colour, shape = scenes[place % num_scenes]
            texts.append(_scene_text(kind, colour, shape, grounds[place % num_scenes]))
        return texts

    return _write_folder(Path(folder), {"train": num_train, "test": num_test}, make)


def _unnamed_colour(generator: np.random.Generator) -> tuple[int, int, int]:
    """A vivid colour, far from all that have a name."""
    named = np.array(list(SCENE_COLOURS.values()))
    while True:
        rgb = generator.integers(0, 256, 3)
        if np.ptp(rgb) > 60 and abs(named - rgb).max(axis=1).min() > 45:
            return tuple(rgb.tolist())


def _blot(generator: np.random.Generator) -> np.ndarray:
    return np.column_stack([generator.uniform(-0.55, 0.55, (3, 2)), generator.uniform(0.3, 0.6, 3)])


def _scene_text(kind: str, colour: str, shape: str, ground: str) -> dict[str, str]:
    if kind == "caption":
        return {"caption": f"a {colour} {shape} on a {ground} ground"}
    asked = f"what colour is the shape on the {ground} ground?", f"which shape is on the {ground} ground?"
    question, answer = (asked[0], colour) if kind == "colour" else (asked[1], shape)
    return {"question": question, "answer": answer, "answer_type": kind}


def write_subtitled_scenes(
    folder: str | Path,
    num_train: int = 24,
    num_test: int = 6,
    seed: int = 0,
    *,
    num_scenes: int = 10,
) -> Path:
    """
    Write subtitled videos of several scenes and the moments that sentences mean, as a `videofolder`.

    A scene lasts 6 or 9 s. Its shape moves in one direction, anew every 1.5 s, and a subtitle says where it goes. The
    sentence "the red circle moves left" takes both to find. In the test videos, four scenes show a shape that moves in
    a direction in which it never moves in training; the sentences are about these scenes, and no two are equal.

    Args:
        folder: created if absent. It must not contain `train` or `test` yet.
        num_train, num_test: videos; at most 6 for the test.
        seed: the same seed gives the same files, byte by byte.
        num_scenes: of a video, at least 4. Their moments are all different.

    Example:
        >>> dataset, _ = load_dataset(str(write_subtitled_scenes("scenes")), split="train")
        >>> dataset[0]["moments"][0]
        {'text': 'the red circle moves left', 'start': 0.0, 'end': 6.0}
    """
    generator, rate = np.random.default_rng(seed), 8  # frames a second
    pairs = set(zip(SHAPES, DIRECTIONS))
    kinds = list(product(COLOURS, SHAPES, DIRECTIONS))
    seen = [kind for kind in kinds if kind[1:] not in pairs]
    unseen = [kind for kind in kinds if kind[1:] in pairs]
    unseen = [unseen[i] for i in generator.permutation(len(unseen))]

    def make(split: str, number: int, path: Path) -> list[dict[str, Any]]:
        asked = unseen[4 * number : 4 * number + 4] if split == "test" else []
        scenes = [seen[i] for i in generator.permutation(len(seen))[: num_scenes - len(asked)]] + asked
        frames: list[np.ndarray] = []
        shown = []
        for colour, shape, direction in (scenes[i] for i in generator.permutation(num_scenes)):
            start, steps = len(frames) / rate, int(rate * 1.5)
            scene = (colour, shape, (direction, direction), generator, 32, steps)
            once = moving_shape_frames(*scene, radii=(0.22, 0.28), ways=(0.12, 0.16))
            frames += once * int(generator.choice([4, 6]))
            shown.append(((colour, shape, direction), start, len(frames) / rate))
        write_video(path, frames, rate)
        spoken = [(f"now it goes {direction}", start, end) for (_, _, direction), start, end in shown]
        subtitles = write_subtitles(path.with_suffix(".srt"), spoken)
        moments = [
            {"text": f"the {colour} {shape} moves {direction}", "start": start, "end": end}
            for (colour, shape, direction), start, end in shown
            if not asked or (colour, shape, direction) in asked
        ]
        return [{"subtitles": subtitles.name, "moments": moments}]

    return _write_folder(Path(folder), {"train": num_train, "test": num_test}, make)


def write_subtitles(path: str | Path, entries: Iterable[tuple[str, float, float]]) -> Path:
    """Write texts with their start and end in seconds as .srt, or as .vtt if the file is called so."""
    Path(path).write_text(subtitle_text(entries, is_vtt=Path(path).suffix == ".vtt"), encoding="utf-8")
    return Path(path)
