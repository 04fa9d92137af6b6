"""What a user types to publish, against the Hub that the environment names: `publish.py FOLDER` (a scratch folder)."""

import sys
from pathlib import Path

from huggingface_hub import HfApi, ModelCard
from transformers import Trainer, TrainingArguments

from hf_videolang.hub.evaluation_results import write_evaluation
from hf_videolang.hub.model_card import write_model_card
from hf_videolang.hub.push import push_folder
from hf_videolang.training.retrieval_arguments import RetrievalTrainingArguments
from hf_videolang.training.retrieval_trainer import RetrievalTrainer
from tests.common.tiny.clip_vip import tiny_model, tiny_processor


def main(scratch: Path) -> None:
    model, processor = tiny_model(), tiny_processor()

    model.push_to_hub("tester/pushed", tags=["kitchens"])
    processor.push_to_hub("tester/pushed")
    scores = {"text_to_video": {"R1": 0.25, "MedianR": 2.0}}
    write_evaluation("tester/pushed", dataset="shapes", split="test", scores={"raw": scores}, protocol={"frames": 4})

    ModelCard("# My words").push_to_hub(HfApi().create_repo("tester/theirs").repo_id)
    model.push_to_hub("tester/theirs")

    model.save_pretrained(scratch / "saved", push_to_hub=True, repo_id="tester/saved")
    processor.save_pretrained(str(scratch / "saved"), push_to_hub=True, repo_id="tester/saved")
    processor.save_pretrained(str(scratch / "alone"), push_to_hub=True, repo_id="tester/processor")

    options = {"report_to": "none", "use_cpu": True, "disable_tqdm": True}
    arguments = TrainingArguments(str(scratch / "trained"), hub_model_id="tester/trained", **options)
    Trainer(model, arguments, processing_class=processor).push_to_hub()

    options |= {"learning_rate": 1e-6}
    arguments = RetrievalTrainingArguments(str(scratch / "tuned"), hub_model_id="tester/tuned", **options)
    RetrievalTrainer(model, arguments, processor).push_to_hub()

    model.save_pretrained(scratch / "folder")
    processor.save_pretrained(scratch / "folder")
    write_model_card(scratch / "folder", repo_id="tester/folder")
    print(push_folder(scratch / "folder", "tester/folder"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
