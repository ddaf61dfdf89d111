"""One set of weights from the checkpoints of many epochs (as released with STDD): uniform,
Gaussian, beta or exponential weights. One checkpoint is in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from slowfast.engine.checkpoint import run_checkpoints
from slowfast.models.clip.names import is_clip, is_video_clip, video_names
from slowfast.models.weights.files import write_weights
from slowfast.models.weights.read import read_checkpoint, state_dict_of
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

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
    """Weights of ``epochs`` (ascending), which add up to 1.

    swa: equal; gwa: a Gaussian over the number of the epoch; bwa: Beta(1/2, 1/2) at the middles
    of as many equal parts of 0..1 as there are epochs; ewa: ``decay`` for every epoch of age.
    """
    count = len(epochs)
    places = [(number + 0.5) / count for number in range(count)]
    raw = {
        "swa": lambda: [1.0] * count,
        "gwa": lambda: [math.exp(-0.5 * ((epoch - mean) / deviation) ** 2) for epoch in epochs],
        "bwa": lambda: [1 / math.sqrt(place * (1 - place)) for place in places],
        "ewa": lambda: [decay ** (epochs[-1] - epoch) for epoch in epochs],
    }[method]()
    return [value / sum(raw) for value in raw]


def find_epochs(run: str | Path, start: int, end: int, original: str) -> dict[int, Path]:
    """Checkpoint of every epoch from ``start`` to ``end``; 0 is ``original``. UserError naming
    the epochs that are missing."""
    if not 0 <= start <= end:
        raise UserError(f"{start} to {end} is no range of epochs", "0 <= start <= end", "--start")
    epochs = [path for path in run_checkpoints(run) if "_iter_" not in path.name]
    found = {int(path.stem.rsplit("_", 1)[-1]): path for path in epochs}
    if original:
        found[0] = Path(original).expanduser()
    missing = [epoch for epoch in range(start, end + 1) if epoch not in found]
    if missing:
        shown = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        remedy = "TRAIN.CHECKPOINT_PERIOD 1 keeps every epoch; --start and --end choose a range"
        if missing[0] == 0:
            remedy = "epoch 0 is the original: name it with --original; " + remedy
        raise UserError(f"{run} has no checkpoints of epochs {shown}", remedy, "RUN")
    return {epoch: found[epoch] for epoch in range(start, end + 1)}


def average(paths: dict[int, Path], weights: Sequence[float], target: str | Path) -> dict:
    """Write the weighted mean of checkpoints as ``{model_state}``; gives a few figures.

    A tensor that the original (epoch 0) lacks is averaged over the other epochs; whole numbers
    are those of the last epoch.
    """
    sums: State = {}
    shares: dict[str, float] = {}
    content: dict = {}
    trained = state_dict_of(read_checkpoint(paths[max(paths)], "RUN"), paths[max(paths)])
    expected = {name: value.shape for name, value in trained.items()}
    in_video_names = is_video_clip(trained)
    del trained
    for (epoch, path), weight in zip(paths.items(), weights):
        content = read_checkpoint(path, "RUN")
        state = state_dict_of(content, path)
        if epoch == 0 and in_video_names and is_clip(state):
            state = video_names(state, expected)
        _check(state, expected, path, optional=epoch == 0)
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
            f"{path} is of another network: {len(wrong) or 'all'} parameters do not fit"
            + (f" (e.g. {', '.join(wrong[:3])})" if wrong else ""),
            "average checkpoints of one run, with the original it began with",
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
