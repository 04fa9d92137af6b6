"""The folder from which CLIP-Enhanced is trained: from folders as on the Hub, and from OpenAI's file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoProcessor,
    AutoTokenizer,
    CLIPModel,
    RobertaForMaskedLM,
)

from hf_videolang.cli import main
from hf_videolang.conversion.clip_enhanced import init_clip_enhanced
from hf_videolang.conversion.openai_clip import OPENAI_BLOCKS, openai_origin
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from hf_videolang.models.hero.processing_hero import HeroProcessor
from tests.common.clip_enhanced import WIDTH, write_hub_folders
from tests.common.hub_stand_in import HubStandIn
from tests.common.tiny.hero import CLIP_WORDS, WORDS
from tests.parity.cases import REPOSITORY, SHARED

TOKENIZERS = SHARED / "data" / "tokenizers"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return write_hub_folders(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="module")
def hub():
    with HubStandIn() as hub:
        yield hub


@pytest.fixture(scope="module")
def start(folders, hub) -> Path:
    """Made and pushed by the command, in a process of its own."""
    options = ["--features", "clip-vit_slowfast", "--output-dir", folders / "start", "--push-to-hub", "tester/start"]
    given = ["--clip", folders / "clip", "--roberta", folders / "roberta", *options]
    command = [sys.executable, "-m", "hf_videolang.cli", "init-clip-enhanced", *map(str, given)]
    environment = {**os.environ, **hub.environment(folders / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "CLIP-Enhanced before training" in done.stdout
    return folders / "start"


def test_the_report_says_of_every_tensor_where_it_is_from(folders, start):
    report = json.loads((start / "conversion_report.json").read_text())
    made = {name: key for key, names in report["renamed"].items() for name in names}
    model = HeroForVideoTextRetrieval.from_pretrained(start)
    state = model.state_dict() | AutoModelForMultipleChoice.from_pretrained(start).state_dict()
    state |= HeroForVideoCaptioning.from_pretrained(start).state_dict()
    assert torch.equal(state.pop("lm_head.decoder.weight"), state["caption_words.weight"])
    assert made.keys() | report["created"].keys() == state.keys() and not made.keys() & report["created"].keys()
    clip, roberta = (
        CLIPModel.from_pretrained(folders / "clip"),
        RobertaForMaskedLM.from_pretrained(folders / "roberta"),
    )
    sources = {"clip": clip.state_dict(), "roberta": roberta.state_dict()}
    for name, key in made.items():
        kind, _, theirs = key.partition(": ")
        expected = sources[kind][theirs]
        assert torch.equal(state[name][: len(expected)], expected.expand_as(state[name][: len(expected)])), name
    own = "hero.cross_modal_model.encoder.layer"
    assert made[f"{own}.1.output.dense.weight"] == "roberta: roberta.encoder.layer.3.output.dense.weight"
    assert report["dropped"]["roberta: roberta.encoder.layer.2.output.dense.weight"].startswith("of every 2 layers")
    assert report["dropped"]["roberta: roberta.embeddings.position_embeddings.weight"] == "CLIP has the positions"
    assert "hero.cross_modal_model.embeddings.projection.weight" in report["created"]
    assert "seed 42" in report["created"]["hero.temporal_model.encoder.layer.0.output.dense.weight"]
    assert made["caption_words.weight"] == "roberta: roberta.embeddings.word_embeddings.weight"
    config = model.config
    assert (config.text_config.bos_token_id, config.text_config.eos_token_id) == (
        len(CLIP_WORDS) - 2,
        len(CLIP_WORDS) - 1,
    )
    assert (config.cross_modal_config.num_hidden_layers, config.temporal_config.num_hidden_layers) == (6, 3)
    assert {part.num_attention_heads for part in (config.cross_modal_config, config.temporal_config)} == {4}
    assert (config.video_feature_size, config.features) == (2816, "clip-vit_slowfast")


@torch.no_grad()
def test_every_class_takes_the_folder(start):
    processor = AutoProcessor.from_pretrained(start)
    assert processor.tokenizer("a")["input_ids"] == [len(CLIP_WORDS) - 2, 1, len(CLIP_WORDS) - 1]
    assert processor.caption_tokenizer("a")["input_ids"] == [WORDS.index("a")]
    video = {"video_features": torch.randn(6, 2816), "subtitles": [{"start": 0.0, "end": 4.0, "text": "a b"}]}
    assert AutoModel.from_pretrained(start)(**processor(**video)).last_hidden_state.isfinite().all()
    output = HeroForVideoTextRetrieval.from_pretrained(start)(**processor(**video, text=["b", "a c"]))
    assert output.logits_per_text.shape == (2, 1)
    choice = AutoModelForMultipleChoice.from_pretrained(start)
    assert choice(**processor(**video, question="a", choices=["b", "c"])).logits.shape == (1, 2)
    captioning = HeroForVideoCaptioning.from_pretrained(start)
    written = captioning.generate(**processor(**video), max_new_tokens=5)
    assert len(processor.batch_decode(written)) == 1 and written.max() < len(WORDS)  # not those that fill up
    statement = AutoModelForSequenceClassification.from_pretrained(start)
    assert statement(**processor(**video, statement="a b")).logits.shape == (1, 1)


@pytest.mark.parametrize("place", ["", "caption_tokenizer"])
def test_a_folder_without_a_tokenizer_is_told(start, tmp_path, place):
    shutil.copytree(start, tmp_path, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    for file in (tmp_path / place).glob("tokenizer*.json"):
        file.unlink()
    with pytest.raises(ValueError, match=f"{tmp_path / place} lacks its tokenizer; expected tokenizer.json and"):
        AutoProcessor.from_pretrained(tmp_path)


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="needs ../shared/data/tokenizers")
@pytest.mark.parametrize("place", ["", "caption_tokenizer"])
def test_a_tokenizer_without_its_words_is_told(tmp_path, place):
    """transformers would load one that knows no word."""
    clip, roberta = (AutoTokenizer.from_pretrained(TOKENIZERS / name) for name in ("clip", "roberta"))
    HeroProcessor(clip, text_encoder="clip", caption_tokenizer=roberta).save_pretrained(tmp_path)
    (tmp_path / place / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=f"{tmp_path / place} lacks its tokenizer"):
        AutoProcessor.from_pretrained(tmp_path)


REMOTE = """
import sys, torch
from transformers import AutoModel, AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
shown = [{"start": 0.0, "end": 4.0, "text": "a b"}]
with torch.no_grad():
    states = model(**processor(video_features=torch.ones(6, 2816), subtitles=shown)).last_hidden_state
