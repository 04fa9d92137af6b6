"""Every benchmark, from its annotation to a printed table, with real videos and with folders of pictures."""

import itertools
import json
import re
import shutil

import pytest
import torch

from hf_videolang.cli import main
from hf_videolang.data import find_dataset, load_dataset
from hf_videolang.data.batches.retrieval import RetrievalCollator
from hf_videolang.data.load_dataset import BENCHMARKS
from hf_videolang.data.video_files import VIDEO_EXTENSIONS
from hf_videolang.video import VideoDecodingError
from tests.common.tiny.clip_vip import tiny_model, tiny_processor
from tests.data.benchmarks.annotations import read, write
from tests.parity.cases import REPOSITORY
from tests.video.making import picture, write_frames, write_video

TEXTS = ["a red circle", "a blue square", "green triangles move"]
LSMDC_LINE = "film/{}\t0\t0\t0\t0\t{}"
CAPTIONS = {
    "msrvtt-1ka": ("msrvtt_test.csv", "video_id,sentence\n" + "\n".join(f"video{i},{TEXTS[i]}" for i in range(3))),
    "didemo": ("test_data.json", [{"video": f"video{i}.mov", "description": TEXTS[i]} for i in range(3)]),
    "lsmdc": (
        "LSMDC16_challenge_1000_publictect.csv",
        "\n".join(LSMDC_LINE.format(f"video{i}", TEXTS[i]) for i in range(3)),
    ),
    "activitynet": ("val1.jsonl", [{"clip_id": f"video{i}", "text": TEXTS[i], "num_frame": 12} for i in range(3)]),
    "vatex": ("vatex_test.jsonl", [{"clip_id": f"video{i}", "text": TEXTS[i : i + 2]} for i in range(3)]),
    "vatex-full": (
        "vatex_public_test_english_v1.1.json",
        [{"videoID": f"video{i}", "enCap": [TEXTS[i]]} for i in range(3)],
    ),
    "youcook2": (
        "validation_youcook.csv",
        "video_id,start,end,text\n" + "\n".join(f"video{i},0,1.2,{TEXTS[i]}" for i in range(3)),
    ),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """The same 12 frames, one video after the other, as lossless files and as lossless pictures."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(3):
        pictures = [picture(100 * i + number) for number in range(12)]
        (folder / "files" / "film").mkdir(parents=True, exist_ok=True)
        write_video(folder / "files" / "film" / f"video{i}.mkv", pictures)
        write_frames(folder / "pictures" / "film" / f"video{i}", pictures)
    tiny_model().save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    return folder


def data_dir(name, videos, kind, tmp_path):
    folder = tmp_path / kind
    file, content = CAPTIONS[name]
    write(folder / "annotations" / file, content)
    (folder / "videos").symlink_to(videos / kind)
    return folder


@pytest.mark.parametrize("name", CAPTIONS)
def test_check_and_evaluate(name, videos, tmp_path, capsys):
    """A clean report but for the size, and one table whether the videos are files or folders of pictures."""
    similarities = []
    for kind in ("files", "pictures"):
        folder = data_dir(name, videos, kind, tmp_path)
        words = [name, "--data-dir", folder, "--split", "test", "--num-workers", 0, "--ignore", "wrong_count"]
        clean = main(["data", "check", *map(str, words)]) == 0
        printed = capsys.readouterr().out
        benchmark = find_dataset(name, folder)
        assert f"{name}, test: 3 of {benchmark.read('test')[1].published['videos']} videos" in printed
        words = [
            "--model",
            videos / "model",
            "--dataset",
            name,
            "--data-dir",
            folder,
            "--output-dir",
            tmp_path / "results",
        ]
        words += ["--num-workers", 0, "--cpu"]
        if (name, kind) == ("youcook2", "pictures"):  # seconds, of pictures without a frame rate
            assert not clean and "start=0.0 and end=1.2 are seconds" in printed
            assert main(["evaluate", *map(str, words)]) == 1
            continue
        assert clean, printed
        assert main(["evaluate", *map(str, words)]) == 0
        printed = capsys.readouterr().out
        assert f"on {name}, test: 3 of" in printed and "text to video" in printed
        results = json.loads((tmp_path / "results" / "results.json").read_text())
        assert (results["dataset"]["name"], results["dataset"]["note"]) == (name, benchmark.note)
        similarities.append(results["scores"])
    assert all(scores == similarities[0] for scores in similarities)


def test_absent_videos_are_left_out_on_request_and_counted(videos, tmp_path, caplog):
    file, content = CAPTIONS["msrvtt-1ka"]
    folder, own = tmp_path, tmp_path / "videos"
    write(folder / file, content)
    shutil.copytree(videos / "files" / "film", own)
    (own / "video1.mkv").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 3 annotated videos have no file: video1"):
        load_dataset("msrvtt-1ka", folder)
    dataset, protocol = find_dataset("msrvtt-1ka", folder).load(skip_absent=True)
    assert dataset["video_id"][:] == ["video0", "video2"]
    assert protocol.counts == {"videos": 2, "captions": 2} and "2 of 1000 videos" in str(protocol)
    assert "Left out 1 videos that have no file: video1" in caplog.text
    rows = [{"file_name": f"video{i}.mkv", "captions": ["one", "two"]} for i in range(3)]
    (own / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, protocol = find_dataset(str(own)).load("train+validation", skip_absent=True)
    assert "2 of 3 videos, 4 captions" in str(protocol)
    for video in own.glob("*.mkv"):
        video.unlink()
    with pytest.raises(FileNotFoundError, match="3 of 3 annotated videos have no file"):
        find_dataset(str(own)).load("train+validation", skip_absent=True)


def test_every_benchmark_is_here():
    others = {"msrvtt-9k", "msrvtt-7k", "msrvtt-7k-1ka", "msrvtt-full"}
    of_features = {"vatex-en-r": "moment_retrieval", "vatex-en-c": "captioning"}
    assert set(BENCHMARKS) - set(CAPTIONS) == others | of_features.keys()
    for name, benchmark in BENCHMARKS.items():
        found = find_dataset(name, "anywhere")  # nothing is read yet
        task = of_features.get(name, "retrieval")
        assert (found.name, found.task, found.splits) == (name, task, ("train", "validation", "test"))
        assert (
            benchmark.licence and benchmark.source.startswith("http") and re.search(r" 20\d\d, ", benchmark.citation)
        )
        scores = {"retrieval": "text_to_video_R1", "moment_retrieval": "VR_AveR", "captioning": "captions_CIDEr"}
        assert (benchmark.main_score, found.unnamed) == (scores[task], ())


FORMATS = {  # the files of all splits, under the names that the CLIP-ViP layout has for each dataset
    "didemo": ("didemo_train", "didemo_val", "didemo_test"),
    "lsmdc": ("lsmdc_train", "lsmdc_val", "lsmdc_test"),
    "activitynet": ("actnet_train", None, "actnet_val1"),
    "vatex": ("vatex_train", "vatex_val", "vatex_test"),
    "youcook2": ("youcook2_train", None, "youcook2_val"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_splits_of_the_authors_layout_share_no_video(name, tmp_path):
    counts = {}
    for number, file in enumerate(FORMATS[name]):
        if file is not None:
            rows = [{"clip_id": f"c{number}{i:03d}.mp4", "text": ["one", "two"]} for i in range(60)]
            write(tmp_path / "some" / "where" / f"{file}.jsonl", rows)
            counts[("train", "validation", "test")[number]] = 60
    if "validation" not in counts:
        counts |= {"train": 57, "validation": 3}  # a twentieth is held out
    found = {split: read(name, tmp_path, split) for split in ("train", "validation", "test")}
    assert {split: len(clips) for split, clips in found.items()} == counts
    for one, other in itertools.combinations(found.values(), 2):
        assert not one.keys() & other.keys()
    joined = name in ("didemo", "activitynet")
    assert set(map(tuple, found["train"].values())) == {("one two",) if joined else ("one", "two")}


DOCUMENTED = {  # heading in the docs -> the benchmark, and names for the blocks below it
    "DiDeMo": ("didemo", "train_data.json", "test_data.json"),
    "LSMDC": ("lsmdc", "LSMDC16_annos_training.csv", "LSMDC16_challenge_1000_publictect.csv"),
    "ActivityNet Captions": ("activitynet", "train.json", "val_1.json"),
    "VATEX": ("vatex-full", "vatex_training_v1.0.json", "vatex_public_test_english_v1.1.json"),
    "YouCook2": ("youcook2", "youcookii_annotations_trainval.json", None),
}


@pytest.mark.parametrize("heading", DOCUMENTED)
def test_the_documented_examples_are_read_as_documented(heading, tmp_path):
    docs = (REPOSITORY / "docs" / "data_formats.md").read_text()
    section = docs.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
    example, *others = re.findall(r"```\w*\n(.*?)```", section, re.DOTALL)
    name, train, test = DOCUMENTED[heading]
    assert train in section or train.replace("_v1.0", "*") in section
    write(tmp_path / train, example)
    found = read(name, tmp_path, "train")
    if test is not None:
        assert test in section or re.sub(r"_english_v1.1|_v1.0", "*", test) in section
        write(tmp_path / test, example)
        assert read(name, tmp_path, "test") == found
    else:  # the second example is the list that papers test by, with the same segment
        write(tmp_path / "validation_youcook.csv", others[0])
        assert read(name, tmp_path, "test") == found
    for promised in re.findall(r"becomes `(\{.*?\})`", section):
        record = json.loads(promised)
        assert found[record["video_id"]] == record["captions"]
    assert len(found) == 1
    assert " ".join(VIDEO_EXTENSIONS) in docs


def test_collator_reads_pictures_and_replaces_what_is_broken(videos, tmp_path):
    folders = {kind: data_dir("didemo", videos, kind, tmp_path) for kind in ("files", "pictures")}
    batches = []
    for kind, folder in folders.items():
        dataset, _ = load_dataset("didemo", folder)
        assert dataset[0]["video"]["path"].endswith("/video0") == (kind == "pictures")
        batches.append(RetrievalCollator(tiny_processor(), dataset, training=True)([dataset[0], dataset[2]]))
    assert all(torch.equal(batches[0][key], batches[1][key]) for key in batches[0])

    (folders["pictures"] / "videos").unlink()
    shutil.copytree(videos / "pictures", folders["pictures"] / "videos")
    (folders["pictures"] / "videos" / "film" / "video2" / "video2_005.png").unlink()
    dataset, _ = load_dataset("didemo", folders["pictures"])
    with pytest.raises(
        VideoDecodingError, match=r"video2: frame 5 is absent: its 11 pictures go up to video2_011.png"
    ):
        RetrievalCollator(tiny_processor(), dataset, training=True)([dataset[2]])
    collator = RetrievalCollator(tiny_processor(), dataset, training=True, on_broken_video="replace")
    assert int(collator([dataset[0], dataset[2]])["num_broken_videos"]) == 1
