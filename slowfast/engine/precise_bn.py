"""Precise batch-norm statistics: the population's, over many training batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn


def update_statistics(model: nn.Module, batches: Iterable[torch.Tensor], count: int) -> None:
    """Replace running statistics by those over ``count`` batches ``B 3 T H W``."""
    if get_bn_modules(model):
        model.train()
        update_bn_stats(model, batches, count)
