"""Heads over the maps of clips, of the size of the training and larger."""

from __future__ import annotations

import math

import pytest
import torch

from slowfast.layers.clip_head import PathwayHead, features_of, merge_positions, pool_windows


def test_windows_of_the_training_size_are_means():
    x = torch.randn(2, 3, 4, 2, 2)
    pooled = pool_windows(x, (4, 2, 2))
    assert pooled.shape == (2, 3, 1, 1, 1)
    assert torch.allclose(pooled.flatten(1), x.mean((2, 3, 4)))


def test_larger_maps_have_several_positions():
    x = torch.arange(12.0).reshape(1, 1, 1, 3, 4)
    pooled = pool_windows(x, (1, 2, 2))
    assert pooled.flatten().tolist() == [2.5, 3.5, 4.5, 6.5, 7.5, 8.5]


@pytest.mark.parametrize("window", [(8, 9, 9), (math.inf, 4, 4)])
def test_windows_larger_than_the_maps_are_cut(window):
    assert pool_windows(torch.randn(1, 2, 3, 4, 4), window).shape == (1, 2, 1, 1, 1)


def test_features_of_positions():
    assert features_of(torch.zeros(2, 3, 1, 1, 1)).shape == (2, 3)
    assert features_of(torch.zeros(2, 3, 1, 2, 2)).shape == (2, 4, 3)


@pytest.mark.parametrize(
    "activation, function",
    [("softmax", lambda x: x.softmax(-1)), ("sigmoid", torch.sigmoid), ("none", lambda x: x)],
)
def test_activation_of_the_merged_logits_is_the_mean(activation, function):
    logits = torch.randn(2, 6, 5) * 3
    merged = function(merge_positions(logits, activation))
    assert torch.allclose(merged, function(logits).mean(1), atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_certain_positions_stay_finite(activation):
    """The logarithm of a probability that rounds to zero."""
    logits = torch.tensor([[[300.0, -300.0], [300.0, -300.0]]])
    assert torch.isfinite(merge_positions(logits, activation)).all()


def test_pathways_are_concatenated():
    head = PathwayHead([2, 1], [(1, 1, 1), (2, 1, 1)], 3, dropout_rate=0.5, activation="softmax")
    head.init_weights(0.01)
    slow, fast = torch.ones(1, 2, 1, 1, 1), torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1)
    features = head.features([slow, fast])
    assert features.tolist() == [[1.0, 1.0, 2.0]]
    assert head.eval()(features).shape == (1, 3)
    larger = head.features([torch.ones(1, 2, 1, 2, 2), torch.ones(1, 1, 2, 2, 2)])
    assert larger.shape == (1, 4, 3) and head(larger).shape == (1, 3)
    assert not head.projection.bias.any() and 0 < head.projection.weight.std() < 0.03
