"""Loading released weights into a network, with a report on each tensor."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.layers.sub_norm import match_norm_names
from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.weights.convert import fit_tensor
from slowfast.models.weights.finite import check_finite
from slowfast.models.weights.folder import is_folder_checkpoint
from slowfast.models.weights.read import Checkpoint, clear_names, tensors_of
from slowfast.models.weights.sources import adapt_state, networks_of
from slowfast.utils.addresses import is_address
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.text import shorten

logger = get_logger(__name__)

_MAX_NAMES = 6  # names per line of a report


@dataclass
class LoadReport:
    """What was done with the tensors of a file and with the parameters of the network.

    ``source`` names the format of the file. Lists of names: ``matched`` copied; ``converted``
    inflated or resized; ``head`` of another number of classes, ``new`` in this network and
    ``missing`` in the file keep their initial values; ``mismatched`` of another shape and
    ``unexpected`` in the network are left out. ``share`` of the parameters that are filled,
    between 0 and 1, without ``head`` and ``new``.
    """

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
        """The report as lines of a log."""
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
                more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
                lines.append(f"  {title}: {_some(names[:_MAX_NAMES])}{more}")
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
    key: str = "TRAIN.CHECKPOINT_MIN_MATCH",
) -> LoadReport:
    """Copy the weights of any project into ``model`` and report on them.

    Args:
        model: the network; its parameters are overwritten in place.
        state: a state dict of any format that :func:`adapt_state` knows.
        clear_patterns: removed from the names, each once, before anything else.
        inflate: tensors of fewer dimensions may be inflated.
        image_init: as :func:`slowfast.models.weights.convert.fit_convolution` says.
        min_match: share of the parameters that must be filled, between 0 and 1.
        origin: where the state comes from, for messages.
        key: of the limit ``min_match``, or the name of the argument, for messages.

    UserError below ``min_match``, if tensors cannot be converted, or if what would be filled in is
    not finite; the network is then as it was.
    """
    if clear_patterns:
        state = {new: state[old] for old, new in clear_names(state, clear_patterns).items()}
    with conversion(origin):
        others = _other_networks(state, model)
        source, state = adapt_state(state, model)
        state = match_norm_names(state, model)
    report = LoadReport(source.name)
    targets = {k: v for k, v in model.state_dict().items() if not _is_counter(k)}
    filled: dict[str, torch.Tensor] = {}
    for name, target in targets.items():
        if name not in state:
            part_is_new = any(part in name for part in source.new_parts)
            (report.new if part_is_new else report.missing).append(name)
            continue
        with conversion(origin):
            value = _fit(model, name, state[name], target, inflate, image_init)
        if value is not None:
            same = state[name].shape == target.shape
            (report.matched if same else report.converted).append(name)
            filled[name] = value
        else:
            is_head = name.startswith(model.spec.classifier_of(model))
            (report.head if is_head else report.mismatched).append(name)
    report.unexpected = sorted(n for n in state if n not in targets and not _is_counter(n))
    report.share = _filled_share(report, model, filled)
    if report.share < min_match:
        raise UserError(
            f"{origin} fills only {100 * report.share:.1f} % of this network\n"
            + "\n".join(report.lines()),
            _remedy(others, key),
            key,
        )
    check_finite(filled, origin, {name for name, _ in model.named_buffers()})
    model.load_state_dict(filled, strict=False)
    return report


def _other_networks(state: dict[str, torch.Tensor], model: VideoModel) -> list[str]:
    """Names of the networks that the file is of, if ``model`` is none of them."""
    names = networks_of(state)
    classes = tuple(MODEL_REGISTRY.get(name) for name in names)
    is_one = any(isinstance(network, classes) for network in (model, getattr(model, "base", None)))
    return [] if is_one else names


def _remedy(others: Sequence[str], key: str) -> str:
    in_configuration = "." in key
    if others:
        text = f"these are weights of {' or '.join(others)}"
        return f"{text}: set MODEL.MODEL_NAME {others[0]}" if in_configuration else text
    if in_configuration:
        return f"check MODEL.MODEL_NAME and the model's section, or lower {key}"
    return "is it a file of this network? slowfast.list_models() lists all"


@contextlib.contextmanager
def conversion(origin: str) -> Iterator[None]:
    """Where tensors of a file are renamed and reshaped: UserError if they have shapes for which
    nobody wrote that."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise UserError(
            f"{origin} cannot be converted: {' '.join(str(error).split())[:200]}",
            "is it a file of this network?",
        ) from error


