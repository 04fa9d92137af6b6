"""Presets of `extract`: VALUE's features, against the same models run by hand on the frames that FFmpeg gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel

from hf_videolang.cli import main
from hf_videolang.data.benchmarks.value_features import VALUE_FEATURES, WIDTHS
from hf_videolang.data.moving_shapes import write_video
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.inference import presets as presets_module
from hf_videolang.inference.preset_extractor import load_preset
from hf_videolang.inference.presets import find_presets, presets, read_weights
from hf_videolang.video.filtered_frames import filtered_rows
from hf_videolang.video.interval_sampling import interval_clips, middle_frames
from tests.common.tiny import s3d, slowfast
from tests.video.making import picture, write_frames

SECONDS = {"long": (4, 25), "short": (1, 30), "slow": (3, 5)}  # and frames a second
SIDE = 64  # in place of 224
NARROW = {"width_per_group": 4}  # of ResNet-152's bottlenecks; it still gives 2048 numbers
CONFIGS = {"value-resnet152": NARROW}
MEAN, STD = (torch.tensor(each).view(3, 1, 1) for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the four models, by the names of their features."""
    folder = tmp_path_factory.mktemp("weights")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    texts = {**tower, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(vision_config={**tower, "image_size": SIDE}, text_config=texts, projection_dim=16)
    CLIPModel(config).save_pretrained(folder / "clip-vit")
    slowfast.tiny_model(num_frames=32).save_pretrained(folder / "slowfast")
    s3d.tiny_model().save_pretrained(folder / "mil-nce")
    (folder / "resnet").mkdir()
    torch.save(torchvision.models.resnet152(**NARROW).state_dict(), folder / "resnet" / "resnet152.pth")
    return {name: folder / name for name in ("clip-vit", "slowfast", "mil-nce", "resnet")}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The presets with small pictures and a narrow ResNet."""
    changed = {
        name: replace(preset, shortest_edge=SIDE, crop=preset.crop and SIDE, config=CONFIGS.get(name, preset.config))
        for name, preset in presets().items()
    }
    monkeypatch.setattr(presets_module, "presets", lambda: changed)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, (name, (seconds, rate)) in enumerate(SECONDS.items()):
        pictures = [picture(1000 * number + i, 48, 32) for i in range(seconds * rate)]
        write_video(folder / f"{name}.mp4", pictures, frames_per_second=rate)
    return folder


def extract(preset, weights, videos, output, *words) -> int:
    given = [word for name, path in weights.items() for word in ("--extractor", f"{name}={path}")]
    words = [*given, "--videos", videos, "--output", output, "--cpu", "--num-workers", "0", *words]
    return main(["extract", "--preset", preset, *map(str, words)])


def frames(videos, name, choose, crop) -> torch.Tensor:
    """Of all rows, `[rows, frames, 3, height, width]` in 0..1."""
    parts = [part for _, part in filtered_rows(videos / f"{name}.mp4", choose, SIDE, crop and (crop, crop), 100)]
    return torch.from_numpy(np.concatenate(parts)).movedim(-1, 2) / 255


@torch.no_grad()
def by_hand(features: str, weights, videos, name: str) -> torch.Tensor:
    """As hero A1, A2 and A3 write it."""
    if features in ("resnet", "clip-vit"):
        crop = None if features == "resnet" else SIDE
        pixels = frames(videos, name, lambda stream: middle_frames(stream.whole, 1.5), crop)[:, 0]
    else:
        pixels = frames(videos, name, lambda stream: interval_clips(stream.whole, 1.5, 32), SIDE)
    match features:
        case "resnet":
            assert pixels.shape[2:] == (64, 96)  # the whole frame
            model = torchvision.models.resnet152(**NARROW).eval()
            model.load_state_dict(torch.load(weights["resnet"] / "resnet152.pth"))
            stages = torch.nn.Sequential(*list(model.children())[:-2])
            return normalize(stages((pixels - MEAN) / STD).mean(dim=(2, 3)), dim=-1)
        case "clip-vit":
            pixels = torchvision.transforms.functional.normalize(
                pixels, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
            )
            return CLIPModel.from_pretrained(weights["clip-vit"]).get_image_features(pixels).pooler_output
        case "slowfast":
            return slowfast.tiny_model(num_frames=32).slowfast((pixels - 0.45) / 0.225).pooler_output
        case _:
            return s3d.tiny_model().video_model.encode_clips(pixels)


@pytest.mark.parametrize("name", ["value-resnet152", "value-clip-vit-b32", "value-slowfast-r50", "value-s3d"])
def test_rows_are_those_of_the_model_alone(name, weights, videos, tmp_path, capsys):
    features = presets()[name].features
    assert extract(name, {features: weights[features]}, videos, tmp_path / "store") == 0
    store = FeatureStore(tmp_path / "store")
    assert [len(store.features(video)) for video in SECONDS] == [3, 2 if features in ("resnet", "clip-vit") else 1, 2]
    for video in SECONDS:
        expected = by_hand(features, weights, videos, video)
        torch.testing.assert_close(store.features(video), expected, atol=2e-3, rtol=2e-3, msg=f"{video}")
    (facts,) = store.extractors
    assert facts["features"] == features and facts["rows_per_second"] == pytest.approx(2 / 3)
    assert facts["normalized"] is (features == "resnet") and facts["version"].startswith("sha256:")
    told = "note: slow: it has 5 frames a second, so " in capsys.readouterr().out
    assert told is (features in ("slowfast", "mil-nce"))


def test_joined_rows_stand_frames_first_and_are_cut_to_the_shorter(weights, videos, tmp_path):
    given = {"clip-vit": weights["clip-vit"], "slowfast": weights["slowfast"]}
    assert extract("clip-vit_slowfast", given, videos, tmp_path / "both", "--videos-per-part", 1) == 0
    both, parts = FeatureStore(tmp_path / "both"), [by_hand(name, weights, videos, "short") for name in given]
    assert [len(part) for part in parts] == [2, 1] and both.dim == 16 + 320
    torch.testing.assert_close(
        both.features("short"), torch.cat([part[:1] for part in parts], 1), atol=2e-3, rtol=2e-3
    )
    assert [len(both.features(name)) for name in SECONDS] == [3, 1, 2]
    assert [facts["features"] for facts in both.extractors] == ["clip-vit", "slowfast"]
    assert [facts["width"] for facts in both.extractors] == [16, 320]
    assert "value-clip-vit-b32" in both.description and "value-slowfast-r50" in both.description
    before = {file.name: file.read_bytes() for file in both.folder.glob("*.parquet")}
    next(both.folder.glob("*.parquet")).unlink()  # as after a kill
    assert extract("clip-vit_slowfast", given, videos, tmp_path / "both", "--videos-per-part", 1) == 0
    assert {file.name: file.read_bytes() for file in both.folder.glob("*.parquet")} == before


def test_a_broken_video_has_no_rows_and_a_store_of_other_features_is_refused(weights, videos, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "short.mp4").write_bytes((videos / "short.mp4").read_bytes())
    (mine / "text.mp4").write_text("dear diary")
    write_frames(mine / "pictures", 3)
    clip = {"clip-vit": weights["clip-vit"]}
    assert extract("clip-vit", clip, mine, tmp_path / "store") == 1
    report = capsys.readouterr().out
    assert "broken: text: Invalid data" in report
    assert "broken: pictures: its frame rate is unknown; make a video file of the pictures" in report
    assert extract("clip-vit_slowfast", clip | {"slowfast": weights["slowfast"]}, mine, tmp_path / "store") == 2
    assert "made with other settings" in capsys.readouterr().err


def test_the_batch_changes_nothing(weights, videos):
    few, many = (
        load_preset("mil-nce", weights={"mil-nce": weights["mil-nce"]}, batch_size=size)[0] for size in (1, 8)
    )
    video = {"path": str(videos / "long.mp4")}
    rows = [torch.cat([extractor(inputs) for _, inputs in extractor.reader(video)]) for extractor in (few, many)]
    torch.testing.assert_close(rows[0], rows[1], atol=1e-5, rtol=1e-5)
    assert few.facts == many.facts


def test_names_are_those_of_value():
    """Eight kinds of features (hero §1), and four files, of the sizes that hero A1, A2 and A3 give."""
    for name in WIDTHS:
        assert [preset.features for preset in find_presets(name)] == name.split("_")
    assert {preset.features for preset in presets().values()} == VALUE_FEATURES.keys()
    assert [[preset.name for preset in find_presets(name)] for name in presets()] == [[name] for name in presets()]
    sizes = {
        preset.features: (preset.seconds_per_row, preset.shortest_edge, preset.crop) for preset in presets().values()
    }
    assert sizes == {"resnet": (1.5, 224, None), **dict.fromkeys(("clip-vit", "slowfast", "mil-nce"), (1.5, 224, 224))}
    assert [name for name, preset in presets().items() if preset.unit_rows] == ["value-resnet152"]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("slowfast_clip-vit", {}, "no preset 'slowfast_clip-vit'; expected one of clip-vit, clip-vit_mil-nce"),
        ("slowfast", {}, "value-slowfast-r50 needs weights: .* --extractor slowfast=DIR"),
        ("resnet", {"slowfast": "x"}, "weights are given for slowfast, but resnet is made of resnet"),
        ("resnet", {"resnet": "nowhere"}, "nowhere is no file of weights, nor a folder with a single .pth file"),
        ("slowfast", {"slowfast": "/nowhere/slowfast"}, "/nowhere/slowfast"),
    ],
)
def test_wrong_use_is_told(name, given, message):
    with pytest.raises((ValueError, OSError), match=message):
        load_preset(name, given)
    with pytest.raises(ValueError, match="'resnet=' is no NAME=DIR"):
        read_weights(["clip-vit=a", "resnet="])


@pytest.mark.parametrize("words", [("--model", "m", "--extractor", "slowfast=x"), ("--preset", "resnet", "--raw")])
def test_options_of_the_other_kind_are_refused(videos, tmp_path, capsys, words):
    assert main(["extract", *words, "--videos", str(videos), "--output", str(tmp_path / "store")]) == 2
    assert "--raw belongs to --model, and --extractor to --preset" in capsys.readouterr().err


def test_weights_of_another_model_are_refused(weights, tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="resnet18.pth holds no weights of torchvision's resnet152"):
        load_preset("resnet", {"resnet": tmp_path / "resnet18.pth"})
    model = CLIPModel.from_pretrained(weights["clip-vit"])
    model.save_pretrained(tmp_path / "clip", state_dict={"logit_scale": model.logit_scale})
    with pytest.raises(ValueError, match="lacks weights of CLIPModel, such as text_model"):
        load_preset("clip-vit", {"clip-vit": tmp_path / "clip"})
    with pytest.raises(ValueError, match="holds a model of type 'clip'; value-slowfast-r50 needs one of .*'slowfast'"):
        load_preset("slowfast", {"slowfast": weights["clip-vit"]})
