"""Memory of the tensors that a network saves for its backward pass."""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks


def saved_bytes(network: nn.Module, video: torch.Tensor) -> int:
    """Bytes saved for the backward pass of a training step on ``video`` (``B 3 T H W``), without
    parameters.

    Unlike the peak memory of a process, this does not vary between runs.
    """
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    sizes: dict[int, int] = {}
    alive = []  # keeps the tensors alive: a reused address would be counted once

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    network.train()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        network(video)
    return sum(sizes.values())
