"""When checkpoints are due."""

from __future__ import annotations

import pytest
import torch

from slowfast.engine import saving
from slowfast.engine.saving import CheckpointWriter
from slowfast.utils.runtime import Runtime

CPU = torch.device("cpu")


def test_every_so_many_iterations(make_cfg):
    writer = CheckpointWriter(
        make_cfg({"TRAIN.CHECKPOINT_STEPS": 3}), Runtime(CPU, rank=1, world=2)
    )
    assert [number for number in range(9) if writer.is_due(number)] == [2, 5, 8]


@pytest.mark.parametrize("rank", [0, 1])
def test_every_so_many_minutes_as_rank_0_says(make_cfg, monkeypatch, rank):
    now = 1000.0
    monkeypatch.setattr(saving.time, "monotonic", lambda: now)
    cfg = make_cfg({"TRAIN.CHECKPOINT_MINUTES": 2.0})
    writer = CheckpointWriter(cfg, Runtime(CPU, rank=rank, world=2))
    due = []
    for now in (1000.0, 1119.0, 1121.0):  # noqa: B007
        due.append(writer.is_due(0))
    assert due == [False, False, rank == 0]
    writer.write([], {})
    assert not writer.is_due(0)


def test_never_unless_asked_for(make_cfg, monkeypatch):
    writer = CheckpointWriter(make_cfg({"TRAIN.CHECKPOINT_MINUTES": 0}), Runtime(CPU))
    monkeypatch.setattr(saving.time, "monotonic", lambda: 1e9)
    assert not any(writer.is_due(number) for number in range(9))
