"""
Moments, answers and captions in subtitled videos with known borders, from the files to the seconds, by the documented
commands.

Models start from random weights and learn the videos by heart, or learn to find what they have never seen.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
    set_seed,
)

from hf_videolang.cli import main as command
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.moving_shapes import (
    COLOURS,
    DIRECTIONS,
    SHAPES,
    write_subtitled_scenes,
    write_subtitles,
    write_video,
)
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.moment_retrieval import MomentRetrievalEvaluator
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.metrics import captions as caption_metrics
from hf_videolang.metrics.captions import caption_metrics as score_captions
from hf_videolang.metrics.moments import temporal_iou
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from hf_videolang.models.hero.processing_hero import HeroProcessor
from hf_videolang.training.run_moment_retrieval import main as train_moments
from hf_videolang.video.decode import stack_pictures, with_stream
from hf_videolang.video.sampling import constant_rate_indices
from hf_videolang.video.subtitles import read_subtitles
from tests.common.tiny.hero import PART, SPECIAL, tiny_config, word_tokenizer
from tests.parity.cases import REPOSITORY, SHARED
from tests.training.tiny_run import finish, run, start

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
RATE, SIDE = 8, 32  # frames a second and pixels of the videos
RECIPE = {
    "select_on": "none",
    "per_device_train_batch_size": 16,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "linear",
    "warmup_steps": 20,
    "save_strategy": "no",
    "logging_steps": 50,
    "report_to": "none",
    "disable_tqdm": True,
}
LOSSES = {
    "video_ranking_weight": 8.0,
    "query_ranking_weight": 8.0,
    "span_loss_weight": 1.0,
    "span_drop_probability": 0.0,
    "margin": 0.2,
}


def write_extractor(folder: Path) -> Path:
    """A small CLIP with random weights."""
    set_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**vision, "vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=32))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)  # so that pictures differ in their features
    model.save_pretrained(folder)
    return folder


def extract(folder: Path, videos: Path) -> list[str]:
    """The words of the command that writes the store."""
    extractor = write_extractor(folder.parent / "extractor")
    where = ["--videos", videos, "--output", folder, "--num-workers", "0", "--batch-size", "64", "--cpu"]
    return [str(word) for word in ("extract", "--preset", "clip-vit", "--extractor", f"clip-vit={extractor}", *where)]


def write_base(folder: Path, model_class: type, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A small model with random weights."""
    set_seed(0)
    part = {**PART, "num_hidden_layers": 1, "max_position_embeddings": 110}
    config = tiny_config(
        cross_modal_config={**part, "vocab_size": len(tokenizer)},
        temporal_config=part,
        query_config=part,
        video_feature_size=32,
        max_frames=100,
        features="clip-vit",
    )
    config.architectures = [model_class.__name__]
    model_class(config).save_pretrained(folder)
    HeroProcessor(tokenizer, features="clip-vit", max_moment_frames=9).save_pretrained(folder)
    return folder


def options(**given) -> list[str]:
    values = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in given.items()}
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def recall(run: Path, data: Path, features: Path, split: str, shift: int = 0) -> dict[str, float]:
    """R@1 at IoU 0.7 of each kind of search; with `shift`, each video has the subtitles of another one."""
    model, processor = load_model_and_processor(str(run))
    records, _ = find_dataset(str(data)).load(split, need_videos=False)
    paths = np.roll(records["subtitles"][:], shift).tolist()
    records = records.remove_columns("subtitles").add_column("subtitles", paths)
    scores = MomentRetrievalEvaluator(processor, FeatureStore(features))(model, records, Accelerator(cpu=True))
    return {kind: scores["raw"][f"{kind}_IoU0.7"]["R1"] for kind in ("VCMR", "SVMR")}


