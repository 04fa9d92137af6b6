"""Search of a corpus, the recalls of moments and videos, and the scores of captions."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_videolang.inference.moment_ranking import MomentRanking, find_moments
from hf_videolang.metrics import captions
from hf_videolang.metrics.captions import caption_metrics, tokenize_captions
from hf_videolang.metrics.moments import (
    average_recall,
    moment_recalls,
    suppress_overlaps,
    top_moments,
    video_recalls,
)
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from tests.parity.cases import Case
from tests.parity.hero.models import compare, load, same_rows, videos

Log = dict[str, float]


def recalls(submission: dict[str, Any], truth: list[dict[str, Any]], kinds: tuple[str, ...]) -> dict[str, Log]:
    """The metrics of a submission in the names of the original, all queries and by type."""
    index = submission["video2idx"]
    groups = {"": truth, **{f"{kind}-": [one for one in truth if one["type"] == kind] for kind in ("v", "t", "vt")}}
    found: dict[str, Log] = {}
    for name in kinds:
        by_query = {one["desc_id"]: one["predictions"] for one in submission[name]}
        for group, queries in groups.items():
            log = found.setdefault(f"{name}_by_type" if group else name, {})
            predictions = [by_query[one["desc_id"]] for one in queries]
            owners = [index[one["vid_name"]] for one in queries]
            if name == "VR":
                shares = video_recalls([[one[0] for one in query] for query in predictions], owners)
                log |= {f"{group}{key.lower()}": round(100 * share, 2) for key, share in shares.items()}
                continue
            references = [{"video": owner, "spans": [one["ts"]]} for owner, one in zip(owners, queries)]
            for key, share in moment_recalls(predictions, references).items():
                rank, iou = key.lower().split("_iou")
                log[f"{group}{iou}-{rank}"] = round(100 * share, 2)
    return found


def check_eval_retrieval(case: Case, tmp_path: Path) -> None:
    submission, truth = case.read_json("predictions.json"), case.read_json("ground_truth.json")
    kinds = ("VCMR", "SVMR", "VR")
    suppressed = dict(submission)
    after = case.read_json("predictions_after_nms.json")
    for name in ("VCMR", "SVMR"):
        suppressed[name] = [
            {**one, "predictions": suppress_overlaps(one["predictions"], case.meta["nms_thd"])}
            for one in submission[name]
        ]
        assert [one["predictions"] for one in suppressed[name]] == [one["predictions"] for one in after[name]]
    for given, file in ((submission, "metrics.json"), (suppressed, "metrics_after_nms.json")):
        expected = case.read_json(file)
        found = recalls(given, truth, kinds)
        for name, log in expected.items():
            log.pop("desc_type_ratio", None)
            assert found[name] == log, name
    aver = case.read_json("aver.json")
    logs = case.read_json("metrics.json")
    moments = {f"R{k}_IoU0.7": logs["VCMR"][f"0.7-r{k}"] / 100 for k in (1, 5, 10)}
    assert np.isclose(100 * average_recall(moments, 0.7), aver["vcmr_official"])
    assert np.isclose(
        100 * average_recall({f"R{k}": logs["VR"][f"r{k}"] / 100 for k in (1, 5, 10)}), aver["vr_official"]
    )
    mask = case.meta["length_mask"]
    ones = torch.ones(1, mask["L"])
    _, first, last, score = top_moments(ones, ones, min_frames=mask["min_l"], max_frames=mask["max_l"])
    found = torch.zeros(mask["L"], mask["L"])
    found[first[score > 0], last[score > 0]] = 1
    assert torch.equal(found, torch.tensor(mask["mask"]))


@torch.inference_mode()
def check_full_evaluation(case: Case, tmp_path: Path) -> None:
    """
    The whole corpus, from raw videos in batches of 2 to predictions. The original also lists spans of forbidden
    lengths, whose score is 0, in the order of an unstable sort; we do not, and their order is not compared.
    """
    model, options = load(HeroForVideoTextRetrieval, case), case.meta["options"]
    names, frames, masks = case.meta["video_names"], [], []
    for number in range(len(case.meta["video_batches"])):
        chosen = names[2 * number : 2 * number + 2]
        inputs = videos(case, chosen, case.inputs[f"video_batch_{number}/c_v_feats"])
        same_rows(case, inputs, f"video_batch_{number}/")
        output = model.get_video_features(**inputs)
        for one, mask in zip(output.frame_embeds, output.video_attention_mask):
            frames.append(one)
            masks.append(mask)
    longest = max(map(len, frames))
    corpus = torch.stack([torch.nn.functional.pad(one, (0, 0, 0, longest - len(one))) for one in frames])
    mask = torch.stack([torch.nn.functional.pad(one, (0, longest - len(one))) for one in masks])
    text = model.get_text_features(case.inputs["query_input_ids"], case.inputs["query_attn_masks"]).text_embeds
    scores = model.video_scores(text, corpus, mask)
    starts, ends = model.span_logits(model.frame_similarity(text, corpus), mask)
    found = {
        "corpus_frame_embeddings": corpus,
        "corpus_mask": mask,
        "video_scores": scores,
        "st_prob": starts.softmax(-1),
        "ed_prob": ends.softmax(-1),
    }
    compare(case, found)

    ranking = MomentRanking(
        seconds_per_frame=options["vfeat_interval"],
        min_frames=options["min_pred_l"],
        max_frames=options["max_pred_l"],
        score_scale=case.meta["q2c_alpha"],
        max_videos=options["max_vcmr_video"],
        nms_threshold=None if options["nms_thd"] == -1 else options["nms_thd"],
        legacy_length=options["max_clip_len"] if case.kind.endswith("legacy_unravel") else None,
    )
    own = torch.tensor([names.index(name) for name in case.meta["query_vids"]])
    index = [case.meta["video2idx"][name] for name in names]
    submission = case.read_json("predictions.json")
    found = list(find_moments(model, text, corpus, mask, own, ranking))
    for query, one in enumerate(found):
        assert submission["VR"][query]["desc_id"] == int(case.meta["query_ids"][query])
        assert [index[video] for video in one.videos] == [
            int(row[0]) for row in submission["VR"][query]["predictions"]
        ]
        for name, moments in (("VCMR", one.moments), ("SVMR", one.own_moments)):
            expected = [row for row in submission[name][query]["predictions"] if row[3] > 0]
            assert [[index[row[0]], *row[1:3]] for row in moments] == [row[:3] for row in expected], (name, query)
            np.testing.assert_allclose([row[3] for row in moments], [row[3] for row in expected], **case.tolerances)
    truth = [json.loads(line) for line in (case.path / "ground_truth.jsonl").read_text().splitlines()]
    without_nms = list(find_moments(model, text, corpus, mask, own, replace(ranking, nms_threshold=None)))
    ours = {
        "video2idx": case.meta["video2idx"],
        "VR": submission["VR"],
        "VCMR": as_submission(case, without_nms, "moments", index),
        "SVMR": as_submission(case, without_nms, "own_moments", index),
    }
    kinds = ("VCMR", "SVMR", "VR")
    ours, listed = recalls(ours, truth, kinds), recalls(submission, truth, kinds)
    suffix = "" if ranking.nms_threshold is None else f"_nms_{ranking.nms_threshold}"
    for name, value in case.read_json("metrics.json").items():
        task, _, key = name.removeprefix("valid_val_").partition("/")
        key = key.removeprefix(f"{task.removesuffix(suffix)}_")
        if key == "desc_type_ratio":
            continue
        if task.endswith(suffix):  # the listed predictions have these metrics
            assert listed[task.removesuffix(suffix)][key] == value, name
        else:
            assert ours[task][key] == value, name


def as_submission(case: Case, found: list[Any], field: str, index: list[int]) -> list[dict[str, Any]]:
    return [
        {
            "desc_id": int(query),
            "predictions": [[index[row[0]], *row[1:]] for row in getattr(one, field)],
        }
        for query, one in zip(case.meta["query_ids"], found, strict=True)
    ]


def check_eval_captioning(case: Case, tmp_path: Path) -> None:
    """Without Java, and, where it is, with the published tokenizer and METEOR."""

    def lines(name: str) -> list[list[str]]:
        rows = map(json.loads, (case.path / name).read_text(encoding="utf-8").splitlines())
        return [[one["desc"] for one in row["descs"]] for row in sorted(rows, key=lambda row: row["clip_id"])]

    predictions, references = [one for (one,) in lines("predictions.jsonl")], lines("references.jsonl")
    words = case.read_json("tokenised.json")
    expected_words = [text for texts in words["references"].values() for text in texts]
    golden = case.read_json("metrics.json")
    for java in dict.fromkeys((None, shutil.which("java"))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(captions.shutil, "which", lambda name, java=java: java)
            patch.setenv("JAVA_TOOL_OPTIONS", "-Dsome=option")  # of which Java tells on its standard error
            assert tokenize_captions([text for texts in references for text in texts]) == expected_words
            for name, used in (
                ("multi_reference", references),
                ("first_reference_only", [texts[:1] for texts in references]),
            ):
                found = caption_metrics(predictions, used)
                expected = {key.replace("_", "").replace("Bleu", "BLEU"): value for key, value in golden[name].items()}
                if not java:
                    expected.pop("METEOR")
                assert found.keys() == expected.keys()
                for key, value in expected.items():
                    assert abs(found[key] - value) < case.tolerances["atol"], (java, name, key)


CHECKS = {
    "eval_captioning": check_eval_captioning,
    "eval_retrieval": check_eval_retrieval,
    "vcmr_full_eval": check_full_evaluation,
    "vcmr_full_eval_legacy_unravel": check_full_evaluation,
}
