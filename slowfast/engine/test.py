"""Testing, for any task: all tests of the task, one after the other."""

from __future__ import annotations

import contextlib

from slowfast.config.node import CfgNode
from slowfast.engine.evaluate import evaluate
from slowfast.engine.initial import load_tested_weights
from slowfast.engine.loggers import Loggers
from slowfast.engine.precision import build_autocast
from slowfast.engine.sharding import compile_network
from slowfast.engine.tasks.base import Task
from slowfast.engine.unreadable import UnreadableVideos
from slowfast.metrics.evaluators import EvalResult, Evaluator, class_scores
from slowfast.models.summary import measure_model
from slowfast.utils.logging import format_eta, get_logger
from slowfast.utils.progress import StepTimer
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)


class TestObserver:
    """Logs the batches of a test."""

    __test__ = False  # pytest must not collect it

    def __init__(self, cfg: CfgNode, loggers: Loggers, name: str, batches: int):
        self.name, self.title, self.log_every = name, f"test {name}", cfg.LOG_PERIOD
        self.loggers, self.batches = loggers, batches

    def on_batch(self, step: int, figures: dict[str, float], size: int, timer: StepTimer) -> None:
        if (step + 1) % self.log_every == 0:
            eta = format_eta(timer.step * (self.batches - step - 1))
            line = {"split": "test_iter", "cur_iter": str(step + 1)}
            self.loggers.log("test_iter", line | {"eta": eta, "time_diff": timer.step}, 0)

    def on_end(self, evaluator: Evaluator) -> None:
        found = class_scores(evaluator)
        if found is not None:
            self.loggers.log_scores(f"Test {self.name}", *found, 0)


def test(cfg: CfgNode, runtime: Runtime, task: Task) -> EvalResult | None:
    """Test the weights that the configuration names; the result of the last test."""
    network = task.module.build_model()
    task.module.match_classes(load_tested_weights(cfg, network))
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
                task.report.save(run, evaluator)
                text, entries = task.report.describe(result, unreadable.count, len(dataset))
                logger.info("test, %s: %s", run.name, text)
                facts = {"split": "test_final", "views": run.name, "bad_items": unreadable.count}
                facts["list"] = dataset.item_list.fingerprint
                loggers.log("test_final", facts | entries, 0)
    return result


test.__test__ = False  # pytest must not collect it