def test_unseen_combinations_are_found(tmp_path, monkeypatch, capsys):
    """Shapes of the test move as they never do in training. Chance knows all borders, and picks one of 48 scenes."""
    data, features = write_subtitled_scenes(tmp_path / "data", num_scenes=8), tmp_path / "features"
    assert command(extract(features, data)) == 0
    words = ["the", "now", "it", "goes", "moves", *COLOURS, *SHAPES, *DIRECTIONS]
    base = write_base(tmp_path / "base", HeroForVideoTextRetrieval, word_tokenizer([*SPECIAL, *words]))
    where = {"model": base, "data_dir": data, "features": features, "output_dir": tmp_path / "run"}
    recipe = {**RECIPE, "train_split": "train+validation", "max_steps": 200}
    assert train_moments(options(**recipe, **where, losses=LOSSES)) == 0
    (evaluation,) = json.loads((tmp_path / "run" / "eval_results.json").read_text())["evaluations"]
    found = evaluation["scores"]["raw"]["VCMR_IoU0.7"]["R1"]
    assert found > 5 / 48
    shuffled = recall(tmp_path / "run", data, features, "test", shift=1)
    assert shuffled["VCMR"] < found / 2 and shuffled["SVMR"] < 0.75 * evaluation["scores"]["raw"]["SVMR_IoU0.7"]["R1"]

    # README's lines, from path, subtitles and sentence to seconds
    monkeypatch.chdir(tmp_path)
    row = json.loads((data / "train" / "metadata.jsonl").read_text().splitlines()[0])
    shutil.copy(data / "train" / row["file_name"], "talk.mp4")
    shutil.copy(data / "train" / row["subtitles"], "talk.srt")
    (program,) = (block for block in README.split("```python\n") if "moments_of_video" in block)
    ours = {'"hero"': '"run"', '{"slowfast": "slowfast-r50"}': '{"clip-vit": "extractor"}'}
    ours["she explains the second slide"] = row["moments"][0]["text"]
    for theirs, own in ours.items():
        assert theirs in program
        program = program.replace(theirs, own)
    capsys.readouterr()
    exec(program.partition("```")[0], {})  # noqa: S102  the README's own program
    start_and_end = [float(word) for word in capsys.readouterr().out.split()]
    assert start_and_end in [[moment["start"], moment["end"]] for moment in row["moments"]]


# ---- real clips ----

VIDEOS = SHARED / "data" / "video"
NUM_VIDEOS = 5


def read_clip(path: Path, seconds: float) -> list[np.ndarray]:
    """Small frames of a clip, cut or repeated to so many seconds."""
    count = int(seconds * RATE)

    def read(stream):
        whole = stream.whole
        shown = constant_rate_indices(whole.ticks, whole.end, whole.time_base, RATE)[:count]
        return stack_pictures(stream, shown.tolist(), (SIDE, SIDE))

    frames = with_stream(read, path).permute(0, 2, 3, 1).numpy()
    return [frames[number % len(frames)] for number in range(count)]


def read_lines(name: str) -> dict[str, dict]:
    lines = (VIDEOS / "annotations" / name).read_text().splitlines()
    return {row["video_id"]: row for row in map(json.loads, lines)}


