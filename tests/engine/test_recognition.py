"""The recognition task: views of tests, pure loaders, classes by name."""

from __future__ import annotations

import pytest
import torch

from slowfast.datasets.loader import videos_per_process, views_per_process
from slowfast.engine.tasks import build_task
from slowfast.engine.tasks.base import Inputs
from slowfast.engine.tasks.recognition import RecognitionTask
from slowfast.metrics.evaluators import EvalResult
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime

CPU = Runtime(torch.device("cpu"))


def task_of(make_cfg, **values):
    return build_task(make_cfg(values), CPU)


def test_each_test_fills_its_batches(make_cfg):
    """TEST.BATCH_SIZE counts views, whatever the number of clips of the test."""
    task = task_of(make_cfg, **{"TEST.BATCH_SIZE": 12, "TEST.NUM_TEMPORAL_CLIPS": [1, 2]})
    runs = list(task.tests(None))
    assert [run.name for run in runs] == ["1x3 views", "2x3 views"]
    first, second = (next(iter(run.loader)) for run in runs)
    assert first.video.shape[:2] == (4, 3) and second.video.shape[:2] == (2, 6)


@pytest.mark.parametrize(
    ("size", "processes", "views", "expected"), [(60, 1, 3, 20), (60, 4, 30, 1), (8, 2, 3, 1)]
)
def test_views_become_videos(make_cfg, size, processes, views, expected):
    cfg = make_cfg({"TEST.BATCH_SIZE": size})
    assert videos_per_process(cfg, "test", processes, views) == expected
    assert views_per_process(cfg, processes) == size // processes


def test_loaders_have_no_side_effects(make_cfg):
    task = task_of(make_cfg)
    before = {name: dict(vars(part)) for name, part in vars(task).items() if hasattr(part, "cfg")}
    task.data.loader("train"), task.data.loader("val")
    after = {name: dict(vars(part)) for name, part in vars(task).items() if hasattr(part, "cfg")}
    assert before == after


def test_a_batch_is_prepared_without_its_loader(make_cfg):
    """Any part may be used first: nothing is set up by another."""
    batch = next(iter(task_of(make_cfg).data.loader("val")))
    inputs = task_of(make_cfg).module.prepare(batch, "val")
    assert inputs.video.shape == (4, 3, 4, 32, 32) and inputs.video.dtype == torch.float32
    assert inputs.views_at_once is None


def test_many_views_go_through_in_parts(make_cfg):
    module = task_of(make_cfg, **{"TEST.BATCH_SIZE": 4}).module
    sizes = []

    def network(video):
        sizes.append(len(video))
        return video.flatten(1)[:, :4]

    video = torch.randn(10, 3, 4, 8, 8)
    whole = module.predict(network, Inputs(video, torch.zeros(5), 5))
    parts = module.predict(network, Inputs(video, torch.zeros(5), 5, 4))
    assert sizes == [10, 4, 4, 2] and torch.equal(whole, parts) and whole.shape == (5, 2, 4)
    assert torch.allclose(whole.sum(-1), torch.ones(5, 2))


def test_labels_are_those_of_the_weights(make_cfg):
    data = task_of(make_cfg).data  # the list: left right up down
    before = [item.label for item in data.item_list("test").items]
    data.match_classes(["up", "left", "down", "right"])
    assert [item.label for item in data.item_list("test").items] == [
        [1, 3, 0, 2][label] for label in before
    ]
    assert data.class_names("test") == ["up", "left", "down", "right"]
    assert data.class_names("val") == ["left", "right", "up", "down"]
    strict = task_of(make_cfg, **{"DATA.CLASS_ORDER": "strict"}).data
    strict.match_classes(["up", "left", "down", "right"])
    with pytest.raises(UserError, match="DATA.CLASS_ORDER: class 0 is 'left'"):
        strict.item_list("test")


def test_the_number_of_outputs_is_that_of_the_weights(make_cfg):
    cfg = make_cfg()
    assert RecognitionTask.fit_classes(cfg, ["a", "b", "c", "d"]) is cfg
    assert RecognitionTask.fit_classes(cfg, []) is cfg
    fitted = RecognitionTask.fit_classes(cfg, ["a", "b"])
    assert fitted.MODEL.NUM_CLASSES == 2 and cfg.MODEL.NUM_CLASSES == 4
    assert fitted.origins["MODEL.NUM_CLASSES"] == "the tested weights"


def test_unreadable_videos_count_as_wrong(make_cfg):
    report = task_of(make_cfg).report
    result = EvalResult({"top1_err": 50.0, "top5_err": 10.0, "mean_class_accuracy": 40.0}, 50.0, 8)
    text, entries = report.describe(result, unreadable=2, total=10)
    assert entries["top1_acc"] == "50.00" and entries["top1_acc_with_bad"] == "40.00"
    assert text == (
        "top-1 50.00 %, top-5 90.00 % of 8 videos, mean_class_accuracy 40.00; "
        "2 could not be read, counted as wrong: 40.00 %"
    )
    assert entries["mean_class_accuracy"] == "40.00" and entries["videos"] == 8
    few = EvalResult({"top1_err": 50.0}, 50.0, 8)  # five classes or fewer
    assert report.describe(few, 0, 8) == (
        "top-1 50.00 % of 8 videos",
        {"top1_acc": "50.00", "videos": 8},
    )
    assert "top1_acc_with_bad" not in report.describe(result, 0, 8)[1]


def test_training_clips_are_mixed_and_no_others(make_cfg):
    options = {"MIXUP.ENABLE": True, "MODEL.LOSS_FUNC": "soft_cross_entropy"}
    task = task_of(make_cfg, **options)
    batch = next(iter(task.data.loader("val")))
    mixed, plain = (task.module.prepare(batch, split) for split in ("train", "val"))
    assert mixed.targets.shape == (4, 4) and not torch.equal(mixed.video, plain.video)
    assert torch.equal(plain.targets, batch.label)


def test_only_a_test_merges_views_as_the_key_says(make_cfg):
    report = task_of(make_cfg, **{"DATA.ENSEMBLE_METHOD": "max"}).report
    assert [report.evaluator(split).method for split in ("val", "test")] == ["sum", "max"]
