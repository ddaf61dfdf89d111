"""Precise batch-norm statistics against those of all clips at once."""

from __future__ import annotations

import torch
from torch import nn

from slowfast.engine.precise_bn import update_statistics


def forward(network, batch):
    return network(batch)


def test_statistics_are_those_of_all_batches():
    torch.manual_seed(0)
    layer, batches = nn.BatchNorm1d(3), [3 * torch.randn(size, 3) + 1 for size in (4, 6)]
    update_statistics(layer, forward, ((batch, True) for batch in batches), count=5)
    clips = torch.cat(batches)
    assert torch.allclose(layer.running_mean, clips.mean(0), atol=1e-6)
    assert torch.allclose(layer.running_var, clips.var(0, unbiased=False), atol=1e-5)
    assert layer.momentum == 0.1 and layer.training


def test_only_the_first_batches_count():
    layer, batches = nn.BatchNorm1d(1), [torch.tensor([[0.0], [2.0]]), torch.full((2, 1), 50.0)]
    update_statistics(layer, forward, ((batch, True) for batch in batches), count=1)
    assert layer.running_mean.item() == 1 and layer.running_var.item() == 1


def test_frozen_layers_and_dummy_batches_are_left_out():
    torch.manual_seed(0)
    frozen, trained = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    network = nn.Sequential(frozen, trained)
    frozen.running_mean.fill_(3), frozen.running_var.fill_(5)
    frozen.eval()
    clips = torch.randn(4, 2)
    inputs = [(clips, True), (torch.full((4, 2), 1e6), False)]
    update_statistics(network, forward, inputs, count=2)
    assert (frozen.running_mean == 3).all() and (frozen.running_var == 5).all()
    assert not frozen.training and frozen.momentum == 0.1
    seen = frozen(clips)
    assert torch.allclose(trained.running_mean, seen.mean(0), atol=1e-6)
    assert torch.allclose(trained.running_var, seen.var(0, unbiased=False), atol=1e-6)
