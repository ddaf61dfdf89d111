"""Speed and memory of networks and training steps on random clips."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.analysis.speed.memory import saved_bytes
from slowfast.analysis.speed.timing import alternate, median_ms, ratio
from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.engine.network import build_network
from slowfast.engine.optim import build_optimizer
from slowfast.engine.precision import build_autocast, compute_dtype
from slowfast.engine.step import OptimizerStep
from slowfast.engine.tasks.base import LossOutput
from slowfast.models.base import resolve_aux_losses
from slowfast.models.summary import measure_model
from slowfast.utils.runtime import Runtime, choose_device


def _describe_setup(cfg: CfgNode, runtime: Runtime) -> dict[str, Any]:
    dtype = compute_dtype(cfg, runtime)
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


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Scaled dot-product attention that builds the whole weight matrix, for comparison."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if attn_mask is not None:
        scores = scores + attn_mask
    weights = torch.dropout(scores.softmax(-1), dropout_p, dropout_p > 0)
    return weights @ value


@contextlib.contextmanager
def _attention_by(function: Callable[..., torch.Tensor] | None) -> Iterator[None]:
    """Context in which ``function`` computes attention (None: PyTorch's own)."""
    if function is None:
        yield
        return
    with mock.patch.object(F, "scaled_dot_product_attention", function):
        yield


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
    video, autocast = _clips(cfg, batch, runtime.device), build_autocast(cfg, runtime)

    def forward(network: nn.Module, attention: Callable | None) -> None:
        network.eval()
        network.begin("test")
        with torch.inference_mode(), autocast(), _attention_by(attention):
            network(video)

    def backward(network: nn.Module, attention: Callable | None) -> None:
        network.train()
        network.begin("train")
        network.zero_grad(set_to_none=True)
        with autocast(), _attention_by(attention):
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
        with autocast(), _attention_by(attention):
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


class _RandomClips:
    """The part of a task that an optimizer step needs, with fixed clips ``B 3 T H W``."""

    def __init__(self, video: torch.Tensor, labels: torch.Tensor):
        self.video, self.labels = video, labels

    def prepare(self, batch: Batch, split: str, step: int = 0) -> torch.Tensor:
        return self.video

    def loss(self, model: nn.Module, video: torch.Tensor) -> LossOutput:
        def entropy(logits: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(logits.float(), self.labels)

        logits, aux = model(video, with_losses=True)
        aux = resolve_aux_losses(aux, entropy)
        return LossOutput(entropy(logits) + sum(aux.values()), len(video))


def benchmark_train(cfg: CfgNode, batch: int, rounds: int) -> dict[str, Any]:
    """Time and peak memory of a whole optimizer step of the configured recipe."""
    runtime = Runtime(choose_device(cfg.NUM_GPUS))
    network = build_network(cfg, runtime.device).train()
    network.begin("train")
    optimizer = build_optimizer(cfg, network)
    model = torch.compile(network) if cfg.TRAIN.COMPILE else network
    video = _clips(cfg, batch, runtime.device)
    labels = torch.arange(batch, device=runtime.device) % cfg.MODEL.NUM_CLASSES
    step = OptimizerStep(cfg, model, _RandomClips(video, labels), optimizer, runtime)
    data = Batch(label=labels, path=["random"] * batch)

    runtime.reset_peak_memory()
    batches = [data] * cfg.SOLVER.ACCUM_STEPS
    (seconds,) = alternate([lambda n: step(batches, 1e-6, n)], rounds, runtime)
    return _describe_setup(cfg, runtime) | {
        "batch": batch,
        "accum_steps": cfg.SOLVER.ACCUM_STEPS,
        "step_ms": median_ms(seconds),
        "clips_per_s": round(1000 * batch * cfg.SOLVER.ACCUM_STEPS / median_ms(seconds), 2),
        "peak_gib": round(runtime.peak_memory_gb(), 3),
    }
