"""Multi-view testing, for any task."""

from __future__ import annotations

from typing import Any

from slowfast.config.node import CfgNode
from slowfast.datasets.base import VideoDataset
from slowfast.engine.bad_items import BadItems
from slowfast.engine.evaluate import evaluate
from slowfast.engine.initial import load_tested_weights
from slowfast.engine.tasks.base import Evaluator, Task
from slowfast.models.summary import measure_model
from slowfast.utils.logging import format_eta, get_logger, log_json_stats
from slowfast.utils.progress import StepTimer
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)


def test(cfg: CfgNode, runtime: Runtime, task: Task) -> dict[str, Any]:
    """Test the weights that the configuration names; the figures of the last test."""
    network = task.build_model()
    stats: dict[str, Any] = {}
    loaded = False
    for name, loader, evaluator in task.testers():
        if not loaded:  # the class names of the list are known only now
            load_tested_weights(cfg, network, task)
            if cfg.LOG_MODEL_INFO and runtime.is_main and not cfg.TRAIN.ENABLE:
                size = measure_model(network, cfg, cfg.DATA.TEST_CROP_SIZE)
                logger.info("%s: %s", cfg.MODEL.MODEL_NAME, size)
            loaded = True
        dataset = loader.dataset
        bad = BadItems.of(cfg, dataset, runtime.is_main)

        def on_step(
            step: int, figures: dict, videos: int, timer: StepTimer, steps: int = len(loader)
        ) -> None:
            if runtime.is_main and (step + 1) % cfg.LOG_PERIOD == 0:
                eta = format_eta(timer.step * (steps - step - 1))
                line = {"split": "test_iter", "_type": "test_iter", "cur_iter": str(step + 1)}
                log_json_stats(line | {"eta": eta, "time_diff": timer.step}, cfg.OUTPUT_DIR)

        stats = evaluate(
            network,
            loader,
            evaluator,
            bad,
            runtime,
            f"test {name}",
            cfg.LOG_PERIOD,
            on_step,
            split="test",
        )
        if runtime.is_main:
            task.save_results(name, evaluator)
            _report(cfg, name, evaluator, stats, bad.count, dataset)
    return stats


test.__test__ = False  # not a test of pytest's


def _report(
    cfg: CfgNode,
    name: str,
    evaluator: Evaluator,
    stats: dict[str, Any],
    bad: int,
    dataset: VideoDataset,
) -> None:
    text, entries = evaluator.summary()
    logger.info("test, %s: %s", name, text)
    line = {
        "split": "test_final",
        "_type": "test_final",
        "views": name,
        "bad_items": bad,
        "list": dataset.list.fingerprint,
    } | entries
    if bad and "videos" in stats:
        # Videos that cannot be read count as wrong in this second figure.
        with_bad = (100 - stats["top1_err"]) * stats["videos"] / len(dataset)
        line["top1_acc_with_bad"] = f"{with_bad:.2f}"
        logger.warning("%d videos could not be read; counted as wrong: %.2f %%", bad, with_bad)
    log_json_stats(line, cfg.OUTPUT_DIR)
