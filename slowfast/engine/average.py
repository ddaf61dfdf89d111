"""The moving average of the weights, where only the device knows whether a step was taken."""

from __future__ import annotations

import torch
from timm.utils import ModelEmaV3
from torch import nn


@torch.no_grad()
def update_average_if(
    taken: torch.Tensor, average: ModelEmaV3, model: nn.Module, step: int
) -> None:
    """Update ``average`` with the weights of ``model`` where ``taken`` (a boolean on the device) is
    true; else it keeps its values to the bit. The host does not wait for the answer."""
    values = list(average.module.state_dict().values())
    before = [value.clone() for value in values]
    average.update(model, step=step)
    for value, old in zip(values, before):
        value.copy_(torch.where(taken, value, old))
