"""Two gloo processes against one with the joint batch, through the real model, replicated and sharded."""

from types import SimpleNamespace

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from hf_videolang.losses import contrastive_loss, gather_features
from hf_videolang.training.contrastive_trainer import ContrastiveTrainer
from tests.common.tiny import videoclip
from tests.common.tiny.clip_vip import tiny_inputs, tiny_model
from tests.losses.processes import run_processes

WORLD_SIZE = 2


def test_two_processes_equal_one(tmp_path):
    run_processes(two_processes, WORLD_SIZE, tmp_path)


def two_processes(rank: int) -> None:
    # One start of the processes for all checks: it costs more than they do.
    features_come_in_rank_order(rank)
    unequal_batches_raise_everywhere(rank)
    real_model_has_the_gradients_of_the_joint_batch(rank)
    videoclip_may_compare_the_pairs_of_its_own_process(rank)


def features_come_in_rank_order(rank: int) -> None:
    own = torch.full((2, 3), float(rank), requires_grad=True)
    gathered = gather_features(own.T.contiguous().T)  # not contiguous
    assert gathered[:, 0].tolist() == [0, 0, 1, 1]
    weights = torch.arange(12.0).view(4, 3) * (rank + 1)
    (gathered * weights).sum().backward()
    # Rank 0 weighs with w, rank 1 with 2 w: the sum over ranks is 3 w, of which each keeps its own rows.
    assert torch.equal(own.grad, 3 * torch.arange(12.0).view(4, 3)[2 * rank : 2 * rank + 2])
    with torch.no_grad():
        assert not gather_features(own).requires_grad


def unequal_batches_raise_everywhere(rank: int) -> None:
    with pytest.raises(ValueError, match=r"\[\[3, 4\], \[2, 4\]\].*dataloader_drop_last"):
        gather_features(torch.ones(3 - rank, 4))


def real_model_has_the_gradients_of_the_joint_batch(rank: int) -> None:
    joint = tiny_inputs(batch=6)
    for name in ("input_ids", "attention_mask"):  # a caption twice, on different processes
        joint[name][4] = joint[name][1]
    alone = tiny_model()
    outputs = alone(**joint)
    expected = contrastive_loss(outputs.video_embeds, outputs.text_embeds, alone.logit_scale)
    expected.backward()

    local = {name: tensor.chunk(WORLD_SIZE)[rank] for name, tensor in joint.items()}
    for engine in (DistributedDataParallel, shard):
        model = tiny_model()
        parallel = engine(model)
        outputs = parallel(**local)
        videos, texts = gather_features(outputs.video_embeds), gather_features(outputs.text_embeds)
        loss = contrastive_loss(videos, texts, model.logit_scale)
        loss.backward()
        torch.testing.assert_close(loss, expected, atol=2e-5, rtol=0)
        for (name, parameter), reference in zip(model.named_parameters(), alone.parameters(), strict=True):
            gradient = parameter.grad.full_tensor() if isinstance(parameter, DTensor) else parameter.grad
            tolerance = 1e-5 * max(1.0, float(reference.grad.abs().max()))
            torch.testing.assert_close(gradient, reference.grad, atol=tolerance, rtol=0, msg=in_parameter(name))
    # The comparison can fail: half of the batch alone has another loss.
    half = contrastive_loss(outputs.video_embeds, outputs.text_embeds, model.logit_scale)
    assert abs(half - expected) > 0.1


def videoclip_may_compare_the_pairs_of_its_own_process(rank: int) -> None:
    """`negatives: process`, as its authors train: the mean of both losses, with its gradient."""
    halves = [
        {name: tensor.chunk(WORLD_SIZE)[part] for name, tensor in videoclip.tiny_inputs(batch=4).items()}
        for part in range(WORLD_SIZE)
    ]

    def loss_on_features(video, text):
        return contrastive_loss(video, text, 0.0, "text_to_video")

    alone, losses = videoclip.tiny_model(), []
    for half in halves:
        outputs = alone(**half)
        losses.append(loss_on_features(outputs.video_embeds, outputs.text_embeds))
        (losses[-1] / WORLD_SIZE).backward()

    model = videoclip.tiny_model()
    parallel = DistributedDataParallel(model)
    outputs = parallel(**halves[rank])
    trainer = SimpleNamespace(args=SimpleNamespace(negatives="process"), loss_on_features=loss_on_features)
    loss = ContrastiveTrainer._loss_over_processes(trainer, outputs.video_embeds, outputs.text_embeds)
    loss.backward()
    torch.testing.assert_close(loss, losses[rank])
    for (name, parameter), reference in zip(model.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, reference.grad, atol=1e-6, rtol=1e-5, msg=in_parameter(name))


def shard(model: torch.nn.Module) -> torch.nn.Module:
    """FSDP2 takes no parameter without dimensions; after the exact gather the scale's gradient needs no reduction."""
    mesh = init_device_mesh("cpu", (WORLD_SIZE,))
    return fully_shard(model, mesh=mesh, ignored_params={model.logit_scale})


def in_parameter(name: str):
    return lambda message: f"{name}: {message}"
