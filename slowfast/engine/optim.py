"""Optimizer and its parameter groups: weight decay and learning rate per parameter.

A custom optimizer is a function of the groups and the section ``SOLVER``::

    @OPTIMIZER_REGISTRY.register("my_sgd")
    def my_sgd(groups, solver):
        return MySgd(groups, lr=solver.BASE_LR)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast.config.node import CfgNode
from slowfast.layers.sub_norm import SubBatchNorm
from slowfast.models.base import VideoModel
from slowfast.utils.errors import UserError
from slowfast.utils.registry import Registry, near_names

OptimizerBuilder = Callable[[list[dict], CfgNode], torch.optim.Optimizer]


# -- optimizers ----------------------------------------------------------------------------------


def _timm_optimizer(name: str) -> OptimizerBuilder | None:
    """An optimizer by its name in timm; those that need second derivatives are left out."""
    if name not in list_optimizers() or get_optimizer_info(name).second_order:
        return None
    return functools.partial(_build_timm, name)


def _build_timm(name: str, groups: list[dict], solver: CfgNode) -> torch.optim.Optimizer:
    """timm's optimizer, with momentum and betas if it has them; UserError if it refuses them."""
    try:
        return create_optimizer_v2(
            groups, name, lr=solver.BASE_LR, momentum=solver.MOMENTUM, betas=tuple(solver.BETAS)
        )
    except (TypeError, ValueError, LookupError, AssertionError, ImportError) as error:
        raise UserError(
            f"the optimizer {name!r} cannot be built: {error}",
            "check SOLVER.BETAS and SOLVER.MOMENTUM, or choose another one",
            "SOLVER.OPTIMIZING_METHOD",
        ) from error


OPTIMIZER_REGISTRY: Registry[OptimizerBuilder] = Registry(
    "optimizer",
    "SOLVER.OPTIMIZING_METHOD",
    resolve=_timm_optimizer,
    near=lambda name: near_names(name, list_optimizers()),
)


def _fused(groups: list[dict]) -> bool | None:
    """True where all parameters are on a GPU: one kernel a step instead of several a tensor.

    None on the CPU, where PyTorch's choice stays: the fused step rounds otherwise.
    """
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return True if devices == {"cuda"} else None


@OPTIMIZER_REGISTRY.register("sgd")
def _sgd(groups: list[dict], solver: CfgNode) -> torch.optim.Optimizer:
    # With dampening the first step differs from the others, and a fused one cannot be skipped;
    # shards have no fused SGD in PyTorch.
    shards = any(isinstance(p, DTensor) for group in groups for p in group["params"])
    fused = None if solver.DAMPENING or shards else _fused(groups)
    optimizer = torch.optim.SGD(
        groups,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        dampening=solver.DAMPENING,
        nesterov=solver.NESTEROV,
        fused=fused,
    )
    if fused and solver.MOMENTUM:
        optimizer.register_step_pre_hook(_start_momentum)
    return optimizer


