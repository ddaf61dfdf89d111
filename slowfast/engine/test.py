"""Testing, for any task: all tests of the task, one after the other."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime

from slowfast.config.node import CfgNode
from slowfast.engine.evaluate import evaluate
from slowfast.engine.initial import TestedWeights, find_tested_weights, load_tested_weights
from slowfast.engine.loggers import Loggers
from slowfast.engine.precision import build_autocast
from slowfast.engine.results import FinishedTest, save_test
from slowfast.engine.sharding import compile_network
from slowfast.engine.tasks import build_task, task_class
from slowfast.engine.tasks.base import Task
from slowfast.engine.unreadable import UnreadableVideos
from slowfast.layers.fold import folded_norms
from slowfast.metrics.evaluators import EvalResult
from slowfast.models.summary import measure_model
from slowfast.utils.logging import format_eta, get_logger
from slowfast.utils.progress import StepTimer
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)


class TestObserver:
    """Logs the batches of a test."""

    __test__ = False  # pytest must not collect it

    def __init__(self, cfg: CfgNode, loggers: Loggers, name: str, batches: int):
        self.title, self.log_every = f"test {name}", cfg.LOG_PERIOD
        self.loggers, self.batches = loggers, batches

    def on_batch(self, step: int, figures: dict[str, float], size: int, timer: StepTimer) -> None:
        if (step + 1) % self.log_every == 0:
            eta = format_eta(timer.step * (self.batches - step - 1))
            line = {"split": "test_iter", "cur_iter": str(step + 1)}
            self.loggers.log("test_iter", line | {"eta": eta, "time_diff": timer.step}, 0)


def build_test(cfg: CfgNode, runtime: Runtime) -> tuple[Task, TestedWeights]:
    """The task of a test without training, with checked lists, and the weights that are tested.

    The configuration of the task (``task.cfg``) and the labels of its list are made to fit the
    classes of the weights; UserError if that is not possible.
    """
    weights = find_tested_weights(cfg)
    task = build_task(task_class(cfg).fit_classes(cfg, weights.class_names), runtime)
    task.data.match_classes(weights.class_names)
    task.data.check()
    return task, weights


def test(cfg: CfgNode, runtime: Runtime, task: Task, weights: TestedWeights) -> EvalResult | None:
    """Test ``weights`` as the configuration asks; the result of the last test."""
    network = task.module.build_model()
    load_tested_weights(cfg, network, weights)
    if cfg.LOG_MODEL_INFO and runtime.is_main and not cfg.TRAIN.ENABLE:
        size = measure_model(network, cfg.DATA.NUM_FRAMES, cfg.DATA.TEST_CROP_SIZE)
        logger.info("%s: %s", cfg.MODEL.MODEL_NAME, size)
    compile_network(cfg, network)
    loggers = Loggers(cfg, runtime.is_main)
    result = None
    with contextlib.closing(loggers):
        for run in task.tests(network):
            dataset, batches = run.loader.dataset, len(run.loader)
            logger.info("%s: %s, %d batches", run.name, dataset.describe(), batches)
            unreadable = UnreadableVideos.for_dataset(cfg, dataset, runtime.is_main)
            evaluator = task.report.evaluator("test")
            started, start = datetime.now().astimezone(), time.perf_counter()
            with folded_norms():
                result = evaluate(
                    network,
                    task.module,
                    run.loader,
                    evaluator,
                    split="test",
                    autocast=build_autocast(cfg, runtime),
                    unreadable=unreadable,
                    observer=TestObserver(cfg, loggers, run.name, batches),
                    runtime=runtime,
                )
            if runtime.is_main:
                seconds = time.perf_counter() - start
                done = FinishedTest(
                    run, evaluator, result, weights, unreadable.count, started, seconds
                )
                _report(cfg, task, done, loggers)
    return result


def _report(cfg: CfgNode, task: Task, done: FinishedTest, loggers: Loggers) -> None:
    """Write the results of a test and log them; the last line has the figures as JSON."""
    folder = save_test(cfg, task.report, done)
    run, dataset = done.run, done.run.loader.dataset
    logger.info("results: %s", folder)
    text, entries = task.report.describe(done.result, done.unreadable, len(dataset))
    logger.info("test, %s: %s", run.name, text)
    facts = {"split": "test_final", "views": run.name, "bad_items": done.unreadable}
    facts["list"] = dataset.item_list.fingerprint
    if dataset.item_list.left_out:
        facts["left_out"] = dataset.item_list.left_out
    loggers.log_scores(f"Test {run.name}", done.evaluator, task.data.class_names("test"), 0)
    loggers.log("test_final", facts | entries, 0)


test.__test__ = False  # pytest must not collect it
