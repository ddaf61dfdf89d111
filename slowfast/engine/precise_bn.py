"""Precise batch-norm statistics: population statistics over many training batches.

"Rethinking Batch in BatchNorm", arXiv 2105.07576, section 3 and appendix. fvcore has the same for
one process and a known number of batches; here batches may be missing because they are unreadable,
and the statistics are those of all processes. Layers that are frozen keep theirs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast.layers.norm import CpuSyncBatchNorm
from slowfast.utils.distributed import gather_numbers, gather_objects, group_ranks, own_rank


class _Population:
    """Sums of one layer over all batches: number of elements, means and mean squares."""

    def __init__(self, layer: _BatchNorm):
        self.layer, self.momentum = layer, layer.momentum
        self.count, self._size = 0, 0
        zeros = torch.zeros_like(layer.running_mean, dtype=torch.float64)
        self.mean_sum, self.square_sum = zeros, zeros.clone()
        layer.momentum = 1.0  # running statistics are then those of the last batch
        self._hook = layer.register_forward_pre_hook(self._note_size)

    def _note_size(self, _: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self._size = inputs[0].numel() // inputs[0].shape[1]

    @property
    def size(self) -> int:
        """Elements per channel of the last batch in this process; 0: the layer was not used."""
        return self._size

    @property
    def ranks(self) -> list[int]:
        """The processes of whose batches the layer has the statistics."""
        if isinstance(self.layer, (nn.SyncBatchNorm, CpuSyncBatchNorm)):
            return group_ranks(self.layer.process_group)
        return [own_rank()]

    def add_batch(self, sizes: Sequence[float]) -> None:
        """Add the statistics of the last batch; ``sizes``: its elements per channel in each
        process, NaN where it is a dummy batch, with which synchronised layers would mix it."""
        self._size, size = 0, sum(sizes[rank] for rank in self.ranks)
        if math.isnan(size) or size == 0:
            return
        mean, variance = self.layer.running_mean.double(), self.layer.running_var.double()
        self.count += int(size)
        self.mean_sum += size * mean
        # running_var is the unbiased estimate; the population variance is not.
        self.square_sum += (size - 1) * variance + size * mean.square()

    def close(self) -> None:
        self._hook.remove()
        self.layer.momentum = self.momentum


def update_statistics(
    model: nn.Module,
    forward: Callable[[nn.Module, Any], Any],
    inputs: Iterable[tuple[Any, bool]],
    count: int,
) -> None:
    """Replace the running statistics by those over the first ``count`` of ``inputs`` (all if there
    are fewer): pairs of a batch, which is passed to ``forward(model, batch)``, and whether it
    counts, which the dummy batch of a process without readable clips does not.

    The network is in training mode as its training has it: layers in evaluation mode are frozen
    and left alone. All processes must have the same number of batches.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.training
    ]
    if not layers:
        return
    populations = [_Population(layer) for layer in layers]
    try:
        with torch.no_grad():
            for batch, counts in itertools.islice(inputs, count):
                forward(model, batch)
                mine = [population.size if counts else math.nan for population in populations]
                for population, sizes in zip(populations, zip(*gather_numbers(mine))):
                    population.add_batch(sizes)
    finally:
        for population in populations:
            population.close()
    _set_statistics(populations)


def _set_statistics(populations: list[_Population]) -> None:
    ranks = gather_objects([(p.count, p.mean_sum.cpu(), p.square_sum.cpu()) for p in populations])
    for population, parts in zip(populations, zip(*ranks)):
        count, mean_sum, square_sum = (sum(column) for column in zip(*parts))
        if count:
            mean = mean_sum / count
            population.layer.running_mean.copy_(mean)
            population.layer.running_var.copy_(square_sum / count - mean.square())
