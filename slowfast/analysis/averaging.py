"""Averaging of the weights of many epochs (as released with STDD): uniform, Gaussian, beta or
exponential. One checkpoint is in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from slowfast.engine.checkpoint import is_mid_epoch, run_checkpoints
from slowfast.models.clip.names import is_clip, is_video_clip, video_names
from slowfast.models.weights.files import write_weights
from slowfast.models.weights.finite import check_finite
from slowfast.models.weights.read import read_checkpoint, state_dict_of
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.text import shorten

logger = get_logger(__name__)

METHODS = ("swa", "gwa", "bwa", "ewa")
State = dict[str, torch.Tensor]


def epoch_weights(
    method: str,
    epochs: Sequence[int],
    mean: float = 15.0,
    deviation: float = 10.0,
    decay: float = 0.9,
) -> list[float]:
    """One weight per epoch (ascending numbers); they add up to 1.

    swa: equal; gwa: a Gaussian over the epoch number; bwa: the density of Beta(1/2, 1/2) at the
    midpoints of ``len(epochs)`` equal parts of 0..1; ewa: ``decay ** (last epoch - epoch)``.
    """
    count = len(epochs)
    midpoints = [(number + 0.5) / count for number in range(count)]
    raw = {
        "swa": lambda: [1.0] * count,
        "gwa": lambda: [math.exp(-0.5 * ((epoch - mean) / deviation) ** 2) for epoch in epochs],
        "bwa": lambda: [1 / math.sqrt(x * (1 - x)) for x in midpoints],
        "ewa": lambda: [decay ** (epochs[-1] - epoch) for epoch in epochs],
    }[method]()
    return [value / sum(raw) for value in raw]


def find_epochs(run: str | Path, start: int, end: int, original: str) -> dict[int, Path]:
    """The checkpoint of every epoch from ``start`` to ``end``; epoch 0 is ``original``.

    UserError naming the epochs whose checkpoint is missing.
    """
    if not 0 <= start <= end:
        raise UserError(
            f"{start} to {end} is not a range of epochs", "0 <= start <= end", "--start"
        )
    paths = [path for path in run_checkpoints(run) if not is_mid_epoch(path)]
    by_epoch = {int(path.stem.rsplit("_", 1)[-1]): path for path in paths}
    if original:
        by_epoch[0] = Path(original).expanduser()
    missing = [epoch for epoch in range(start, end + 1) if epoch not in by_epoch]
    if missing:
        shown = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        remedy = "TRAIN.CHECKPOINT_PERIOD 1 keeps every epoch; --start and --end choose a range"
        if missing[0] == 0:
            remedy = "epoch 0 stands for the original weights: name them with --original; " + remedy
        raise UserError(f"{run} has no checkpoints of epochs {shown}", remedy, "RUN")
    return {epoch: by_epoch[epoch] for epoch in range(start, end + 1)}


def average(paths: dict[int, Path], weights: Sequence[float], target: str | Path) -> dict:
    """Write the weighted mean of checkpoints as ``{model_state}``; returns its figures.

    A tensor that the original (epoch 0) lacks is averaged over the other epochs; integer tensors
    are those of the last epoch. UserError if a checkpoint belongs to another network.
    """
    sums: State = {}
    shares: dict[str, float] = {}
    content: dict = {}
    last = paths[max(paths)]
    trained = state_dict_of(read_checkpoint(last, "RUN", mapped=True), last)
    expected = {name: value.shape for name, value in trained.items()}
    in_video_names = is_video_clip(trained)
    del trained
    for (epoch, path), weight in zip(paths.items(), weights):
        content = read_checkpoint(path, "RUN", mapped=True)
        state = state_dict_of(content, path)
        if epoch == 0 and in_video_names and is_clip(state):
            state = video_names(state, expected)
        _check(state, expected, path, optional=epoch == 0)
        check_finite(state, str(path), expected, "RUN")
        for name in filter(state.__contains__, expected):
            _add(sums, shares, name, state[name], weight)
        content = {key: content.get(key) for key in ("class_names", "cfg")}
        logger.info("epoch %d: weight %.4f (%s)", epoch, weight, path.name)
    for name, value in sums.items():
        if value.is_floating_point():
            value /= shares[name]
    return write_weights(target, sums, content["class_names"], content["cfg"])


def _check(state: State, expected: dict[str, torch.Size], path: Path, optional: bool) -> None:
    wrong = [
        name
        for name, shape in expected.items()
        if (name not in state and not optional) or (name in state and state[name].shape != shape)
    ]
    if wrong or not expected.keys() & state.keys():
        raise UserError(
            f"{path} belongs to another network: {len(wrong) or 'all'} parameters do not fit"
            + (f" (e.g. {', '.join(shorten(name, 100) for name in wrong[:3])})" if wrong else ""),
            "average checkpoints of one run, and the original weights that it started from",
            "RUN",
        )


def _add(
    sums: State, shares: dict[str, float], name: str, value: torch.Tensor, weight: float
) -> None:
    if not value.is_floating_point():
        sums[name] = value
        return
    if name not in sums:
        sums[name], shares[name] = torch.zeros_like(value, dtype=torch.float32), 0.0
    sums[name].add_(value.float(), alpha=weight)
    shares[name] += weight
