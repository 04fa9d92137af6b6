"""`hf-videolang data caption-frames`: the captions of the model alone, several processes, kill -9, broken videos."""

import io
import json
import shutil
import tarfile
import time
from pathlib import Path

import av
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from pyarrow.parquet import read_table
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
)

from hf_videolang.cli import main
from hf_videolang.data.moving_shapes import write_video
from hf_videolang.data.stores.caption_store import CaptionStore
from hf_videolang.inference.image_captioner import CaptionerInputs, ImageCaptioner
from tests.common.forks import Fork
from tests.inference.tiny_captioners import TEXT, VISION, word_tokenizer, write_blip, write_git, write_llava
from tests.training.tiny_run import run_ranks

COMMAND = ("data", "caption-frames")
TOKENS = 12
PARTS = ("--rows-per-part", 3, "--batch-size", 2)


def caption(*words) -> int:
    return main([*COMMAND, "--num-workers", "0", "--max-new-tokens", str(TOKENS), *map(str, words)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Video files of 3 to 14 frames of coloured squares; number 5 is not a video."""
    folder, generator = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    videos = [folder / f"clip{number:02d}.mp4" for number in range(12)]
    for number, video in enumerate(videos):
        squares = generator.integers(0, 256, (number + 3, 4, 4, 3), dtype=np.uint8)
        write_video(video, squares.repeat(8, axis=1).repeat(8, axis=2))
    videos[5].write_bytes(b"no video")
    return videos


@pytest.fixture(scope="module")
def shards(files, tmp_path_factory):
    """`a.tar` with videos 0 to 6, `b.tar` with the rest."""
    folder = tmp_path_factory.mktemp("shards")
    for name, videos in (("a", files[:7]), ("b", files[7:])):
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for video in videos:
                for member, content in (
                    (f"{video.stem}.mp4", video.read_bytes()),
                    (f"{video.stem}.json", json.dumps({"subtitle": "hm"}).encode()),
                ):
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return folder


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return write_blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture(scope="module")
def unbroken(shards, blip, tmp_path_factory):
    """The store that one process writes without interruption."""
    store = tmp_path_factory.mktemp("unbroken") / "store"
    assert caption("--shards", shards, "--model", blip, "--output-dir", store, *PARTS) == 0
    return store


def captions(store: Path, shard_name: str) -> dict[str, str]:
    """Video id -> caption, of the videos that have one."""
    files = store.glob(f"{shard_name}-[0-9]*.parquet")
    rows = [row for file in sorted(files) for row in read_table(file).to_pylist()]
    return {row["video_id"]: row["caption"] for row in rows if row["caption"]}


def contents(store: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in store.iterdir()}


def middle_picture(video: Path):
    with av.open(str(video)) as container:
        pictures = [frame.to_image() for frame in container.decode(video=0)]
    return pictures[int(len(pictures) / 2)]


def caption_alone(folder: Path, kind: str, picture) -> str:
    """What the model's own documentation does for one picture, at most 16 words."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    tokenizer, prompt_length = AutoTokenizer.from_pretrained(folder), 0
    if kind == "llava":
        text = "USER: <image>Describe this picture in one sentence of at most 16 words. ASSISTANT:"
        inputs = AutoProcessor.from_pretrained(folder)(images=picture, text=text, return_tensors="pt")
        prompt_length = inputs["input_ids"].shape[1]
    else:
        inputs = AutoProcessor.from_pretrained(folder)(images=picture, return_tensors="pt")
    generated = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[0]
    return tokenizer.decode(generated[prompt_length:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("kind, write", [("blip", write_blip), ("llava", write_llava)])
def test_captions_are_those_of_the_model_alone(kind, write, files, shards, tmp_path):
    write(tmp_path)
    store = tmp_path / "store"
    assert caption("--shards", shards / "a.tar", "--model", tmp_path, "--output-dir", store, "--batch-size", 4) == 0
    expected = {
        video.stem: caption_alone(tmp_path, kind, middle_picture(video))
        for number, video in enumerate(files[:7])
        if number != 5
    }
    assert captions(store, "a") == expected
    assert len(set(expected.values())) > 1 and all(expected.values())


def test_report_and_broken_videos(files, shards, unbroken, blip, tmp_path, capsys):
    store = CaptionStore(unbroken)
    assert store.names() == ["a-00000000", "a-00000003", "a-00000006", "b-00000000", "b-00000003"]
    assert store.count() == (12, 1)
    row = store.read("a-00000003").to_pylist()[2]
    assert row["video_id"] == files[5].stem and row["caption"] is None and "cannot decode" in row["problem"]
    facts = store.provenance
    assert facts["model"] == blip.name and facts["version"].startswith("sha256:") and facts["max_words"] == 16
    assert facts["generation"] == {"max_new_tokens": TOKENS, "do_sample": False}
    # Nothing is left to do; then shorter captions.
    assert caption("--shards", shards, "--model", blip, "--output-dir", unbroken, *PARTS) == 0
    output = capsys.readouterr().out
    assert "0 of 12 videos captioned now" in output and "12 videos, 1 of them without a caption" in output
    assert f"{files[0].stem}: {captions(unbroken, 'a')[files[0].stem]}" in output
    words = ("--max-words", 2, "--shards", shards / "b.tar", "--model", blip)
    assert caption(*words, "--output-dir", tmp_path / "short") == 0
    assert "5 of 5 videos captioned now at" in capsys.readouterr().out
    short = captions(tmp_path / "short", "b")
    assert short == {key: " ".join(text.split()[:2]) for key, text in captions(unbroken, "b").items()}


def test_two_processes_write_the_store_of_one(shards, unbroken, blip, tmp_path):
    words = ("--shards", shards, "--model", blip, "--max-new-tokens", TOKENS, "--output-dir", tmp_path / "store")
    outputs = run_ranks("hf_videolang.cli", *COMMAND, *words, *PARTS, "--num-workers", 1, "--cpu")
    assert contents(tmp_path / "store") == contents(unbroken)
    assert ["12 of 12 videos captioned now" in output for output in outputs] == [True, False]


def test_killed_and_continued(shards, unbroken, blip, tmp_path):
    store = tmp_path / "store"
    words = ("--shards", shards, "--model", blip, "--output-dir", store, *PARTS)
    process = Fork("hf_videolang.cli", *COMMAND, *words, "--num-workers", 0, "--max-new-tokens", TOKENS, "--cpu")
    deadline = time.monotonic() + 120
    while not list(store.glob("[!.]*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    done = contents(store)
    assert {"store.json", "a-00000000.parquet"} <= done.keys() and len(done) < len(contents(unbroken))
    assert caption(*words) == 0
    after = {name: content for name, content in contents(store).items() if not name.startswith(".")}
    assert after == contents(unbroken)


def test_folders_of_videos(files, blip, tmp_path, capsys):
    """Without metadata all files are captioned; with metadata a split, under the shard names of pre-training."""
    words = ("--model", blip, "--rows-per-part", 100, "--shards")
    folder = tmp_path / "clips"
    (folder / "sub").mkdir(parents=True)
    for name, video in (("one.mp4", files[0]), ("sub/two.mp4", files[1]), ("sub/two.mov", files[2])):
        shutil.copy(video, folder / name)
    assert caption(*words, folder, "--output-dir", tmp_path / "bare") == 0
    bare = captions(tmp_path / "bare", "clips-train")
    assert sorted(bare) == ["one", "sub/two.mov", "sub/two.mp4"]
    rows = [
        {"file_name": "one.mp4", "text": "x", "split": "test"},
        {"file_name": "sub/two.mp4", "text": "y", "split": "train"},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    described = (folder, "--output-dir", tmp_path / "described")
    for split in ("test", "train"):
        assert caption(*words, *described, "--split", split) == 0
    store = tmp_path / "described"
    assert captions(store, "clips-test") == {"one": bare["one"]}
    assert captions(store, "clips-train") == {"sub/two": bare["sub/two.mp4"]}
    # One more video in the shard that already has a part.
    shutil.copy(files[3], folder / "three.mp4")
    rows.append({"file_name": "three.mp4", "text": "z", "split": "test"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    capsys.readouterr()
    assert caption(*words, *described, "--split", "test") == 2
    assert "captions of another clips-test" in capsys.readouterr().err


def test_a_damaged_part_is_made_again(shards, unbroken, blip, tmp_path):
    store = shutil.copytree(unbroken, tmp_path / "store")
    whole = contents(store)
    file = store / "a-00000003.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    assert caption("--shards", shards, "--model", blip, "--output-dir", store, *PARTS) == 0
    assert contents(store) == whole


def test_failed_videos_are_tried_again_when_asked(files, shards, unbroken, blip, tmp_path, capsys):
    """Video 5 is repaired in a tar of the same name; existing captions stay."""
    store = CaptionStore(shutil.copytree(unbroken, tmp_path / "store"))
    before = captions(store.folder, "a") | captions(store.folder, "b")
    changed = store.rows("a-00000003")
    changed[4] = (changed[4][0], "kept as it is", *changed[4][2:])
    store.write_captions("a-00000003", *zip(*changed.values()))
    shutil.copytree(shards, tmp_path / "repaired")
    with tarfile.open(tmp_path / "repaired" / "a.tar", "w") as tar:
        for number, video in enumerate(files[:7]):
            tar.add(files[8] if number == 5 else video, f"{video.stem}.mp4")
    words = ("--shards", tmp_path / "repaired", "--model", blip, "--output-dir", store.folder, *PARTS)
    assert caption(*words) == 0
    assert "0 of 12 videos captioned now" in capsys.readouterr().out
    assert caption(*words, "--retry-failed") == 0
    assert "1 of 12 videos captioned now" in capsys.readouterr().out
    assert store.count() == (12, 0)
    after = captions(store.folder, "a") | captions(store.folder, "b")
    assert after == before | {files[5].stem: before[files[8].stem], files[4].stem: "kept as it is"}
    assert store.rows("a-00000003")[5][3] == files[8].stat().st_size


def test_other_videos_under_the_same_names_are_refused(files, shards, unbroken, blip, tmp_path, capsys):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for video in files[:7]:
            tar.add(files[9], f"{video.stem}.mp4")
    words = ("--model", blip, "--output-dir", unbroken, *PARTS)
    assert caption("--shards", tmp_path / "a.tar", *words) == 2
    assert f"was {files[6].stem} of {files[6].stat().st_size} bytes and is now" in capsys.readouterr().err


def test_a_store_whose_last_part_begins_with_a_bad_row_can_be_continued(files, blip, tmp_path):
    videos = [
        {"bytes": files[0].read_bytes(), "path": None},
        None,
        {"bytes": files[1].read_bytes(), "path": None},
    ]
    rows = [{"video": video, "start": start} for video, start in zip(videos, (None, None, "1.5"))]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, tmp_path / "clips.parquet")
    words = ("--shards", tmp_path / "clips.parquet", "--model", blip, "--output-dir", tmp_path / "store")
    for _ in range(2):
        assert caption(*words, "--rows-per-part", 1) == 0
    problems = [CaptionStore(tmp_path / "store").rows(f"clips-0000000{row}")[row][2] for row in range(3)]
    assert problems[0] is None and "holds no video" in problems[1] and "start='1.5'" in problems[2]


def test_exit_code_when_no_video_decodes(files, blip, tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    shutil.copy(files[5], tmp_path / "videos")
    assert caption("--shards", tmp_path / "videos", "--model", blip, "--output-dir", tmp_path / "store") == 1
    assert "1 videos, 1 of them without a caption" in capsys.readouterr().out


def test_errors(shards, unbroken, blip, tmp_path, capsys):
    def error_of(*words) -> str:
        assert caption(*words) == 2
        return capsys.readouterr().err

    to_store = ("--output-dir", tmp_path / "store")
    CLIPModel(CLIPConfig(text_config={**TEXT, "vocab_size": 8}, vision_config=VISION)).save_pretrained(
        tmp_path / "clip"
    )
    AutoProcessor.from_pretrained(blip).save_pretrained(tmp_path / "clip")
    assert "AutoModelForImageTextToText" in error_of("--shards", shards, "--model", tmp_path / "clip", *to_store)
    shutil.copytree(blip, tmp_path / "half")
    weights = tmp_path / "half" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["vision_model.post_layernorm.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    assert "lacks 1 weights" in error_of("--shards", shards, "--model", tmp_path / "half", *to_store)
    word_tokenizer().save_pretrained(tmp_path / "words")
    (tmp_path / "words" / "config.json").write_text('{"model_type": "bert"}')
    assert "has no processor of pictures and texts" in error_of(
        "--shards", shards, "--model", tmp_path / "words", *to_store
    )
    (tmp_path / "empty").mkdir()
    message = error_of("--shards", tmp_path / "empty", "--model", blip, *to_store)
    assert "holds neither shards (.tar, .parquet) nor videos" in message
    assert not (tmp_path / "store").exists()
    other = ("--model", blip, "--prompt", "a picture of")
    message = error_of("--shards", shards, *other, "--output-dir", unbroken, *PARTS)
    assert "made with other settings (prompt: None there, 'a picture of' now)" in message


def test_the_prompt_is_not_part_of_the_caption(blip, files, tmp_path):
    """GIT repeats the tokens of the prompt, BLIP its words."""
    inputs = CaptionerInputs(write_git(tmp_path), prompt="word1 word2")
    picture = middle_picture(files[0])
    captioner = ImageCaptioner(tmp_path, inputs, torch.device("cpu"), max_new_tokens=5)
    tokenizer = inputs.processor.tokenizer
    asked = tokenizer("word1 word2", return_tensors="pt")["input_ids"]
    pixels = inputs.processor.image_processor(picture, return_tensors="pt")["pixel_values"]
    expected = captioner.model.generate(pixel_values=pixels, input_ids=asked, max_new_tokens=5)[0, asked.shape[1] :]
    expected = tokenizer.decode(expected, skip_special_tokens=True)
    assert captioner(inputs([picture, picture])) == [expected, expected] and expected
    inputs = CaptionerInputs(blip, prompt="word1 word2")
    ids = torch.tensor([[2, 7, 8, 20, 21, 3, 0], [2, 9, 8, 20, 3, 0, 0]])
    assert inputs.decode(ids, inputs([picture, picture])) == ["word14 word15", "word3 word2 word14"]
