"""Every layout of the releases converts to the same numbers; what does not fit is refused and named."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoProcessor,
    AutoVideoProcessor,
    BertConfig,
    BertForPreTraining,
    ResNetConfig,
    ResNetForImageClassification,
)

import hf_videolang
from hf_videolang.conversion.clipbert.conversion import HEADS, _config, _head
from hf_videolang.conversion.clipbert.layouts import drop_reason, find_layout
from hf_videolang.conversion.clipbert.settings import Settings
from hf_videolang.conversion.families import convert
from hf_videolang.conversion.tensor_map import model_tensors
from hf_videolang.conversion.untrusted import Checkpoint, ConversionError
from hf_videolang.models.clipbert.modeling_clipbert import (
    ClipBertForMultipleChoice,
    ClipBertForPreTraining,
    ClipBertForVideoTextRetrieval,
    ClipBertForVisualQuestionAnswering,
)
from hf_videolang.models.clipbert.video_processing_clipbert import ClipBertVideoProcessor
from tests.common.tiny.clipbert import tiny_inputs, tiny_model, tiny_tokenizer
from tests.conversion.clipbert.original_layout import UNUSED_TABLE, original_layout
from tests.parity.cases import SHARED

MODEL_CONFIG = {"num_attention_heads": 4, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ARGS = {
    "max_img_size": 128,
    "max_txt_len": 12,
    "num_frm": 2,
    "fps": 1,
    "inference_n_clips": 16,
    "score_agg_func": "lse",
}
VARIANTS = {
    "pre-training": (ClipBertForPreTraining, {}, {}),
    "retrieval": (ClipBertForVideoTextRetrieval, {}, {"itm_neg_size": 1, "loss_type": "ce"}),
    "ranking": (
        ClipBertForVideoTextRetrieval,
        {"retrieval_loss": "ranking"},
        {"itm_neg_size": 1, "loss_type": "rank", "margin": 0.3, "score_agg_func": "max"},
    ),
    "action": (ClipBertForMultipleChoice, {}, {"task": "action"}),
    "two answers": (ClipBertForVisualQuestionAnswering, {"num_labels": 2}, {"task": "frameqa"}),
    "vqa": (ClipBertForVisualQuestionAnswering, {"num_labels": 9}, {"loss_type": "bce"}),
    "count": (ClipBertForVisualQuestionAnswering, {"problem_type": "regression"}, {}),
}


def run_folder(folder: Path, **args) -> Path:
    """`log/` of a training run."""
    folder.mkdir(exist_ok=True)
    (folder / "model_config.json").write_text(json.dumps(MODEL_CONFIG))
    (folder / "args.json").write_text(json.dumps({**ARGS, **args}))
    return folder / "args.json"


def saved(values: dict, path: Path) -> Path:
    torch.save(values, path)
    return path


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_head_keeps_its_numbers(variant, tmp_path):
    model_class, options, args = VARIANTS[variant]
    model = tiny_model(model_class, **options)
    file = saved(original_layout(model), tmp_path / "model_step_7.pt")
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    config = run_folder(tmp_path / "log", **args)
    report = convert(file, tmp_path / "folder", config=config, tokenizer=tmp_path / "tokenizer")
    assert report["counts"]["created"] == 0
    assert {"cnn.feature.roi_heads.box_head.fc1.weight", UNUSED_TABLE} < set(report["dropped"])

    loaded = model_class.from_pretrained(tmp_path / "folder").eval()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert loaded.config.score_aggregation == {"ranking": "max"}.get(variant, "logsumexp")
    assert loaded.config.retrieval_loss == ("ranking" if variant == "ranking" else "cross_entropy")
    assert loaded.config.margin == (0.3 if variant == "ranking" else 0.2)
    problems = {
        "two answers": "single_label_classification",
        "vqa": "multi_label_classification",
        "count": "regression",
    }
    assert loaded.config.problem_type == problems.get(variant)
    processor = AutoProcessor.from_pretrained(tmp_path / "folder")
    assert type(processor) is hf_videolang.ClipBertProcessor
    video = processor.video_processor
    assert (video.size, video.num_frames, video.fps, video.num_clips) == ({"longest_edge": 128}, 2, 1, 16)
    assert video.single_clip == ("middle" if model_class is ClipBertForVideoTextRetrieval else "start")
    assert processor.max_length == 12
    card = (tmp_path / "folder" / "README.md").read_text()
    assert model_class.__name__ in card or "AutoModelFor" in card


def test_a_resume_file_in_half_precision(tmp_path):
    model = tiny_model(ClipBertForMultipleChoice)
    state = {name: value.half() for name, value in original_layout(model).items()}
    content = {"global_step": 7, "model_state_dict": state, "optim_state_dict": {}, "amp_state_dict": {}}
    config = run_folder(tmp_path / "log", task="transition")
    report = convert(saved(content, tmp_path / "restore.pt"), tmp_path / "folder", config=config.parent)
    assert {"global_step", "optim_state_dict", "amp_state_dict"} < set(report["dropped"])
    for name, value in ClipBertForMultipleChoice.from_pretrained(tmp_path / "folder").state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, model.state_dict()[name].half().float()), name
    assert type(AutoVideoProcessor.from_pretrained(tmp_path / "folder")) is ClipBertVideoProcessor
    assert "No tokenizer and no text processor were written" in " ".join(report["notes"])


def test_answers_name_the_rows(tmp_path):
    file = saved(original_layout(tiny_model(ClipBertForVisualQuestionAnswering, num_labels=4)), tmp_path / "a.pt")
    answers = tmp_path / "ans2label.json"
    answers.write_text('{"lamp": 0, "girl": 2}')
    convert(file, tmp_path / "folder", answers=answers, config=run_folder(tmp_path / "log"))
    model = ClipBertForVisualQuestionAnswering.from_pretrained(tmp_path / "folder")
    assert model.config.id2label == {0: "lamp", 1: "unused_1", 2: "girl", 3: "unused_3"}
    assert model.config.label2id["girl"] == 2
    for content, message in (
        ('{"lamp": 0, "girl": 9}', "numbers its answers 0 to 9, but the head has 4 rows"),
        ('{"lamp": 0, "girl": 0}', "is no answer list"),
        ("{}", "is no answer list"),
    ):
        answers.write_text(content)
        with pytest.raises(ConversionError, match=message):
            convert(file, tmp_path / "other", answers=answers, config=run_folder(tmp_path / "log"))


@pytest.mark.parametrize(
    ("options", "fitting", "head"),
    [
        ({"num_labels": 2}, "retrieval or question_answering", "question_answering"),
        ({"num_labels": 1}, "retrieval or multiple_choice", "multiple_choice"),
    ],
)
def test_a_head_that_shapes_do_not_tell_must_be_named(options, fitting, head, tmp_path):
    file = saved(original_layout(tiny_model(ClipBertForVisualQuestionAnswering, **options)), tmp_path / "a.pt")
    config = run_folder(tmp_path / "log")
    with pytest.raises(ConversionError, match=f"which fits {fitting}.*--config, or say it with --head"):
        convert(file, tmp_path / "folder", config=config)
    report = convert(file, tmp_path / "folder", config=config, head=head)
    assert report["head"] == head
    for given, message in (("captioning", "expected one of pre_training"), ("retrieval", "by args.json")):
        with pytest.raises(ConversionError, match=message):
            convert(file, tmp_path / "other", config=run_folder(tmp_path / "log", task="frameqa"), head=given)


def test_wrong_files_are_refused_and_nothing_is_left(tmp_path):
    values = original_layout(tiny_model())
    config = run_folder(tmp_path / "log", itm_neg_size=1)
    missing, other, tied = dict(values), dict(values), original_layout(tiny_model(ClipBertForPreTraining))
    del missing["cnn.feature.backbone.res3.1.conv2.norm.running_var"]
    other["transformer.bert.something"] = torch.ones(1)
    tied["transformer.cls.predictions.decoder.weight"] = tied["transformer.cls.predictions.decoder.weight"] + 1
    for content, its_config, message in (
        (missing, config, r"missing: cnn\.feature\.backbone\.res3\.1\.conv2\.norm\.running_var"),
        (other, config, r"unexpected: transformer\.bert\.something"),
        (tied, None, "differ, but ClipBERT ties them"),
    ):
        with pytest.raises(ConversionError, match=message):
            convert(saved(content, tmp_path / "a.pt"), tmp_path / "folder", config=its_config)
    file = saved(values, tmp_path / "a.pt")
    (tmp_path / "log" / "model_config.json").write_text('{"num_attention_heads": 4, "vocab_size": 98}')
    with pytest.raises(ConversionError, match="vocab_size: args.json says 98, the shapes say 97"):
        convert(file, tmp_path / "folder", config=config)
    (tmp_path / "no_config.json").write_text('{"sim_header": 1}')
    with pytest.raises(ConversionError, match="not a config of ClipBERT"):
        convert(file, tmp_path / "folder", config=tmp_path / "no_config.json")
    large = tiny_tokenizer()
    large.add_tokens([f"word{number}" for number in range(97)])
    large.save_pretrained(tmp_path / "large")
    run_folder(tmp_path / "log", itm_neg_size=1)
    with pytest.raises(ConversionError, match="entries, but the word table only 97"):
        convert(file, tmp_path / "folder", config=config, tokenizer=tmp_path / "large")
    with pytest.raises(ConversionError, match="holds a BERT already"):
        convert(file, tmp_path / "folder", config=config, bert=file)
    assert not (tmp_path / "folder").exists()


@torch.no_grad()
def test_a_resnet_and_a_bert_of_the_hub_become_an_untrained_clipbert(tmp_path):
    torch.manual_seed(0)
    resnet = ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[16, 32, 64, 128], depths=[1, 2, 1, 1], layer_type="bottleneck")
    ).eval()
    for name, buffer in resnet.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    bert = BertForPreTraining(
        BertConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    ).eval()
    resnet.save_pretrained(tmp_path / "resnet")
    bert.save_pretrained(tmp_path / "bert")
    with pytest.raises(ConversionError, match="holds a CNN alone. Pass the BERT"):
        convert(tmp_path / "resnet", tmp_path / "folder")
    report = convert(tmp_path / "resnet", tmp_path / "folder", bert=tmp_path / "bert")
    assert len(report["created"]) == 6 and all(
        "visual_embeddings" in name or "grid_encoder" in name for name in report["created"]
    )

    model = ClipBertForPreTraining.from_pretrained(tmp_path / "folder").eval()
    assert not model.config.stride_in_1x1 and model.config.channel_order == "RGB"
    pictures = tiny_inputs()["pixel_values_videos"].flatten(0, 2)
    expected, backbone = resnet.resnet(pictures).last_hidden_state, model.clipbert.cnn.backbone
    torch.testing.assert_close(backbone(backbone.frozen_stages()(pictures)), expected, atol=1e-4, rtol=1e-4)
    words = torch.randn(2, 5, 32)
    torch.testing.assert_close(model.cls.predictions(words), bert.cls.predictions(words))
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "folder")
    assert list(processor.image_std) == [58.395, 57.12, 57.375]


@pytest.mark.skipif(not (SHARED / "reference").is_dir(), reason="no shared/reference beside the repository")
def test_the_released_layouts_fit_the_model_at_full_size():
    """Names and shapes of every released file, without the memory of their tensors."""
    layouts = json.loads((SHARED / "reference" / "clipbert" / "full_size_keys.json").read_text())
    bert = "bert-base-uncased/pytorch_model.bin"

    def values(name: str) -> dict[str, torch.Tensor]:
        return {key: torch.empty(shape, device="meta") for key, shape, _ in layouts[name]["keys"]}

    for name in sorted(layouts.keys() - {bert}):
        content = values(name) | (values(bert) if name.startswith("grid_feat") else {})
        layout = find_layout(Checkpoint(Path(name), "torch.save", content))
        assert layout is not None
        head = _head(
            layout,
            Settings(),
            {
                "retrieval_ce": "retrieval",
                "retrieval_rank": "retrieval",
                "tgif_qa_action_or_transition": "multiple_choice",
            }.get(name.split("/")[0]),
        )
        config = _config(layout, Settings(), head, None)
        assert (config.depths, config.num_attention_heads, config.max_grid_rows) == ([3, 4, 6, 3], 12, 100)
        used = set()
        for target, tensor in model_tensors(HEADS[head], config).items():
            key, _ = layout.origin(target)
            is_new = name.startswith("grid_feat") and ("visual_embeddings" in target or "grid_encoder" in target)
            is_tied = target.startswith("cls.predictions.decoder.")
            assert is_new or is_tied or content[key].shape == tensor.shape, (name, target)
            used.add(key)
        assert all(key in used or drop_reason(key) for key in content), name
