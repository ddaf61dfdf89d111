"""Batch normalisation for one clip, and synchronised on the CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from slowfast.layers.norm import (
    Batch1SafeNorm,
    CpuSyncBatchNorm,
    with_batch1_safe_norm,
    with_synchronised_norm,
)

LAYERS = {
    "2d": (lambda: nn.BatchNorm2d(4), (4, 5)),
    "3d": (lambda: nn.BatchNorm3d(4), (2, 4, 5)),
    "timm": (lambda: BatchNormAct2d(4), (4, 5)),
}


def build_norm(kind):
    torch.manual_seed(0)
    layer, size = LAYERS[kind][0](), LAYERS[kind][1]
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2), layer.bias.normal_()
    return nn.Sequential(layer), size


def batch_of_one(size, offset=0):
    """``1 4 ...`` inside longer tokens ``1 N 4``: the memory that PyTorch gets wrong."""
    count = torch.Size(size).numel()
    tokens = torch.randn(1, count + 3, 4, generator=torch.Generator().manual_seed(1))
    return tokens[:, offset : offset + count].transpose(1, 2).unflatten(2, size)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_gradient_of_one_clip(kind, training):
    """Equal to double precision in plain memory, for input and gradient in unusual memory."""
    network, size = build_norm(kind)
    exact = copy.deepcopy(network).double().train(training)
    safe = with_batch1_safe_norm(network).train(training)
    x, gradient = batch_of_one(size), batch_of_one(size, offset=2)
    ours, reference = x.requires_grad_(), x.detach().double().contiguous().requires_grad_()
    safe(ours).backward(gradient)
    exact(reference).backward(gradient.double().contiguous())
    assert torch.allclose(ours.grad.double(), reference.grad, atol=1e-4)
    for a, b in zip(safe.state_dict().values(), exact.state_dict().values()):
        assert torch.allclose(a.double(), b.double(), atol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_larger_batches_are_untouched(kind):
    network, size = build_norm(kind)
    safe = with_batch1_safe_norm(copy.deepcopy(network))
    x = torch.randn(3, 4, *size)
    assert torch.equal(safe(x), network(x))
    with torch.no_grad():
        assert torch.equal(safe.eval()(x[:1]), network.eval()(x[:1]))


def test_conversion_changes_no_name_and_no_tensor():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(BatchNormAct2d(4)))
    before = dict(network.named_parameters())
    assert with_batch1_safe_norm(network) is network
    after = dict(network.named_parameters())
    assert before.keys() == after.keys() and all(before[n] is after[n] for n in before)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 2 and all(isinstance(norm, Batch1SafeNorm) for norm in norms)
    assert isinstance(norms[0], nn.BatchNorm2d) and isinstance(norms[1], BatchNormAct2d)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("safe", [True, False])
def test_synchronised_norm_of_one_process_is_batch_norm(kind, safe):
    """With timm's activation after it."""
    network, size = build_norm(kind)
    reference = copy.deepcopy(network)
    network = with_batch1_safe_norm(network) if safe else network
    parameters = list(network.parameters())
    sync = with_synchronised_norm(network, on_gpu=False)
    assert isinstance(sync[0], CpuSyncBatchNorm)
    assert all(a is b for a, b in zip(sync.parameters(), parameters))
    for training in (True, False):
        sync.train(training), reference.train(training)
        x = torch.randn(3, 4, *size)
        assert torch.allclose(sync(x), reference(x), atol=1e-5)
    assert torch.allclose(sync[0].running_var, reference[0].running_var)


def test_synchronised_norm_for_gpus_is_found_in_timm_layers():
    network = with_synchronised_norm(
        nn.Sequential(BatchNormAct2d(4), nn.BatchNorm2d(4)), on_gpu=True
    )
    assert all(isinstance(layer, nn.SyncBatchNorm) for layer in network)
    assert isinstance(network[0].act, nn.ReLU)
