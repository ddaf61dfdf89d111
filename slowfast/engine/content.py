"""What a checkpoint must contain so that a run can continue from it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from slowfast.models.weights.finite import check_finite
from slowfast.utils.errors import UserError

KEY = "TRAIN.AUTO_RESUME"
REMEDY = (
    "move it away, and the run continues from the checkpoint before it; or choose another "
    "OUTPUT_DIR, with the file as TRAIN.CHECKPOINT_FILE_PATH"
)
_LARGEST = 2**48
# Moments of each element, which all optimizers keep in the shape of the parameter.
_MOMENTS = ("momentum_buffer", "exp_avg", "exp_avg_sq")


def _whole(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < _LARGEST


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_number, value))


def _figures(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and _number(figure) for name, figure in value.items()
    )


def _tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items()
    )


def _optimizer(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("state"), dict):
        return False
    groups = value.get("param_groups")
    return isinstance(groups, list) and all(
        isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups
    )


def _generators(value: Any) -> bool:
    ranks = value.get("ranks") if isinstance(value, dict) else None
    return (
        isinstance(ranks, list)
        and bool(ranks)
        and all(isinstance(rank, dict) and _tensors(rank) and "torch" in rank for rank in ranks)
    )


def _position(value: Any) -> bool:
    parts = ("epoch", "iteration", "samples")
    return isinstance(value, dict) and all(_whole(value.get(part)) for part in parts)


def _meter(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return (
        _numbers(value.get("recent")) and _number(value.get("sum")) and _number(value.get("size"))
    )


def _inside_epoch(value: Any) -> bool:
    if value == {}:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("journal"), dict):
        return False
    log = value["journal"].get("meter")
    if not _whole(value.get("bad")) or type(value.get("said")) is not bool:
        return False
    if not isinstance(log, dict):
        return False
    meters = log.get("meters", {})
    return not log or (
        _whole(log.get("size"))
        and isinstance(log.get("last"), dict)
        and isinstance(meters, dict)
        and all(map(_meter, meters.values()))
    )


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _text(value: Any) -> bool:
    return isinstance(value, str)


Check = Callable[[Any], bool]
_NEEDED: dict[str, tuple[Check, str]] = {
    "epoch": (lambda value: _whole(value, -1), "a whole number from -1"),
    "iteration": (_whole, "a whole number"),
    "progress": (_figures, "names and numbers"),
    "inside_epoch": (_inside_epoch, "statistics of an epoch"),
    "recent_losses": (_numbers, "a list of numbers"),
    "model_state": (_tensors, "names and tensors"),
    "optimizer_state": (_optimizer, "the state of an optimizer"),
    "rng_state": (_generators, "states of random generators"),
    "sampler_state": (_position, "a position in the epoch"),
    "world": (lambda value: _whole(value, 1), "a number of processes"),
    "data": (_text, "a text"),
    "cfg": (_text, "a text"),
}
_OPTIONAL: dict[str, tuple[Check, str]] = {
    "ema_state": (_tensors, "names and tensors"),
    "scaler_state": (_mapping, "the state of a loss scaler"),
    "skipped_in_row": (_whole, "a whole number"),
    "step_videos": (lambda value: _whole(value, 1), "a number of videos"),
    "callbacks": (_mapping, "names and states"),
}


def check_content(content: dict[str, Any], path: object) -> None:
    """UserError naming ``path`` if a part of a checkpoint is missing, of another kind than it must
    be, or holds weights that are not numbers."""
    for name, (check, expected) in (_NEEDED | _OPTIONAL).items():
        value = content.get(name)
        if value is None and name in _OPTIONAL:
            continue
        if name not in content:
            raise UserError(f"{path} holds no {name}", REMEDY, KEY)
        if not check(value):
            raise UserError(f"{name} in {path} is not {expected}", REMEDY, KEY)
    for name in ("model_state", "ema_state"):
        state = content.get(name) or {}
        check_finite(state, str(path), state, KEY)


def check_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Any], path: object) -> None:
    """UserError if moments of the optimizer state ``saved`` are not of their parameter's shape."""
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters):
        entry = saved["state"].get(number, {})
        if not isinstance(entry, dict):
            raise UserError(f"optimizer_state in {path} has no moments", REMEDY, KEY)
        for name in _MOMENTS:
            value = entry.get(name)
            if isinstance(value, torch.Tensor) and value.shape != parameter.shape:
                raise UserError(
                    f"optimizer_state in {path} has {name} of shape {tuple(value.shape)} for a "
                    f"parameter of {tuple(parameter.shape)}",
                    REMEDY,
                    KEY,
                )


@contextlib.contextmanager
def restoring(path: object) -> Iterator[None]:
    """Where a run takes over what a checkpoint holds: UserError naming ``path`` if it cannot."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"the state in {path} does not fit this run: {' '.join(str(error).split())[:300]}",
            REMEDY,
            KEY,
        ) from error
