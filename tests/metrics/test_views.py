"""Views of a video: merged once, in any order, over any number of parts and ranks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from slowfast.metrics.views import VideoScores, class_probabilities, merge_views

VIEWS = torch.tensor([[1.0, 5.0], [4.0, 3.0], [2.0, 0.0]])


def test_merging():
    assert merge_views(VIEWS, "sum").tolist() == [7.0, 8.0]
    assert merge_views(VIEWS, "max").tolist() == [4.0, 5.0]
    stacked = torch.stack([VIEWS, 2 * VIEWS])  # videos views classes
    assert merge_views(stacked, "sum").tolist() == [[7.0, 8.0], [14.0, 16.0]]


@pytest.mark.parametrize("method, merged", [("sum", [7.0, 8.0]), ("max", [4.0, 5.0])])
def test_parts_of_a_video_are_one_video(method, merged):
    for cut in (1, 2):
        scores = VideoScores(method)
        scores.add(3, 1, VIEWS[:cut])
        scores.add(3, 1, VIEWS[cut:])
        ids, tensors, labels = scores.tensors()
        assert (ids, tensors.tolist(), labels.tolist()) == ([3], [merged], [1])
        assert scores.views == {3: 3} and len(scores) == 1


def test_videos_are_ordered_by_id():
    scores = VideoScores()
    for video in (5, 1, 3):
        scores.add(video, video % 2, torch.full((1, 2), float(video)))
    ids, tensors, labels = scores.tensors()
    assert ids == [1, 3, 5] and tensors[:, 0].tolist() == [1.0, 3.0, 5.0]
    assert labels.tolist() == [1, 1, 1]


def test_a_video_of_two_ranks_counts_once():
    """A distributed sampler may give the last videos to several ranks."""
    ours, theirs = VideoScores(), VideoScores()
    ours.add(0, 1, torch.tensor([[0.0, 1.0]]))
    theirs.add(0, 1, torch.tensor([[0.0, 7.0], [0.0, 7.0]]))
    theirs.add(1, 0, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    ours.update(theirs)
    ids, tensors, labels = ours.tensors()
    assert (ids, labels.tolist(), ours.views) == ([0, 1], [1, 0], {0: 1, 1: 2})
    assert tensors.tolist() == [[0.0, 1.0], [2.0, 0.0]]


def test_the_order_of_ranks_does_not_matter():
    parts = []
    for rank in range(3):
        part = VideoScores()
        for video in range(rank, 7, 3):
            part.add(video, video % 2, torch.tensor([[video * 1.0, 3.0]]))
        parts.append(part)
    results = []
    for order in itertools.permutations(parts):
        whole = VideoScores()
        for part in order:
            whole.update(part)
        results.append(whole.tensors())
    for ids, tensors, labels in results:
        assert ids == list(range(7)) and torch.equal(tensors, results[0][1])
        assert torch.equal(labels, results[0][2])


def test_accuracies_are_over_videos_not_views():
    scores = VideoScores()
    scores.add(0, 0, torch.tensor([[0.9, 0.1], [0.2, 0.3], [0.2, 0.3]]))  # right by its sum
    scores.add(1, 0, torch.tensor([[0.4, 0.6]]))
    assert scores.accuracies((1, 2)) == [50.0, 100.0]


def test_scores_are_kept_as_float_on_the_cpu_without_gradient():
    scores = VideoScores()
    scores.add(0, 0, torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True))
    (kept,) = scores.scores.values()
    assert kept.dtype == torch.float32 and not kept.requires_grad


def test_probabilities_by_hand():
    views = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]])  # two views after a softmax
    mean = class_probabilities(merge_views(views, "sum"), 2, "sum", "softmax")
    assert mean.kind == "probability"
    assert torch.allclose(mean.values, torch.tensor([0.5, 0.4, 0.1]))
    largest = class_probabilities(merge_views(views, "max"), 2, "max", "softmax")
    assert torch.allclose(largest.values, torch.tensor([0.7, 0.6, 0.1]) / 1.4)

    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])  # mean 1 and 0, largest 2 and 0
    mean = class_probabilities(merge_views(logits, "sum"), 2, "sum", "none")
    assert mean.values[0] == pytest.approx(math.e / (math.e + 1))
    largest = class_probabilities(merge_views(logits, "max"), 2, "max", "none")
    assert largest.values[0] == pytest.approx(math.e**2 / (math.e**2 + 1))


def test_independent_probabilities_and_logits_are_called_so():
    merged = torch.tensor([1.8, 0.4])
    independent = class_probabilities(merged, 2, "sum", "sigmoid")
    assert independent.kind == "independent"
    assert torch.allclose(independent.values, torch.tensor([0.9, 0.2]))
    assert class_probabilities(merged, 2, "sum", "own").kind == "logit"


@pytest.mark.parametrize("activation", ["softmax", "none"])
@pytest.mark.parametrize("method", ["sum", "max"])
def test_probabilities_sum_to_one_in_the_order_of_the_scores(method, activation):
    logits = 4 * torch.randn(7, 5, 9, generator=torch.Generator().manual_seed(0))
    views = logits.softmax(-1) if activation == "softmax" else logits
    merged = merge_views(views, method)
    values = class_probabilities(merged, torch.full((7,), 5), method, activation).values
    assert torch.allclose(values.sum(-1), torch.ones(7), atol=1e-6)
    in_order = values.gather(-1, merged.argsort(-1))
    assert (in_order.diff(dim=-1) >= 0).all()
