"""Batch normalisation where PyTorch's own does not do: one clip, or several CPU processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class _RightForOne(_BatchNorm):
    """Batch normalisation with the right gradient for a batch of one.

    On the CPU, PyTorch (seen in 2.15) computes a wrong one when the batch has one element and its
    memory is channels-last with an unusual batch stride, as reshaped tokens have.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.shape[0] == 1 and input.device.type == "cpu" and torch.is_grad_enabled():
            return _normalise(self, input, lambda x: x)
        return super().forward(input)


class BatchNorm2d(_RightForOne, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` (``B C H W``) that is right for a batch of one, too."""


class BatchNorm3d(_RightForOne, nn.BatchNorm3d):
    """:class:`torch.nn.BatchNorm3d` (``B C T H W``) that is right for a batch of one, too."""


class CpuSyncBatchNorm(_BatchNorm):
    """:class:`torch.nn.SyncBatchNorm`, which exists for GPUs only, for ``B C …`` on the CPU.

    Statistics are those of all processes' batches, by their sizes; the gradient flows through
    the statistics of all of them.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self._check_input_dim(input)
        several = dist.is_initialized() and dist.get_world_size() > 1
        return _normalise(self, input, all_reduce if several else lambda x: x)


def _normalise(
    norm: _BatchNorm, input: torch.Tensor, total: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Batch normalisation written out; ``total`` adds the sums of all processes."""
    x = input.float()
    shape = [1, -1] + [1] * (x.dim() - 2)
    if norm.training or norm.running_mean is None:
        dims = [0, *range(2, x.dim())]
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        sums = total(torch.cat([count, x.sum(dims)]))
        mean = sums[1:] / sums[0]
        variance = total((x - mean.view(shape)).square().sum(dims)) / sums[0]
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
    return out.to(input.dtype)


@torch.no_grad()
def _update_running(
    norm: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor
) -> None:
    norm.num_batches_tracked.add_(1)
    rate = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, rate)
    norm.running_var.lerp_(variance * (count / (count - 1).clamp_min(1)), rate)


def with_synchronised_norm(network: nn.Module, on_gpu: bool) -> nn.Module:
    """The network with every batch normalisation synchronised between processes."""
    if on_gpu:
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, _on_cpu(child))
    return network


def _on_cpu(norm: _BatchNorm) -> CpuSyncBatchNorm:
    new = CpuSyncBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    # The parameters themselves: an optimizer may hold them already.
    new._parameters, new._buffers = norm._parameters, norm._buffers
    return new.train(norm.training)
