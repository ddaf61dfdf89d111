"""``--dry-run``: everything a run needs, tried once, with estimates of time and memory."""

from __future__ import annotations

import tempfile
import time

import torch

from slowfast.config.effect import describe_idle_keys
from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.engine.initial import load_initial_weights, load_tested_weights
from slowfast.engine.multigrid import TrainingPlan
from slowfast.engine.optim import build_optimizer
from slowfast.engine.precision import build_autocast, settle_precision
from slowfast.engine.schedule import learning_rate
from slowfast.engine.step import OptimizerStep
from slowfast.engine.tasks import build_task
from slowfast.engine.tasks.base import Task
from slowfast.engine.test import build_test
from slowfast.models.summary import measure_model
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs
from slowfast.utils.logging import collected_warnings, format_eta, get_logger
from slowfast.utils.runtime import Runtime, seed_process

logger = get_logger(__name__)


def dry_run(cfg: CfgNode, runtime: Runtime) -> None:
    """Build all, load one batch, train one step, test one batch; nothing is saved.

    What was warned of on the way stands at the end once more.
    """
    with collected_warnings() as warnings:
        _try_all(cfg, runtime)
    idle = describe_idle_keys(cfg)  # the run has warned of them already
    warnings = list(dict.fromkeys([*([idle] if idle else []), *warnings]))
    if not warnings:
        logger.info("dry run: all is in place; no checkpoint was written")
        return
    logger.info("dry run: it runs, but consider (no checkpoint was written):")
    for text in warnings:
        logger.info("  - %s", text)


def _try_all(cfg: CfgNode, runtime: Runtime) -> None:
    cfg = settle_precision(cfg, runtime)
    seed_process(cfg.RNG_SEED)
    _check_output(cfg)
    if cfg.TRAIN.ENABLE:
        task, weights = build_task(cfg, runtime), None
        task.data.check()
    else:
        task, weights = build_test(cfg, runtime)
        cfg = task.cfg
    model = task.module.build_model()
    size = measure_model(model, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)
    logger.info("%s: %s", cfg.MODEL.MODEL_NAME, size)
    if cfg.TRAIN.ENABLE:
        load_initial_weights(cfg, model)
        _try_training(cfg, runtime, task, model)
    if cfg.TEST.ENABLE:
        if weights is not None:
            load_tested_weights(cfg, model, weights)
        _try_test(cfg, runtime, task, model)


def _check_output(cfg: CfgNode) -> None:
    make_dirs(cfg.OUTPUT_DIR, "OUTPUT_DIR")
    try:
        with tempfile.TemporaryFile(dir=cfg.OUTPUT_DIR):
            pass
    except OSError as error:
        raise UserError(
            f"{cfg.OUTPUT_DIR} cannot be written to: {error.strerror}", key="OUTPUT_DIR"
        ) from error


def _try_training(cfg: CfgNode, runtime: Runtime, task: Task, model: torch.nn.Module) -> None:
    loader = task.data.loader("train")
    task.data.loader("val")
    plan = TrainingPlan.from_cfg(cfg)
    for line in plan.describe(cfg, runtime):
        logger.info("%s", line)
    start = time.perf_counter()
    batch = next(iter(loader))
    load_s = time.perf_counter() - start
    if not batch.size:
        raise UserError(
            f"none of the first videos can be read: {batch.bad[0].cause}",
            "check DATA.PATH_PREFIX and the files",
            batch.bad[0].path,
        )
    logger.info(
        "first batch: %s %s, labels %s",
        _shape_of(batch),
        batch.video.dtype,
        batch.label.flatten()[:8].tolist(),
    )
    task.module.begin(model, "train")
    step = OptimizerStep(cfg, model, task.module, build_optimizer(cfg, model), runtime)
    model.train()
    runtime.reset_peak_memory()
    runtime.synchronize()
    start = time.perf_counter()
    output = step([batch], learning_rate(plan.solver, 0), 0)
    runtime.synchronize()
    step_s = time.perf_counter() - start
    workers = max(loader.num_workers, 1)
    per_batch = max(step_s, load_s / workers)
    batches = 0
    for epoch in range(plan.epochs):
        loader.batch_sampler.set_epoch(epoch)
        batches += len(loader)
    logger.info(
        "one step: loss %.3f, %.2f s (data %.2f s in one worker), %.2f GiB; "
        "%d epochs of %d batches take about %s",
        output.loss,
        step_s,
        load_s,
        runtime.peak_memory_gb(),
        plan.epochs,
        round(batches / plan.epochs),
        format_eta(per_batch * batches),
    )


def _try_test(cfg: CfgNode, runtime: Runtime, task: Task, model: torch.nn.Module) -> None:
    loader = task.data.loader("test")  # of clips: nothing is computed for a cache
    batch = next(iter(loader))
    model.eval()
    task.module.begin(model, "test")
    start = time.perf_counter()
    with torch.inference_mode(), build_autocast(cfg, runtime)():
        if batch.size:
            scores = task.module.predict(model, task.module.prepare(batch, "test"))
            task.report.evaluator("test").update(scores, batch)
    seconds = time.perf_counter() - start
    logger.info(
        "test: first batch %s, %.2f s; %d batches take about %s",
        _shape_of(batch),
        seconds,
        len(loader),
        format_eta(seconds * len(loader)),
    )


def _shape_of(batch: Batch) -> str:
    if batch.video is not None:
        return " ".join(map(str, batch.video.shape))
    return "unreadable"
