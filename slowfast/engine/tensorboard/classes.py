"""Class names for TensorBoard's pictures, and which classes they show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from slowfast.config.node import CfgNode
from slowfast.datasets.classnames import read_class_names
from slowfast.datasets.lists import read_json, read_lines
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

_NAMES, _CATEGORIES = "TENSORBOARD.CLASS_NAMES_PATH", "TENSORBOARD.CATEGORIES_PATH"


@dataclass(frozen=True)
class ShownClasses:
    """``names`` in label order; labels of the ``confusion`` matrix of a subset (None: no such
    matrix), of each of the ``categories``, of the ``histograms`` (None: all), and of the ``wrong``
    videos (None: of all classes)."""

    names: list[str]
    confusion: list[int] | None = None
    categories: dict[str, list[int]] = field(default_factory=dict)
    histograms: list[int] | None = None
    wrong: list[int] | None = None


class ClassFiles:
    """The files that the section TENSORBOARD names; UserError if one is missing or no such file."""

    def __init__(self, cfg: CfgNode):
        options = cfg.TENSORBOARD
        path = options.CLASS_NAMES_PATH
        self.names = read_class_names(path, _NAMES) if path else []
        self._subsets = {
            part: _read_subset(options[part].SUBSET_PATH, f"TENSORBOARD.{part}.SUBSET_PATH")
            for part in ("CONFUSION_MATRIX", "HISTOGRAM", "WRONG_PRED_VIS")
        }
        self._categories = _read_categories(options.CATEGORIES_PATH)
        self._found: dict[tuple[str, ...], ShownClasses] = {}

    def shown(self, names: Sequence[str], count: int) -> ShownClasses:
        """Labels of what is shown, of a network with ``count`` outputs.

        ``names``: those of the data (empty: unknown), where no file names them. What is no class is
        left out with a warning, as PySlowFast does. UserError if the file has another number.
        """
        names = tuple(self.names or names or map(str, range(count)))
        if len(names) != count:
            raise UserError(
                f"there are {len(names)} names, the network has {count} classes",
                "name a file with all of them",
                _NAMES,
            )
        if names not in self._found:  # warnings come once
            subsets = [
                None if lines is None else _labels(lines, names, f"TENSORBOARD.{part}.SUBSET_PATH")
                for part, lines in self._subsets.items()
            ]
            categories = {
                category: labels
                for category, lines in self._categories.items()
                if (labels := _labels(lines, names, _CATEGORIES))
            }
            confusion, histograms, wrong = subsets
            shown = ShownClasses(list(names), confusion, categories, histograms, wrong)
            self._found[names] = shown
        return self._found[names]


def _read_subset(path: str, key: str) -> list[str] | None:
    return [line for _, line in read_lines(path, key)] if path else None


def _read_categories(path: str) -> dict[str, list[str]]:
    data = read_json(path, _CATEGORIES) if path else {}
    if not isinstance(data, dict) or not all(isinstance(v, list) for v in data.values()):
        raise UserError(
            f"{path} maps no categories", 'write {"category": ["class", …]}', _CATEGORIES
        )
    return {category: list(map(str, members)) for category, members in data.items()}


def _labels(wanted: Iterable[str], names: Sequence[str], key: str) -> list[int]:
    labels = {name: label for label, name in enumerate(names)}
    wanted = list(wanted)
    missing = [name for name in wanted if name not in labels]
    if missing:
        words = "name is" if len(missing) == 1 else "names are"
        logger.warning("%s: %d %s no class, e.g. %r", key, len(missing), words, missing[0])
    return [labels[name] for name in wanted if name in labels]
