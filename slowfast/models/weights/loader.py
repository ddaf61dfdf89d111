"""Putting released weights into a network, with a report of what happened to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from slowfast.config.node import CfgNode
from slowfast.models.base import VideoModel
from slowfast.models.spec import Resizer
from slowfast.models.weights.convert import fit_tensor
from slowfast.models.weights.read import clear_names, read_checkpoint, state_dict_of
from slowfast.models.weights.sources import WeightSource, adapt_state
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

_SHOWN = 6


@dataclass
class LoadReport:
    """What became of the tensors of a file and of the parameters of the model."""

    source: str
    matched: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    share: float = 0.0

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [
            f"weights of {self.source}: {len(self.matched)} tensors copied, "
            f"{len(self.converted)} inflated or resized, {100 * self.share:.1f} % of the parameters"
        ]
        for title, names in (
            ("head replaced (other number of classes), starts at random", self.head),
            ("new in this network, start at random", self.new),
            ("missing in the file", self.missing),
            ("of another shape, left out", self.mismatched),
            ("in the file only", self.unexpected),
        ):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                lines.append(f"  {title}: {', '.join(names[:_SHOWN])}{more}")
        return lines


def load_state(
    model: VideoModel,
    state: dict[str, torch.Tensor],
    *,
    clear_patterns: Sequence[str] = (),
    inflate: bool = True,
    image_init: bool = False,
    min_match: float = 0.9,
    origin: str = "the state dict",
) -> LoadReport:
    """Copy a foreign state dict into ``model``; UserError below ``min_match`` of it filled.

    ``inflate`` and ``image_init`` as :func:`slowfast.models.weights.convert.fit_tensor` says.
    """
    if clear_patterns:
        state = {new: state[old] for old, new in clear_names(state, clear_patterns).items()}
    source, state = adapt_state(state, model)
    report = LoadReport(source.name)
    own = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    filled: dict[str, torch.Tensor] = {}
    for name, target in own.items():
        if name not in state:
            part_is_new = any(part in name for part in source.new_parts)
            (report.new if part_is_new else report.missing).append(name)
            continue
        value = _fit(name, state[name], target, inflate, image_init, model.spec.resizers)
        if value is not None:
            same = state[name].shape == target.shape
            (report.matched if same else report.converted).append(name)
            filled[name] = value
        else:
            is_head = name.startswith(model.spec.classifier_of(model))
            (report.head if is_head else report.mismatched).append(name)
    report.unexpected = sorted(set(state) - set(own) - _counters(state))
    _score(report, model, filled)
    if report.share < min_match:
        raise UserError(
            f"{origin} fills only {100 * report.share:.1f} % of this network\n"
            + "\n".join(report.lines()),
            "check MODEL.MODEL_NAME and the model's section, or lower TRAIN.CHECKPOINT_MIN_MATCH",
            "TRAIN.CHECKPOINT_MIN_MATCH",
        )
    model.load_state_dict(filled, strict=False)
    return report


def _fit(
    name: str,
    given: torch.Tensor,
    target: torch.Tensor,
    inflate: bool,
    image_init: bool,
    resizers: Sequence[Resizer],
) -> torch.Tensor | None:
    if given.shape != target.shape and given.ndim < target.ndim and not inflate:
        return None
    own = name.removeprefix("base.")  # inside a few-shot network
    return fit_tensor(own, given, target.shape, image_init=image_init, resizers=resizers)


def _counters(state: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in state if name.endswith("num_batches_tracked")}


def _score(report: LoadReport, model: VideoModel, filled: dict[str, torch.Tensor]) -> None:
    """Share of the parameters filled, apart from those that this source cannot have."""
    expected = {
        name: p.numel()
        for name, p in model.named_parameters()
        if name not in report.new and name not in report.head
    }
    found = sum(count for name, count in expected.items() if name in filled)
    report.share = found / max(sum(expected.values()), 1)


def load_weights(
    model: VideoModel, path: str | Path, cfg: CfgNode, key: str = "TRAIN.CHECKPOINT_FILE_PATH"
) -> dict[str, Any]:
    """Load a released or own checkpoint by its path, log the report, give the file's content."""
    content = read_checkpoint(path, key)
    train = cfg.TRAIN
    report = load_state(
        model,
        state_dict_of(content, path),
        clear_patterns=train.CHECKPOINT_CLEAR_NAME_PATTERN,
        inflate=train.CHECKPOINT_INFLATE,
        image_init=train.CHECKPOINT_IN_INIT,
        min_match=train.CHECKPOINT_MIN_MATCH,
        origin=str(path),
    )
    logger.info("%s", path)
    for line in report.lines():
        logger.info("%s", line)
    return content


def find_pretrained(name: str, folder: str, key: str) -> Path:
    """The file of a released set of weights, by its path or by its name below ``folder``;
    UserError that says where it can be had."""
    given = Path(name).expanduser()
    if given.is_file():
        return given
    stem = name.removesuffix(".pth")
    for suffix in (".pth", ".pyth", ".pt", ".safetensors", ""):
        path = Path(folder) / f"{stem}{suffix}"
        if path.is_file():
            return path
    index = Path(folder) / "index.yaml"
    known = yaml.safe_load(index.read_text()) if index.is_file() else {}
    where = known.get(given.stem if given.suffix in (".pth", ".pt") else stem, {}).get("source", "")
    is_path = given.parent != Path(".")
    raise UserError(
        f"there is no {given if is_path else Path(folder) / (stem + '.pth')}",
        (f"get it from {where}; " if where else "")
        + f'or start at random with {key} ""; MODEL.PRETRAINED_DIR names the folder',
        key,
    )


__all__ = ["LoadReport", "WeightSource", "find_pretrained", "load_state", "load_weights"]