assert "hf_videolang" not in sys.modules and processor.caption_tokenizer is not processor.tokenizer
torch.save(states, sys.argv[2])
"""


@torch.no_grad()
def test_the_pushed_folder_works_without_the_package(start, hub, tmp_path):
    files = hub.files("tester/start")
    assert {"model.safetensors", "tokenizer.json", "caption_tokenizer/tokenizer.json"} <= set(files)
    assert "released neither weights nor code" in files["README.md"].decode()
    (script := tmp_path / "remote.py").write_text(REMOTE)
    hide = [REPOSITORY / "tests" / "common" / "without.py", "hf_videolang,av,torchcodec,datasets,evaluate"]
    command = [sys.executable, "-I", *hide, script, "tester/start", tmp_path / "found.pt"]
    environment = {**os.environ, **hub.environment(tmp_path / "home")}
    subprocess.run([*map(str, command)], check=True, cwd=tmp_path, env=environment)
    processor, shown = AutoProcessor.from_pretrained(start), [{"start": 0.0, "end": 4.0, "text": "a b"}]
    inputs = processor(video_features=torch.ones(6, 2816), subtitles=shown)
    own = AutoModel.from_pretrained(start)(**inputs).last_hidden_state
    torch.testing.assert_close(torch.load(tmp_path / "found.pt"), own)


def openai_file(folder: Path, path: Path) -> Path:
    """The tensors of a CLIP on the Hub under OpenAI's names, with its numbers."""
    state, stacked, written = CLIPModel.from_pretrained(folder).state_dict(), {}, {}
    for name, value in state.items():
        if "position_ids" in name:
            continue
        key, _ = openai_origin(name)
        if "in_proj" in key:
            stacked.setdefault(key, {})[name.split(".")[-2]] = value
        else:
            written[key] = value.mT.contiguous() if "projection" in name else value
    for key, parts in stacked.items():
        written[key] = torch.cat([parts[f"{part}_proj"] for part in "qkv"])
    assert any(key.startswith(OPENAI_BLOCKS["text_model.encoder.layers"]) for key in written)
    written |= {"context_length": torch.tensor(12), "vocab_size": torch.tensor(len(CLIP_WORDS))}
    torch.save(written, path)
    return path


def test_openais_file_gives_the_same(folders, start, tmp_path):
    file = openai_file(folders / "clip", tmp_path / "ViT-B-32.pt")
    options = {"clip_tokenizer": folders / "clip"}
    init_clip_enhanced(file, folders / "roberta", tmp_path / "start", **options)
    one, other = AutoModel.from_pretrained(start), AutoModel.from_pretrained(tmp_path / "start")
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    assert one.config.text_config.to_dict().items() >= {"hidden_size": WIDTH, "num_attention_heads": 1}.items()
    assert other.config.text_config.num_hidden_layers == 2


