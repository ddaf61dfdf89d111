"""Seconds for which a training stands still while a checkpoint is written: as a single file, and as
a folder that is written while it goes on."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from torch import nn

from slowfast.analysis.speed.step import build_step, build_training_network, random_batch
from slowfast.config.node import CfgNode
from slowfast.engine.checkpoint import in_format
from slowfast.engine.saving import CheckpointWriter
from slowfast.engine.sharding import full_model_state, full_optimizer_state
from slowfast.engine.shares import own_model_state, own_optimizer_state
from slowfast.models.weights.folder import size_of
from slowfast.utils.runtime import Runtime, choose_device

_NAME = "checkpoint_epoch_00001.pyth"


def benchmark_checkpoint(cfg: CfgNode, rounds: int) -> dict[str, Any]:
    """Write checkpoints of the network and its optimizer in both formats, in turn, ``rounds`` times
    after one that does not count.

    ``*_stands_still_s`` are the medians of the seconds until the training goes on, ``*_complete_s``
    of those until the checkpoint is complete; ``ratio`` that of the folder to the file.
    """
    runtime = Runtime(choose_device(cfg.NUM_GPUS))
    network = build_training_network(cfg, runtime)
    step = build_step(cfg, runtime, network)
    step([random_batch(cfg, 1, runtime)], 1e-6, 0)  # moments
    stands: dict[str, list[float]] = {"file": [], "distributed": []}
    complete: dict[str, list[float]] = {"file": [], "distributed": []}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for form in stands:
                still, whole, path = _write(cfg, runtime, network, step.optimizer, form, folder)
                sizes[form] = size_of(path)
                if number:
                    stands[form].append(still)
                    complete[form].append(whole)
    medians = {form: statistics.median(seconds) for form, seconds in stands.items()}
    return {
        "model": cfg.MODEL.MODEL_NAME,
        "device": str(runtime.device),
        "million_parameters": round(sum(p.numel() for p in network.parameters()) / 1e6, 2),
        "megabytes": {form: round(size / 1e6, 1) for form, size in sizes.items()},
        **{f"{form}_stands_still_s": round(seconds, 4) for form, seconds in medians.items()},
        **{f"{form}_complete_s": round(statistics.median(s), 4) for form, s in complete.items()},
        "ratio": round(medians["distributed"] / medians["file"], 3),
    }


def _write(
    cfg: CfgNode, runtime: Runtime, network: nn.Module, optimizer: Any, form: str, folder: str
) -> tuple[float, float, Path]:
    """(seconds until the training goes on, seconds until all is written, path)."""
    values = {"OUTPUT_DIR": folder, "TRAIN.CHECKPOINT_FORMAT": form, "OUTPUT_MIRROR": ""}
    writer = CheckpointWriter(cfg.with_values(values, "this measurement"), runtime)
    path = in_format(Path(folder) / _NAME, form)
    divided = writer.divided
    model_state = own_model_state if divided else full_model_state
    optimizer_state = own_optimizer_state if divided else full_optimizer_state
    runtime.synchronize()
    start = time.perf_counter()
    content = {
        "model_state": model_state(network),
        "optimizer_state": optimizer_state(network, optimizer),
    }
    writer.write([path], content)
    still = time.perf_counter() - start
    writer.finish()
    return still, time.perf_counter() - start, path
