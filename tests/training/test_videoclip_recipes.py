"""The recipes of VideoCLIP have the values of videoclip §5.5 and §6.1."""

import pytest

from hf_videolang.training.recipes import parse_recipe
from hf_videolang.training.retrieval_arguments import RetrievalArguments, RetrievalTrainingArguments

PUBLISHED = {
    "learning_rate": 5e-5,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-8,
    "weight_decay": 0.0,
    "max_grad_norm": 2.0,
    "lr_scheduler_type": "polynomial",
    "lr_scheduler_kwargs": {"decay_steps": 1_000_000},
    "num_train_epochs": 10,
    "seed": 1,
    "max_length": 63,
    "optim": "decay_last_adamw",
}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        (
            "finetuning",
            {
                "negatives": "process",
                "loss_options": {"directions": "text_to_video"},
                "per_device_train_batch_size": 128,
                "warmup_steps": 122,
            },
        ),
        ("my_videos", {"negatives": "all", "loss_options": {"directions": "both"}, "warmup_steps": 0.1}),
    ],
)
def test_values(name, own, tmp_path):
    words = [f"videoclip/{name}", "--model", "videoclip", "--data_dir", "videos", "--output_dir", str(tmp_path)]
    arguments, training_args, _ = parse_recipe((RetrievalArguments, RetrievalTrainingArguments), words)
    values = vars(training_args) | vars(arguments)
    expected = PUBLISHED | own
    assert {key: values[key] for key in expected} == expected
    assert values["select_on"] == "validation" and values["metric_for_best_model"] == "text_to_video_R1"
