"""Batch normalisation for batches of one clip and for several processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


def replace_norms(
    network: nn.Module, chosen: Callable[[nn.Module], bool], make: Callable[[_BatchNorm], nn.Module]
) -> nn.Module:
    """``network`` with ``make(layer)`` in place of each ``chosen`` layer."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if chosen(child):
                setattr(module, name, make(child))
    return network


class Batch1SafeNorm(_BatchNorm):
    """Batch normalisation that works around a wrong CPU gradient for batch size 1.

    PyTorch (seen in 2.15) computes wrong gradients on the CPU if the batch has one element and
    the input, or the gradient that arrives, is channels-last with an unusual batch stride, as
    reshaped tokens are.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``B C ...`` -> ``B C ...``."""
        if input.shape[0] == 1 and input.device.type == "cpu" and torch.is_grad_enabled():
            return _normalise(self, input, lambda x: x)
        return super().forward(input)


class Batch1SafeNorm2d(Batch1SafeNorm, nn.BatchNorm2d):
    """:class:`Batch1SafeNorm` of ``B C H W``."""


class Batch1SafeNorm3d(Batch1SafeNorm, nn.BatchNorm3d):
    """:class:`Batch1SafeNorm` of ``B C T H W``."""


class Batch1SafeNormAct2d(Batch1SafeNorm, BatchNormAct2d):
    """:class:`Batch1SafeNorm` of ``B C H W`` with timm's dropout and activation after it."""


_BATCH1_SAFE = {
    nn.BatchNorm2d: Batch1SafeNorm2d,
    nn.BatchNorm3d: Batch1SafeNorm3d,
    BatchNormAct2d: Batch1SafeNormAct2d,
}


def with_batch1_safe_norm(network: nn.Module) -> nn.Module:
    """``network`` with every batch normalisation turned into a :class:`Batch1SafeNorm`.

    Layers change their class in place: parameters, buffers, names and hooks stay as they are.
    """
    for module in network.modules():
        if type(module) in _BATCH1_SAFE:
            module.__class__ = _BATCH1_SAFE[type(module)]
    return network


class CpuSyncBatchNorm(_BatchNorm):
    """:class:`torch.nn.SyncBatchNorm`, which exists for GPUs only, of ``B C ...`` on the CPU.

    Statistics are those of the batches of all processes, or of those in ``process_group``, weighted
    by their sizes; gradients flow through them to all of these processes.
    """

    process_group: dist.ProcessGroup | None = None

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``B C ...`` -> ``B C ...``."""
        self._check_input_dim(input)
        group = self.process_group
        if not dist.is_initialized() or dist.get_world_size(group) == 1:
            return _normalise(self, input, lambda x: x)
        return _normalise(self, input, lambda x: all_reduce(x, group=group or dist.group.WORLD))


def _normalise(
    norm: _BatchNorm, input: torch.Tensor, sum_ranks: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Batch normalisation written out; ``sum_ranks`` adds the sums of all processes."""
    x = input.float()
    shape = [1, -1] + [1] * (x.dim() - 2)
    if norm.training or norm.running_mean is None:
        dims = [0, *range(2, x.dim())]
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        sums = sum_ranks(torch.cat([count, x.sum(dims)]))
        mean = sums[1:] / sums[0]
        variance = sum_ranks((x - mean.view(shape)).square().sum(dims)) / sums[0]
        if norm.running_mean is not None:
            _update_running(norm, mean.detach(), variance.detach(), sums[0].detach())
    else:
        mean, variance = norm.running_mean, norm.running_var
    scale = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    out = (x - mean.view(shape)) * scale.view(shape)
    if norm.affine:
        out = out + norm.bias.view(shape)
    out = out.to(input.dtype)
    for child in norm.children():  # dropout and activation of timm's BatchNormAct2d
        out = child(out)
    return out


@torch.no_grad()
def _update_running(
    norm: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor
) -> None:
    norm.num_batches_tracked.add_(1)
    rate = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, rate)
    norm.running_var.lerp_(variance * (count / (count - 1).clamp_min(1)), rate)


def with_synchronised_norm(
    network: nn.Module, on_gpu: bool, group: dist.ProcessGroup | None = None
) -> nn.Module:
    """``network`` with every batch normalisation synchronised between the processes of ``group``
    (None: all)."""
    if on_gpu:
        return convert_sync_batchnorm(network, group)
    return replace_norms(
        network,
        lambda layer: isinstance(layer, _BatchNorm),
        lambda norm: _cpu_sync_norm(norm, group),
    )


def _cpu_sync_norm(norm: _BatchNorm, group: dist.ProcessGroup | None) -> CpuSyncBatchNorm:
    sync = CpuSyncBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    sync.process_group = group
    # The parameters themselves: an optimizer may refer to them already.
    sync._parameters, sync._buffers = norm._parameters, norm._buffers
    sync._modules = norm._modules
    return sync.train(norm.training)
