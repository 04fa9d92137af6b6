"""
Scores of captions: BLEU, ROUGE-L, METEOR and CIDEr-D (hero §9.3), by pycocoevalcap.

The published tokenizer and METEOR are Java programs. Without Java, NLTK's Treebank rule takes the place of the
tokenizer. It differs on rare forms only, such as "p.m." and "?!" (hero A19). METEOR then is not measured.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import Any, Literal

Tokenizer = Literal["stanford", "treebank"]
# The names of brackets are in capitals here, but small in the tokens: brackets stay, as in the original.
PUNCTUATION = {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:;-", "--", "..."}
REMEDY = "Repair Java, or take it off the PATH: then captions are scored without it."
JAVA_SECONDS = 1800  # after which a Java program hangs; METEOR scores some hundred captions a second
MISSING = 'captions are scored by pycocoevalcap and NLTK: pip install "hf_videolang[captions]".'


class JavaError(OSError):
    """A Java program failed or hangs. The message has its output and the remedy."""


def default_tokenizer() -> Tokenizer:
    """The published tokenizer where Java is on the PATH."""
    return "stanford" if shutil.which("java") else "treebank"


def caption_metrics(
    predictions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Tokenizer | None = None
) -> dict[str, float]:
    """
    Compares captions with what people wrote. Words that many references share count less in CIDEr: it depends on all
    references that are scored together.

    Args:
        predictions: a caption of each clip, perhaps empty.
        references: of each clip, at least one.
        tokenizer: `"stanford"`, the published one, which needs Java, or `"treebank"`. Default: the former if there
            is Java.

    Returns:
        `CIDEr`, `METEOR`, `ROUGEL`, and `BLEU1` to `BLEU4`, times 100, as papers report them. Without Java
        there is no `METEOR`.

    Raises:
        ValueError: there are none, not equally many, or a clip has no reference.
        JavaError: there is a Java that fails or hangs.
        ImportError: pycocoevalcap or NLTK is not installed.

    Example:
        >>> caption_metrics(["a dog runs", "a man sits"], [["a dog is running"], ["the man sits", "a man sits down"]])
    """
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise ImportError(MISSING) from error
    if len(predictions) != len(references) or not predictions or not all(references):
        raise ValueError(
            f"{len(predictions)} predictions and {len(references)} references; expected equally many, and at least "
            "one reference of each."
        )
    flat = tokenize_captions([*predictions, *(text for texts in references for text in texts)], tokenizer)
    words = iter(flat)
    found = {clip: [next(words)] for clip in range(len(predictions))}
    known = {clip: [next(words) for _ in texts] for clip, texts in enumerate(references)}
    scores = {"CIDEr": Cider().compute_score(known, found)[0]}
    if shutil.which("java"):
        scores["METEOR"] = _meteor(known, found)
    scores["ROUGEL"] = Rouge().compute_score(known, found)[0]
    bleu = Bleu(4).compute_score(known, found, verbose=0)[0]
    scores |= {f"BLEU{number}": value for number, value in enumerate(bleu, start=1)}
    return {name: 100 * float(value) for name, value in scores.items()}


def tokenize_captions(texts: Sequence[str], tokenizer: Tokenizer | None = None) -> list[str]:
    """
    Lower-case words with spaces between them, without punctuation. Characters outside ASCII become spaces.

    Example:
        >>> tokenize_captions(["A dog doesn't bark!"])
        ["a dog does n't bark"]
    """
    lines = [re.sub(r"[^\x00-\x7f]|\s", " ", text) for text in texts]
    if (tokenizer or default_tokenizer()) == "treebank":
        try:
            from nltk.tokenize import TreebankWordTokenizer
        except ImportError as error:
            raise ImportError(MISSING) from error
        rule = TreebankWordTokenizer()
        tokens = [[one.lower() for one in rule.tokenize(line.lower(), convert_parentheses=True)] for line in lines]
    else:
        tokens = [line.split() for line in _run_tokenizer(lines)]
    return [" ".join(word for word in line if word not in PUNCTUATION) for line in tokens]


def _run_tokenizer(lines: Sequence[str]) -> list[str]:
    command = ["java", "-cp", str(_package("tokenizer") / "stanford-corenlp-3.4.1.jar")]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    text = "".join(f"{line}\n" for line in lines)
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, encoding="utf-8", timeout=JAVA_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise JavaError(f"Java has not answered for {JAVA_SECONDS} seconds. {REMEDY}") from error
    found = done.stdout.splitlines()
    if done.returncode or len(found) != len(lines):
        said = " ".join(done.stderr.split()[-60:]).rstrip(".") or f"{len(found)} of {len(lines)} lines"
        raise JavaError(f"Java ended with code {done.returncode}: {said}. {REMEDY}")
    return found


def _meteor(known: dict[int, list[str]], found: dict[int, list[str]]) -> float:
    """It counts the matches of each caption, then makes one score of all counts, in one process that starts slowly."""
    command = ["java", "-jar", "-Xmx2G", str(_package("meteor") / "meteor-1.5.jar")]
    options = ["-", "-", "-stdio", "-l", "en", "-norm"]
    with (
        TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            encoding="utf-8",
        ) as process,
    ):
        watch = Timer(JAVA_SECONDS, process.kill)
        watch.start()
        to_java: Any = process.stdin
        from_java: Any = process.stdout
        answers = [""]

        def ask(*words: str) -> str:
            print(" ||| ".join(words), file=to_java, flush=True)
            answers.append(from_java.readline().strip())
            return answers[-1]

        try:
            counts = [ask("SCORE", *known[clip], found[clip][0].replace("|||", "")) for clip in found]
            scores = [ask("EVAL", *counts), *(from_java.readline() for _ in found)]  # the last one is of all
            return float(scores[-1])
        except (ValueError, OSError) as error:
            complaints.seek(0)
            said = " ".join([*answers, complaints.read()]).strip() or f"nothing for {JAVA_SECONDS} seconds"
            raise JavaError(f"METEOR, a Java program, answered {said[-500:]!r}. {REMEDY}") from error
        finally:
            watch.cancel()
            process.kill()
            with suppress(OSError):  # what a dead process has not read
                to_java.close()


def _package(name: str) -> Path:
    """The folder of a Java program."""
    from pycocoevalcap.cider import cider

    return Path(cider.__file__).parents[1] / name
