"""Speed and memory of networks and training steps on random clips."""

from __future__ import annotations

from typing import Any

import torch

from slowfast.analysis.speed.timing import alternate, median_ms
from slowfast.config.node import CfgNode
from slowfast.engine.optim import build_optimizer
from slowfast.engine.step import LossOutput, OptimizerStep, build_autocast
from slowfast.models.build import build_model
from slowfast.models.summary import measure_model
from slowfast.utils.runtime import Runtime, choose_device


def _setting(cfg: CfgNode, runtime: Runtime) -> dict[str, Any]:
    amp = cfg.TRAIN.MIXED_PRECISION
    dtype = runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE) if amp else torch.float32
    return {
        "model": cfg.MODEL.MODEL_NAME,
        "device": str(runtime.device),
        "dtype": str(dtype).removeprefix("torch."),
        "compiled": cfg.TRAIN.COMPILE,
    }


def _clips(cfg: CfgNode, batch: int, device: torch.device) -> torch.Tensor:
    size = cfg.DATA.TRAIN_CROP_SIZE
    generator = torch.Generator(device).manual_seed(0)
    shape = (batch, 3, cfg.DATA.NUM_FRAMES, size, size)
    return torch.randn(shape, generator=generator, device=device)


def benchmark_model(cfg: CfgNode, batch: int, rounds: int) -> dict[str, Any]:
    """Size, forward and forward + backward time and peak memory of the configured network."""
    runtime = Runtime(choose_device(cfg.NUM_GPUS))
    model = build_model(cfg, runtime.device)
    size = measure_model(model, cfg)
    model = torch.compile(model) if cfg.TRAIN.COMPILE else model
    video, autocast = _clips(cfg, batch, runtime.device), build_autocast(cfg, runtime)

    def forward(_: int) -> None:
        model.eval()
        with torch.inference_mode(), autocast():
            model(video)

    def backward(_: int) -> None:
        model.train()
        model.zero_grad(set_to_none=True)
        with autocast():
            loss = model(video).float().square().mean()
        loss.backward()

    runtime.reset_peak_memory()
    (forward_s,) = alternate([forward], rounds, runtime)
    forward_memory = runtime.peak_memory_gb()
    runtime.reset_peak_memory()
    (backward_s,) = alternate([backward], rounds, runtime)
    return _setting(cfg, runtime) | {
        "batch": batch,
        "million_parameters": round(size.parameters / 1e6, 2),
        "gflops_per_view": round(size.gflops, 2),
        "forward_ms": median_ms(forward_s),
        "forward_backward_ms": median_ms(backward_s),
        "clips_per_s": round(1000 * batch / median_ms(forward_s), 2),
        "forward_gib": round(forward_memory, 3),
        "forward_backward_gib": round(runtime.peak_memory_gb(), 3),
    }


def benchmark_train(cfg: CfgNode, batch: int, rounds: int) -> dict[str, Any]:
    """Time and peak memory of a whole optimizer step of the configured recipe."""
    runtime = Runtime(choose_device(cfg.NUM_GPUS))
    network = build_model(cfg, runtime.device).train()
    optimizer = build_optimizer(cfg, network)
    model = torch.compile(network) if cfg.TRAIN.COMPILE else network
    step = OptimizerStep(cfg, model, optimizer, runtime)
    video = _clips(cfg, batch, runtime.device)
    labels = torch.arange(batch, device=runtime.device) % cfg.MODEL.NUM_CLASSES
    data = {"label": labels, "path": ["random"] * batch}

    def loss(_: dict[str, Any]) -> LossOutput:
        logits, extra = model(video, with_losses=True)
        value = torch.nn.functional.cross_entropy(logits.float(), labels) + sum(extra.values())
        return LossOutput(value, batch)

    runtime.reset_peak_memory()
    batches = [data] * cfg.SOLVER.ACCUM_STEPS
    (seconds,) = alternate([lambda n: step(batches, loss, 1e-6, n)], rounds, runtime)
    return _setting(cfg, runtime) | {
        "batch": batch,
        "accum_steps": cfg.SOLVER.ACCUM_STEPS,
        "step_ms": median_ms(seconds),
        "clips_per_s": round(1000 * batch * cfg.SOLVER.ACCUM_STEPS / median_ms(seconds), 2),
        "peak_gib": round(runtime.peak_memory_gb(), 3),
    }
