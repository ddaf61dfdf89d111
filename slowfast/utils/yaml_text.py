"""YAML from anywhere, in bounded time and memory: plain values, no tags, every key once.

PyYAML keeps the last of equal keys in silence, follows aliases without end and recurses as deep as
the text does. What is read here holds mappings, lists, texts, numbers, True, False and null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

MAX_CHARACTERS = 1 << 20  # a text of this length takes some ten seconds
MAX_DEPTH = 32  # of mappings and lists in one another
MAX_VALUES = 200_000  # with every alias written out
MAX_DIGITS = 400  # of one number

_TAG = "tag:yaml.org,2002:"
_SCALARS = {"null", "bool", "int", "float", "str"}
_KINDS = {yaml.ScalarNode: _SCALARS, yaml.SequenceNode: {"seq"}, yaml.MappingNode: {"map"}}


Pair = tuple[yaml.Node, yaml.Node]  # a key and its value
Repeats = Callable[[Pair, Pair], bool]


def _never(first: Pair, second: Pair) -> bool:
    return False


class BadYaml(ValueError):
    """A text that is not read; the message is one line and names the line of the text."""


class _Loader(yaml.SafeLoader):
    """Composes no deeper than :data:`MAX_DEPTH`; dates and "=" are texts like any other."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag.removeprefix(_TAG) in _SCALARS]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadYaml(f"is nested more than {MAX_DEPTH} deep{_line(self.peek_event())}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except BadYaml:
            raise
        except (yaml.YAMLError, ValueError, LookupError, TypeError, OverflowError):
            kind = node.tag.removeprefix(_TAG)
            raise BadYaml(f"{_short(str(node.value))} is no valid {kind}{_line(node)}") from None


def load_yaml(text: str, max_characters: int = MAX_CHARACTERS) -> Any:
    """The value of a text; None for an empty one. BadYaml says what is wrong with it."""
    node = compose_yaml(text, max_characters=max_characters)
    return None if node is None else construct(node)


def compose_yaml(
    text: str, may_repeat: Repeats = _never, max_characters: int = MAX_CHARACTERS
) -> yaml.Node | None:
    """The checked nodes of a text, which know their lines; None for an empty text. BadYaml.

    ``may_repeat(first, second)`` says of two (key, value) pairs with the same key whether the
    second is accepted beside the first (once).
    """
    if len(text) > max_characters:
        raise BadYaml(f"has {len(text)} characters; {max_characters} are read at most")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        raise BadYaml(_one_line(error)) from None
    finally:
        if loader:
            loader.dispose()
    if node is not None:
        _Check(may_repeat).measure(node, 1)
    return node


def construct(node: yaml.Node) -> Any:
    """The value of a node that :func:`compose_yaml` gave; BadYaml."""
    loader = _Loader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


class _Check:
    """Walks over nodes once, each in the size that it has with its aliases written out."""

    def __init__(self, may_repeat: Repeats):
        self._may_repeat = may_repeat
        self._measured: dict[int, tuple[int, int]] = {}  # node -> (values, height)
        self._open: set[int] = set()

    def measure(self, node: yaml.Node, depth: int) -> tuple[int, int]:
        """(values, height) of a node that stands ``depth`` deep; BadYaml if it is refused."""
        if id(node) in self._open:
            raise BadYaml(f"an alias contains itself{_line(node)}")
        if id(node) not in self._measured:
            _check_tag(node)
            self._open.add(id(node))
            parts = [self.measure(child, depth + 1) for child in _children(node)]
            self._open.remove(id(node))
            if isinstance(node, yaml.MappingNode):
                self._check_keys(node)
            values = 1 + sum(values for values, _ in parts)
            self._measured[id(node)] = values, 1 + max((h for _, h in parts), default=0)
        values, height = self._measured[id(node)]
        if values > MAX_VALUES:
            raise BadYaml(f"has more than {MAX_VALUES} values, aliases written out{_line(node)}")
        if depth + height - 1 > MAX_DEPTH:
            raise BadYaml(f"is nested more than {MAX_DEPTH} deep{_line(node)}")
        return values, height

    def _check_keys(self, node: yaml.MappingNode) -> None:
        pairs: dict[str, Pair] = {}
        repeated: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise BadYaml(f"a key must be a single text{_line(key)}")
            if key.value == "<<" and key.style is None:
                raise BadYaml(f"merge keys (<<) are not supported{_line(key)}")
            pair = key, value
            first = pairs.setdefault(key.value, pair)
            if first is pair:
                continue
            if key.value in repeated or not self._may_repeat(first, pair):
                lines = f"{first[0].start_mark.line + 1} and {key.start_mark.line + 1}"
                raise BadYaml(f"the key {_short(key.value)} stands in lines {lines}")
            repeated.add(key.value)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return node.value
    if not isinstance(node, yaml.MappingNode):
        return []
    return [child for pair in node.value for child in pair]


def _check_tag(node: yaml.Node) -> None:
    kind = node.tag.removeprefix(_TAG)
    if kind not in _KINDS[type(node)]:
        shown = f"!!{kind}" if node.tag.startswith(_TAG) else node.tag
        raise BadYaml(f"tags are not supported: {_short(shown)}{_line(node)}")
    if kind in ("int", "float") and len(node.value) > MAX_DIGITS:
        raise BadYaml(f"a number has {len(node.value)} digits{_line(node)}")


def _short(text: str) -> str:
    return repr(text if len(text) < 80 else f"{text[:80]}…")


def _line(node: Any) -> str:
    mark = getattr(node, "start_mark", None)
    return "" if mark is None else f" (line {mark.line + 1})"


def _one_line(error: Exception) -> str:
    """What is wrong and in which line, without the excerpt that PyYAML adds."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    text = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    where = f" (line {mark.line + 1})" if mark else ""
    return " ".join(f"{str(text)[:200]}{where}".split())
