"""Optimizer and its parameter groups: who is decayed, who learns how fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast.config.node import CfgNode
from slowfast.models.base import VideoModel
from slowfast.utils.errors import Problem, UserError


@dataclass(frozen=True)
class GroupRule:
    """How parameters are put into groups (PySlowFast's rules, times a model's own factors)."""

    weight_decay: float
    bn_weight_decay: float
    exempt: frozenset[str] = frozenset()
    zero_1d: bool = False
    layer_decay: float = 1.0
    depth: int = 0
    factors: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def settings(self, name: str, parameter: nn.Parameter, in_bn: bool) -> tuple[float, float]:
        """(weight decay, learning-rate scale) of one trainable parameter."""
        decay, scale = self._published(name, parameter, in_bn)
        of_decay, of_rate = self.factors.get(name, (1.0, 1.0))
        return decay * of_decay, scale * of_rate

    def _published(self, name: str, parameter: nn.Parameter, in_bn: bool) -> tuple[float, float]:
        scale = 1.0
        if self.layer_decay < 1.0:
            scale = self.layer_decay ** (self.depth + 1 - layer_of(name, self.depth))
        if in_bn:
            return self.bn_weight_decay, scale
        # As published: names are compared whole under layer decay, as parts without it.
        if self.layer_decay < 1.0:
            exempt = name in self.exempt
        else:
            exempt = any(part in name for part in self.exempt)
        one_dim = self.zero_1d and (parameter.ndim == 1 or name.endswith(".bias"))
        return (0.0 if exempt or one_dim else self.weight_decay), scale


def layer_of(name: str, depth: int) -> int:
    """Layer of a transformer's parameter: 0 embeddings, i + 1 for ``blocks.i``, else last."""
    if name in ("cls_token", "mask_token") or name.startswith(("pos_embed", "patch_embed")):
        return 0
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1


def batchnorm_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of batch normalisation layers."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for name, _ in module.named_parameters(recurse=False)
    }


def parameter_groups(
    parameters: Mapping[str, nn.Parameter] | Iterable[tuple[str, nn.Parameter]],
    in_batchnorm: set[str],
    rule: GroupRule,
) -> list[dict]:
    """Groups for an optimizer, frozen parameters left out; ``names`` lists who is in a group."""
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


def build_optimizer(cfg: CfgNode, model: VideoModel) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over the model's parameter groups; UserError if nothing is trained."""
    solver = cfg.SOLVER
    in_bn = batchnorm_parameters(model)
    if solver.LAYER_DECAY < 1.0 and in_bn:
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
        layer_decay=solver.LAYER_DECAY,
        depth=len(getattr(model, "blocks", ())),
        factors=model.spec.param_multipliers(model),
    )
    groups = parameter_groups(model.named_parameters(), in_bn, rule)
    if not groups:
        raise UserError(Problem("no parameter is trained", "unfreeze some", "MODEL.FINETUNNING"))
    names = [group.pop("names") for group in groups]
    optimizer = make_optimizer(
        groups,
        solver.OPTIMIZING_METHOD,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        dampening=solver.DAMPENING,
        nesterov=solver.NESTEROV,
        betas=tuple(solver.BETAS),
    )
    optimizer.group_names = names
    return optimizer


def make_optimizer(
    groups: list[dict],
    method: str,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    betas: tuple[float, float],
) -> torch.optim.Optimizer:
    """The optimizer called ``method``."""
    if method == "sgd":
        return torch.optim.SGD(
            groups, lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[method]
    return kind(groups, lr=lr, betas=betas)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group ``lr`` times its own scale."""
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