def write_joined_clips(root: Path) -> None:
    """
    The 37 clips, each of 6, 9 or 12 s, as videos of 60 to 69 s. A subtitle says the first caption of each.

    Writes `moments`, with the other captions as queries, `questions` about the same videos, and `captions` of one of
    them, the first words alone: a step over the whole vocabulary of RoBERTa takes its time.
    """
    captions, questions = read_lines("captions.jsonl"), read_lines("qa_multiple_choice.jsonl")
    (root / "moments").mkdir(parents=True)
    moments, asked = [], []
    for number in range(NUM_VIDEOS):
        name = f"joined{number}"
        about = {"file_name": f"{name}.mp4", "subtitles": f"{name}.{'vtt' if number % 2 else 'srt'}", "split": "test"}
        frames, spoken, found, end = [], [], [], 0.0
        for place, clip in enumerate(list(captions)[number::NUM_VIDEOS]):
            seconds = (6.0, 9.0, 12.0)[place % 3]
            frames += read_clip(VIDEOS / captions[clip]["file"], seconds)
            start, end = end, end + seconds
            said, *queries = captions[clip]["captions"]
            spoken.append((" ".join(said.split()[:5]), start, end))
            found += [{"text": query, "start": start, "end": end} for query in queries]
            question = questions[clip]
            choices = {"question": question["question"], "choices": question["options"], "answer": question["answer"]}
            asked.append({**about, **choices, "answer_start": start, "answer_end": end})
        write_video(root / "moments" / f"{name}.mp4", frames, RATE)
        write_subtitles(root / "moments" / about["subtitles"], spoken)
        moments.append({**about, "moments": found})
    about = {name: value for name, value in moments[1].items() if name != "moments"}
    last = {one["start"]: one for one in moments[1]["moments"]}.values()  # of the captions of each clip
    captioned = [{**about, "captions": [{**one, "text": " ".join(one["text"].split()[:5])} for one in last]}]
    for folder in ("questions", "captions"):
        shutil.copytree(root / "moments", root / folder)
    for folder, rows in (("moments", moments), ("questions", asked), ("captions", captioned)):
        (root / folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


with_videos = pytest.mark.skipif(not VIDEOS.exists(), reason="needs the shared video set, ../shared/data/video")


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """The folders of `write_joined_clips`."""
    root = tmp_path_factory.mktemp("joined")
    write_joined_clips(root)
    return root


@pytest.fixture(scope="module")
def features(joined):
    """Of the joined clips. Those that a training has made stay."""
    assert command(extract(joined / "features", joined / "moments")) == 0
    return joined / "features"


@pytest.fixture(scope="module")
def roberta():
    return RobertaTokenizer.from_pretrained(SHARED / "data" / "tokenizers" / "roberta")


@pytest.mark.timeout(900)
@with_videos
def test_clips_are_found_and_questions_answered(joined, roberta):
    """Learnt by heart: the sentences and questions of the test are those of the training."""
    tmp_path = joined
    features, extractor = tmp_path / "features", write_extractor(tmp_path / "extractor")
    extracting = {"losses": LOSSES, "extractors": {"clip-vit": str(extractor)}}
    recipes = {  # the first one extracts the features
        "moments": ("run_moment_retrieval", HeroForVideoTextRetrieval, {"max_steps": 120, **extracting}),
        "questions": ("run_question_answering", HeroForMultipleChoice, {"max_steps": 110}),
    }
    for name, (script, model_class, own) in recipes.items():
        base, output = write_base(tmp_path / f"{name}_base", model_class, roberta), tmp_path / f"{name}_run"
        where = {"model": base, "data_dir": tmp_path / name, "features": features, "output_dir": output}
        recipe = {**RECIPE, "train_split": "test", "per_device_train_batch_size": 8, **own, **where}
        run(f"hf_videolang.training.{script}", *options(**recipe))
    scores = {}
    for name in recipes:
        (evaluation,) = json.loads((tmp_path / f"{name}_run" / "eval_results.json").read_text())["evaluations"]
        scores[name] = evaluation["scores"]["raw"]
    assert scores["moments"]["VCMR_IoU0.7"]["R1"] >= 0.9, scores["moments"]
    assert scores["questions"]["overall"]["accuracy"] >= 0.95 and scores["questions"]["overall"]["questions"] == 37

    row = json.loads((tmp_path / "moments" / "metadata.jsonl").read_text().splitlines()[2])
    moment, about = row["moments"][6], tmp_path / "moments" / row["file_name"]
    asked = json.loads((tmp_path / "questions" / "metadata.jsonl").read_text().splitlines()[20])
    video = tmp_path / "questions" / asked["file_name"]
    common = ["--features", features, "--json", "--model"]
    running = [
        start("hf_videolang.cli", "moments", about, moment["text"], *common, tmp_path / "moments_run"),
        start(
            *("hf_videolang.cli", "ask", video, asked["question"], "--choices", *asked["choices"]),
            *(*common, tmp_path / "questions_run"),
        ),
    ]
    printed = [json.loads(finish(process).splitlines()[-1]) for process in running]
    best = printed[0]["moments"][0]
    assert temporal_iou([(best["start"], best["end"])], (moment["start"], moment["end"])) >= 0.7
    assert printed[1]["answers"][0]["answer"] == asked["choices"][asked["answer"]]

    trained = tmp_path / "moments_run", tmp_path / "moments", features, "test"
    assert recall(*trained, shift=1)["VCMR"] < recall(*trained)["VCMR"]


@pytest.fixture(scope="module")
def clip_enhanced(tmp_path_factory, roberta):
    """The folder that the command makes of a small CLIP and a small RoBERTa with random weights."""
    folder = tmp_path_factory.mktemp("clip_enhanced")
    set_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    CLIPTextModel(CLIPTextConfig(**sizes)).save_pretrained(folder / "clip")
    AutoTokenizer.from_pretrained(SHARED / "data" / "tokenizers" / "clip").save_pretrained(folder / "clip")
    part = {**PART, "num_hidden_layers": 1, "max_position_embeddings": 110}
    words = RobertaForMaskedLM(RobertaConfig(**part, vocab_size=len(roberta), pad_token_id=1))
    words.save_pretrained(folder / "roberta")
    roberta.save_pretrained(folder / "roberta")
    names = ("f_config", "c_config", "q_config", "d_config")  # of the authors' configuration
    (folder / "layers.json").write_text(json.dumps(dict.fromkeys(names, part)))
    given = ["--clip", folder / "clip", "--roberta", folder / "roberta", "--config", folder / "layers.json"]
    given += ["--features", "none", "--video-feature-size", 32, "--output-dir", folder / "start"]
    assert command(["init-clip-enhanced", *map(str, given)]) == 0
    return folder / "start"


@with_videos
@pytest.mark.parametrize("system", ["hero", "clip_enhanced"])
def test_clips_are_captioned(joined, features, roberta, clip_enhanced, tmp_path, capsys, monkeypatch, system):
    """Learnt by heart, and written by the command in its three formats."""
    monkeypatch.setattr(caption_metrics.shutil, "which", lambda name: None)  # METEOR takes seconds to start
    base, data = clip_enhanced, joined / "captions"
    if system == "hero":
        base = write_base(tmp_path / "base", HeroForVideoCaptioning, roberta)
    where = {"model": base, "data_dir": data, "features": features, "output_dir": tmp_path / "run"}
    recipe = {**RECIPE, "train_split": "test", "test": False, "max_steps": 70, "per_device_train_batch_size": 1}
    words = options(**recipe, **where, label_smoothing=0.0)
    run("hf_videolang.training.run_captioning", *words)

    row = json.loads((data / "metadata.jsonl").read_text())
    spans = [f"{one['start']:g}-{one['end']:g}" for one in row["captions"]]
    words = ["caption", str(data / row["file_name"]), "--model", str(tmp_path / "run")]
    words += ["--features", str(features), "--cpu", "--segments", *spans, "--format"]
    printed = {}
    for kind in ("table", "json", "srt"):
        capsys.readouterr()
        assert command([*words, kind]) == 0
        printed[kind] = capsys.readouterr().out
    texts = [one["text"] for one in json.loads(printed["json"])["captions"]]
    (tmp_path / "seen.srt").write_text(printed["srt"])
    assert [one["text"] for one in read_subtitles(tmp_path / "seen.srt")] == texts
    assert [line[19:] for line in printed["table"].splitlines()] == texts
    references = [[one["text"]] for one in row["captions"]]
    own, of_others = (score_captions(some, references)["CIDEr"] for some in (texts, texts[1:] + texts[:1]))
    assert own > 100 and own >= 5 * of_others, (texts, references)


@with_videos
def test_clip_enhanced_finds_clips(joined, features, clip_enhanced, tmp_path):
    """From its start folder; learnt by heart."""
    where = {"model": clip_enhanced, "data_dir": joined / "moments", "features": features}
    recipe = {**RECIPE, "train_split": "test", "max_steps": 100, "losses": LOSSES}
    assert train_moments(options(**recipe, **where, output_dir=tmp_path / "run")) == 0
    (evaluation,) = json.loads((tmp_path / "run" / "eval_results.json").read_text())["evaluations"]
    assert evaluation["scores"]["raw"]["VCMR_IoU0.7"]["R1"] >= 0.9, evaluation["scores"]["raw"]
