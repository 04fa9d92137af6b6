"""PretrainingTrainer in one process: features, losses, gradients, gradient cache, number of updates."""

import math

import pytest
import torch

from hf_videolang.data.pretraining.sources import open_sources
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.losses import OMNISOURCE_LOSSES, contrastive_loss
from hf_videolang.training.pretraining_arguments import PretrainingTrainingArguments
from hf_videolang.training.pretraining_trainer import LOSSES, PretrainingTrainer

QUIET = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}


def make_trainer(folder, output_dir, sources=None, model=None, **options):
    options = {**QUIET, "per_device_train_batch_size": 8, "lr_scheduler_type": "cosine", **options}
    args = PretrainingTrainingArguments(output_dir=str(output_dir), **options)
    loaded, processor = load_model_and_processor(folder / "model")
    return PretrainingTrainer(model or loaded, args, processor, open_sources(sources or str(folder / "shards")))


def first_batch(trainer):
    return trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def features_one_by_one(model, batch):
    """Each of the four kinds through a forward pass of its own."""
    video, frame = (
        model(pixel_values_videos=batch[name]).video_embeds for name in ("pixel_values_videos", "pixel_values_frames")
    )
    subtitle, caption = (
        model(input_ids=batch[f"{kind}input_ids"], attention_mask=batch[f"{kind}attention_mask"]).text_embeds
        for kind in ("", "caption_")
    )
    return video, subtitle, frame, caption


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradients_are_those_of_features_encoded_one_by_one(tiny_pretraining, tmp_path, loss):
    everything = first_batch(make_trainer(tiny_pretraining, tmp_path))
    trainer = make_trainer(tiny_pretraining, tmp_path, loss=loss)
    got = trainer.compute_loss(trainer.model, first_batch(trainer))
    got.backward()
    twin, _ = load_model_and_processor(tiny_pretraining / "model")
    features = features_one_by_one(twin, everything)
    if loss == "contrastive":
        expected = contrastive_loss(*features[:2], twin.logit_scale)
    else:
        used = [kind for kind in range(4) if kind != 2 or loss not in ("vs_vc", "vsc")]  # these have no frame
        expected = OMNISOURCE_LOSSES[loss](*(features[kind] for kind in used), twin.logit_scale)
    expected.backward()
    torch.testing.assert_close(got, expected)
    expected_gradients = gradients(twin)
    assert expected_gradients.keys() == dict(twin.named_parameters()).keys()
    for name, gradient in gradients(trainer.model).items():
        torch.testing.assert_close(gradient, expected_gradients.pop(name), atol=1e-5, rtol=1e-4, msg=name)
    assert not expected_gradients


def test_videos_outlive_the_pass_of_their_frames(tiny_pretraining, tmp_path):
    """A CUDA graph writes the features of every pass to the same place."""
    trainer = make_trainer(tiny_pretraining, tmp_path)
    inputs = first_batch(trainer)
    buffers = {}

    def graph(**rows):
        outputs = trainer.model(**rows)
        for name in outputs.keys() & {"video_embeds", "text_embeds"}:
            outputs[name] = buffers.setdefault(name, torch.empty_like(outputs[name])).copy_(outputs[name])
        return outputs

    with torch.no_grad():
        expected, got = trainer.encode(trainer.model, inputs), trainer.encode(graph, inputs)
    assert all(map(torch.equal, got, expected))


def test_only_what_is_compared_is_encoded(tiny_pretraining, tmp_path):
    frames = {"vs_fc": [4, 1], "vsc": [4], "contrastive": [4]}
    texts = {"vs_fc": 16, "vsc": 16, "contrastive": 8}
    for loss in frames:
        trainer = make_trainer(tiny_pretraining, tmp_path, loss=loss)
        seen = []
        trainer.model.register_forward_pre_hook(lambda *call, seen=seen: seen.append(call[-1]), with_kwargs=True)
        trainer.compute_loss(trainer.model, first_batch(trainer))
        assert [inputs["pixel_values_videos"].shape[1] for inputs in seen] == frames[loss]
        assert len(seen[0]["input_ids"]) == texts[loss]


