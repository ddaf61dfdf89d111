"""Speed and memory of networks and training steps on random clips."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from slowfast.analysis.speed.memory import saved_bytes
from slowfast.analysis.speed.step import (
    attention_by,
    build_step,
    build_training_network,
    plain_attention,
    plain_convolutions,
    random_batch,
)
from slowfast.analysis.speed.timing import alternate, median_ms, ratio
from slowfast.config.node import CfgNode
from slowfast.engine.network import build_network
from slowfast.engine.precision import build_autocast, compute_dtype
from slowfast.engine.sharding import compile_network
from slowfast.layers.fold import folded_norms
from slowfast.models.summary import measure_model
from slowfast.utils.runtime import Runtime, choose_device
from slowfast.video.device import build_normalizer

_WORK = ("forward", "forward_backward")


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


class _Form(NamedTuple):
    """A network in the form that is measured."""

    network: nn.Module
    video: torch.Tensor
    context: Callable[[], contextlib.AbstractContextManager]  # of its forward passes

    def forward(self) -> None:
        """Evaluation of the clips."""
        self.network.eval()
        self.network.begin("test")
        with torch.inference_mode(), self.context():
            self.network(self.video)

    def forward_backward(self) -> None:
        """Forward and backward pass of a training step."""
        self.network.train()
        self.network.begin("train")
        self.network.zero_grad(set_to_none=True)
        with self.context():
            self.network(self.video).float().square().mean().backward()

    def saved_mib(self) -> float:
        """Memory of the tensors saved for the backward pass."""
        with self.context():
            return round(saved_bytes(self.network, self.video) / 2**20, 1)


def _plain_form(kind: str, ours: _Form) -> _Form:
    if kind == "convolutions":
        return _Form(ours.network, ours.video.contiguous(), plain_convolutions)

    def context() -> contextlib.AbstractContextManager:
        stack = contextlib.ExitStack()
        stack.enter_context(ours.context())
        stack.enter_context(attention_by(plain_attention))
        return stack

    return ours._replace(context=context)


def benchmark_model(
    cfg: CfgNode,
    batch: int,
    rounds: int,
    plain_kind: str = "attention",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Size, time (forward, and forward + backward) and peak memory of the configured network.

    ``plain`` is the same network, measured in the same run, ``plain_kind`` what it does otherwise:
    attention by :func:`plain_attention`; or convolutions by PyTorch's own on contiguous clips, in
    float32 whatever the precision of ours. A ratio below 1 means that the plain form is slower.
    ``*_gib`` on the CPU is the peak of the process so far; ``saved_mib`` is the memory of tensors
    saved for the backward pass.
    """
    runtime = Runtime(choose_device(cfg.NUM_GPUS))
    model = build_network(cfg, runtime.device)
    size = measure_model(model, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)
    compiled = torch.compile(model) if cfg.TRAIN.COMPILE else model
    ours = _Form(compiled, _clips(cfg, batch, runtime), build_autocast(cfg, runtime))
    plain = _plain_form(plain_kind, ours._replace(network=model))
    memory = {}
    for name, form in (("", ours), ("plain_", plain)):
        for what in _WORK:
            runtime.reset_peak_memory()
            getattr(form, what)()
            memory[name + what] = round(runtime.peak_memory_gb(), 3)
    figures: dict[str, Any] = {}
    for what in _WORK:
        work = [lambda _, form=form, w=what: getattr(form, w)() for form in (ours, plain)]
        with folded_norms():
            seconds = alternate(work, rounds, runtime, clock)
        for name, times in zip(("", "plain_"), seconds):
            figures[f"{name}{what}_ms"] = median_ms(times)
            figures[f"{name}{what}_gib"] = memory[name + what]
        figures[f"{what}_ratio"] = ratio(*seconds)
    figures |= {"saved_mib": ours.saved_mib(), "plain_saved_mib": plain.saved_mib()}
    clips_per_s = 1000 * batch / figures["forward_ms"]
    views = cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS
    return _describe_setup(cfg, runtime) | {
        "batch": batch,
        "million_parameters": round(size.parameters / 1e6, 2),
        "gflops_per_view": round(size.gflops, 2),
        "plain": plain_kind,
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
