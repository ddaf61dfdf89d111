"""Warnings about scores that are wrong as a whole."""

from __future__ import annotations

import pytest
import torch

from slowfast.metrics.sanity import sanity_warnings


@pytest.mark.parametrize(
    "predictions, confident, expected",
    [
        ([0, 0, 0, 0, 0, 0, 0, 0], True, "predictions cover 1 of the 4 classes"),
        ([1, 1, 2, 2, 3, 3, 0, 0], True, "are the labels of the list in the order"),
        ([1, 1, 2, 2, 3, 3, 0, 0], False, None),  # an untrained network is not sure of itself
        ([0, 0, 2, 2, 3, 3, 1, 1], True, "is 88 %, but 25.0 % of 8 videos are right"),  # by chance
        ([0, 0, 1, 2, 3, 2, 3, 1], True, None),  # 3 of 8: better than chance
        ([0, 0, 0, 0, 1, 1, 1, 1], True, "predictions cover 2 of the 4 classes"),
        ([0, 0, 1, 1, 2, 3, 3, 3], True, None),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 10.0, 0.1])  # sums over views are no less sure
def test_odd_predictions(predictions, confident, expected, scale):
    scores = torch.full((8, 4), 0.04 if confident else 0.24)
    scores[torch.arange(8), torch.tensor(predictions)] = 0.88 if confident else 0.28
    texts = sanity_warnings(scores * scale, torch.arange(8) // 2)
    assert len(texts) == (expected is not None)
    assert expected is None or expected in texts[0]


def test_logits_are_no_probabilities():
    """Without an activation, scores below zero say nothing about confidence."""
    scores = torch.full((8, 4), -1.0)
    scores[torch.arange(8), torch.tensor([1, 1, 2, 2, 3, 3, 0, 0])] = 2.0
    assert sanity_warnings(scores, torch.arange(8) // 2) == []


def test_too_few_videos_to_judge():
    assert sanity_warnings(torch.eye(4)[[0, 0, 0, 0]], torch.arange(4)) == []


def test_enough_videos_to_judge():
    """Two videos per class, and two classes, are enough."""
    scores = torch.eye(4)[[0, 0, 0, 0, 0, 0, 0, 0]]
    assert sanity_warnings(scores, torch.arange(8) // 2)
    assert not sanity_warnings(scores[:7], torch.arange(8)[:7] // 2)
    assert sanity_warnings(scores[:4], torch.tensor([0, 0, 1, 1]))
    assert not sanity_warnings(scores[:4], torch.zeros(4, dtype=torch.long))
