"""The training loop, for any task: epochs of optimizer steps, validation, checkpoints."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.engine import checkpoint, state
from slowfast.engine.bad_items import BadItems
from slowfast.engine.evaluate import evaluate
from slowfast.engine.exchange import agree
from slowfast.engine.initial import load_initial_weights
from slowfast.engine.journal import EpochJournal
from slowfast.engine.meters import EpochMeter
from slowfast.engine.optim import build_optimizer, describe_groups
from slowfast.engine.precise_bn import update_statistics
from slowfast.engine.resume import check_resumable
from slowfast.engine.schedule import batch_factor, describe_batch, is_due, learning_rate
from slowfast.engine.sharding import shard, share_buffers, synchronise_norm, unwrap, wrap_model
from slowfast.engine.step import OptimizerStep
from slowfast.engine.tasks.base import Batch, Task
from slowfast.engine.writer import ScalarWriter
from slowfast.models.build import set_train_mode
from slowfast.models.summary import measure_model
from slowfast.utils import distributed
from slowfast.utils.errors import Interrupted, UserError
from slowfast.utils.logging import get_logger, log_json_stats
from slowfast.utils.progress import StepTimer
from slowfast.utils.runtime import Runtime, seed_process
from slowfast.utils.signals import StopRequest

logger = get_logger(__name__)


class Trainer:
    """A run of training; :meth:`run` does all of it."""

    def __init__(self, cfg: CfgNode, runtime: Runtime, task: Task):
        self.cfg, self.runtime, self.task = cfg, runtime, task
        self.stop = StopRequest()
        seed_process(cfg.RNG_SEED)
        self.train_loader = task.loader("train")
        self.val_loader = task.loader("val")
        self.setting = self._describe_setting()
        self.lr_factor = batch_factor(cfg.SOLVER, self.setting.samples_per_iteration)
        found = self._find_checkpoint()
        network = self._build_network(with_weights=found is None)
        self.ema = self._build_ema(network)
        network = shard(cfg, runtime, network)
        optimizer = build_optimizer(cfg, network)
        for line in describe_groups(optimizer):
            logger.info("%s", line)
        self.model = wrap_model(cfg, runtime, network)
        self.step = OptimizerStep(cfg, self.model, optimizer, runtime, self.ema)
        self.progress = self._resume(found)
        self.bad = BadItems.of(cfg, self.train_loader.dataset, runtime.is_main)
        self.val_bad = BadItems.of(cfg, self.val_loader.dataset, runtime.is_main)
        self.writer = ScalarWriter(cfg, runtime.is_main, self.progress.step)
        self.journal: EpochJournal | None = None
        self._saved_at = time.monotonic()

    # -- before the first step -------------------------------------------------------------------

    def _describe_setting(self) -> state.Setting:
        videos = self.train_loader.batch_sampler.batch_size * self.runtime.world
        samples = videos * self.cfg.SOLVER.ACCUM_STEPS
        logger.info("%s", describe_batch(self.cfg, samples))
        data = self.train_loader.dataset.list.fingerprint
        return state.Setting(self.runtime.world, data, samples)

    def _find_checkpoint(self) -> tuple[Path, dict[str, Any]] | None:
        cfg = self.cfg
        if self.runtime.is_main:
            checkpoint.remove_unfinished(cfg.OUTPUT_DIR)
        found = checkpoint.read_newest(cfg.OUTPUT_DIR, cfg.TASK) if cfg.TRAIN.AUTO_RESUME else None
        if found is not None:
            check_resumable(cfg, self.setting, found[1], found[0])
        return found

    def _build_network(self, with_weights: bool) -> nn.Module:
        cfg = self.cfg
        network = self.task.build_model()
        if with_weights:
            load_initial_weights(cfg, network, self.task)
        if cfg.LOG_MODEL_INFO and self.runtime.is_main:
            logger.info("%s: %s", cfg.MODEL.MODEL_NAME, measure_model(network, cfg))
        return synchronise_norm(cfg, self.runtime, network)

    def _build_ema(self, network: nn.Module) -> ModelEmaV3 | None:
        ema = self.cfg.EMA
        if not ema.ENABLE:
            return None
        whole = self.cfg.DIST.STRATEGY == "ddp"  # shards are averaged one by one
        average = ModelEmaV3(network, decay=ema.DECAY, use_warmup=ema.WARMUP, foreach=whole)
        average.module = shard(self.cfg, self.runtime, average.module)
        return average

    def _resume(self, found: tuple[Path, dict[str, Any]] | None) -> state.Progress:
        if found is None:
            # Dropout and the like: other numbers on each rank, the same weights on all.
            seed_process(self.cfg.RNG_SEED + 1000003 * self.runtime.rank)
            return state.Progress()
        path, content = found
        progress = state.from_checkpoint(content, self.setting, self.step, self.ema)
        logger.info(
            "resuming from %s: %d epochs and %d iterations are done",
            path,
            progress.epoch,
            progress.iteration,
        )
        if progress.epoch < self.cfg.SOLVER.MAX_EPOCH:
            where = {"epoch": progress.epoch, "iter": progress.iteration, "step": progress.step}
            self._log({"_type": "resume", "from": str(path)} | where)
        return progress

    # -- the loop --------------------------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; a last short group of batches counts."""
        return -(-len(self.train_loader) // self.cfg.SOLVER.ACCUM_STEPS)

    def run(self) -> None:
        """Train to the end; UserError if the data or the numbers do not allow it.

        Interrupted, with everything saved, when a signal asks the process to stop.
        """
        with self.stop:
            for epoch in range(self.progress.epoch, self.cfg.SOLVER.MAX_EPOCH):
                self.train_epoch(epoch)
                self.finish_epoch(epoch)
            agreement, _ = agree([], self.stop.number)
            if agreement.signal:  # too late for the loop, but the test must not begin
                raise Interrupted(agreement.signal, self.cfg.OUTPUT_DIR)
        self.writer.close()

    def train_epoch(self, epoch: int) -> None:
        """The steps of one epoch that are still to be done, with their statistics lines."""
        cfg, steps, begin = self.cfg, self.steps_per_epoch, self.progress.iteration
        unwrap(self.model).begin("train")
        set_train_mode(self.model, cfg.MODEL.FROZEN_BN)
        self.train_loader.batch_sampler.set_epoch(epoch, begin * cfg.SOLVER.ACCUM_STEPS)
        self.runtime.reset_peak_memory()
        journal = self.journal = EpochJournal(cfg, self.runtime, self.writer, epoch, steps)
        inside = self.progress.inside
        self.bad.start_pass(inside.get("bad", 0))
        journal.restore(inside.get("journal"))
        for number, batches in enumerate(self._groups(), begin):
            agreement, batches = agree(batches, self.stop.number, self._is_save_due(number))
            journal.timer.data_ready()  # on all ranks
            self.bad.add(agreement.bad)
            if batches:
                lr = self.lr_factor * learning_rate(cfg.SOLVER, epoch + number / steps)
                output = self.step(batches, self._loss_of, lr, self.progress.step, agreement.sizes)
                self.progress.step += 1
                journal.record(output, number, lr, self.progress.step)
                if not output.skipped:
                    self.progress.watch_loss(output.loss, cfg.TRAIN.KILL_LOSS_EXPLOSION_FACTOR)
            self.progress.iteration = number + 1
            if agreement.signal:
                raise Interrupted(agreement.signal, str(self._save_inside()))
            if agreement.save:
                self._save_inside()
        if not inside.get("said"):  # else a stopped run has said it
            journal.finish(self.bad.count, self.train_loader.dataset.list.source)

    def _groups(self) -> Iterator[list[Batch]]:
        """Batches of one optimizer step each."""
        loader = iter(self.train_loader)
        while group := list(itertools.islice(loader, self.cfg.SOLVER.ACCUM_STEPS)):
            yield group

    def _loss_of(self, batch: Batch) -> Any:
        return self.task.loss(self.model, batch, self.progress.step)

    def finish_epoch(self, epoch: int) -> None:
        """What follows the steps of an epoch: statistics, validation, checkpoints."""
        cfg, period, progress = self.cfg, self.cfg.TRAIN, self.progress
        evaluated = is_due(epoch, period.EVAL_PERIOD, cfg.SOLVER.MAX_EPOCH)
        saved = is_due(epoch, period.CHECKPOINT_PERIOD, cfg.SOLVER.MAX_EPOCH)
        undo = self._undo_point()
        try:
            if (evaluated or saved) and cfg.BN.USE_PRECISE_STATS:
                self._precise_statistics(epoch)
            is_best = evaluated and self.validate(epoch)
        except Interrupted as stopped:
            # As if none of it had begun: the resumed run does it again.
            undo()
            raise Interrupted(stopped.number, str(self._save_inside())) from None
        progress.epoch, progress.iteration, progress.inside = epoch + 1, 0, {}
        if saved or is_best:
            self._save(saved, is_best)

    def _undo_point(self) -> Callable[[], None]:
        """Precise statistics draw random numbers and change buffers: puts both back."""
        generators = self.runtime.rng_state()
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]

        def undo() -> None:
            self.runtime.set_rng_state(generators)
            for buffer, value in buffers:
                buffer.copy_(value)

        return undo

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
        share_buffers(network)
        stats = evaluate(
            network,
            self.val_loader,
            evaluator,
            self.val_bad,
            self.runtime,
            f"val {epoch + 1}/{cfg.SOLVER.MAX_EPOCH}",
            cfg.LOG_PERIOD,
            on_step,
            self.stop,
            split="val",
        )
        progress = self.progress
        errors = [name for name in ("top1_err", "top5_err") if name in stats]
        for name in errors:
            best = f"best_{name}"
            setattr(progress, best, min(getattr(progress, best), stats[name]))
        is_best = stats["score"] > progress.best_score
        progress.best_score = max(progress.best_score, stats["score"])
        line = meter.epoch_stats(self.runtime.gpu_memory_gb())
        line |= {k: v for k, v in stats.items() if k != "score"}
        line |= {f"min_{name}": getattr(progress, f"best_{name}") for name in errors}
        self._log(line | {"bad_items": self.val_bad.count})
        self.writer.add({f"Val/{e.capitalize()}": stats[e] for e in errors}, progress.step)
        return is_best

    def _precise_statistics(self, epoch: int) -> None:
        self.train_loader.batch_sampler.set_epoch(epoch)
        count = min(self.cfg.BN.NUM_BATCHES_PRECISE, len(self.train_loader))

        def videos() -> Iterator[torch.Tensor]:
            for batch in self.train_loader:
                agreement, readable = agree([batch], self.stop.number)
                if agreement.signal:
                    raise Interrupted(agreement.signal)
                for one in readable:
                    yield self.task.to_device(one, "train")[0]

        update_statistics(self.model, videos(), count)

    # -- checkpoints -----------------------------------------------------------------------------

    def _is_save_due(self, number: int) -> bool:
        train = self.cfg.TRAIN
        if train.CHECKPOINT_STEPS and (number + 1) % train.CHECKPOINT_STEPS == 0:
            return True
        minutes = (time.monotonic() - self._saved_at) / 60
        return self.runtime.is_main and 0 < train.CHECKPOINT_MINUTES <= minutes

    def _content(self) -> dict[str, Any]:
        return state.to_checkpoint(
            self.cfg, self.setting, self.progress, self.step, self.ema, self.task.class_names
        )

    def _save_inside(self) -> Path:
        """A checkpoint inside an epoch; all processes take part."""
        cfg, progress = self.cfg, self.progress
        progress.inside = {
            "bad": self.bad.count,
            "said": self.journal.finished,
            "journal": self.journal.state,
        }
        path = checkpoint.inside_path(cfg.OUTPUT_DIR, progress.epoch, progress.iteration, cfg.TASK)
        self._write({path: self._content()})
        return path

    def _save(self, as_epoch: bool, as_best: bool) -> None:
        """A checkpoint of finished epochs; all processes take part."""
        cfg, content = self.cfg, self._content()
        paths = []
        if as_best:  # first: a run that is killed in between repeats this epoch
            paths.append(checkpoint.checkpoint_folder(cfg.OUTPUT_DIR) / checkpoint.BEST)
        if as_epoch:
            paths.append(checkpoint.checkpoint_path(cfg.OUTPUT_DIR, self.progress.epoch, cfg.TASK))
        self._write(dict.fromkeys(paths, content))

    def _write(self, contents: dict[Path, dict[str, Any]]) -> None:
        cfg, failed = self.cfg, None
        if self.runtime.is_main:
            try:
                for path, content in contents.items():
                    checkpoint.save_checkpoint(path, content)
                    logger.info("saved %s", path)
                checkpoint.prune_checkpoints(cfg.OUTPUT_DIR, cfg.TRAIN.KEEP_CHECKPOINTS, cfg.TASK)
            except UserError as error:
                failed = error
        # Nobody reads a checkpoint that is being written, nobody waits for one that failed.
        failures = [error for error in distributed.gather_objects(failed) if error]
        if failures:
            raise failures[0]
        self._saved_at = time.monotonic()

    def _log(self, stats: dict[str, Any]) -> None:
        if self.runtime.is_main:
            log_json_stats(stats, self.cfg.OUTPUT_DIR)


def train(cfg: CfgNode, runtime: Runtime, task: Task) -> None:
    """Train a model as configured."""
    Trainer(cfg, runtime, task).run()
