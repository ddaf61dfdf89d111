"""Batch normalisation over the batch of all processes, on GPUs and on the CPU."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


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
        alone = not (dist.is_initialized() and dist.get_world_size() > 1)
        if not self.training or alone:
            return super().forward(input)
        x = input.float()
        dims = [0, *range(2, x.dim())]
        count = torch.full((1,), float(x.numel() // x.shape[1]))
        sums = all_reduce(torch.cat([count, x.sum(dims)]))
        total, mean = sums[0], sums[1:] / sums[0]
        shape = [1, -1] + [1] * (x.dim() - 2)
        variance = all_reduce((x - mean.view(shape)).square().sum(dims)) / total
        self._update_running(mean.detach(), variance.detach(), float(total.detach()))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        out = (x - mean.view(shape)) * scale.view(shape)
        out = out + self.bias.view(shape) if self.affine else out
        return out.to(input.dtype)

    def _update_running(self, mean: torch.Tensor, variance: torch.Tensor, count: float) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        unbiased = variance * (count / max(count - 1, 1))
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(unbiased, rate)


def with_synchronised_norm(network: nn.Module, on_gpu: bool) -> nn.Module:
    """The network with every batch normalisation synchronised between processes."""
    if on_gpu:
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
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
