"""Memory that a network keeps between its forward and its backward pass."""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks


def saved_bytes(network: nn.Module, video: torch.Tensor) -> int:
    """Bytes of tensors saved for the backward pass of a training step, parameters left out.

    The same in every run, unlike the peak of a process.
    """
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    sizes: dict[int, int] = {}
    kept = []  # alive until the end, so that no memory is counted for two tensors

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    network.train()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        network(video)
    return sum(sizes.values())
