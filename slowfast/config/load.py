"""Files + KEY VALUE words -> one frozen, validated configuration, and views of it for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slowfast.config.defaults import get_cfg
from slowfast.config.effect import conditions, describe_conditions
from slowfast.config.node import (
    ARGUMENT,
    COMMAND_LINE,
    DEFAULT_ORIGIN,
    CfgNode,
    parse_overrides,
    raise_if_any,
)
from slowfast.config.plugins import IMPORTS
from slowfast.config.schema import SECTIONS, all_keys
from slowfast.config.validate import find_problems
from slowfast.config.yaml_file import Entry, find_config, read_yaml
from slowfast.utils.errors import UserError
from slowfast.utils.registry import did_you_mean
from slowfast.utils.runtime import ALL_GPUS, gpus_to_use

_DERIVATIONS: list[Callable[[CfgNode], None]] = []


def load_config(
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    imports: Sequence[str] = (),
    num_shards: int | None = None,
    shard_id: int | None = None,
) -> CfgNode:
    """Defaults, then ``files`` in order, then ``overrides``, then derived values.

    ``overrides``: ``KEY VALUE`` words, or a mapping ``{"DATA.NUM_FRAMES": 16}`` (sections may be
    nested). ``imports``: modules that are imported first (see IMPORTS). Returns a frozen tree;
    raises UserError with every problem found.
    """
    cfg = get_cfg()
    options = {"NUM_SHARDS": (num_shards, "--num_shards"), "SHARD_ID": (shard_id, "--shard_id")}
    problems = cfg.merge(
        [Entry(IMPORTS, list(imports), "--import")]
        + [entry for file in files for entry in read_yaml(file)]
        + parse_overrides(overrides)
        + [Entry(key, *given) for key, given in options.items() if given[0] is not None]
    )
    _note_what_was_set_by_hand(cfg, [find_config(file) for file in files])
    _settle_gpus(cfg)
    raise_if_any(find_problems(cfg, problems))
    derive(cfg)
    cfg.freeze()
    return cfg


def _note_what_was_set_by_hand(cfg: CfgNode, files: Sequence[Path]) -> None:
    """``cfg.set_by_hand``: the keys whose last value stands in ``files``, or was passed."""
    by_hand = {str(file) for file in files} | {COMMAND_LINE, ARGUMENT}
    for name, origin in cfg.origins.items():
        file, _, line = origin.rpartition(":")
        if origin in by_hand or (line.isdigit() and file in by_hand):
            cfg.set_by_hand.add(name)


def _settle_gpus(cfg: CfgNode) -> None:
    """NUM_GPUS -1 becomes the number that is there, which the rules must know."""
    if cfg.NUM_GPUS == ALL_GPUS:
        origin = f"{ALL_GPUS} in {cfg.origins.get('NUM_GPUS', DEFAULT_ORIGIN)}"
        sizes = [part.BATCH_SIZE for part in (cfg.TRAIN, cfg.TEST)]
        cfg.assign("NUM_GPUS", gpus_to_use(sizes), origin)


def derive(cfg: CfgNode) -> None:
    """Set the values that follow from others."""
    for derivation in _DERIVATIONS:
        derivation(cfg)


def register_derivation(derivation: Callable[[CfgNode], None]) -> Callable[[CfgNode], None]:
    """Decorator: add a function that sets what follows from other values, once, before the tree
    is frozen; rooms above add theirs where they live."""
    _DERIVATIONS.append(derivation)
    return derivation


@register_derivation
def _scale_rates_by_machines(cfg: CfgNode) -> None:
    if cfg.SOLVER.BASE_LR_SCALE_NUM_SHARDS and cfg.NUM_SHARDS > 1:
        for name in ("BASE_LR", "WARMUP_START_LR", "COSINE_END_LR"):
            key = f"SOLVER.{name}"
            origin = f"{cfg.origins.get(key, 'default')} x NUM_SHARDS"
            cfg.assign(key, cfg.SOLVER[name] * cfg.NUM_SHARDS, origin)


def render_config(cfg: CfgNode) -> str:
    """Every key with its value and origin, one per line (``--print-config``)."""
    rows = [(k, repr(v), cfg.origins.get(k, "")) for k, v in cfg.flat().items()]
    width = max(len(k) for k, _, _ in rows)
    value_width = min(max(len(v) for _, v, _ in rows), 48)
    return "\n".join(f"{k:<{width}}  {v:<{value_width}}  # {o}" for k, v, o in rows)


def explain_key(name: str) -> str:
    """Meaning, type, default and choices of a key, or of the keys of a section."""
    keys = all_keys()
    if name in keys:
        return _describe(name)
    if name in SECTIONS and name:
        section = SECTIONS[name]
        lines = [f"{name}: {section.help}"]
        return "\n".join(lines + [_describe(k) for k in section.dotted()])
    remedy = did_you_mean(name, [*keys, *SECTIONS]) or "list all keys with --print-config"
    raise UserError("there is no such key", remedy, name)


def _describe(name: str) -> str:
    key = all_keys()[name]
    text = f"{name} ({key.describe_type()}, default {key.default!r})\n    {key.help}"
    section = next(s for s in SECTIONS.values() if name in s.dotted())
    if needed := describe_conditions(conditions(section, name, key)):
        text += f"\n    {needed}"
    choices = key.choices_of(name)
    if choices:
        text += f"\n    one of: {', '.join(map(repr, choices))}"
    bounds = [
        f"{word} {value:g}"
        for word, value in (("at least", key.ge), ("more than", key.gt), ("at most", key.le))
        if value is not None
    ]
    return text + (f"\n    {', '.join(bounds)}" if bounds else "")


def reference_page() -> str:
    """The configuration reference as Markdown (``docs/configuration.md``)."""
    lines = ["# Configuration reference", "", "Generated by `tools/config_reference.py`.", ""]
    for section in SECTIONS.values():
        needed = describe_conditions(section.only_if)
        lines += [f"## {section.name or 'Top level'}", "", f"{section.help}. {needed}".rstrip(), ""]
        lines += ["| key | default | meaning |", "| --- | --- | --- |"]
        for dotted, key in section.dotted().items():
            choices = ", ".join(f"`{choice}`" for choice in key.choices_of(dotted))
            sentences = [key.help, f"One of {choices}." if choices else ""]
            sentences.append(describe_conditions(key.only_if))
            text = " ".join(filter(None, sentences)).replace("|", "\\|")
            lines.append(f"| `{dotted}` | `{key.default!r}` | {text} |")
        lines.append("")
    return "\n".join(lines)
