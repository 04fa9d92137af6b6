"""Gradients of a batch encoded in chunks equal those of the whole batch, through the real model."""

from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from hf_videolang.losses import backward_in_chunks, contrastive_loss, gather_features, hard_negative_loss
from tests.common.tiny.clip_vip import tiny_inputs, tiny_model
from tests.losses.processes import run_processes
from tests.losses.test_gather import in_parameter, shard

BATCH = 7


def encoder(model, parallel=None):
    def encode(rows):
        outputs = (parallel or model)(**rows)
        return outputs.video_embeds, outputs.text_embeds

    return encode


def loss_of(model):
    return lambda *features: contrastive_loss(*map(gather_features, features), model.logit_scale)


def at_once(model, inputs):
    """Loss and gradients of the whole batch."""
    loss = loss_of(model)(*encoder(model)(inputs))
    loss.backward()
    return loss.detach(), gradients_of(model)


def in_chunks(model, inputs, chunk_size, **options):
    options = {"loss_parameters": [model.logit_scale], **options}
    return backward_in_chunks(encoder(model), loss_of(model), inputs, chunk_size, **options)


def gradients_of(model):
    return {
        name: gradient.full_tensor() if isinstance(gradient := parameter.grad, DTensor) else gradient.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def assert_equal(got, expected, tolerance):
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        bound = tolerance * max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(got[name], gradient, atol=bound, rtol=0, msg=in_parameter(name))


def exact(batch=BATCH, padded=False, **vision):
    """In double precision, where only the order of sums can differ."""
    inputs = tiny_inputs(batch)
    if padded:
        lengths = torch.arange(batch) % inputs["pixel_values_videos"].shape[1] + 1
        inputs["video_attention_mask"] = torch.arange(4)[None] < lengths[:, None]
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].double()
    return tiny_model(**vision).double(), inputs


@pytest.mark.parametrize("padded", [False, True])
def test_every_chunk_size_gives_the_gradients_of_the_whole_batch(padded):
    model, inputs = exact(padded=padded)
    expected_loss, expected = at_once(model, inputs)
    assert all(gradient.abs().max() > 0 for gradient in expected.values())
    for chunk_size in (1, 3, BATCH, BATCH + 2):
        model.zero_grad()
        assert in_chunks(model, inputs, chunk_size).item() == pytest.approx(expected_loss.item(), rel=1e-12)
        assert_equal(gradients_of(model), expected, 1e-11)
    in_chunks(model, inputs, 3)  # a second time: gradients add up, as in accumulation
    assert_equal(gradients_of(model), {name: 2 * gradient for name, gradient in expected.items()}, 1e-11)


def test_frozen_parameters_and_a_loss_without_scale():
    model, inputs = exact()
    model.text_model.requires_grad_(False)
    model.text_projection.requires_grad_(False)
    model.logit_scale.requires_grad_(False)
    _, expected = at_once(model, inputs)
    assert not any(name.startswith("text") or name == "logit_scale" for name in expected)
    model.zero_grad()
    in_chunks(model, inputs, 2)
    assert_equal(gradients_of(model), expected, 1e-11)

    hard_negative_loss(*encoder(model)(inputs), num_negatives=2).backward()
    expected = {name: gradient - expected[name] for name, gradient in gradients_of(model).items()}
    model.zero_grad()
    backward_in_chunks(encoder(model), lambda *f: hard_negative_loss(*f, num_negatives=2), inputs, 2)
    assert_equal(gradients_of(model), expected, 1e-11)


def test_both_passes_draw_the_same_dropout():
    model, inputs = exact(attention_dropout=0.5)
    model.train()
    torch.manual_seed(3)
    chunks = [{name: tensor[i : i + 2] for name, tensor in inputs.items()} for i in range(0, BATCH, 2)]
    features = [torch.cat(parts) for parts in zip(*map(encoder(model), chunks))]
    loss = loss_of(model)(*features)
    loss.backward()
    expected, next_number = gradients_of(model), torch.rand(())
    model.zero_grad()
    torch.manual_seed(3)
    assert in_chunks(model, inputs, 2).item() == pytest.approx(loss.item(), rel=1e-12)
    assert torch.rand(()) == next_number
    assert_equal(gradients_of(model), expected, 1e-11)
    model.zero_grad()
    torch.manual_seed(4)  # the comparison can fail: other masks, other gradients
    in_chunks(model, inputs, 2)
    with pytest.raises(AssertionError):
        assert_equal(gradients_of(model), expected, 1e-3)


