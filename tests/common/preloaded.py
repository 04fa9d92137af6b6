"""What the forks of `tests.common.forks` have imported."""

import os

from tests.common.forks import ENVIRONMENT, OFFLINE

os.environ |= ENVIRONMENT | OFFLINE  # torch and huggingface_hub read them once, when they are imported

import datasets  # noqa: F401

import hf_videolang.commands.evaluate
import hf_videolang.commands.extract
import hf_videolang.training.run_captioning
import hf_videolang.training.run_moment_retrieval
import hf_videolang.training.run_pretraining
import hf_videolang.training.run_question_answering
import hf_videolang.training.run_retrieval  # noqa: F401
