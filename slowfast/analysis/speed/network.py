"""Speed and memory of networks and training steps on random clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from slowfast.analysis.speed.memory import saved_bytes
from slowfast.analysis.speed.step import (
    attention_by,
    build_step,
    build_training_network,
    plain_attention,
    random_batch,
)
from slowfast.analysis.speed.timing import alternate, median_ms, ratio
from slowfast.config.node import CfgNode
from slowfast.engine.network import build_network
from slowfast.engine.precision import build_autocast, compute_dtype
from slowfast.engine.sharding import compile_network
from slowfast.models.summary import measure_model
from slowfast.utils.runtime import Runtime, choose_device
from slowfast.video.device import build_normalizer


def _describe_setup(cfg: CfgNode, runtime: Runtime) -> dict[str, Any]:
    dtype = compute_dtype(cfg, runtime)
    return {
        "model": cfg.MODEL.MODEL_NAME,
        "device": str(runtime.device),
        "dtype": str(dtype).removeprefix("torch."),
        "compiled": cfg.TRAIN.COMPILE,
    }


def _clips(cfg: CfgNode, batch: int, runtime: Runtime) -> torch.Tensor:
    """Random clips ``B 3 T H W`` on the device, in the layout in which training gives them."""
    video = random_batch(cfg, batch, runtime).video
    return build_normalizer(cfg, published_bgr=False)(video, runtime.device)


def benchmark_model(cfg: CfgNode, batch: int, rounds: int) -> dict[str, Any]:
    """Size, time (forward, and forward + backward) and peak memory of the configured network.

    ``plain`` is the same network with :func:`plain_attention`, measured in the same run; a ratio
    below 1 means that plain attention is slower. ``*_gib`` on the CPU is the peak of the process so
    far; ``saved_mib`` is the memory of tensors saved for the backward pass.
    """
    runtime = Runtime(choose_device(cfg.NUM_GPUS))
    model = build_network(cfg, runtime.device)
    size = measure_model(model, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)
    compiled = torch.compile(model) if cfg.TRAIN.COMPILE else model
    video, autocast = _clips(cfg, batch, runtime), build_autocast(cfg, runtime)

    def forward(network: nn.Module, attention: Callable | None) -> None:
        network.eval()
        network.begin("test")
        with torch.inference_mode(), autocast(), attention_by(attention):
            network(video)

    def backward(network: nn.Module, attention: Callable | None) -> None:
        network.train()
        network.begin("train")
        network.zero_grad(set_to_none=True)
        with autocast(), attention_by(attention):
            network(video).float().square().mean().backward()

    kinds = {"ours": (compiled, None), "plain": (model, plain_attention)}
    memory = {}
    for name, kind in kinds.items():
        for what, work in (("forward", forward), ("forward_backward", backward)):
            runtime.reset_peak_memory()
            work(*kind)
            memory[f"{what}_gib", name] = round(runtime.peak_memory_gb(), 3)
    figures: dict[str, Any] = {}
    for what, work in (("forward", forward), ("forward_backward", backward)):
        ours, plain = alternate(
            [lambda _, w=work, k=k: w(*k) for k in kinds.values()], rounds, runtime
        )
        figures |= {
            f"{what}_ms": median_ms(ours),
            f"{what}_gib": memory[f"{what}_gib", "ours"],
            f"plain_{what}_ms": median_ms(plain),
            f"plain_{what}_gib": memory[f"{what}_gib", "plain"],
            f"{what}_ratio": ratio(ours, plain),
        }
    for name, (_, attention) in kinds.items():
        with autocast(), attention_by(attention):
            saved = saved_bytes(model, video)
        figures[f"{'' if name == 'ours' else 'plain_'}saved_mib"] = round(saved / 2**20, 1)
    clips_per_s = 1000 * batch / figures["forward_ms"]
    views = cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS
    return _describe_setup(cfg, runtime) | {
        "batch": batch,
        "million_parameters": round(size.parameters / 1e6, 2),
        "gflops_per_view": round(size.gflops, 2),
        **figures,
        "clips_per_s": round(clips_per_s, 2),
        "views_per_video": views,
        "videos_per_s": round(clips_per_s / views, 3),
    }


def benchmark_train(cfg: CfgNode, batch: int, rounds: int) -> dict[str, Any]:
    """Time and peak memory of a whole optimizer step of the configured recipe."""
    runtime = Runtime(choose_device(cfg.NUM_GPUS))
    network = build_training_network(cfg, runtime)
    compile_network(cfg, network)
    step = build_step(cfg, runtime, network)
    batches = [random_batch(cfg, batch, runtime)] * cfg.SOLVER.ACCUM_STEPS

    runtime.reset_peak_memory()
    (seconds,) = alternate([lambda n: step(batches, 1e-6, n)], rounds, runtime)
    return _describe_setup(cfg, runtime) | {
        "batch": batch,
        "accum_steps": cfg.SOLVER.ACCUM_STEPS,
        "step_ms": median_ms(seconds),
        "clips_per_s": round(1000 * batch * cfg.SOLVER.ACCUM_STEPS / median_ms(seconds), 2),
        "peak_gib": round(runtime.peak_memory_gb(), 3),
    }
