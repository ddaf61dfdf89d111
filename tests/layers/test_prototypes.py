"""Prototypes and alignment against hand-computed values and loops over all paths."""

from __future__ import annotations

import math

import pytest
import torch

from slowfast.layers.prototypes import (
    alignment_cost,
    cosine_logits,
    cosine_similarity,
    euclidean_logits,
    otam_logits,
)

# One episode, two classes, two shots in two dimensions, two queries.
SUPPORT = torch.tensor([[[[1.0, 0.0], [3.0, 0.0]], [[0.0, 2.0], [0.0, 4.0]]]])
QUERIES = torch.tensor([[[1.0, 1.0], [0.0, 3.0]]])


def test_euclidean_by_hand():
    """Prototypes are (2, 0) and (0, 3)."""
    logits = euclidean_logits(SUPPORT, QUERIES)
    assert logits.tolist() == [[[-2.0, -5.0], [-13.0, 0.0]]]


def test_cosine_by_hand():
    """Both shots of a class point in the same direction, at 45 degrees to the first query."""
    logits = cosine_logits(SUPPORT, QUERIES, scale=2.0)
    root = math.sqrt(2)
    first = [
        1 / (root + 0.01) + 3 / (3 * root + 0.01),
        2 / (2 * root + 0.01) + 4 / (4 * root + 0.01),
    ]
    second = [0.0, 6 / 6.01 + 12 / 12.01]
    expected = torch.tensor([[first, second]])  # the mean of two shots, times two
    assert torch.allclose(logits, expected, atol=1e-6)


def test_cosine_similarity_of_zeros_is_zero():
    assert cosine_similarity(torch.zeros(3), torch.ones(3)).item() == 0


@pytest.mark.parametrize("classify", [euclidean_logits, cosine_logits])
def test_episodes_are_independent(classify):
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(4, 3, 2, 5, generator=generator)
    queries = torch.randn(4, 6, 5, generator=generator)
    together = classify(support, queries)
    assert together.shape == (4, 6, 3)
    for n in range(4):
        alone = classify(support[n : n + 1], queries[n : n + 1])
        assert torch.allclose(together[n : n + 1], alone, atol=1e-6)


def paths(rows: int, columns: int):
    """All paths through a table with a padded column at both ends, as lists of (row, column)."""

    def extend(path):
        row, column = path[-1]
        if (row, column) == (rows - 1, columns + 1):
            yield path
            return
        if column <= columns:
            yield from extend([*path, (row, column + 1)])
        if row + 1 < rows and column <= columns:
            yield from extend([*path, (row + 1, column + 1)])
        if row + 1 < rows and column in (0, 1, columns + 1):
            yield from extend([*path, (row + 1, column)])

    return list(extend([(0, 0)]))


def costs_of_paths(distances: torch.Tensor) -> list[float]:
    rows, columns = distances.shape
    padded = torch.cat([torch.zeros(rows, 1), distances, torch.zeros(rows, 1)], dim=1)
    return [sum(float(padded[cell]) for cell in path) for path in paths(rows, columns)]


@pytest.mark.parametrize("rows, columns", [(2, 2), (3, 3), (4, 4), (2, 4), (4, 2)])
def test_little_smoothing_finds_the_cheapest_path(rows, columns):
    distances = torch.rand(rows, columns, generator=torch.Generator().manual_seed(3))
    cost = alignment_cost(distances, 1e-4).item()
    assert cost == pytest.approx(min(costs_of_paths(distances)), abs=1e-3)


def test_the_minimum_over_paths_is_soft():
    distances = torch.rand(3, 3, generator=torch.Generator().manual_seed(4)).double()
    smoothing = 0.2
    total = sum(math.exp(-cost / smoothing) for cost in costs_of_paths(distances))
    expected = -smoothing * math.log(total)
    assert alignment_cost(distances, smoothing).item() == pytest.approx(expected, rel=1e-6)


def test_otam_is_alignment_both_ways_averaged_over_shots():
    generator = torch.Generator().manual_seed(5)
    support = torch.randn(1, 2, 3, 4, 6, generator=generator)
    queries = torch.randn(1, 2, 4, 6, generator=generator)
    logits = otam_logits(support, queries, smoothing=0.3)
    assert logits.shape == (1, 2, 2)
    for q in range(2):
        for k in range(2):
            costs = []
            for s in range(3):
                table = torch.tensor(
                    [
                        [1 - cosine_similarity(a, b).item() for b in support[0, k, s]]
                        for a in queries[0, q]
                    ]
                )
                costs.append(alignment_cost(table, 0.3) + alignment_cost(table.T, 0.3))
            expected = -torch.stack(costs).mean()
            assert torch.allclose(logits[0, q, k], expected, atol=1e-5)


def test_order_of_frames_matters():
    frames = torch.eye(6)
    support = torch.stack([frames, frames.flip(0)])[None, :, None]
    logits = otam_logits(support, frames[None, None])[0, 0]
    assert logits[0] > logits[1] + 0.5


def test_many_frames_are_finite():
    """Written with plain exponentials the cost is infinite from about twelve frames on."""
    generator = torch.Generator().manual_seed(6)
    support = torch.randn(1, 2, 1, 32, 8, generator=generator)
    queries = torch.randn(1, 1, 32, 8, generator=generator)
    assert torch.isfinite(otam_logits(support, queries)).all()
