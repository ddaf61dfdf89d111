"""The table of schedules of multigrid training."""

from __future__ import annotations

from typing import Any

import torch

from slowfast.analysis.parity.tables import Row, table
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.datasets.multigrid import Phase, phase_of
from slowfast.engine.multigrid import TrainingPlan, norm_parts
from slowfast.utils.runtime import Runtime


@table("multigrid")
def _multigrid(row: Row) -> list[tuple[Any, Any]]:
    cfg = _config(row)
    plan = TrainingPlan.from_cfg(cfg)
    shapes = plan.phases[-1].shapes
    pairs = [
        (plan.solver.STEPS, row["out_steps"]),
        (plan.solver.LRS, row["out_lrs"]),
        (plan.epochs, row["out_max_epoch"]),
        ([4 * shape.factor for shape in shapes], row["short_batch_sizes_for_4"]),
        ([shape.size.crop for shape in shapes[:-1]], row["short_crops"]),
    ]
    if row["long_cycle"]:
        ours = [[phase.step, phase.factor, *_shape(phase), phase.end] for phase in plan.phases]
        pairs.append((ours, [[step, *shape, end] for step, shape, end in row["schedule"]]))
    for change in row.get("changes", ()):
        phase = phase_of(plan.phases, change["epoch"])
        pairs += _compare_change(row, cfg, phase, change)
    return pairs


def _config(row: Row) -> CfgNode:
    return load_config(
        overrides={
            "MODEL.MODEL_NAME": "SlowFast",
            "NUM_GPUS": row["gpus"],
            "SOLVER.LR_POLICY": "steps_with_relative_lrs",
            "SOLVER.STEPS": row["steps"],
            "SOLVER.LRS": row["lrs"],
            "SOLVER.MAX_EPOCH": row["max_epoch"],
            "TRAIN.BATCH_SIZE": row["batch_size"],
            "DATA.NUM_FRAMES": row["num_frames"],
            "DATA.TRAIN_CROP_SIZE": row["crop"],
            "DATA.SAMPLING_RATE": row["sampling_rate"],
            "MULTIGRID.SHORT_CYCLE": row["short_cycle"],
            "MULTIGRID.LONG_CYCLE": row["long_cycle"],
            "MULTIGRID.EPOCH_FACTOR": row["epoch_factor"],
        }
    )


def _shape(phase: Phase) -> tuple[int, int]:
    frames, crop, _ = phase.shapes[-1].size
    return frames, crop


def _compare_change(
    row: Row, cfg: CfgNode, phase: Phase, change: dict[str, Any]
) -> list[tuple[Any, Any]]:
    """What the published code writes into its configuration when the size changes."""
    processes = row["gpus"]
    runtime = Runtime(torch.device("cpu"), 0, processes, 0, processes)
    parts, shared = norm_parts(cfg, phase, runtime)
    expected = [
        change["splits"] if change["bn"] == "sub_batchnorm" else 1,
        change["sync"] if change["bn"] == "sync_batchnorm" else 1,
    ]
    sizes = [change[name] for name in ("batch_size", "num_frames", "crop")]
    return [
        ([phase.factor * cfg.TRAIN.BATCH_SIZE, *_shape(phase)], sizes),
        (phase.shapes[-1].size.rates[1], change["long_cycle_sampling_rate"]),
        ([parts, shared], expected),
    ]
