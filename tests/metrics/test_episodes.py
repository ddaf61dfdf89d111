"""EpisodeEvaluator on scores by hand."""

from __future__ import annotations

import copy

import pytest
import torch

from slowfast.datasets.batch import Batch, EpisodeInfo
from slowfast.metrics.episodes import EpisodeEvaluator
from slowfast.utils.errors import UserError


def batch(numbers, labels, global_labels) -> Batch:
    info = EpisodeInfo(numbers=numbers, way=3, global_label=torch.tensor(global_labels))
    return Batch(label=torch.tensor(labels), episode=info)


def scores(predictions) -> torch.Tensor:
    """Logits ``N Q 3`` whose largest is the predicted class."""
    return torch.eye(3)[torch.tensor(predictions)]


FIRST = batch([4, 9], [[0, 1], [2, 2]], [[7, 5], [7, 7]])
FIRST_SCORES = scores([[0, 2], [2, 2]])  # one of two, two of two
SECOND = batch([2], [[1, 0]], [[5, 6]])
SECOND_SCORES = scores([[0, 1]])  # none


def test_accuracies_by_hand():
    evaluator = EpisodeEvaluator()
    assert evaluator.update(FIRST_SCORES, FIRST) == {"top1_err": 25.0}
    assert evaluator.update(SECOND_SCORES, SECOND) == {"top1_err": 100.0}
    assert evaluator.accuracy == {4: 50.0, 9: 100.0, 2: 0.0}
    assert evaluator.by_class == {7: (3, 3), 5: (0, 2), 6: (0, 1)}
    result = evaluator.compute()
    assert result.items == 3 and result.score == pytest.approx(50.0)
    assert result.metrics["top1_err"] == pytest.approx(50.0)
    deviation = (5000 / 3) ** 0.5
    assert result.metrics["interval"] == pytest.approx(1.96 * deviation / 3**0.5)


def test_processes_together_are_one_process():
    one, other, whole = EpisodeEvaluator(), EpisodeEvaluator(), EpisodeEvaluator()
    one.update(FIRST_SCORES, FIRST)
    other.update(SECOND_SCORES, SECOND)
    whole.update(FIRST_SCORES, FIRST)
    whole.update(SECOND_SCORES, SECOND)
    ranks = [copy.deepcopy(one), copy.deepcopy(other)]
    ranks[0].merge(other)
    ranks[1].merge(one)
    for rank in ranks:
        assert rank.accuracy == whole.accuracy and rank.by_class == whole.by_class
        assert rank.compute() == whole.compute()


def test_no_episode_is_an_error():
    with pytest.raises(UserError, match="no episode could be read"):
        EpisodeEvaluator().compute()
