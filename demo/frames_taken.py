"""
A picture of a video's timeline, and of the frames that a model with several clips reads of it.

    python demo/frames_taken.py    # the picture of docs/tasks/question_answering.md

The demo on questions shows such pictures, too.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from hf_videolang import ClipBertVideoProcessor
from hf_videolang.data.moving_shapes import write_scenes
from hf_videolang.video import decode_video

SCALE = 24  # pixels for the seconds, and for the marks
MARKS = ("#1f6feb", "#bf8700")
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "frames_taken.png"


def frames_taken(path: str, video_processor, height: int = 64) -> Image.Image:
    """
    The whole video as a strip of pictures below its seconds, a mark where each frame was taken, and the frames. The
    clips have two colours in turns.
    """
    taken: list[int] = []

    def sample(metadata, **options):
        chosen = type(video_processor).sample_frames(video_processor, metadata, **options)
        taken.extend(chosen.tolist())
        return chosen

    frames, _ = video_processor.fetch_videos(path, sample)
    whole = decode_video(path)
    size = (height * whole.info.width // whole.info.height, height)
    columns = max(12, len(taken))
    strip, rows = columns * size[0], (SCALE, SCALE + height, 2 * SCALE + height)
    picture = Image.new("RGB", (strip, rows[2] + height), "white")
    draw = ImageDraw.Draw(picture)
    seconds = whole.info.num_frames / whole.info.frames_per_second
    for second in range(0, int(seconds) + 1, 1 + int(seconds) // columns):
        draw.text((strip * second / seconds + 2, 4), f"{second} s", fill="black")
    for column, number in enumerate(np.linspace(0, whole.info.num_frames - 1, columns).round().astype(int)):
        picture.paste(thumbnail(whole.frames[number], size), (column * size[0], rows[0]))
    for place, (number, frame) in enumerate(zip(taken, frames)):
        colour = MARKS[place // video_processor.num_frames % len(MARKS)]
        at, left = int((number + 0.5) / whole.info.num_frames * strip), place * (strip // len(taken))
        draw.line([(at, rows[0]), (at, rows[1]), (left + size[0] // 2, rows[2])], fill=colour, width=2)
        picture.paste(thumbnail(frame, size), (left, rows[2]))
        draw.rectangle((left, rows[2], left + size[0] - 1, rows[2] + height - 1), outline=colour, width=2)
    return picture


def thumbnail(frame, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(frame.permute(1, 2, 0).numpy()).resize(size)


def main() -> None:
    """Three scenes of a second; four clips of two frames, half a second each."""
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        video = write_scenes(Path(folder) / "scenes", 1, 1, seed=2) / "test" / "test0000.mp4"
        frames_taken(str(video), ClipBertVideoProcessor(num_clips=4, num_frames=2, fps=4)).save(PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
