"""What each process contributes to a checkpoint that all of them write together.

Tensors that are divided among processes (FSDP2) are written by all of them, each its part. Of what
every process holds, each writes a share of about the same size, so that nothing is copied or
written twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from slowfast.utils.distributed import group_ranks, own_rank


def own_model_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The share of a state dict. Buffers may differ between processes: those of rank 0 are kept."""
    state = dict(network.state_dict())
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    shared = {name: [value] for name, value in state.items() if name in parameters}
    own = _own_share(shared)
    return {
        name: value
        for name, value in state.items()
        if name in own or (name not in parameters and own_rank() == 0)
    }


def own_optimizer_state(_: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The share of an optimizer's state; values that are no tensors are those of every process."""
    state = optimizer.state_dict()
    own = _own_share({number: _tensors(entry).values() for number, entry in state["state"].items()})
    entries = {}
    for number, entry in state["state"].items():
        left_out = {} if number in own else _tensors(entry)
        entries[number] = {name: value for name, value in entry.items() if name not in left_out}
    return state | {"state": entries}


def _tensors(entry: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in entry.items() if isinstance(value, torch.Tensor)}


def _own_share(groups: Mapping[Hashable, Any]) -> set[Hashable]:
    """The keys of ``groups`` of tensors, alike on all processes, which this one writes."""
    loads = [0] * len(group_ranks(None))
    own = set()
    for key, tensors in groups.items():
        if any(isinstance(tensor, DTensor) for tensor in tensors):
            own.add(key)
            continue
        rank = loads.index(min(loads))
        loads[rank] += sum(tensor.nbytes for tensor in tensors)
        if rank == own_rank():
            own.add(key)
    return own
