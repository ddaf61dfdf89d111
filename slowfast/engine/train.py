"""The training loop, for any task: epochs of optimizer steps, validation, checkpoints."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from timm.utils import ModelEmaV3
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.datasets.loader import Loader
from slowfast.engine import checkpoint, state
from slowfast.engine.callbacks import Callbacks
from slowfast.engine.content import restoring
from slowfast.engine.elastic import StepSize, settle_step
from slowfast.engine.epoch_logger import EpochLogger, ValObserver
from slowfast.engine.evaluate import Observer, evaluate
from slowfast.engine.initial import load_initial_weights
from slowfast.engine.loggers import Loggers
from slowfast.engine.multigrid import PhaseNorms, TrainingPlan
from slowfast.engine.optim import build_optimizer, describe_groups
from slowfast.engine.pending import PendingStep, PendingSteps
from slowfast.engine.precise_bn import update_statistics
from slowfast.engine.prefetch import on_device
from slowfast.engine.resume import check_resumable
from slowfast.engine.saving import CheckpointWriter
from slowfast.engine.schedule import batch_factor, describe_batch, learning_rate
from slowfast.engine.sharding import (
    compile_network,
    gathered,
    shard,
    share_buffers,
    synchronise_norm,
    wrap_model,
)
from slowfast.engine.step import OptimizerStep
from slowfast.engine.step_sync import sync_step
from slowfast.engine.tasks.base import Task
from slowfast.engine.unreadable import UnreadableVideos
from slowfast.layers.sub_norm import aggregate_statistics
from slowfast.metrics.evaluators import EvalResult
from slowfast.models.build import set_train_mode
from slowfast.models.summary import measure_model
from slowfast.models.weights.read import Checkpoint
from slowfast.utils.distributed import gather_numbers
from slowfast.utils.errors import Interrupted
from slowfast.utils.files import write_text_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime, seed_process
from slowfast.utils.signals import StopRequest

logger = get_logger(__name__)


class Trainer:
    """A run of training; :meth:`run` does all of it.

    Units that a subclass may override: :meth:`build_network`, :meth:`train_epoch`,
    :meth:`train_step`, :meth:`validate`, :meth:`save`. A task names its trainer by
    ``trainer_class``.
    """

    def __init__(self, cfg: CfgNode, runtime: Runtime, task: Task):
        # The order matters: the seed before all random draws, the loaders before the fingerprint,
        # the checkpoint before the weights, shards before the optimizer, which before the wrapper.
        self.cfg, self.runtime, self.task = cfg, runtime, task
        self.stop = StopRequest()
        self.stop_reason = ""
        self.plan = TrainingPlan.from_cfg(cfg)
        self.phase_norms = PhaseNorms(cfg, runtime, self.plan)
        seed_process(cfg.RNG_SEED)
        self.train_loader = self._loader("train")
        self.val_loader = self._loader("val")
        resumed = self._read_checkpoint()
        self.step_size = self._step_size(resumed)
        self.fingerprint = self._fingerprint()
        if resumed is not None:
            check_resumable(cfg, self.fingerprint, resumed.content, resumed.path)
        self.order = state.StepOrder(self.train_loader.batch_sampler, self.step_size.accumulated)
        self.lr_factor = self.step_size.lr_factor * batch_factor(cfg.SOLVER, self.step_size.videos)
        self.callbacks = Callbacks(cfg, runtime)
        network = self.build_network(with_weights=resumed is None)
        self.ema = self._build_ema(network)
        # The average never trains: its layers need no other process, and a group has no copy.
        network = shard(cfg, runtime, synchronise_norm(cfg, runtime, network))
        self.optimizer = build_optimizer(cfg, network)
        for line in describe_groups(self.optimizer):
            logger.info("%s", line)
        self.model = wrap_model(cfg, runtime, network)
        if self.ema is not None:
            compile_network(cfg, self.ema.module)
        self.optimizer_step = OptimizerStep(
            cfg, self.model, task.module, self.optimizer, runtime, self.ema
        )
        self.pending = PendingSteps(runtime.steps_ahead)
        self.progress = self._restore(resumed)
        self.loggers = Loggers(cfg, runtime.is_main, self.progress.step)
        self._log_resume(resumed)
        train_set, val_set = self.train_loader.dataset, self.val_loader.dataset
        self.unreadable = UnreadableVideos.for_dataset(cfg, train_set, runtime.is_main)
        self.val_unreadable = UnreadableVideos.for_dataset(cfg, val_set, runtime.is_main)
        self.writer = CheckpointWriter(cfg, runtime)
        self.epoch_logger: EpochLogger | None = None

    # -- before the first step -------------------------------------------------------------------

    def _loader(self, split: str) -> Loader:
        loader = self.task.data.loader(split)
        logger.info("%s: %s, %d batches", split, loader.dataset.describe(), len(loader))
        return loader

    def _step_size(self, resumed: Checkpoint | None) -> StepSize:
        world = self.runtime.world
        batch = self.train_loader.batch_sampler.batch_size * world
        content = None if resumed is None else resumed.content
        return settle_step(self.cfg, batch, world, content)

    def _fingerprint(self) -> state.RunFingerprint:
        size = self.step_size
        if not self.plan.phases:  # else steps differ in size, as the plan says
            logger.info("%s", describe_batch(self.cfg, size.videos, size.accumulated))
        for line in self.plan.describe(self.cfg, self.runtime):
            logger.info("%s", line)
        data = self.train_loader.dataset.item_list.fingerprint
        return state.RunFingerprint(self.runtime.world, data, size.intended)

    def _read_checkpoint(self) -> Checkpoint | None:
        cfg = self.cfg
        if self.runtime.is_main:
            checkpoint.remove_unfinished(cfg.OUTPUT_DIR)
        return checkpoint.read_newest(cfg.OUTPUT_DIR, cfg.TASK) if cfg.TRAIN.AUTO_RESUME else None

    def build_network(self, with_weights: bool) -> nn.Module:
        """The network on the device, ``with_weights`` with those that the run starts from."""
        cfg = self.cfg
        network = self.task.module.build_model()
        if with_weights:
            load_initial_weights(cfg, network)
        if cfg.LOG_MODEL_INFO and self.runtime.is_main:
            size = measure_model(network, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)
            logger.info("%s: %s", cfg.MODEL.MODEL_NAME, size)
        return network

    def _build_ema(self, network: nn.Module) -> ModelEmaV3 | None:
        ema = self.cfg.EMA
        if not ema.ENABLE:
            return None
        whole = self.cfg.DIST.STRATEGY == "ddp"  # shards are averaged one by one
        average = ModelEmaV3(network, decay=ema.DECAY, use_warmup=ema.WARMUP, foreach=whole)
        average.module = shard(self.cfg, self.runtime, average.module)
        return average

    def _restore(self, resumed: Checkpoint | None) -> state.Progress:
        self._enter_phase(0 if resumed is None else state.saved_in_epoch(resumed.content))
        # Dropout and the like: other numbers on each rank, the same weights on all. A rank that
        # the checkpoint knows goes on with its own.
        seed_process(self.cfg.RNG_SEED + 1000003 * self.runtime.rank)
        if resumed is None:
            return state.Progress()
        with restoring(resumed.path):
            return state.from_checkpoint(
                resumed.content,
                self.order,
                self.optimizer_step,
                self.ema,
                self.callbacks,
                resumed.path,
            )

    def _log_resume(self, resumed: Checkpoint | None) -> None:
        if resumed is None:
            return
        path, progress = resumed.path, self.progress
        logger.info(
            "resuming from %s: %d epochs and %d iterations are done",
            path,
            progress.epoch,
            progress.iteration,
        )
        if progress.epoch < self.plan.epochs:
            position = {"epoch": progress.epoch, "iter": progress.iteration, "step": progress.step}
            self.loggers.log("resume", {"from": str(path)} | position, progress.step)

    # -- the loop --------------------------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of the present epoch; a last short group of batches counts."""
        return -(-len(self.train_loader) // self.step_size.accumulated)

    def request_stop(self, reason: str) -> None:
        """End the training after the present epoch; all processes must request it alike."""
        self.stop_reason = reason

    def run(self) -> None:
        """Train to the end; UserError if the data or the numbers do not allow it.

        Interrupted, with everything saved, when a signal stops the process.
        """
        # Loggers are closed whatever happens: TensorBoard's would lose its last lines.
        with contextlib.closing(self.loggers), self.stop, self.writer:
            self.callbacks.call("on_run_start", self)
            for epoch in range(self.progress.epoch, self.plan.epochs):
                if self.stop_reason:
                    logger.info("the training ends after epoch %d: %s", epoch, self.stop_reason)
                    break
                self.callbacks.call("on_epoch_start", self, epoch)
                self.train_epoch(epoch)
                self.finish_epoch(epoch)
            self._announce(self.writer.finish())
            sync, _ = sync_step([], self.stop.number)
            if sync.signal:  # too late for the loop, but the test must not begin
                raise Interrupted(sync.signal, self.cfg.OUTPUT_DIR)
            self.callbacks.call("on_run_end", self)

    def train_epoch(self, epoch: int) -> None:
        """The steps of one epoch that are still to be done, with their statistics lines."""
        cfg, first = self.cfg, self.progress.iteration
        self._enter_phase(epoch)
        with gathered(self.model):
            self.task.module.begin(self.model, "train")
        set_train_mode(self.model, cfg.MODEL.FROZEN_BN)
        self.train_loader.batch_sampler.set_epoch(epoch, first * self.step_size.accumulated)
        steps, epochs = self.steps_per_epoch, self.plan.epochs
        self.runtime.reset_peak_memory()
        log = self.epoch_logger = EpochLogger(cfg, self.runtime, self.loggers, epoch, epochs, steps)
        before = self.progress.epoch_state or state.EpochState()
        self.unreadable.start_pass(before.bad_items)
        log.meter.restore(before.meters)
        for number, group in enumerate(self._groups(), first):
            # One message a step: what to do now, and the figures of steps that are done.
            done = self.pending.take()
            figures = [value for step in done for value in step.message()]
            due = self.writer.is_due(number)
            sync, batches = sync_step(group, self.stop.number, due, figures)
            log.timer.data_ready()  # on all ranks
            self._report(done, sync.figures)
            self.unreadable.record(sync.bad)
            if batches:
                lr = self.lr_factor * learning_rate(self.plan.solver, epoch + number / steps)
                self.train_step(batches, lr, sync.sizes)
                log.timer.step_done(sum(map(sum, sync.sizes)))
            self.progress.iteration = number + 1
            if sync.signal or sync.save:
                self._report_all()
            if sync.signal:
                raise Interrupted(sync.signal, str(self._save_mid_epoch(wait=True)))
            if sync.save:
                self._save_mid_epoch()
        self._report_all()
        if before.logged:  # before the interruption
            log.finished = True
            log.bar.close()
        else:
            source = self.train_loader.dataset.item_list.source
            log.finish(self.unreadable.count, source, self.progress.step)

    def _enter_phase(self, epoch: int) -> None:
        average = self.ema.module if self.ema else None
        self.phase_norms.enter(epoch, self.model, average)

    def _groups(self) -> Iterator[list[Batch]]:
        """The batches of each optimizer step, on their way to the device."""
        loader = on_device(self.train_loader, self.runtime.device)
        while group := list(itertools.islice(loader, self.step_size.accumulated)):
            yield group

    def train_step(self, batches: list[Batch], lr: float, sizes: list[list[int]]) -> PendingStep:
        """Launch an optimizer step on ``batches``; ``sizes[rank][i]`` are the labels of each.

        Its figures are reported when the device has computed them: on a GPU a step later.
        """
        pending = self.optimizer_step.launch(batches, lr, self.progress.step, sizes)
        pending.number = self.progress.iteration
        self.progress.step += 1
        self.pending.add(pending)
        return pending

    def _report(self, steps: Sequence[PendingStep], rows: Sequence[Sequence[float]]) -> None:
        """What follows from the figures of ``steps``; ``rows`` are the messages of all ranks, one
        step's after the other's."""
        for pending in steps:
            output = self.optimizer_step.finish(pending, [row[: pending.width] for row in rows])
            rows = [row[pending.width :] for row in rows]
            if not output.skipped:
                self.progress.watch_loss(output.loss, self.cfg.TRAIN.KILL_LOSS_EXPLOSION_FACTOR)
            self.callbacks.call("on_step_end", self, output)
            self.epoch_logger.log_step(output, pending.number, pending.lr)

    def _report_all(self) -> None:
        """Wait for all steps that were launched; all ranks call it."""
        steps = self.pending.take(0)
        if steps:
            figures = [value for step in steps for value in step.message()]
            self._report(steps, gather_numbers(figures))

    def finish_epoch(self, epoch: int) -> None:
        """What follows the steps of an epoch: statistics, validation, checkpoints."""
        cfg, progress = self.cfg, self.progress
        evaluated = self.plan.is_due(epoch, cfg.TRAIN.EVAL_PERIOD)
        saved = self.plan.is_due(epoch, cfg.TRAIN.CHECKPOINT_PERIOD)
        undo = self._undo_point()
        is_best = False
        try:
            if (evaluated or saved) and cfg.BN.USE_PRECISE_STATS:
                self._update_precise_bn(epoch)
            self._aggregate_statistics()
            if evaluated:
                observer = self.val_observer(epoch)
                result = self.validate(observer)
                is_best = progress.record(result)
                observer.log_result(result, progress.best, self.val_unreadable.count)
                self.callbacks.call("on_evaluation_end", self, result)
        except Interrupted as stopped:
            # As if none of it had begun: the resumed run does it again.
            undo()
            raise Interrupted(stopped.number, str(self._save_mid_epoch(wait=True))) from None
        self.callbacks.call("on_epoch_end", self, epoch)
        progress.epoch, progress.iteration, progress.epoch_state = epoch + 1, 0, None
        saved = saved or bool(self.stop_reason)
        if saved or is_best:
            self.save(saved, is_best)

    def _aggregate_statistics(self) -> None:
        """What evaluations read of normalisation over parts of a batch; training does not read
        it."""
        for network in [self.model] + ([self.ema.module] if self.ema else []):
            aggregate_statistics(network)

    def _undo_point(self) -> Callable[[], None]:
        """Snapshot of random generators and buffers, so that an interrupted precise-BN pass leaves
        no trace."""
        generators = self.runtime.rng_state()
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]

        def undo() -> None:
            self.runtime.set_rng_state(generators)
            for buffer, value in buffers:
                buffer.copy_(value)

        return undo

    def val_observer(self, epoch: int) -> ValObserver:
        """What logs the validation after ``epoch``."""
        batches, step = len(self.val_loader), self.progress.step
        epochs = self.plan.epochs
        return ValObserver(self.cfg, self.runtime, self.loggers, epoch, epochs, batches, step)

    def validate(self, observer: Observer) -> EvalResult:
        """Evaluate the validation list with the averaged weights, if there are any."""
        network = self.ema.module if self.ema else self.model
        share_buffers(network)
        evaluator = self.task.report.evaluator("val")
        result = evaluate(
            network,
            self.task.module,
            self.val_loader,
            evaluator,
            split="val",
            autocast=self.optimizer_step.autocast,
            unreadable=self.val_unreadable,
            observer=observer,
            runtime=self.runtime,
            stop=self.stop,
        )
        names = self.task.data.class_names("val")
        self.loggers.log_scores("", evaluator, names, self.progress.step)
        return result

    def _update_precise_bn(self, epoch: int) -> None:
        self.train_loader.batch_sampler.set_epoch(epoch, one_shape=True)
        count = min(self.cfg.BN.NUM_BATCHES_PRECISE, len(self.train_loader))
        module = self.task.module

        def inputs() -> Iterator[tuple[Any, bool]]:
            # A rank without readable clips repeats those of another, which do not count.
            for batch in self.train_loader:
                sync, readable = sync_step([batch], self.stop.number)
                if sync.signal:
                    raise Interrupted(sync.signal)
                for one in readable:
                    # of training clips, but not mixed
                    yield module.prepare(one, "val"), batch.size > 0

        set_train_mode(self.model, self.cfg.MODEL.FROZEN_BN)
        update_statistics(self.model, module.predict, inputs(), count)

    # -- checkpoints -----------------------------------------------------------------------------

    def _content(self) -> dict[str, Any]:
        return state.to_checkpoint(
            self.cfg,
            self.fingerprint,
            self.order,
            self.progress,
            self.optimizer_step,
            self.ema,
            self.callbacks,
            self.task.data.class_names("train"),
            divided=self.writer.divided,
        )

    def _save_mid_epoch(self, wait: bool = False) -> Path:
        """A checkpoint inside an epoch; all processes take part. ``wait`` until it is complete."""
        self._aggregate_statistics()  # it may be tested, too
        progress, log = self.progress, self.epoch_logger
        progress.epoch_state = state.EpochState(
            self.unreadable.count, log.finished, log.meter.state
        )
        path = self.writer.mid_epoch_path(progress)
        self._announce(self.writer.write([path], self._content(), wait))
        return path

    def save(self, as_epoch: bool, as_best: bool) -> None:
        """A checkpoint of the finished epochs; all processes take part."""
        paths = self.writer.paths(self.progress, as_epoch, as_best)
        self._announce(self.writer.write(paths, self._content()))

    def _announce(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self.callbacks.call("on_checkpoint", self, path)


def train(cfg: CfgNode, runtime: Runtime, task: Task) -> None:
    """Train a model as configured, by the trainer of the task."""
    trainer = (task.trainer_class or Trainer)(cfg, runtime, task)
    if runtime.is_main:  # not before: a run that may not be resumed leaves the file as it is
        write_text_atomic(Path(cfg.OUTPUT_DIR) / "config.yaml", cfg.dump())
    trainer.run()
