"""The recipes of HERO have the values of hero §8, and the models know the losses that they name."""

import pytest

from hf_videolang.models.hero.configuration_hero import HeroConfig
from hf_videolang.training.captioning_arguments import CaptioningArguments, CaptioningTrainingArguments
from hf_videolang.training.moment_retrieval_arguments import MomentRetrievalArguments, MomentRetrievalTrainingArguments
from hf_videolang.training.question_answering_arguments import (
    QuestionAnsweringArguments,
    QuestionAnsweringTrainingArguments,
)
from hf_videolang.training.recipes import parse_recipe

PUBLISHED = {
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "lr_scheduler_type": "linear",
    "gradient_accumulation_steps": 2,
    "sum_accumulated_gradients": True,
    "seed": 77,
    "optim": "decay_last_adamw",
}
MOMENTS = {
    "learning_rate": 1e-4,
    "max_steps": 5000,
    "warmup_steps": 500,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 50,
    "max_length": 60,
    "hard_negatives_from_step": 2000,
    "hard_pool_size": 20,
    "span_loss_from_step": 0,
    "min_moment_frames": 2,
    "max_moment_frames": 16,
    "metric_for_best_model": "VCMR_IoU0.7_AveR",
}
VATEX_EN_R_CLIP_ENHANCED = {
    **MOMENTS,
    "model": "clip-enhanced-start",
    "dataset": "vatex-en-r",
    "context_subtitles": 1,
    "learning_rate": 7e-5,
    "max_steps": 4000,
    "warmup_steps": 400,
    "per_device_train_batch_size": 64,
    "hard_pool_size": 80,
    "span_loss_from_step": -1,
    "metric_for_best_model": "VR_AveR",
}
QUESTIONS = {
    "learning_rate": 5e-5,
    "max_steps": 10000,
    "warmup_steps": 1000,
    "per_device_train_batch_size": 4,
    "max_length": 120,
    "head": "multiple_choice",
    "lr_multipliers": {"hero.": 1, "": 10},
}
STATEMENTS = {
    **QUESTIONS,
    "learning_rate": 3e-5,
    "max_steps": 6000,
    "warmup_steps": 600,
    "head": "statement",
    "context_subtitles": 2,
    "lr_multipliers": {"hero.": 1, "": 8},
}
CAPTIONS = {
    "learning_rate": 1e-4,
    "max_steps": 7000,
    "warmup_steps": 700,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "sum_accumulated_gradients": False,
    "max_length": 60,
    "label_smoothing": 0.1,
    "item": "video",
    "long_captions": "cut",
    "context_subtitles": 1,
    "lr_multipliers": {"hero.": 1, "lm_head.": 1, "": 10},
    "metric_for_best_model": "captions_CIDEr",
}
VATEX_EN_C_CLIP_ENHANCED = {
    **CAPTIONS,
    "model": "clip-enhanced-start",
    "dataset": "vatex-en-c",
    "train_split": "train+validation",
    "select_on": "test",
    "per_device_train_batch_size": 128,
    "item": "caption",
    "long_captions": "drop",
    "lr_multipliers": {"hero.": 1, "lm_head.": 1, "caption_words.": 1, "": 10},
}


@pytest.mark.parametrize(
    ("name", "classes", "own"),
    [
        (
            "vatex_en_c_clip_enhanced",
            (CaptioningArguments, CaptioningTrainingArguments),
            VATEX_EN_C_CLIP_ENHANCED,
        ),
        ("captions", (CaptioningArguments, CaptioningTrainingArguments), CAPTIONS),
        ("statements", (QuestionAnsweringArguments, QuestionAnsweringTrainingArguments), STATEMENTS),
        ("moments", (MomentRetrievalArguments, MomentRetrievalTrainingArguments), MOMENTS),
        (
            "vatex_en_r_clip_enhanced",
            (MomentRetrievalArguments, MomentRetrievalTrainingArguments),
            VATEX_EN_R_CLIP_ENHANCED,
        ),
        ("questions", (QuestionAnsweringArguments, QuestionAnsweringTrainingArguments), QUESTIONS),
    ],
)
def test_values(name, classes, own, tmp_path):
    words = [f"hero/{name}.yaml", "--data_dir", "videos", "--features", "features", "--output_dir", str(tmp_path)]
    arguments, training_args, _ = parse_recipe(classes, [*words, "--bf16", "false"])
    values = vars(training_args) | vars(arguments)
    expected = PUBLISHED | own
    assert {key: values[key] for key in expected} == expected
    losses = values.get("losses") or {}
    assert losses.keys() <= HeroConfig().to_dict().keys()
    if losses:
        published = 8 if "span_loss_weight" in losses else 10  # on 8 GPUs
        assert losses["video_ranking_weight"] == losses["query_ranking_weight"] == published / 8
        assert losses.get("span_loss_weight", 0.01) == 0.01 and losses.get("span_drop_probability", 0.8) == 0.8
