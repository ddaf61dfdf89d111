"""Networks by name without a configuration: ``slowfast.create_model`` and ``list_models``."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from slowfast.layers.workarounds import with_cpu_workarounds
from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.weights.loader import load_state, log_report
from slowfast.models.weights.read import Checkpoint
from slowfast.utils.errors import UserError
from slowfast.utils.registry import did_you_mean


class Variant(NamedTuple):
    """A network class and the arguments of its constructor."""

    model: type[VideoModel]
    arguments: Mapping[str, Any]


def model_variants() -> dict[str, Variant]:
    """Name -> variant, of all registered networks; UserError if two have the same name."""
    variants: dict[str, Variant] = {}
    for registered in MODEL_REGISTRY:
        model = MODEL_REGISTRY.get(registered)
        for name, arguments in model.spec.variants.items():
            if name in variants:
                other = variants[name].model.__name__
                raise UserError(
                    f"{other} and {model.__name__} both have a variant {name!r}",
                    "rename one of them in its ModelSpec",
                )
            variants[name] = Variant(model, arguments)
    return variants


def list_models(pattern: str = "*") -> list[str]:
    """Sorted names for :func:`create_model` that match ``pattern`` with wildcards.

    >>> slowfast.list_models("r3d*")
    ['r3d_18', 'r3d_34', 'r3d_50']
    """
    return sorted(fnmatch.filter(model_variants(), pattern))


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    device: torch.device | str = "cpu",
    **overrides: Any,
) -> VideoModel:
    """A network by the name of its variant, in training mode as any new module.

    >>> model = slowfast.create_model("r3d_18", num_classes=5, weights="r3d18_K_200ep.pth")
    >>> logits = model.eval()(torch.randn(2, 3, 16, 112, 112))  # B 3 T H W -> B classes

    Args:
        name: one of :func:`list_models`.
        num_classes: outputs; None: those of the variant. If a file of weights has others, its
            classifier is left out and the new one starts at random.
        weights: path of a checkpoint of any known format. What was copied, converted, replaced
            and missing is logged.
        device: where the network is put.
        overrides: arguments of the constructor that replace those of the variant, e.g.
            ``num_frames=32``.

    UserError for an unknown name or argument, or for weights that fill less than 90 % of the
    network.
    """
    variants = model_variants()
    if name not in variants:
        near = did_you_mean(name, variants)
        raise UserError(
            f"no model is called {name!r}", near or "slowfast.list_models() lists all names"
        )
    model_class, arguments = variants[name]
    _check_arguments(name, model_class, overrides)
    arguments = dict(arguments) | overrides
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    model = with_cpu_workarounds(model_class(**arguments))
    if weights is not None:
        checkpoint = Checkpoint.read(weights, "weights", mapped=True)
        report = load_state(model, checkpoint.state, origin=str(weights), key="weights")
        log_report(report, weights)
    return model.to(device)


def _check_arguments(name: str, model: type[VideoModel], overrides: Mapping[str, Any]) -> None:
    """UserError for an argument that the constructor does not have."""
    parameters = inspect.signature(model).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for argument in overrides:
        if argument not in parameters:
            known = f"arguments of {model.__name__}: {', '.join(parameters)}"
            raise UserError(
                f"{name} has no argument {argument!r}", did_you_mean(argument, parameters) or known
            )