@pytest.mark.parametrize("chunk", [3, 4])
def test_gradient_cache_gives_the_same_gradients(tiny_pretraining, tmp_path, chunk):
    """Eight clips three (the last time two) or four at once; two batches are averaged."""
    results = []
    for chunk_size in (None, chunk):
        trainer = make_trainer(
            tiny_pretraining, tmp_path, gradient_accumulation_steps=2, gradient_cache_chunk_size=chunk_size
        )
        trainer.current_gradient_accumulation_steps = 2
        trainer.model.double()  # in float32 a batch of another size is summed in another order, on some processors
        rows = []
        trainer.model.vision_model.register_forward_hook(
            lambda *call, rows=rows: rows.append(len(call[-1].pooler_output))
        )
        losses = [
            trainer.training_step(trainer.model, dict(batch))
            for batch, _ in zip(trainer.get_train_dataloader(), range(2))
        ]
        assert max(rows) == (chunk_size or 8)
        results.append((losses, gradients(trainer.model)))
    for got, expected in zip(results[1][0], results[0][0], strict=True):
        torch.testing.assert_close(got, expected)
    assert results[1][1].keys() == results[0][1].keys()
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, atol=1e-12, rtol=1e-9, msg=name)


def test_the_number_of_updates_is_the_originals(tiny_pretraining, tmp_path):
    trainer = make_trainer(tiny_pretraining, tmp_path, num_train_epochs=5, gradient_accumulation_steps=2)
    assert trainer.args.max_steps == math.ceil(5 * 26 / (8 * 2)) == 9
    shards = str(tiny_pretraining / "shards")
    sources = {"one": {"data": shards, "ratio": 2}, "two": shards}
    trainer = make_trainer(tiny_pretraining, tmp_path, sources, num_train_epochs=1)
    assert trainer.args.max_steps == math.ceil(2 * 26 / 8) == 7
    assert len(trainer.get_train_dataloader()) == 6  # steps of an epoch: three of each


def test_two_sources_take_turns_up_to_stop_at_step(tiny_pretraining, tmp_path):
    shards = str(tiny_pretraining / "shards")
    sources = {"one": {"data": shards, "ratio": 2}, "two": shards}
    trainer = make_trainer(tiny_pretraining, tmp_path, sources, max_steps=20, stop_at_step=7, learning_rate=1e-3)
    trainer.train()
    assert trainer.state.global_step == 7 and (tmp_path / "checkpoint-7" / "model.safetensors").is_file()
    rates = [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line]
    assert rates == pytest.approx([1e-3 * 0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(1, 8)])


def test_broken_videos_and_missing_texts_are_logged(tiny_pretraining, tmp_path):
    trainer = make_trainer(
        tiny_pretraining, tmp_path, max_steps=6, on_broken_video="replace", on_missing_text="replace"
    )
    (source,) = trainer.data_collator.sources.values()
    whole = source.clip

    def damaged(shard, row):
        clip = whole(shard, row)
        if clip["video_id"] in ("clip03", "clip10"):
            clip["video"] = {"path": None, "bytes": b"no video"}
        return {**clip, "caption": ""} if clip["video_id"] == "clip05" else clip

    source.clip = damaged
    planned = [
        whole(place.shard, place.row)["video_id"]
        for step in range(6)
        for place in trainer.data_collator.order.batch(step)
    ]
    trainer.train()
    for key, videos in {"broken_videos": ("clip03", "clip10"), "missing_texts": ("clip05",)}.items():
        logged = sum(line.get(key, 0) for line in trainer.state.log_history)
        assert logged == sum(video in videos for video in planned) > 0


def test_an_unknown_loss_is_refused(tiny_pretraining, tmp_path):
    with pytest.raises(ValueError, match="loss is 'vsf'; expected one of vs_fc, vs_vc"):
        make_trainer(tiny_pretraining, tmp_path, loss="vsf")