def _start_momentum(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Momentum begins at 0, which gives the same first step; PyTorch's fused SGD would leave its
    memory as it found it if the first step is skipped."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if parameter.grad is not None and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)


@OPTIMIZER_REGISTRY.register("adam")
def _adam(groups: list[dict], solver: CfgNode) -> torch.optim.Optimizer:
    betas = tuple(solver.BETAS)
    return torch.optim.Adam(groups, lr=solver.BASE_LR, betas=betas, fused=_fused(groups))


@OPTIMIZER_REGISTRY.register("adamw")
def _adamw(groups: list[dict], solver: CfgNode) -> torch.optim.Optimizer:
    betas = tuple(solver.BETAS)
    return torch.optim.AdamW(groups, lr=solver.BASE_LR, betas=betas, fused=_fused(groups))


def build_optimizer(cfg: CfgNode, model: VideoModel) -> torch.optim.Optimizer:
    """SOLVER.OPTIMIZING_METHOD over the parameter groups of ``model``.

    ``optimizer.group_names`` lists the names of the parameters of each group. UserError if no
    parameter is trained, or if layer decay is not defined for the network.
    """
    solver = cfg.SOLVER
    in_batchnorm = batchnorm_parameters(model)
    layer_decay = solver.LAYER_DECAY < 1.0
    if layer_decay and in_batchnorm:
        raise UserError(
            "layer decay is not defined for networks with batch normalisation",
            "set SOLVER.LAYER_DECAY 1.0",
            "SOLVER.LAYER_DECAY",
        )
    rule = GroupRule(
        weight_decay=solver.WEIGHT_DECAY,
        bn_weight_decay=cfg.BN.WEIGHT_DECAY,
        exempt=frozenset(model.spec.no_weight_decay(model) if solver.NO_DECAY_BY_NAME else ()),
        zero_1d=solver.ZERO_WD_1D_PARAM,
        layer_scales=layer_scales(model, solver.LAYER_DECAY) if layer_decay else None,
        multipliers=model.spec.param_multipliers(model),
    )
    groups = parameter_groups(model.named_parameters(), in_batchnorm, rule)
    if not groups:
        raise UserError("no parameter is trained", "unfreeze some", "MODEL.FINETUNNING")
    names = [group.pop("names") for group in groups]
    optimizer = OPTIMIZER_REGISTRY.get(solver.OPTIMIZING_METHOD)(groups, solver)
    optimizer.group_names = names
    optimizer.register_load_state_dict_pre_hook(_keep_kernels)
    optimizer.register_load_state_dict_post_hook(_keep_layouts)
    return optimizer


def skips_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether :func:`step_unless` works: PyTorch's fused optimizers skip a step by themselves."""
    return all(group.get("fused") for group in optimizer.param_groups)


def step_unless(optimizer: torch.optim.Optimizer, skip: torch.Tensor) -> None:
    """A step that changes nothing, not even its count, where ``skip`` (a boolean on the device) is
    true. The host does not learn which.

    It is what ``torch.amp.GradScaler`` does with such optimizers.
    """
    optimizer.grad_scale, optimizer.found_inf = None, skip.float()
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf


_KERNELS = ("fused", "foreach", "capturable")


def _keep_kernels(optimizer: torch.optim.Optimizer, state: dict) -> dict | None:
    """A loaded state brings values, not the choice of kernels of the machine it comes from."""
    saved, own = state["param_groups"], optimizer.param_groups
    if len(saved) != len(own):
        return None  # load_state_dict says so
    groups = [
        old | {name: new[name] for name in _KERNELS if name in new} for old, new in zip(saved, own)
    ]
    return state | {"param_groups": groups}


def _keep_layouts(optimizer: torch.optim.Optimizer) -> None:
    """A loaded state lies in memory as its parameter does, as fused kernels demand."""
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            same = isinstance(value, torch.Tensor) and value.shape == parameter.shape
            if same and value.stride() != parameter.stride():
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


# -- groups ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GroupRule:
    """How parameters are put into groups: PySlowFast's rules, times a network's own factors.

    timm's ``param_groups_weight_decay`` and ``param_groups_layer_decay`` give other groups: they
    know no decay of batch normalisation, no factors of a network, and put parameters without
    decay first, so that the numbers of old optimizer states would mean other parameters.

    Args:
        weight_decay: of all parameters that no other rule concerns.
        bn_weight_decay: of batch normalisation.
        exempt: names of parameters that are not decayed. As published, they are compared as a
            whole with layer decay, and without it as parts of the names.
        zero_1d: biases and one-dimensional weights are not decayed.
        layer_scales: name -> factor of the learning rate by layer decay; None: no layer decay.
        multipliers: name -> further factors of (weight decay, learning rate).
    """

    weight_decay: float
    bn_weight_decay: float
    exempt: frozenset[str] = frozenset()
    zero_1d: bool = False
    layer_scales: Mapping[str, float] | None = None
    multipliers: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def settings(self, name: str, parameter: nn.Parameter, in_bn: bool) -> tuple[float, float]:
        """(weight decay, learning-rate scale) of one trainable parameter."""
        scale = 1.0 if self.layer_scales is None else self.layer_scales[name]
        decay = self._weight_decay(name, parameter, in_bn)
        decay_factor, rate_factor = self.multipliers.get(name, (1.0, 1.0))
        return decay * decay_factor, scale * rate_factor

    def _weight_decay(self, name: str, parameter: nn.Parameter, in_bn: bool) -> float:
        if in_bn:
            return self.bn_weight_decay
        if self.layer_scales is not None:
            exempt = name in self.exempt
        else:
            exempt = any(part in name for part in self.exempt)
        one_dim = self.zero_1d and (parameter.ndim == 1 or name.endswith(".bias"))
        return 0.0 if exempt or one_dim else self.weight_decay


def layer_scales(model: VideoModel, layer_decay: float) -> dict[str, float]:
    """Parameter name -> ``layer_decay`` to the power of its distance from the last layer.

    Layers are those of ``model.spec.layer_of``; UserError if the network has none.
    """
    layer_of = model.spec.layer_of
    if layer_of is None:
        raise UserError(
            f"{type(model).__name__} does not tell which layer a parameter belongs to",
            "set SOLVER.LAYER_DECAY 1.0, or give layer_of in the network's ModelSpec",
            "SOLVER.LAYER_DECAY",
        )
    layers = {name: layer_of(model, name) for name, _ in model.named_parameters()}
    last = max(layers.values())
    return {name: layer_decay ** (last - layer) for name, layer in layers.items()}


def batchnorm_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of batch normalisation layers."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, (_BatchNorm, SubBatchNorm))
        for name, _ in module.named_parameters(recurse=False)
    }


def parameter_groups(
    parameters: Mapping[str, nn.Parameter] | Iterable[tuple[str, nn.Parameter]],
    in_batchnorm: set[str],
    rule: GroupRule,
) -> list[dict]:
    """Groups for an optimizer, in the order of their first parameters, without frozen ones.

    Each has ``params``, their ``names``, ``weight_decay`` and ``lr_scale``.
    """
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in dict(parameters).items():
        if not parameter.requires_grad:
            continue
        decay, scale = rule.settings(name, parameter, name in in_batchnorm)
        empty = {"params": [], "names": [], "weight_decay": decay, "lr_scale": scale}
        group = groups.setdefault((decay, scale), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group to ``lr`` times its ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def describe_groups(optimizer: torch.optim.Optimizer) -> list[str]:
    """The parameter groups as the lines of a table."""
    rows = ["parameter groups:   tensors   parameters   weight decay   lr scale   first names"]
    for group, names in zip(optimizer.param_groups, optimizer.group_names):
        count = sum(p.numel() for p in group["params"])
        shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        rows.append(
            f"{len(group['params']):27d} {count:12,d} {group['weight_decay']:14g} "
            f"{group['lr_scale']:10g}   {shown}"
        )
    return rows