def test_alternatives_of_the_reading(folders, tmp_path):
    options = {"cross_modal": "random", "text_norm": False, "caption_vocabulary": "clip"}
    report = init_clip_enhanced(folders / "clip", folders / "roberta", tmp_path / "start", **options)
    assert "hero.cross_modal_model.encoder.layer.0.output.dense.weight" in report["created"]
    assert report["dropped"]["roberta: roberta.embeddings.LayerNorm.bias"] == "no norm follows the projection"
    why = report["dropped"]["roberta: roberta.encoder.layer.1.output.dense.weight"]
    assert why == "the cross-modal BERT starts at random"
    assert report["dropped"]["roberta: lm_head.dense.weight"] == "captions have CLIP's words"
    model, processor = (one.from_pretrained(tmp_path / "start") for one in (HeroForVideoCaptioning, AutoProcessor))
    ends = [len(CLIP_WORDS) - 2, len(CLIP_WORDS) - 1]
    assert [model.generation_config.decoder_start_token_id, model.generation_config.eos_token_id] == ends
    assert processor.caption_tokenizer is processor.tokenizer and model.caption_words.weight.shape == (59, 48)
    assert "captions have RoBERTa's" not in (tmp_path / "start" / "README.md").read_text()
    tied = {"caption_vocabulary": "clip_tied", "features": "none", "video_feature_size": "16"}
    report = init_clip_enhanced(folders / "clip", folders / "roberta", tmp_path / "tied", **tied)
    assert "caption_projection.weight" in report["created"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"roberta": "clip"}, "clip is no RoBERTa for masked words"),
        ({"clip": "roberta"}, "has no embeddings.token_embedding.weight; expected a CLIP"),
        ({"features": "pixels"}, "--features is 'pixels'; expected none or one of resnet"),
        ({"clip_tokenizer": "roberta"}, "The tokenizer .*roberta does not fit: to it an empty text is"),
        ({"clip_tokenizer": "nowhere"}, "The tokenizer .*nowhere cannot be loaded.*--clip-tokenizer.*CLIP's"),
        ({"roberta_tokenizer": "clip"}, "does not fit: it has"),
    ],
)
def test_what_does_not_fit_is_refused(folders, tmp_path, changed, message):
    names = ("clip", "roberta", "clip_tokenizer", "roberta_tokenizer")
    options = {name: folders / value if name in names else value for name, value in changed.items()}
    with pytest.raises(ConversionError, match=f"(?s){message}"):
        init_clip_enhanced(
            **{"clip": folders / "clip", "roberta": folders / "roberta", **options}, output_dir=tmp_path / "a"
        )
    assert not (tmp_path / "a").exists()


def test_a_clip_of_another_width_than_its_config_is_refused(folders, tmp_path, capsys):
    (tmp_path / "clip").mkdir()
    for file in (folders / "clip").iterdir():
        (tmp_path / "clip" / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    config["text_config"]["hidden_size"] = 32
    (tmp_path / "clip" / "config.json").write_text(json.dumps(config))
    given = ["--clip", tmp_path / "clip", "--roberta", folders / "roberta", "--output-dir", tmp_path / "start"]
    assert main(["init-clip-enhanced", *map(str, given)]) == 1
    assert "token_embedding.weight has shape [59, 64], expected [59, 32]" in capsys.readouterr().err


def test_a_hero_starts_from_roberta_alone(folders, tmp_path, capsys):
    arguments = ["convert", str(folders / "roberta"), "--output-dir", str(tmp_path / "hero")]
    assert main(arguments) == 1
    assert "is a RoBERTa. Start a HERO with --from-roberta" in capsys.readouterr().err
    assert main([*arguments, "--from-roberta", "--features", "clip-vit_slowfast"]) == 0
    assert (
        "convert model.safetensors --from-roberta --features clip-vit" in (tmp_path / "hero" / "README.md").read_text()
    )
    model = HeroForVideoTextRetrieval.from_pretrained(tmp_path / "hero")
    words = model.get_input_embeddings().weight
    assert words.shape == (64, 48) and not words[len(WORDS) :].any()
    types = model.hero.cross_modal_model.embeddings.token_type_embeddings.weight
    assert torch.equal(types[0], types[1])
    again = [*arguments[:-1], str(tmp_path / "again")]
    assert main([*again[:1], str(tmp_path / "hero"), *again[2:], "--from-roberta"]) == 1
