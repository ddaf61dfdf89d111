"""A network over several processes: copies that average gradients (DDP), or shards (FSDP2)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from slowfast.config.node import CfgNode
from slowfast.layers.norm import with_synchronised_norm
from slowfast.utils.runtime import Runtime


def shard(cfg: CfgNode, runtime: Runtime, network: nn.Module) -> nn.Module:
    """Divide parameters among processes where DIST.STRATEGY asks for it; before the optimizer.

    Each block of the network is gathered for itself when its turn comes.
    """
    if runtime.world == 1 or cfg.DIST.STRATEGY != "fsdp":
        return network
    mesh = init_device_mesh(runtime.device.type, (runtime.world,))
    for module in list(network.modules()):
        if isinstance(module, (nn.ModuleList, nn.Sequential)):
            for block in module.children():
                if any(True for _ in block.parameters()) and not _is_container(block):
                    fully_shard(block, mesh=mesh)
    return fully_shard(network, mesh=mesh)


def _is_container(module: nn.Module) -> bool:
    return isinstance(module, (nn.ModuleList, nn.ModuleDict, FSDPModule))


def synchronise_norm(cfg: CfgNode, runtime: Runtime, network: nn.Module) -> nn.Module:
    """Batch normalisation over all processes where BN.NORM_TYPE asks for it; done first."""
    if cfg.BN.NORM_TYPE == "sync_batchnorm" and runtime.world > 1:
        return with_synchronised_norm(network, runtime.on_gpu)
    return network


def wrap_model(cfg: CfgNode, runtime: Runtime, network: nn.Module) -> nn.Module:
    """The network as it is trained: distributed, compiled."""
    if runtime.world > 1 and not isinstance(network, FSDPModule):
        network = nn.parallel.DistributedDataParallel(
            network,
            device_ids=[runtime.device] if runtime.on_gpu else None,
            find_unused_parameters=network.spec.unused_parameters(network),
        )
    return torch.compile(network) if cfg.TRAIN.COMPILE else network


@torch.no_grad()
def share_buffers(network: nn.Module) -> None:
    """Give all processes the buffers of rank 0, batch-norm statistics above all.

    They are what a checkpoint holds; DDP does the same before each training step.
    """
    if dist.is_initialized():
        for buffer in unwrap(network).buffers():
            dist.broadcast(buffer, 0)


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside torch.compile and DistributedDataParallel wrappers."""
    while hasattr(model, "_orig_mod") or isinstance(model, nn.parallel.DistributedDataParallel):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


@contextlib.contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """A context for evaluation: every process holds the whole network and needs no other.

    Processes evaluate different numbers of videos; gathering block by block would make them wait
    for each other's passes.
    """
    shards = [m for m in unwrap(model).modules() if isinstance(m, FSDPModule)]
    for module in shards:
        module.unshard()
        module.set_reshard_after_forward(False, recurse=False)
    yield
    for module in shards:
        module.set_reshard_after_forward(True, recurse=False)
        module.reshard()


# -- tensors and states --------------------------------------------------------------------------


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that is divided among processes (all of them must ask)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(state: Any) -> Any:
    """A state dict with whole tensors, as one process would have it."""
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()  # one after the other: they need not fit on the device
    if isinstance(state, Mapping):
        return {name: whole_state(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [whole_state(value) for value in state]
    return state


def load_model_state(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load a whole state dict, divided the way the network is."""
    own = network.state_dict()
    network.load_state_dict({n: _divided_like(v, own.get(n)) for n, v in state.items()})


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a whole optimizer state; tensors of a parameter's shape are divided as it is."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [n for group in state["param_groups"] for n in group["params"]]
    if len(numbers) == len(parameters):  # else load_state_dict says what is wrong
        by_number = dict(zip(numbers, parameters))
        state = state | {
            "state": {
                number: {
                    name: _divided_like(value, by_number[number])
                    if isinstance(value, torch.Tensor) and value.shape == by_number[number].shape
                    else value
                    for name, value in entry.items()
                }
                for number, entry in state["state"].items()
            }
        }
    optimizer.load_state_dict(state)


def _divided_like(value: torch.Tensor, target: Any) -> torch.Tensor:
    if not isinstance(target, DTensor):
        return value
    value = value.to(target.to_local().device)
    return distribute_tensor(value, target.device_mesh, target.placements)
