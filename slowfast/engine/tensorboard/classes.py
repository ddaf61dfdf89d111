"""Class names for TensorBoard's pictures, and which classes they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slowfast.config.node import CfgNode
from slowfast.datasets.classnames import configured_names, read_class_names
from slowfast.datasets.lists import read_json, read_lines
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class ShownClasses:
    """``names`` in label order; labels of the ``confusion`` matrix of a subset (None: no such
    matrix), of each of the ``categories``, of the ``histograms``, and of the ``wrong`` videos
    (None: of all classes)."""

    names: list[str]
    confusion: list[int] | None
    categories: dict[str, list[int]]
    histograms: list[int] | None
    wrong: list[int] | None

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> ShownClasses:
        """What the section TENSORBOARD names; UserError if a file is missing or no such file.

        A name that is no class is left out with a warning, as PySlowFast does.
        """
        options = cfg.TENSORBOARD
        names = configured_names(cfg.DATA)
        if options.CLASS_NAMES_PATH:
            names = read_class_names(options.CLASS_NAMES_PATH, "TENSORBOARD.CLASS_NAMES_PATH")
        names = names or [str(label) for label in range(cfg.MODEL.NUM_CLASSES)]
        if len(names) != cfg.MODEL.NUM_CLASSES:
            raise UserError(
                f"there are {len(names)} names, the network has {cfg.MODEL.NUM_CLASSES} classes",
                "name a file with all of them",
                "TENSORBOARD.CLASS_NAMES_PATH",
            )
        subsets = [
            _read_subset(options[part].SUBSET_PATH, f"TENSORBOARD.{part}.SUBSET_PATH", names)
            for part in ("CONFUSION_MATRIX", "HISTOGRAM", "WRONG_PRED_VIS")
        ]
        categories = _read_categories(options.CATEGORIES_PATH, names)
        return cls(names, subsets[0], categories, subsets[1], subsets[2])


def _read_subset(path: str, key: str, names: Sequence[str]) -> list[int] | None:
    if not path:
        return None
    return _labels([line for _, line in read_lines(path, key)], names, key)


def _read_categories(path: str, names: Sequence[str]) -> dict[str, list[int]]:
    key = "TENSORBOARD.CATEGORIES_PATH"
    data = read_json(path, key) if path else {}
    if not isinstance(data, dict) or not all(isinstance(v, list) for v in data.values()):
        raise UserError(f"{path} maps no categories", 'write {"category": ["class", …]}', key)
    found = {category: _labels(map(str, data[category]), names, key) for category in data}
    return {category: labels for category, labels in found.items() if labels}


def _labels(wanted: Sequence[str], names: Sequence[str], key: str) -> list[int]:
    labels = {name: label for label, name in enumerate(names)}
    wanted = list(wanted)
    missing = [name for name in wanted if name not in labels]
    if missing:
        logger.warning("%s: %d names are no class, e.g. %r", key, len(missing), missing[0])
    return [labels[name] for name in wanted if name in labels]
