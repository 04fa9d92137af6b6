"""Scores of captions: the golden values with and without Java, broken Java, and the evaluate library."""

import shutil

import evaluate
import pytest

from hf_videolang.metrics import caption_metrics, captions, metric_path
from hf_videolang.metrics.captions import JavaError, tokenize_captions
from tests.common.captions import write_java

needs_java = pytest.mark.skipif(not shutil.which("java"), reason="there is no Java: its tokenizer is not compared")
PREDICTIONS = ["A dog doesn't run!", "", "two cats (black)"]
REFERENCES = [["a dog is running", "the dog runs"], ["a man sits"], ["Two black cats."]]


@pytest.fixture
def without_java(monkeypatch):
    monkeypatch.setattr(captions.shutil, "which", lambda name: None)


def test_literal_words():
    texts = ["A dog doesn't run!", "", "two cats (black); caf\xe9 \u2026", 'he said "no", it\'s -- odd:', "a\nb"]
    expected = ["a dog does n't run", "", "two cats -lrb- black -rrb- caf", "he said no it 's odd", "a b"]
    assert tokenize_captions(texts, "treebank") == expected


@needs_java
def test_the_two_tokenizers_differ_on_rare_forms_only():
    texts = [*PREDICTIONS, *(text for some in REFERENCES for text in some), "", "what?!"]
    *stanford, rare = tokenize_captions(texts, "stanford")
    assert [*stanford, "what"] == tokenize_captions(texts, "treebank") and rare == "what ?!"


def test_without_java_there_is_no_meteor(without_java):
    scores = caption_metrics(PREDICTIONS, REFERENCES)
    assert set(scores) == {"CIDEr", "ROUGEL", "BLEU1", "BLEU2", "BLEU3", "BLEU4"}
    assert 0 < scores["BLEU1"] < 100 and scores["CIDEr"] > 0
    perfect = caption_metrics([texts[0] for texts in REFERENCES], REFERENCES)
    assert perfect["BLEU1"] == pytest.approx(100) and perfect["ROUGEL"] == pytest.approx(100)


def test_unequal_lengths_are_refused():
    for predictions, references in ((["a"], []), ([], []), (["a"], [[]])):
        with pytest.raises(ValueError, match="expected equally many, and at least one reference"):
            caption_metrics(predictions, references)


def test_java_that_fails_is_an_error_with_its_message(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "PATH", write_java(tmp_path, "import sys; sys.exit('Could not create the Java Virtual Machine.')")
    )
    with pytest.raises(JavaError, match="code 1: Could not create .* off the PATH"):
        caption_metrics(PREDICTIONS, REFERENCES)
    with pytest.raises(JavaError, match="METEOR, a Java program, answered .*Could not create"):
        caption_metrics(PREDICTIONS, REFERENCES, "treebank")


def test_java_that_hangs_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", write_java(tmp_path, "import time; time.sleep(60)"))
    monkeypatch.setattr(captions, "JAVA_SECONDS", 0.5)
    with pytest.raises(JavaError, match=r"has not answered for 0\.5 seconds"):
        caption_metrics(PREDICTIONS, REFERENCES)
    with pytest.raises(JavaError, match=r"answered 'nothing for 0\.5 seconds'"):
        caption_metrics(PREDICTIONS, REFERENCES, "treebank")


def test_through_evaluate(tmp_path, without_java):
    metric = evaluate.load(metric_path("captions"), cache_dir=str(tmp_path), experiment_id="captions")
    found = metric.compute(predictions=PREDICTIONS, references=REFERENCES)
    assert found == caption_metrics(PREDICTIONS, REFERENCES) and found["BLEU1"] > 0
