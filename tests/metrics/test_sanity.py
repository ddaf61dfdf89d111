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
        ([0, 0, 1, 1, 2, 3, 3, 3], True, None),
    ],
)
def test_odd_predictions(predictions, confident, expected):
    scores = torch.full((8, 4), 0.04 if confident else 0.24)
    scores[torch.arange(8), torch.tensor(predictions)] = 0.88 if confident else 0.28
    texts = sanity_warnings(scores, torch.arange(8) // 2)
    assert len(texts) == (expected is not None)
    assert expected is None or expected in texts[0]


def test_logits_are_no_probabilities():
    """Without an activation, scores below zero say nothing about confidence."""
    scores = torch.full((8, 4), -1.0)
    scores[torch.arange(8), torch.tensor([1, 1, 2, 2, 3, 3, 0, 0])] = 2.0
    assert sanity_warnings(scores, torch.arange(8) // 2) == []


def test_too_few_videos_to_judge():
    assert sanity_warnings(torch.eye(4)[[0, 0, 0, 0]], torch.arange(4)) == []