def test_bfloat16_with_one_autocast_around_everything():
    model, inputs = tiny_model(), tiny_inputs(BATCH)
    _, full_precision = at_once(model, inputs)
    got = []
    for chunk_size in (None, BATCH, 2):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            at_once(model, inputs) if chunk_size is None else in_chunks(model, inputs, chunk_size)
        got.append(gradients_of(model))
    assert_equal(got[1], got[0], 0)
    for name, gradient in full_precision.items():  # chunks are as close to the exact gradient as the whole batch
        distance = [float((other[name] - gradient).norm()) for other in got]
        assert distance[2] <= 1.5 * distance[0] + 0.02 * float(gradient.norm()), name
        assert got[2][name].dtype == torch.float32


def test_gradient_scaler_scales_all_gradients_alike():
    model, inputs = exact()
    _, expected = at_once(model, inputs)
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    in_chunks(model, inputs, 3, backward=lambda value: scaler.scale(value).backward())
    scaled = gradients_of(model)
    assert_equal(scaled, {name: 2.0**12 * gradient for name, gradient in expected.items()}, 1e-11)
    scaler.unscale_(torch.optim.SGD(model.parameters()))
    assert_equal(gradients_of(model), expected, 1e-11)


def test_never_holds_more_than_one_chunk():
    model = tiny_model()

    def most_saved(run):
        """The most bytes that autograd keeps between two backward passes."""
        saved, most = 0, 0

        def pack(tensor):
            nonlocal saved, most
            saved += tensor.nbytes
            most = max(saved, most)
            return tensor

        def backward(value):
            nonlocal saved
            value.backward()
            saved = 0

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run(backward)
        return most

    one_chunk = most_saved(lambda backward: in_chunks(model, tiny_inputs(2), 2, backward=backward))
    many = most_saved(lambda backward: in_chunks(model, tiny_inputs(16), 2, backward=backward))
    whole = most_saved(lambda backward: in_chunks(model, tiny_inputs(16), 16, backward=backward))
    assert many <= 1.02 * one_chunk and whole > 4 * one_chunk


def test_encoder_that_writes_every_chunk_to_the_same_place():
    """As in a CUDA graph, the first pass writes all features of one size to one buffer."""
    model, inputs = exact()
    expected_loss, expected = at_once(model, inputs)
    model.zero_grad()
    buffers = {}

    def encode(rows):
        features = encoder(model)(rows)
        if torch.is_grad_enabled():
            return features
        kept = buffers.setdefault(len(features[0]), [torch.empty_like(part) for part in features])
        return tuple(buffer.copy_(part) for buffer, part in zip(kept, features, strict=True))

    loss = backward_in_chunks(encode, loss_of(model), inputs, 2, loss_parameters=[model.logit_scale])
    torch.testing.assert_close(loss, expected_loss)
    assert_equal(gradients_of(model), expected, 1e-10)


def test_tensors_without_one_row_per_sample_are_refused():
    model, inputs = tiny_model(), tiny_inputs(4)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        in_chunks(model, inputs, 0)
    with pytest.raises(ValueError, match=r"'num_broken_videos': 1.*Remove tensors"):
        in_chunks(model, {**inputs, "num_broken_videos": torch.zeros(1)}, 2)


def test_two_processes_equal_one(tmp_path):
    run_processes(two_processes, 2, tmp_path)


def two_processes(rank: int) -> None:
    alone, joint = exact(6)
    _, expected = at_once(alone, joint)
    own = {name: tensor.chunk(2)[rank] for name, tensor in joint.items()}
    for engine in (DistributedDataParallel, shard):
        model, _ = exact(6)
        parallel = engine(model)
        reductions: list[bool] = []
        if engine is shard:
            no_sync = partial(no_reduction, parallel)
        else:
            no_sync = parallel.no_sync
            parallel.register_comm_hook(reductions, note_reduction)
        for times in (1, 2):  # the second call adds to the first, so the engine survives the chunks
            options = {"loss_parameters": [model.logit_scale], "no_sync": no_sync}
            backward_in_chunks(encoder(model, parallel), loss_of(model), own, 2, **options)
            assert_equal(gradients_of(model), {name: times * gradient for name, gradient in expected.items()}, 1e-11)
            if engine is DistributedDataParallel:
                assert sum(reductions) == times  # once a call, in the last chunk


def note_reduction(reductions: list[bool], bucket):
    reductions.append(bucket.is_last())
    return allreduce_hook(None, bucket)


@contextmanager
def no_reduction(model):
    model.set_requires_gradient_sync(False)
    yield
    model.set_requires_gradient_sync(True)
