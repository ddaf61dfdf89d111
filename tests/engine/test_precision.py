"""Which precision a run computes in, and how it is decided."""

from __future__ import annotations

import dataclasses
import logging
import signal
from pathlib import Path

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.engine.checkpoint import run_checkpoints
from slowfast.engine.launch import launch
from slowfast.engine.precision import build_autocast, build_scaler, compute_dtype, settle_precision
from slowfast.engine.run import run_job
from slowfast.engine.step import OptimizerStep
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils import runtime as runtime_module
from slowfast.utils.errors import Interrupted
from slowfast.utils.runtime import Runtime
from tests.conftest import words

KEY = "TRAIN.MIXED_PRECISION"
CPU = Runtime(torch.device("cpu"))


@dataclasses.dataclass(frozen=True)
class Device(Runtime):
    """A device that is fast in bfloat16, or not."""

    device: torch.device = torch.device("cpu")
    fast: bool = True

    def has_fast_bfloat16(self) -> bool:
        return self.fast


@pytest.mark.parametrize(
    "flags, fast",
    [
        ("fpu avx2 avx512f", False),
        ("fpu avx512f avx512_bf16", True),
        ("fpu amx_bf16 amx_tile", True),
        ("", False),
    ],
)
def test_a_processor_with_bfloat16_is_recognised(monkeypatch, flags, fast):
    monkeypatch.setattr(runtime_module, "cpu_flags", lambda: frozenset(flags.split()))
    assert CPU.has_fast_bfloat16() is fast


@pytest.mark.parametrize(
    "chosen, fast, mixed, reason",
    [
        (None, True, True, "computes fast in it"),
        (None, False, False, "has no fast bfloat16"),
        (True, False, True, f"{KEY} says so"),
        (False, True, False, f"{KEY} says so"),
    ],
)
def test_the_device_decides_where_the_recipe_does_not(
    make_cfg, caplog, chosen, fast, mixed, reason
):
    before, device = make_cfg({KEY: chosen}), Device(fast=fast)
    with caplog.at_level(logging.INFO, "slowfast"):
        cfg = settle_precision(before, device)
    assert cfg.TRAIN.MIXED_PRECISION is mixed and before.TRAIN.MIXED_PRECISION is chosen
    dtype = torch.bfloat16 if mixed else torch.float32
    name = str(dtype).removeprefix("torch.")
    assert f"computes in {name}" in caplog.text and reason in caplog.text
    # Without that, as tools that build a network do, the decision is the same.
    for one in (before, cfg):
        assert compute_dtype(one, device) is dtype
        with build_autocast(one, device)():
            assert torch.is_autocast_enabled("cpu") is mixed
        assert not build_scaler(one, device).is_enabled()


def test_a_resumed_run_keeps_its_precision(tiny_words, monkeypatch):
    """It began on a device with bfloat16 and goes on where there is none."""
    cfg = load_config(overrides=words(tiny_words | {KEY: None, "SOLVER.MAX_EPOCH": 1}))
    seen = []
    launched = OptimizerStep.launch

    def watched(self, batches, lr, step, sizes=None):
        with self.autocast():
            seen.append(torch.is_autocast_enabled("cpu"))
        if step == 1 and len(seen) == 2:
            signal.raise_signal(signal.SIGTERM)
        return launched(self, batches, lr, step, sizes)

    monkeypatch.setattr(OptimizerStep, "launch", watched)
    monkeypatch.setattr(Runtime, "has_fast_bfloat16", lambda self: True)
    with pytest.raises(Interrupted):
        launch(cfg, run_job)
    monkeypatch.setattr(Runtime, "has_fast_bfloat16", lambda self: False)
    launch(cfg, run_job)
    assert seen == [True] * 4
    log = (Path(cfg.OUTPUT_DIR) / "stdout.log").read_text()
    assert "computes in bfloat16: as the run began" in log
    (path,) = (f for f in run_checkpoints(cfg.OUTPUT_DIR) if f.stem.endswith("epoch_00001"))
    assert "MIXED_PRECISION: true" in read_checkpoint(path)["cfg"]


def test_kernels_of_a_gpu_are_chosen_in_one_place(monkeypatch):
    """The settings are PyTorch's own, which need no GPU."""
    gpu = Runtime(torch.device("cuda", 0))
    settings = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), settings.allow_tf32, settings.benchmark
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        CPU.tune(False, True, True)
        assert before == (
            torch.get_float32_matmul_precision(),
            settings.allow_tf32,
            settings.benchmark,
        )
        assert not torch.are_deterministic_algorithms_enabled()
        gpu.tune(True, True, False)
        assert torch.get_float32_matmul_precision() == "high" and settings.allow_tf32
        assert settings.benchmark and not settings.deterministic
        gpu.tune(False, True, True)
        assert torch.get_float32_matmul_precision() == "highest" and not settings.allow_tf32
        assert settings.deterministic and not settings.benchmark
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        gpu.tune(False, before[2], False)
        torch.set_float32_matmul_precision(before[0])
        settings.allow_tf32 = before[1]
