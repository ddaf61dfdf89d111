"""The training loop, for any task: epochs of optimizer steps, validation, checkpoints."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.engine import checkpoint, state
from slowfast.engine.bad_items import BadItems
from slowfast.engine.evaluate import evaluate
from slowfast.engine.initial import load_initial_weights
from slowfast.engine.meters import EpochMeter
from slowfast.engine.optim import build_optimizer, describe_groups
from slowfast.engine.precise_bn import update_statistics
from slowfast.engine.schedule import is_due, learning_rate
from slowfast.engine.step import OptimizerStep, StepOutput
from slowfast.engine.tasks.base import Batch, Task
from slowfast.engine.writer import ScalarWriter
from slowfast.models.build import set_train_mode
from slowfast.models.summary import measure_model
from slowfast.utils import distributed
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger, log_json_stats
from slowfast.utils.progress import Progress, StepTimer
from slowfast.utils.runtime import Runtime, seed_process

logger = get_logger(__name__)


class Trainer:
    """A run of training; :meth:`run` does all of it."""

    def __init__(self, cfg: CfgNode, runtime: Runtime, task: Task):
        self.cfg, self.runtime, self.task = cfg, runtime, task
        seed_process(cfg.RNG_SEED)
        self.train_loader = task.loader("train")
        self.val_loader = task.loader("val")
        network = task.build_model()
        found = checkpoint.read_newest(cfg.OUTPUT_DIR, cfg.TASK) if cfg.TRAIN.AUTO_RESUME else None
        if found is None:
            load_initial_weights(cfg, network, task)
        if cfg.LOG_MODEL_INFO and runtime.is_main:
            logger.info("%s: %s", cfg.MODEL.MODEL_NAME, measure_model(network, cfg))
        self.ema = self._build_ema(network)
        optimizer = build_optimizer(cfg, network)
        for line in describe_groups(optimizer):
            logger.info("%s", line)
        self.model = wrap_model(cfg, runtime, network)
        self.step = OptimizerStep(cfg, self.model, optimizer, runtime, self.ema)
        self.progress = state.Progress()
        if found is not None:
            path, content = found
            self.progress = state.from_checkpoint(content, self.step, self.ema)
            logger.info("resuming from %s: %d epochs done", path, self.progress.epoch)
        else:
            # Dropout and the like: other numbers on each rank, the same weights on all.
            seed_process(cfg.RNG_SEED + 1000003 * runtime.rank)
        self.bad = self._bad_items(self.train_loader)
        self.val_bad = self._bad_items(self.val_loader)
        self.writer = ScalarWriter(cfg, runtime.is_main)
        self._recent_losses: deque[float] = deque(maxlen=5)

    def _build_ema(self, network: nn.Module) -> ModelEmaV3 | None:
        ema = self.cfg.EMA
        if not ema.ENABLE:
            return None
        return ModelEmaV3(network, decay=ema.DECAY, use_warmup=ema.WARMUP)

    def _bad_items(self, loader: Any) -> BadItems:
        dataset = loader.dataset
        share = self.cfg.DATA.MAX_ERROR_SHARE
        return BadItems(self.cfg.OUTPUT_DIR, dataset.list.source, len(dataset), share)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; a last short group of batches counts."""
        return -(-len(self.train_loader) // self.cfg.SOLVER.ACCUM_STEPS)

    def run(self) -> None:
        """Train to the end; UserError if the data or the numbers do not allow it."""
        cfg, period = self.cfg, self.cfg.TRAIN
        for epoch in range(self.progress.epoch, cfg.SOLVER.MAX_EPOCH):
            self.train_epoch(epoch)
            self.progress.epoch = epoch + 1
            evaluated = is_due(epoch, period.EVAL_PERIOD, cfg.SOLVER.MAX_EPOCH)
            saved = is_due(epoch, period.CHECKPOINT_PERIOD, cfg.SOLVER.MAX_EPOCH)
            if (evaluated or saved) and cfg.BN.USE_PRECISE_STATS:
                self._precise_statistics()
            is_best = evaluated and self.validate(epoch)
            if saved or is_best:
                self._save(saved, is_best)
                distributed.barrier()  # nobody reads a checkpoint that is being written
        self.writer.close()

    def train_epoch(self, epoch: int) -> None:
        """One epoch of optimizer steps with its statistics lines."""
        cfg, steps = self.cfg, self.steps_per_epoch
        set_train_mode(self.model, cfg.MODEL.FROZEN_BN)
        self.train_loader.batch_sampler.set_epoch(epoch)
        self.bad.start_pass()
        self.runtime.reset_peak_memory()
        meter = EpochMeter("train", epoch, cfg.SOLVER.MAX_EPOCH, steps, cfg.LOG_PERIOD)
        bar = Progress(f"train {epoch + 1}/{cfg.SOLVER.MAX_EPOCH}", steps, cfg.LOG_PERIOD)
        timer = StepTimer()
        for number, batches in enumerate(self._groups()):
            timer.data_ready()
            if not batches:
                continue
            lr = learning_rate(cfg.SOLVER, epoch + number / steps)
            output = self.step(batches, self._loss_of, lr, self.progress.step)
            self.progress.step += 1
            timer.step_done(output.size)
            self._record(meter, bar, timer, output, number, lr)
        bar.close()
        if meter.size == 0:
            raise UserError(
                "no video could be read in a whole epoch",
                "see bad_items.tsv",
                self.train_loader.dataset.list.source,
            )
        self._log(meter.epoch_stats(
            self.runtime.gpu_memory_gb(), dt=timer.step, dt_data=timer.wait, dt_net=timer.compute,
            bad_items=self.bad.count, clips_per_second=timer.clips_per_second,
        ))  # fmt: skip

    def _groups(self) -> Iterator[list[Batch]]:
        """Batches of one optimizer step each; unreadable videos are taken out and counted."""
        loader = iter(self.train_loader)
        while group := list(itertools.islice(loader, self.cfg.SOLVER.ACCUM_STEPS)):
            for batch in group:
                self.bad.add(batch["bad"])
            yield [batch for batch in group if "video" in batch]

    def _loss_of(self, batch: Batch) -> Any:
        return self.task.loss(self.model, batch, self.progress.step)

    def _record(
        self,
        meter: EpochMeter,
        bar: Progress,
        timer: StepTimer,
        output: StepOutput,
        number: int,
        lr: float,
    ) -> None:
        figures = {"loss": output.loss, **output.stats}
        last = {"lr": lr, "grad_norm": output.grad_norm}
        if not output.skipped:
            meter.add(output.size, figures, last)
            self._check_explosion(output.loss)
        if meter.is_due(number) and meter.size:
            memory = self.runtime.gpu_memory_gb()
            self._log(meter.step_stats(
                number, timer.step, memory, dt=timer.step, dt_data=timer.wait, dt_net=timer.compute
            ))  # fmt: skip
        names = {"loss": "loss", "lr": "lr", "top1_err": "Top1_err", "top5_err": "Top5_err"}
        scalars = {f"Train/{new}": (figures | last)[old] for old, new in names.items()
                   if old in figures | last}  # fmt: skip
        self.writer.add(scalars, self.progress.step)
        left = (self.cfg.SOLVER.MAX_EPOCH - self.progress.epoch) * self.steps_per_epoch - number - 1
        text = f"loss {output.loss:.3f}  lr {lr:.2e}"
        memory = self.runtime.peak_memory_gb()
        bar.update(number + 1, f"{text}  {timer.describe(memory, left)}")

    def _check_explosion(self, loss: float) -> None:
        factor = self.cfg.TRAIN.KILL_LOSS_EXPLOSION_FACTOR
        recent = self._recent_losses
        if factor > 0 and len(recent) == recent.maxlen and loss > factor * statistics.mean(recent):
            raise UserError(
                f"the loss rose to {loss:.3f}, the last were {[round(r, 3) for r in recent]}",
                "lower SOLVER.BASE_LR",
                "TRAIN.KILL_LOSS_EXPLOSION_FACTOR",
            )
        recent.append(loss)

    def validate(self, epoch: int) -> bool:
        """Validate (the average if there is one); True if it is the best so far."""
        cfg = self.cfg
        meter = EpochMeter("val", epoch, cfg.SOLVER.MAX_EPOCH, len(self.val_loader), cfg.LOG_PERIOD)

        def on_step(step: int, figures: dict, videos: int, timer: StepTimer) -> None:
            if videos:
                meter.add(videos, figures)
            if meter.is_due(step) and meter.size:
                memory = self.runtime.gpu_memory_gb()
                self._log(meter.step_stats(step, timer.step, memory, time_diff=timer.step))

        evaluator = self.task.validator()
        network = self.ema.module if self.ema else self.model
        stats = evaluate(
            network, self.val_loader, evaluator, self.val_bad, self.runtime,
            f"val {epoch + 1}/{cfg.SOLVER.MAX_EPOCH}", cfg.LOG_PERIOD, on_step,
        )  # fmt: skip
        progress = self.progress
        for name in ("top1_err", "top5_err"):
            best = f"best_{name}"
            setattr(progress, best, min(getattr(progress, best), stats[name]))
        is_best = stats["score"] > progress.best_score
        progress.best_score = max(progress.best_score, stats["score"])
        line = meter.epoch_stats(self.runtime.gpu_memory_gb())
        line |= {k: v for k, v in stats.items() if k != "score"}
        line |= {"min_top1_err": progress.best_top1_err, "min_top5_err": progress.best_top5_err,
                 "bad_items": self.val_bad.count}  # fmt: skip
        self._log(line)
        self.writer.add(
            {"Val/Top1_err": stats["top1_err"], "Val/Top5_err": stats["top5_err"]}, progress.step
        )
        return is_best

    def _precise_statistics(self) -> None:
        count = min(self.cfg.BN.NUM_BATCHES_PRECISE, len(self.train_loader))
        videos = (
            self.task.to_device(batch, "train")[0]
            for batch in self.train_loader
            if "video" in batch
        )
        with torch.no_grad():
            update_statistics(self.model, videos, count)

    def _save(self, as_epoch: bool, as_best: bool) -> None:
        if not self.runtime.is_main:
            return
        cfg, progress = self.cfg, self.progress
        content = state.to_checkpoint(cfg, progress, self.step, self.ema, self.task.class_names)
        if as_epoch:
            path = checkpoint.checkpoint_path(cfg.OUTPUT_DIR, progress.epoch, cfg.TASK)
            checkpoint.save_checkpoint(path, content)
            checkpoint.prune_checkpoints(cfg.OUTPUT_DIR, cfg.TRAIN.KEEP_CHECKPOINTS, cfg.TASK)
            logger.info("saved %s", path)
        if as_best:
            folder = checkpoint.checkpoint_folder(cfg.OUTPUT_DIR)
            checkpoint.save_checkpoint(folder / checkpoint.BEST, content)

    def _log(self, stats: dict[str, Any]) -> None:
        if self.runtime.is_main:
            log_json_stats(stats, self.cfg.OUTPUT_DIR)


def wrap_model(cfg: CfgNode, runtime: Runtime, network: nn.Module) -> nn.Module:
    """The network as it is trained: synchronised, distributed, compiled."""
    if cfg.BN.NORM_TYPE == "sync_batchnorm" and runtime.world > 1:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    if runtime.world > 1:
        devices = [runtime.device] if runtime.on_gpu else None
        network = nn.parallel.DistributedDataParallel(
            network,
            device_ids=devices,
            find_unused_parameters=network.has_unused_parameters,
        )
    return torch.compile(network) if cfg.TRAIN.COMPILE else network


def train(cfg: CfgNode, runtime: Runtime, task: Task) -> None:
    """Train a model as configured."""
    Trainer(cfg, runtime, task).run()
