"""Keys that have no effect in a configuration: what their ``only_if`` and ``unused`` say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slowfast.config.node import CfgNode
from slowfast.config.schema import SECTIONS, Key, Other, Section
from slowfast.utils.registry import Registry

_PACKAGE = __package__.partition(".")[0]
_PART_KEYS: dict[str, str] = {}


def names_part(key: str, like: str) -> None:
    """``key`` names a part of the network as ``like`` names the network: what is read for a value
    of ``like`` is also read if ``key`` has that value."""
    _PART_KEYS[like] = key


def conditions(section: Section, name: str, key: Key) -> dict[str, Any]:
    """What must hold so that the key called ``name`` has an effect: other keys and their values."""
    return {k: v for k, v in {**section.only_if, **key.only_if}.items() if k != name}


def describe_conditions(needed: Mapping[str, Any]) -> str:
    """``only_if`` in words, for ``--explain`` and the reference; empty without conditions."""
    parts = []
    for key, wanted in needed.items():
        verb = "is not" if isinstance(wanted, Other) else "is"
        values = wanted.values if isinstance(wanted, Other) else _as_tuple(wanted)
        parts.append(f"{key} {verb} {' or '.join(str(v) for v in values)}")
    return f"Read only if {' and '.join(parts)}." if parts else ""


def idle_keys(cfg: CfgNode) -> dict[str, str]:
    """Keys that were set by hand (``cfg.set_by_hand``), to another value than their default, and
    have no effect -> why."""
    return {
        name: reason
        for section in SECTIONS.values()
        for name, key in section.dotted().items()
        if name in cfg.set_by_hand and cfg.lookup(name) != key.default
        if (reason := _why_idle(cfg, section, name, key))
    }


def describe_idle_keys(cfg: CfgNode) -> str:
    """All of them in one sentence, by reason; empty if there are none."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in idle_keys(cfg).items():
        by_reason.setdefault(reason, []).append(name)
    parts = [f"{', '.join(names)} ({reason})" for reason, names in by_reason.items()]
    return f"set without effect: {'; '.join(parts)}" if parts else ""


def _why_idle(cfg: CfgNode, section: Section, name: str, key: Key) -> str:
    if key.unused:
        return "no value has one"
    for other, wanted in conditions(section, name, key).items():
        value, part = cfg.lookup(other), _PART_KEYS.get(other)
        if part and not isinstance(wanted, Other) and _holds(other, cfg.lookup(part), wanted):
            continue
        if not _holds(other, value, wanted):
            return f"{other} is {value!r}" if value != "" else f"{other} is not set"
    return ""


def _holds(key: str, value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Other):
        return value not in wanted.values
    values = _as_tuple(wanted)
    if value in values or (isinstance(value, list) and any(v in value for v in values)):
        return True
    registry = Registry.by_key.get(key)
    if registry is None or not isinstance(value, str) or value not in registry:
        return False
    chosen = registry.get(value)
    # What code outside of this package reads is not known here.
    if not getattr(chosen, "__module__", _PACKAGE).startswith(f"{_PACKAGE}."):
        return True
    classes = [registry.get(name) for name in values if name in registry]
    return isinstance(chosen, type) and issubclass(
        chosen, tuple(c for c in classes if isinstance(c, type))
    )


def _as_tuple(wanted: Any) -> tuple[Any, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)
