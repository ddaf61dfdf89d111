"""Evaluators on scores by hand, in parts and over processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slowfast.datasets.batch import Batch, EpisodeInfo
from slowfast.engine.result_files import write_scores
from slowfast.metrics.episodes import EpisodeEvaluator
from slowfast.metrics.evaluators import (
    METRIC_REGISTRY,
    MultiLabelEvaluator,
    ViewEvaluator,
    error_figures,
    is_error,
    mean_class_accuracy,
)
from slowfast.utils.errors import UserError

# Three videos of two views and three classes; labels 0, 1, 1.
SCORES = torch.tensor(
    [
        [[0.6, 0.4, 0.0], [0.1, 0.5, 0.4]],  # sum: 0.7 0.9 0.4, max: 0.6 0.5 0.4
        [[0.0, 0.9, 0.1], [0.3, 0.3, 0.4]],
        [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1]],
    ]
)
LABELS = torch.tensor([0, 1, 1])


def batch(*rows: int) -> Batch:
    index = torch.tensor(rows)
    return Batch(label=LABELS[index], index=index, path=[f"v{row}" for row in rows])


@pytest.mark.parametrize(("method", "correct"), [("sum", 1), ("max", 2)])
def test_views_are_merged(method, correct):
    evaluator = ViewEvaluator(method, ("mean_class_accuracy",))
    figures = evaluator.update(SCORES, batch(0, 1, 2))
    result = evaluator.compute()
    assert result.items == 3 and result.score == pytest.approx(100 * correct / 3)
    assert figures["top1_err"] == pytest.approx(100 - result.score)
    assert result.metrics["top1_err"] == pytest.approx(100 - result.score)
    assert "top5_err" not in result.metrics and "top5_err" not in figures  # of three classes
    per_class = (100 * (method == "max") + 50) / 2
    assert result.metrics["mean_class_accuracy"] == pytest.approx(per_class)


def test_processes_are_merged_and_nothing_counts_twice():
    whole = ViewEvaluator()
    whole.update(SCORES, batch(0, 1, 2))
    one, other = ViewEvaluator(), ViewEvaluator()
    one.update(SCORES[:2], batch(0, 1))
    other.update(SCORES[1:], batch(1, 2))
    one.merge(other)
    assert one.compute() == whole.compute() and one.paths == {0: "v0", 1: "v1", 2: "v2"}
    assert torch.equal(one.videos.tensors()[1], whole.videos.tensors()[1])


def test_nothing_is_no_result():
    for evaluator in (ViewEvaluator(), EpisodeEvaluator()):
        with pytest.raises(UserError, match="could be read"):
            evaluator.compute()


def test_classes_without_videos_do_not_count():
    scores = torch.eye(4)[[0, 0, 3, 1]]
    labels = torch.tensor([0, 3, 3, 3])
    assert mean_class_accuracy(scores, labels) == pytest.approx((100 + 100 / 3) / 2)


def test_mixed_targets_count_both_classes():
    scores = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    targets = torch.tensor([[0.6, 0.0, 0.4], [0.0, 0.7, 0.3]])
    # The first class of the target gets the second's score: rows give classes 0 and 0 or 1.
    assert error_figures(scores, targets)["top1_err"] == pytest.approx(50.0)


@pytest.mark.parametrize(("classes", "names"), [(1, [1]), (5, [1]), (6, [1, 5]), (400, [1, 5])])
def test_top5_is_reported_where_it_can_be_wrong(classes, names):
    scores, labels = torch.rand(8, classes), torch.zeros(8, dtype=torch.long)
    expected = [f"top{k}_err" for k in names]
    assert list(error_figures(scores, labels)) == expected
    evaluator = ViewEvaluator()
    evaluator.update(scores[:, None], Batch(label=labels, index=torch.arange(8), path=["v"] * 8))
    assert list(evaluator.compute().metrics) == expected


def test_errors_are_known_by_name():
    assert is_error("top1_err") and not is_error("mean_class_accuracy")


def episodes(labels: list[list[int]], classes: list[list[int]], numbers: list[int]) -> Batch:
    info = EpisodeInfo(numbers, 2, torch.tensor(classes))
    return Batch(label=torch.tensor(labels), index=torch.tensor(numbers), episode=info)


def test_episodes_by_hand():
    evaluator = EpisodeEvaluator()
    logits = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])  # N Q K
    figures = evaluator.update(logits, episodes([[0, 0], [0, 0]], [[7, 7], [3, 3]], [0, 1]))
    assert figures == {"top1_err": 25.0}
    result = evaluator.compute()
    assert evaluator.accuracy == {0: 50.0, 1: 100.0}
    assert evaluator.by_class == {7: (1, 2), 3: (2, 2)}
    assert result.score == 75.0 and result.items == 2
    assert result.metrics["interval"] == pytest.approx(1.96 * 25 / 2**0.5)
    other = EpisodeEvaluator()
    other.update(logits[:1], episodes([[0, 1]], [[7, 3]], [2]))
    evaluator.merge(other)
    assert evaluator.by_class == {7: (2, 3), 3: (3, 3)} and evaluator.compute().items == 3


@pytest.mark.parametrize("name", ["scores.pt", "scores.npz"])
def test_a_saved_file_of_scores_gives_the_figures_of_the_test(name, tmp_path):
    """Without a network, a device or a configuration."""
    tested = ViewEvaluator("sum", ("mean_class_accuracy",))
    tested.update(SCORES, batch(0, 1, 2))
    _, scores, labels = tested.videos.tensors()
    write_scores(scores, labels, tmp_path / name)

    saved = (np.load if name.endswith("npz") else torch.load)(tmp_path / name)
    scores, labels = (torch.as_tensor(saved[key]) for key in ("scores", "labels"))
    again = ViewEvaluator("sum", ("mean_class_accuracy",))
    index = torch.arange(len(labels))
    again.update(scores[:, None], Batch(label=labels, index=index, path=["v"] * len(labels)))
    assert again.compute() == tested.compute() and again.compute().score == pytest.approx(100 / 3)


def test_unknown_metrics_name_the_key():
    with pytest.raises(UserError, match="no metric is called 'top2'") as caught:
        METRIC_REGISTRY.get("top2")
    assert caught.value.problems[0].key == "TEST.METRICS"


def test_several_labels_a_video():
    """Class 0: both positives above the negative (1); class 1: positive second (1/2); class 2 does
    not occur. Views are merged by their maximum."""
    evaluator, other = MultiLabelEvaluator("max"), MultiLabelEvaluator("max")
    scores = torch.tensor(
        [
            [[0.1, 0.2, 0.0], [0.9, 0.1, 0.5]],
            [[0.8, 0.3, 0.1], [0.2, 0.4, 0.9]],
            [[0.3, 0.1, 0.2], [0.1, 0.3, 0.2]],
        ]
    )
    labels = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    paths = ["a", "b", "c"]
    batches = [
        Batch(label=labels[i], index=torch.tensor(i), path=[paths[n] for n in i])
        for i in ([0, 1], [2])
    ]
    assert evaluator.update(scores[:2], batches[0]) == {}
    other.update(scores[2:], batches[1])
    evaluator.merge(other)
    result = evaluator.compute()
    assert result.metrics == {"map": 0.75} and result.score == 0.75 and result.items == 3
    with pytest.raises(UserError, match="no video could be read"):
        MultiLabelEvaluator().compute()
