"""Labels of horizontally flipped clips, for classes whose mirror image is another class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.datasets.lists import read_json
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

_KEY = "DATA.MIRROR_CLASSES"
_SIDES = (("left", "right"), ("clockwise", "counterclockwise"), ("clockwise", "anticlockwise"))


def mirrored_name(name: str) -> str:
    """The name with left and right, clockwise and counterclockwise swapped."""
    swaps = {one: other for pair in _SIDES for one, other in (pair, pair[::-1])}
    swaps["clockwise"] = "anticlockwise" if "anticlockwise" in name.lower() else "counterclockwise"

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = swaps.get(word.lower(), word)
        return other.capitalize() if word[0].isupper() else other

    return re.sub(r"[A-Za-z]+", swap, name)


def mirrored_labels(cfg: CfgNode, names: Sequence[str]) -> dict[int, int | None]:
    """Label -> label of the mirrored clip (None: there is no such class), where it differs.

    Without DATA.MIRROR_CLASSES no label changes; a warning says so if names contain left and right.
    UserError if the classes have no names, or the file of pairs is malformed.
    """
    rule = cfg.DATA.MIRROR_CLASSES
    if not cfg.DATA.RANDOM_FLIP or (not rule and not names):
        return {}
    if not names:
        raise UserError("the classes have no names", "see DATA.CLASS_NAMES_PATH", _KEY)
    by_name = _by_name(names)
    if rule == "names":
        return by_name
    if rule:
        return _from_file(rule, names)
    pairs = [(a, b) for a, b in by_name.items() if b is not None]
    if pairs:
        one, other = (names[label] for label in pairs[0])
        logger.warning(
            "DATA.RANDOM_FLIP turns %r into %r and %d more classes into others, with their old "
            "labels: set DATA.RANDOM_FLIP False, or DATA.MIRROR_CLASSES names",
            one,
            other,
            len(pairs) - 1,
        )
    return {}


def _by_name(names: Sequence[str]) -> dict[int, int | None]:
    labels = {name.lower(): label for label, name in enumerate(names)}
    mirrored = ((label, name, mirrored_name(name)) for label, name in enumerate(names))
    return {label: labels.get(new.lower()) for label, name, new in mirrored if new != name}


def _from_file(path: str, names: Sequence[str]) -> dict[int, int | None]:
    labels = {name: label for label, name in enumerate(names)}
    pairs = read_json(path, _KEY)
    wrong = not isinstance(pairs, list) or any(
        not isinstance(pair, list)
        or len(pair) != 2
        or not all(isinstance(name, str) and name in labels for name in pair)
        for pair in pairs
    )
    if wrong:
        raise UserError(
            f"{path} is not a list of pairs of class names",
            'such as [["Swiping Left", "Swiping Right"]], spelt like the class names',
            _KEY,
        )
    swapped: dict[int, int | None] = {}
    for one, other in pairs:
        swapped |= {labels[one]: labels[other], labels[other]: labels[one]}
    return swapped


@register_rule
def _single_sample(cfg: CfgNode) -> Iterable[Problem]:
    if cfg.DATA.RANDOM_FLIP and cfg.DATA.MIRROR_CLASSES and cfg.AUG.NUM_SAMPLE > 1:
        yield Problem(
            "the augmented copies of a clip share one label, but each is flipped at random",
            "set AUG.NUM_SAMPLE 1, or DATA.RANDOM_FLIP False",
            _KEY,
        )
