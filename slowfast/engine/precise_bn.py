"""Precise batch-norm statistics: population statistics over many training batches.

"Rethinking Batch in BatchNorm", arXiv 2105.07576, section 3 and appendix. fvcore has the same for
one process and a known number of batches; here batches may be missing because they are unreadable,
and the statistics are those of all processes. Layers that are frozen keep theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast.layers.norm import CpuSyncBatchNorm
from slowfast.utils.distributed import gather_objects, sum_numbers


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
        """Elements per channel of the last batch in this process; 0 if the layer was not used."""
        return self._size

    @property
    def is_synchronised(self) -> bool:
        """Whether the statistics of the layer are those of all processes."""
        return isinstance(self.layer, (nn.SyncBatchNorm, CpuSyncBatchNorm))

    def add_batch(self, global_size: int, counts: bool, counts_everywhere: bool) -> None:
        """Add the statistics of the last batch.

        ``global_size``: its elements per channel in all processes, to which the statistics of
        synchronised layers refer. ``counts``: it is not a dummy batch of this process;
        ``counts_everywhere``: nor of another one, with which synchronised layers would mix it.
        """
        size, self._size = self._size, 0
        if size == 0 or not (counts_everywhere if self.is_synchronised else counts):
            return
        if self.is_synchronised:
            size = global_size
        mean, variance = self.layer.running_mean.double(), self.layer.running_var.double()
        self.count += size
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
                sizes = [population.size for population in populations]
                *global_sizes, dummies = sum_numbers([*sizes, not counts])
                for population, size in zip(populations, global_sizes):
                    population.add_batch(int(size), counts, not dummies)
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
