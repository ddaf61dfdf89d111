"""A network over several processes: copies that average gradients (DDP), or shards (FSDP2)."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast.config.node import CfgNode
from slowfast.engine.compilation import compile_forward
from slowfast.engine.precision import compute_dtype
from slowfast.layers.norm import with_synchronised_norm
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime


def shard(cfg: CfgNode, runtime: Runtime, network: nn.Module) -> nn.Module:
    """Divide parameters among processes where DIST.STRATEGY asks for it; before the optimizer."""
    if runtime.world == 1 or cfg.DIST.STRATEGY != "fsdp":
        return network
    mesh = init_device_mesh(runtime.device.type, (runtime.world,))
    # Autocast on the CPU leaves layer normalisation alone, which needs parameters in float32 there.
    return divide(network, mesh, compute_dtype(cfg, runtime) if runtime.on_gpu else torch.float32)


def divide(network: nn.Module, mesh: DeviceMesh, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Divide the parameters of ``network`` over ``mesh`` in place (FSDP2).

    Each of its :func:`blocks` is gathered for itself when its turn comes, with ``dtype`` in that
    data type, while gradients are added up in float32; what is left over is gathered with the
    network, in float32. Parameters that are single numbers cannot be divided: every process keeps
    them, and their gradients are averaged like those of all others.
    """
    scalars = {p for p in network.parameters() if p.ndim == 0}
    exact = {m for part in network.spec.full_precision(network) for m in part.modules()}
    for block in blocks(network):
        kept = block in exact or _normalises_batches(block)
        # Autocast decides about inputs, as in networks that are not divided.
        policy = MixedPrecisionPolicy(
            torch.float32 if kept else dtype, torch.float32, cast_forward_inputs=False
        )
        fully_shard(block, mesh=mesh, mp_policy=policy, ignored_params=scalars)
    fully_shard(network, mesh=mesh, ignored_params=scalars)
    if hasattr(network, "begin"):  # runs blocks, too, perhaps before the first forward pass
        register_fsdp_forward_method(network, "begin")
    network.averages_scalars = True
    for parameter in scalars:
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_scalar_averager(network, mesh))
    return network


def blocks(network: nn.Module) -> list[nn.Module]:
    """The parts of a network that follow each other: the outermost members of lists and sequences
    of modules that consist of modules themselves.

    None where the network reads the parameters of several parts at once. Parts whose parameters
    belong to other parts, too, are left out.
    """
    if network.spec.reads_all_parameters(network):
        return []
    everywhere = _parameter_counts(network)
    return [
        block
        for block in dict.fromkeys(_candidates(network))
        if all(everywhere[p] == count for p, count in _parameter_counts(block).items())
    ]


