"""Classifiers over features: against solutions that are known otherwise."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from slowfast.inference.classifiers import (
    PENALTIES,
    fit_linear,
    neighbour_probabilities,
    stratified_folds,
)


def clusters(count: int = 12, classes: int = 3, dim: int = 5, noise: float = 0.1):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=generator)
    labels = torch.arange(count) % classes
    return centres[labels] + noise * torch.randn(count, dim, generator=generator), labels


def test_linear_solves_the_penalised_regression():
    """At the solution the gradient vanishes; scales and offsets of the features change nothing."""
    features, labels = clusters(30, noise=1.5)
    found = fit_linear(features, labels, 3)
    assert found.penalty in PENALTIES
    mean, deviation = features.mean(0), features.std(0, correction=0)
    weight = (found.weight * deviation).double().requires_grad_(True)
    inputs = ((features - mean) / deviation).double()
    bias = (found.bias + found.weight @ mean).double()
    loss = F.cross_entropy(inputs @ weight.T + bias, labels)
    loss = loss + found.penalty / 2 * weight.square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    assert gradient.abs().max() < 1e-5
    moved = fit_linear(100 * features + 7, labels, 3)
    assert torch.allclose(moved.logits(100 * features + 7), found.logits(features), atol=1e-3)


def test_linear_is_repeatable_and_survives_constant_features():
    features, labels = clusters()
    features[:, 2] = 4.0
    one, two = (fit_linear(features, labels, 3) for _ in range(2))
    assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)
    assert bool(one.weight.isfinite().all()) and one.accuracy == 100.0
    assert bool((one.logits(features).argmax(1) == labels).all())


def test_the_penalty_is_large_where_features_say_nothing():
    generator = torch.Generator().manual_seed(1)
    noise, labels = torch.randn(40, 30, generator=generator), torch.arange(40) % 2
    signal, of_signal = clusters(40, 2, 30)
    assert fit_linear(noise, labels, 2).accuracy < 75
    assert fit_linear(signal, of_signal, 2).accuracy == 100


def test_a_class_with_one_video():
    features, labels = clusters(7)
    found = fit_linear(features[:5], torch.tensor([0, 0, 1, 1, 2]), 3)
    assert found.accuracy is None and found.penalty == pytest.approx(1e-2)
    assert bool((fit_linear(features, labels, 3).logits(features).argmax(1) == labels).all())


def test_folds_hold_every_class():
    labels = torch.tensor([0] * 7 + [1] * 3)
    folds = stratified_folds(labels, 5)
    assert folds.max() == 2
    for fold in range(3):
        assert set(labels[folds == fold].tolist()) == {0, 1}


def test_neighbours_by_hand():
    """Angles of 0, 60 and 180 degrees to the query; lengths do not matter."""
    features = torch.tensor([[2.0, 0.0], [0.5, 0.75**0.5], [-3.0, 0.0]])
    labels, query = torch.tensor([1, 0, 0]), torch.tensor([[5.0, 0.0]])
    near = neighbour_probabilities(query, features, labels, 2, 1)
    assert near.tolist() == [[0.0, 1.0]]
    other = math.exp(-0.5 / 0.07)
    both = neighbour_probabilities(query, features, labels, 2, 2)
    assert both[0].tolist() == pytest.approx([other / (1 + other), 1 / (1 + other)])
    assert neighbour_probabilities(query, features, labels, 2, 99).sum() == pytest.approx(1)
    ties = neighbour_probabilities(query, features[[0, 0, 0]], torch.tensor([1, 0, 0]), 2, 1)
    assert ties.tolist() == [[0.0, 1.0]]