def fitting_state(
    network: nn.Module, state: Any, path: object, key: str = "TEST.CHECKPOINT_FILE_PATH"
) -> dict[str, torch.Tensor]:
    """``state`` of the checkpoint ``path`` of this package, which must be that of ``network``.

    UserError naming ``key`` if it is of another architecture, or not finite.
    """
    state = match_norm_names(tensors_of(state if isinstance(state, dict) else {}, path), network)
    expected = network.state_dict()
    wrong = [n for n, v in expected.items() if n not in state or state[n].shape != v.shape]
    if wrong or len(state) != len(expected):
        extra = sorted(set(state) - set(expected))
        raise UserError(
            f"{path} is of another architecture: {len(wrong)} parameters do not fit "
            f"(e.g. {_some(wrong[:3]) or 'none'}), {len(extra)} are unknown "
            f"(e.g. {_some(extra[:3]) or 'none'})",
            "use the configuration it was trained with (see config.yaml beside it)",
            key,
        )
    check_finite(state, str(path), {name for name, _ in network.named_buffers()}, key)
    return state


def _some(names: Sequence[str]) -> str:
    return ", ".join(shorten(name, 100) for name in names)


def _fit(
    model: VideoModel,
    name: str,
    tensor: torch.Tensor,
    target: torch.Tensor,
    inflate: bool,
    image_init: bool,
) -> torch.Tensor | None:
    if tensor.shape != target.shape and tensor.ndim < target.ndim and not inflate:
        return None
    return fit_tensor(
        name.removeprefix("base."),  # inside a few-shot network
        tensor,
        target.shape,
        resizers=model.spec.resizers,
        image_init=image_init,
    )


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _filled_share(report: LoadReport, model: VideoModel, filled: Container[str]) -> float:
    """Share of the parameters that are filled, without those that this source cannot have."""
    expected = {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if name not in report.new and name not in report.head
    }
    count = sum(size for name, size in expected.items() if name in filled)
    return count / max(sum(expected.values()), 1)


def load_weights(
    model: VideoModel,
    checkpoint: Checkpoint | str | Path,
    cfg: CfgNode,
    key: str = "TRAIN.CHECKPOINT_FILE_PATH",
) -> Checkpoint:
    """Load released or own weights as TRAIN.CHECKPOINT_* say, and log the report.

    ``checkpoint`` is a file that was read already, or a path, which is read here. Returns what
    was read. UserError, naming ``key``, if it cannot be read or fills too little of the network.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint.read(checkpoint, key, mapped=True)
    train = cfg.TRAIN
    report = load_state(
        model,
        checkpoint.state,
        clear_patterns=train.CHECKPOINT_CLEAR_NAME_PATTERN,
        inflate=train.CHECKPOINT_INFLATE,
        image_init=train.CHECKPOINT_IN_INIT,
        min_match=train.CHECKPOINT_MIN_MATCH,
        origin=str(checkpoint.path),
    )
    log_report(report, checkpoint.path)
    return checkpoint


def log_report(report: LoadReport, path: str | Path) -> None:
    """Log what was loaded from ``path``."""
    logger.info("%s", path)
    for line in report.lines():
        logger.info("%s", line)


def find_pretrained(name: str, folder: str, key: str) -> str | Path:
    """The file of released weights, by its path, its address, or by its name below ``folder``.

    UserError, naming ``key`` and where the file can be downloaded, if there is none.
    """
    if is_address(name):
        return name
    as_path = Path(name).expanduser()
    if as_path.is_file() or is_folder_checkpoint(as_path):
        return as_path
    stem = name.removesuffix(".pth")
    for suffix in (".pth", ".pyth", ".pt", ".pkl", ".safetensors", ""):
        path = Path(folder) / f"{stem}{suffix}"
        if path.is_file():
            return path
    index = Path(folder) / "index.yaml"
    known = yaml.safe_load(index.read_text()) if index.is_file() else {}
    label = as_path.stem if as_path.suffix in (".pth", ".pt") else stem
    url = known.get(label, {}).get("source", "")
    missing = as_path if as_path.parent != Path(".") else Path(folder) / f"{stem}.pth"
    raise UserError(
        f"there is no {missing}",
        (f"get it from {url}; " if url else "")
        + f'or start at random with {key} ""; MODEL.PRETRAINED_DIR names the folder',
        key,
    )