def _candidates(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        is_block = isinstance(module, (nn.ModuleList, nn.Sequential)) and not isinstance(
            child, (nn.ModuleList, nn.ModuleDict)
        )
        if is_block and any(True for _ in child.children()):
            if any(True for _ in child.parameters()):
                yield child
        else:
            yield from _candidates(child)


def _parameter_counts(module: nn.Module) -> Counter[nn.Parameter]:
    """How often each parameter is part of ``module``."""
    return Counter(p for _, p in module.named_parameters(remove_duplicate=False))


def _normalises_batches(block: nn.Module) -> bool:
    # Its parameters must have the type of its running statistics.
    return any(isinstance(module, _BatchNorm) for module in block.modules())


def _scalar_averager(network: nn.Module, mesh: DeviceMesh) -> Callable[[torch.Tensor], None]:
    def average(parameter: torch.Tensor) -> None:
        if network.averages_scalars:
            dist.all_reduce(parameter.grad, group=mesh.get_group())
            parameter.grad /= mesh.size()

    return average


class NormGroups:
    """Groups of processes that share batch-norm statistics; all processes ask for them alike."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime
        self._made: dict[int, dist.ProcessGroup | None] = {runtime.world: None}

    def synchroniser(self, size: int) -> Callable[[nn.Module], nn.Module]:
        """What synchronises the normalisation of a network over groups of ``size`` processes."""
        if size not in self._made:
            # Every process takes part in making every group.
            starts = range(0, self._runtime.world, size)
            groups = [dist.new_group(list(range(start, start + size))) for start in starts]
            self._made[size] = groups[self._runtime.rank // size]
        group, on_gpu = self._made[size], self._runtime.on_gpu
        return lambda network: with_synchronised_norm(network, on_gpu, group)


def synchronise_norm(cfg: CfgNode, runtime: Runtime, network: nn.Module) -> nn.Module:
    """Batch normalisation over several processes where BN.NORM_TYPE asks for it; done first.

    UserError if groups of BN.NUM_SYNC_DEVICES do not make up all processes.
    """
    by_phases = cfg.MULTIGRID.LONG_CYCLE  # see slowfast.engine.multigrid
    if cfg.BN.NORM_TYPE != "sync_batchnorm" or runtime.world == 1 or by_phases:
        return network
    size = cfg.BN.NUM_SYNC_DEVICES or runtime.world
    if runtime.world % size:
        raise UserError(
            f"{runtime.world} processes do not divide into groups of {size}",
            f"choose a divisor of {runtime.world}, or 0 for all processes",
            "BN.NUM_SYNC_DEVICES",
        )
    return network if size == 1 else NormGroups(runtime).synchroniser(size)(network)


def wrap_model(cfg: CfgNode, runtime: Runtime, network: nn.Module) -> nn.Module:
    """The network as it is trained: compiled, distributed."""
    compile_network(cfg, network)
    if runtime.world == 1 or isinstance(network, FSDPModule):
        return network
    return nn.parallel.DistributedDataParallel(
        network,
        device_ids=[runtime.device] if runtime.on_gpu else None,
        find_unused_parameters=network.spec.unused_parameters(network),
        gradient_as_bucket_view=True,
    )


def compile_network(cfg: CfgNode, network: nn.Module) -> None:
    """Compile ``network`` in place where TRAIN.COMPILE asks for it.

    As a whole; block by block where its parameters are divided, since each block is gathered for
    itself.
    """
    if not cfg.TRAIN.COMPILE:
        return
    parts = [m for m in network.modules() if isinstance(m, FSDPModule) and m is not network]
    compile_forward(parts or [network], cfg.TRAIN.COMPILE)


def without_sync(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """A context in which backward passes leave the gradients of each process alone."""
    network = unwrap(model)
    if isinstance(network, FSDPModule):
        return _divided_without_sync(network)
    while hasattr(model, "_orig_mod"):
        model = model._orig_mod
    return getattr(model, "no_sync", contextlib.nullcontext)()


@contextlib.contextmanager
def _divided_without_sync(network: FSDPModule) -> Iterator[None]:
    network.set_requires_gradient_sync(False)
    network.averages_scalars = False
    try:
        yield
    finally:
        network.set_requires_gradient_sync(True)
        network.averages_scalars = True


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
    network = unwrap(model)
    shards = [m for m in network.modules() if isinstance(m, FSDPModule)]
    for module in shards:
        module.unshard()
        module.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for module in shards:
            # The network itself stays gathered from a forward pass to its backward pass.
            module.set_reshard_after_forward(module is not network, recurse=False)
            module.reshard()


# -- tensors and states --------------------------------------------------------------------------


def is_sharded(network: nn.Module) -> bool:
    """Whether the parameters are divided among processes, gathered at the moment or not."""
    return any(isinstance(module, FSDPModule) for module in network.modules())


_ON_RANK_0 = StateDictOptions(full_state_dict=True, cpu_offload=True)
_FROM_FULL = StateDictOptions(full_state_dict=True, strict=False)


def full_model_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with whole tensors; of a sharded network on rank 0 alone, in CPU memory.

    All processes must call it; the others get an empty dict.
    """
    if not is_sharded(network):
        return dict(network.state_dict())
    return get_model_state_dict(network, options=_ON_RANK_0)


def load_model_state(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load a whole state dict, which every process has, divided the way the network is."""
    if not is_sharded(network):
        network.load_state_dict(dict(state))
        return
    set_model_state_dict(network, dict(state), options=replace(_FROM_FULL, strict=True))


def full_optimizer_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """As :func:`full_model_state`; parameters are numbered as :meth:`Optimizer.state_dict` does."""
    state = optimizer.state_dict()
    if not is_sharded(network) or not state["state"]:  # PyTorch's function would take a step
        return state
    state = get_optimizer_state_dict(network, optimizer, options=_ON_RANK_0)
    names = _parameter_names(network, optimizer)
    return _relabelled(state, {name: number for number, name in enumerate(names)})


def load_optimizer_state(
    network: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Load a whole optimizer state, which every process has, divided the way the network is."""
    names = _parameter_names(network, optimizer)
    numbers = [n for group in state["param_groups"] for n in group["params"]]
    if not is_sharded(network) or not state["state"] or len(numbers) != len(names):
        optimizer.load_state_dict(state)  # says what is wrong where groups differ
        return
    by_name = _relabelled(state, dict(zip(numbers, names)))
    set_optimizer_state_dict(network, optimizer, by_name, options=_FROM_FULL)
    # PyTorch has initialised all states; those of parameters without gradients are not stored.
    for name, parameter in network.named_parameters():
        if name not in by_name["state"]:
            optimizer.state.pop(parameter, None)


def _parameter_names(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the optimizer's parameters in its order."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [names[p] for group in optimizer.param_groups for p in group["params"]]


def _relabelled(state: dict[str, Any], labels: Mapping[Any, Any]) -> dict[str, Any]:
    """An optimizer state with other labels of the parameters; an empty one stays empty."""
    if not state:
        return {}
    return {
        "state": {labels[label]: entry for label, entry in state["state"].items()},
        "param_groups": [
            group | {"params": [labels[label] for label in group["params"]]}
            for group in state["param_groups"]
        ],
    }
