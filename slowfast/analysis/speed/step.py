"""A training step on random clips, as the loader gives them: what benchmarks of steps measure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.engine.network import build_network
from slowfast.engine.optim import build_optimizer
from slowfast.engine.step import OptimizerStep
from slowfast.engine.tasks.base import LossOutput
from slowfast.layers import conv
from slowfast.models.base import MODEL_REGISTRY, VideoModel, resolve_aux_losses
from slowfast.utils.runtime import Runtime
from slowfast.video.device import build_normalizer

_CONVOLUTIONS = (
    conv.DepthwiseConv3d,
    conv.FlatConv3d,
    conv.PatchConv3d,
    conv.PointwiseConv3d,
    conv.ProjectionConv3d,
)


def random_batch(cfg: CfgNode, batch: int, runtime: Runtime, layout: str = "loader") -> Batch:
    """``batch`` random clips, uint8 ``B 3 T H W``, with labels.

    ``layout``: ``loader`` has the channels last in memory, as decoded frames have them, and is
    pinned where there is a GPU; ``contiguous`` has the memory order of the shape.
    """
    size, generator = cfg.DATA.TRAIN_CROP_SIZE, torch.Generator().manual_seed(0)
    shape = (batch, cfg.DATA.NUM_FRAMES, size, size, 3)
    frames = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    video = frames.movedim(-1, 1)
    if layout == "contiguous":
        video = video.contiguous()
    labels = torch.arange(batch) % cfg.MODEL.NUM_CLASSES
    if runtime.on_gpu:
        video, labels = video.pin_memory(), labels.pin_memory()
    return Batch(video=video, label=labels, path=["random"] * batch)


class RandomClips:
    """The part of a task that an optimizer step needs: normalisation and cross-entropy."""

    def __init__(self, cfg: CfgNode, runtime: Runtime):
        expected = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.input_format(cfg)
        self.normalizer = build_normalizer(cfg, False, expected)
        self.runtime = runtime

    def prepare(
        self, batch: Batch, split: str, step: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Clips ``B 3 T H W`` and labels ``B`` on the device."""
        device = self.runtime.device
        video = self.normalizer(batch.video, device)
        return video, batch.label.to(device, non_blocking=True), batch.size

    def loss(self, model: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor, int]) -> LossOutput:
        """Cross-entropy and the network's own losses."""
        video, labels, size = inputs

        def entropy(logits: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(logits.float(), labels)

        logits, aux = model(video, with_losses=True)
        aux = resolve_aux_losses(aux, entropy)
        return LossOutput(entropy(logits) + sum(aux.values()), size)


def build_training_network(cfg: CfgNode, runtime: Runtime) -> VideoModel:
    """The network in training mode, on the device, with random weights."""
    network = build_network(cfg, runtime.device).train()
    network.begin("train")
    return network


def build_step(
    cfg: CfgNode, runtime: Runtime, network: nn.Module, plain: bool = False
) -> OptimizerStep:
    """The optimizer step of the recipe; ``plain``: with an optimizer that takes one parameter
    after the other."""
    optimizer = build_optimizer(cfg, network)
    if plain:
        for group in optimizer.param_groups:
            group["foreach"] = group["fused"] = False
    return OptimizerStep(cfg, network, RandomClips(cfg, runtime), optimizer, runtime)


@contextlib.contextmanager
def plain_operators() -> Iterator[None]:
    """Context of a network as one would write it without this framework: attention that builds its
    weight matrix, and cuDNN's depthwise convolutions."""
    with attention_by(plain_attention), mock.patch.object(conv, "gpu_depthwise", lambda: None):
        yield


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Context in which convolutions over clips are PyTorch's own, and batch normalisation follows
    them."""
    with contextlib.ExitStack() as stack:
        for kind in _CONVOLUTIONS:
            stack.enter_context(mock.patch.object(kind, "forward", nn.Conv3d.forward))
        stack.enter_context(mock.patch.object(conv, "folded_conv", lambda *pair: None))
        yield


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
def attention_by(function: Callable[..., torch.Tensor] | None) -> Iterator[None]:
    """Context in which ``function`` computes attention (None: PyTorch's own)."""
    if function is None:
        yield
        return
    with mock.patch.object(F, "scaled_dot_product_attention", function):
        yield
