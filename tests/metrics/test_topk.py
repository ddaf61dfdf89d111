"""Top-k, by hand and against a loop; accuracy under mixup."""

from __future__ import annotations

import pytest
import torch

from slowfast.metrics.topk import (
    meaningful_ks,
    predicted_classes,
    topk_accuracies,
    topk_correct,
    topk_counts,
    topk_errors,
    unmix,
)

SCORES = torch.tensor(
    [
        [0.1, 0.7, 0.2],  # order of classes: 1, 2, 0
        [0.5, 0.2, 0.3],  # 0, 2, 1
        [0.2, 0.3, 0.5],  # 2, 1, 0
        [0.6, 0.1, 0.3],  # 0, 2, 1
    ]
)
LABELS = torch.tensor([1, 2, 0, 1])  # at places 1, 2, 3, 3


def test_by_hand():
    assert topk_correct(SCORES, LABELS, (1, 2, 3)) == [1, 2, 4]
    assert topk_accuracies(SCORES, LABELS, (1, 2)) == [25.0, 50.0]
    assert topk_errors(SCORES, LABELS, (1, 2)) == [75.0, 50.0]


def test_k_is_capped_at_the_number_of_classes():
    assert topk_correct(SCORES, LABELS, (1, 5)) == [1, 4]
    assert topk_errors(SCORES, LABELS, (5,)) == [0.0]


def test_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(50, 9, generator=generator)
    labels = torch.randint(0, 9, (50,), generator=generator)
    for k in (1, 3, 5):
        hits = 0
        for row, label in zip(scores, labels.tolist()):
            better = sum(float(score) > float(row[label]) for score in row)
            hits += better < k
        assert topk_correct(scores, labels, (k,)) == [hits]


def test_the_order_of_ks_is_kept():
    assert topk_correct(SCORES, LABELS, (3, 1)) == [4, 1]


def test_unmix_by_hand():
    """0.7 of class 2 and 0.3 of class 0: a guess of class 0 is right, too."""
    target = torch.tensor([[0.3, 0.0, 0.7], [0.0, 0.9, 0.1]])
    scores = torch.tensor([[0.5, 0.4, 0.1], [0.2, 0.3, 0.5]])
    merged, labels = unmix(scores, target)
    assert labels.tolist() == [2, 1]
    assert torch.equal(merged[0], torch.tensor([0.0, 0.4, 0.6]))
    assert torch.equal(merged[1], torch.tensor([0.2, 0.8, 0.0]))
    assert topk_correct(merged, labels, (1,)) == [2]


def test_unmix_leaves_its_arguments():
    scores, target = SCORES.clone(), torch.eye(3)[[0, 1, 2, 0]]
    unmix(scores, target)
    assert torch.equal(scores, SCORES)


@pytest.mark.parametrize("first, second", [(0, 1), (2, 1)])
def test_unmix_keeps_the_sum(first, second):
    target = torch.zeros(1, 3)
    target[0, first], target[0, second] = 0.6, 0.4
    merged, labels = unmix(SCORES[:1], target)
    assert labels.tolist() == [first] and merged[0, second] == 0
    assert merged.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("classes", [1, 3, 5, 6, 40])
def test_predictions_agree_with_the_figures_where_scores_are_equal(classes):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(3, (500, classes), generator=generator).float()
    labels = torch.randint(classes, (500,), generator=generator)
    right = int((predicted_classes(scores) == labels).sum())
    assert right == topk_counts(scores, labels, meaningful_ks(classes))[0]
    assert torch.equal(scores.gather(1, predicted_classes(scores)[:, None])[:, 0], scores.amax(1))
