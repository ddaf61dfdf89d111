"""The speed of all families on one device, in one table: what a benchmark of the framework is.

Each network is measured with the optimizer step of its recipe on random clips in the layout of the
loader. Estimates for other machines follow from counts of operations and bytes
(:mod:`slowfast.analysis.speed.roofline`) and stand in a table of their own.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import itertools
import multiprocessing
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from slowfast.analysis.speed.roofline import PRECISIONS, Operation, count_step
from slowfast.analysis.speed.step import (
    build_step,
    build_training_network,
    plain_operators,
    random_batch,
)
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.engine.pending import PendingSteps
from slowfast.engine.precision import build_autocast
from slowfast.engine.prefetch import on_device
from slowfast.engine.sharding import compile_network
from slowfast.engine.step import OptimizerStep
from slowfast.models.base import VideoModel
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, write_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime, cpu_count

logger = get_logger(__name__)

_WORDS = {
    "fp32": ("TRAIN.MIXED_PRECISION", "False"),
    "tf32": ("TRAIN.MIXED_PRECISION", "False"),
    "bf16": ("TRAIN.MIXED_PRECISION", "True", "TRAIN.AMP_DTYPE", "bfloat16"),
}
_MEASURED_S = 1.5
# A compiled network is not begun with less time left than this.
_COMPILE_S = 45.0


@dataclass(frozen=True)
class Subject:
    """A network of the campaign: its name, a configuration file, and what differs from it."""

    name: str
    file: str
    words: tuple[str, ...] = ()

    def load(self, precision: str, words: Sequence[str] = ()) -> CfgNode:
        """Its configuration in a precision of :data:`PRECISIONS`."""
        return load_config([self.file], [*self.words, *_WORDS[precision], *words])


SUBJECTS = (
    Subject("UniFormer-S 16", "configs/Kinetics/UNIFORMER_S.yaml", ("DATA.NUM_FRAMES", "16")),
    Subject("UniFormer-B 16", "configs/Kinetics/UNIFORMER_B.yaml", ("DATA.NUM_FRAMES", "16")),
    Subject(
        "UniFormer-B+STFM 16", "configs/Kinetics/UNIFORMER_B_STFM.yaml", ("DATA.NUM_FRAMES", "16")
    ),
    Subject("TimeSformer 8", "configs/Kinetics/TimeSformer_divST_8x32_224.yaml"),
    Subject("MViTv2-S 16", "configs/Kinetics/MVITv2_S_16x4.yaml"),
    Subject("STAM 16", "configs/Kinetics/STAM_16.yaml"),
    Subject(
        "R3D-50 16",
        "configs/_base/kinetics.yaml",
        (
            *("MODEL.MODEL_NAME", "ResNet3D", "RESNET3D.DEPTH", "50"),
            *("DATA.NUM_FRAMES", "16", "MODEL.NUM_CLASSES", "400"),
        ),
    ),
    Subject(
        "CLIP STDD B/16 8",
        "configs/Kinetics/TemporalCLIP_vitb16_8x16_STAdapter.yaml",
        (
            *("DATA.INDEX_LABEL_MAPPING_FILE", "slowfast/datasets/class_maps/hmdb51.json"),
            # Texts are encoded once, before the first step: one of them per class is enough here.
            *("MODEL.NUM_CLASSES", "51", "CLIP.TEMPLATES", "['a video of {}.']"),
        ),
    ),
)


@dataclass
class Row:
    """What was measured of a network in a precision and a mode; ``note`` says why not."""

    network: str
    precision: str
    mode: str
    batch: int
    step_ms: float = 0.0
    clips_per_s: float = 0.0
    test_views_per_s: float = 0.0
    peak_gib: float = 0.0
    tflops: float = 0.0
    share_of_peak: float = 0.0
    idle_share: float = 0.0
    waits_per_step: int = 0
    first_step_s: float = 0.0
    note: str = ""


@dataclass
class Campaign:
    """Measures variants until ``minutes`` are over.

    Args:
        runtime: the device.
        batch: clips per step; halved where the memory does not suffice.
        rounds: measured steps, fewer where they are slow.
        minutes: time in which a variant is begun.
        words: further ``KEY VALUE`` words of all configurations.
        peaks: TFLOP/s of a large product by precision.
    """

    runtime: Runtime
    batch: int = 32
    rounds: int = 8
    minutes: float = 9.0
    words: Sequence[str] = ()
    peaks: dict[str, float] = field(default_factory=dict)
    operations: dict[tuple[str, str], list[Operation]] = field(default_factory=dict)
    waits: dict[tuple[str, str], int] = field(default_factory=dict)
    operators: dict[tuple[str, str], float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def seconds_left(self) -> float:
        """Time in which further variants may begin."""
        return 60 * self.minutes - (time.monotonic() - self.started)

    def count(self, subjects: Sequence[Subject]) -> None:
        """Count the operations of a training step of each network, in processes of their own."""
        jobs = [(subject, self.batch, tuple(self.words)) for subject in subjects]
        workers = min(len(jobs), cpu_count())
        context = multiprocessing.get_context("spawn")  # a GPU may be in use in this process
        with ProcessPoolExecutor(workers, context) as pool:
            for counts in pool.map(count_operations, jobs):
                self.operations |= counts

    def measure(self, subject: Subject, precision: str, mode: str) -> Row:
        """One row; a failure or the end of the time stands in its note."""
        row = Row(subject.name, precision, mode, self.batch)
        if self.seconds_left() < (_COMPILE_S if mode == "compiled" else 0):
            row.note = "not measured: no time left"
            return row
        compiles = ("TRAIN.COMPILE", str(mode == "compiled"))
        cfg = subject.load(precision, [*compiles, *self.words])
        while True:
            try:
                self._measure(cfg, row)
                return row
            except torch.OutOfMemoryError:
                row.batch //= 2
                if not row.batch:
                    row.note = "not measured: too little memory"
                    return row
            except (RuntimeError, UserError) as error:
                row.note = f"failed: {str(error).splitlines()[0][:120]}"
                logger.exception("%s %s %s failed", subject.name, precision, mode)
                return row
            finally:
                torch.compiler.reset()
                gc.collect()
                self.runtime.free_memory()

    def _measure(self, cfg: CfgNode, row: Row) -> None:
        runtime, plain = self.runtime, row.mode == "plain"
        runtime.tune(row.precision == "tf32", cfg.GPU.CUDNN_BENCHMARK and not plain, False)
        network = build_training_network(cfg, runtime)
        if plain:
            network.to(memory_format=torch.contiguous_format)
        compile_network(cfg, network)
        batch = random_batch(cfg, row.batch, runtime, "contiguous" if plain else "loader")
        step = build_step(cfg, runtime, network, plain)
        with plain_operators() if plain else contextlib.nullcontext():
            self._time_step(step, batch, row)
            self._time_test(cfg, network, step.module.prepare(batch, "test")[0], row)

    def rate(self, rows: Sequence[Row]) -> None:
        """Fill in the achieved rates of measured rows, once operations and peaks are known."""
        for row in rows:
            counted = "bf16" if row.precision == "bf16" else "fp32"
            operations = self.operations.get((row.network, counted), [])
            if row.step_ms:
                flops = sum(o.flops for o in operations) * row.batch / self.batch
                row.tflops = round(flops / row.step_ms / 1e9, 1)
                row.share_of_peak = round(row.tflops / self.peaks[row.precision], 3)

    def _time_step(self, step: OptimizerStep, batch: Batch, row: Row) -> None:
        # As the trainer does: clips on their way early, figures read a step late.
        feed = on_device(itertools.repeat(batch), self.runtime.device)
        pending = PendingSteps(self.runtime.steps_ahead)

        def one(number: int) -> None:
            pending.add(step.launch([next(feed)], 1e-6, number))
            for late in pending.take():
                late.message()

        numbers = itertools.count()

        def run(count: int) -> float:
            start = time.perf_counter()
            for _ in range(count):
                one(next(numbers))
            self.runtime.synchronize()
            return time.perf_counter() - start

        self.runtime.reset_peak_memory()
        row.first_step_s = round(run(1), 2)
        run(1)
        rounds = self._rounds(run(1))
        # Steps follow each other as in training; the host waits once, at the end.
        seconds = run(rounds) / rounds
        row.step_ms = round(1000 * seconds, 2)
        row.clips_per_s = round(row.batch / seconds, 1)
        row.peak_gib = round(self.runtime.peak_memory_gb(), 2)
        if self.runtime.on_gpu:
            busy, operators = self.runtime.profile(lambda: run(1))
            row.idle_share = round(max(0.0, 1 - busy / seconds), 3)
            name = f"{row.network} {row.precision} {row.mode}"
            for operator, took in sorted(operators.items(), key=lambda pair: -pair[1])[:8]:
                self.operators[name, operator] = round(1000 * took, 2)
            with self.runtime.waits() as places:
                one(next(numbers))
            row.waits_per_step = sum(places.values())
            for place, count in places.items():
                self.waits[name, place] = count

    def _time_test(self, cfg: CfgNode, model: VideoModel, video: torch.Tensor, row: Row) -> None:
        autocast = build_autocast(cfg, self.runtime)
        model.eval()
        model.begin("test")

        def run(count: int) -> float:
            start = time.perf_counter()
            with torch.inference_mode(), autocast():
                for _ in range(count):
                    model(video)
            self.runtime.synchronize()
            return time.perf_counter() - start

        run(1)
        rounds = self._rounds(run(1))
        row.test_views_per_s = round(row.batch * rounds / run(rounds), 1)

    def _rounds(self, seconds: float) -> int:
        """How often to measure what takes ``seconds``."""
        return max(2, min(self.rounds, round(_MEASURED_S / seconds)))


def count_operations(
    job: tuple[Subject, int, Sequence[str]],
) -> dict[tuple[str, str], list[Operation]]:
    """The operations of a network by precision."""
    subject, batch, words = job
    cfg = subject.load("fp32", [*words, "NUM_GPUS", "0"])
    network = build_training_network(cfg, Runtime(torch.device("cpu")))
    size = cfg.DATA.TRAIN_CROP_SIZE
    shape = (batch, 3, cfg.DATA.NUM_FRAMES, size, size)
    return {
        (subject.name, precision): count_step(network, shape, precision)
        for precision in ("fp32", "bf16")
    }


def order(
    subjects: Sequence[Subject], precisions: Sequence[str], modes: Sequence[str]
) -> Iterable[tuple[Subject, str, str]]:
    """Variants, the most important first: the time may end before the last."""
    ranked = sorted(
        itertools.product(modes, precisions),
        key=lambda pair: (pair[0] == "compiled", pair[0] == "plain", -PRECISIONS.index(pair[1])),
    )
    for mode, precision in ranked:
        if mode == "plain" and precision == "tf32":
            continue  # the plain network is there to compare with: float32, and bfloat16
        for subject in subjects:
            yield subject, precision, mode


def write_rows(rows: Sequence[Any], path: Path) -> None:
    """Dataclass instances as a CSV file."""
    make_dirs(path.parent)

    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(map(asdict, rows))

    write_atomic(path, write)
