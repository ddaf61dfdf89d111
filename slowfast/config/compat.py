"""Old files: keys under other names, and keys of the source projects that are left out."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

from slowfast.config.yaml_file import Entry
from slowfast.utils.errors import Problem
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

ACCEPTED = object()

_RENAMED = {
    "FEWSHOT.TRAIN_TASKS": "FEWSHOT.TRAIN_EPISODES",
    "FEWSHOT.VAL_TASKS": "FEWSHOT.VAL_EPISODES",
    "FEWSHOT.TEST_TASKS": "FEWSHOT.TEST_EPISODES",
    "MODEL.FINETUNING": "MODEL.FINETUNNING",
    "SOLVER.CLIP_GRADIENT": "SOLVER.CLIP_GRAD_L2NORM",
    "TRAIN_FILE": "DATA.TRAIN_LIST",
    "VAL_FILE": "DATA.VAL_LIST",
    "TEST_FILE": "DATA.TEST_LIST",
}

# Values that were names of something gone: (key, old value) -> new value, and why.
_REPLACED = {
    ("SOLVER.OPTIMIZING_METHOD", "mt_adamw"): ("adamw", "torch has no multi-tensor variant apart"),
    ("MODEL.MODEL_NAME", "vit_base_patch16_224"): ("TimeSformer", "its sizes are keys"),
    ("MODEL.MODEL_NAME", "BasicClipVideo"): ("TemporalClipVideo", "frames do not see each other"),
    ("MODEL.TEMPORAL_MODELING_TYPE", "stcross_attn"): ("stcross_attend", "it was misspelt"),
    ("DATA.DECODING_BACKEND", "torchvision"): ("pyav", "torchvision decodes no video any more"),
}

# Sections that configure models or tasks which this version does not have. What they hold is
# of no consequence: MODEL.MODEL_NAME or the ENABLE key decides, and is checked.
_FOREIGN_SECTIONS = {
    "AVA",
    "DEMO",
    "MASK",
    "VIS_MASK",
    "CONTRASTIVE",
    "RESNET",
    "NONLOCAL",
    "SLOWFAST",
    "X3D",
    "PREFETCH",
    "BENCHMARK",
    "DETECTION",
    "MULTIGRID",
}
_SWITCHES = {
    "DEMO.ENABLE": "the demo is a tool of its own, not a mode of a configuration",
    "MASK.ENABLE": "masked pre-training is not part of this framework",
    "VIS_MASK.ENABLE": "masked pre-training is not part of this framework",
    "DETECTION.ENABLE": "detection is not part of this framework",
    "MULTIGRID.SHORT_CYCLE": "multigrid training is not part of this framework",
    "MULTIGRID.LONG_CYCLE": "multigrid training is not part of this framework",
}


def current_name(key: str) -> str:
    """Today's name of a key that was renamed, or the name itself."""
    return _RENAMED.get(key, key)


def translate(entries: Iterable[Entry], problems: list[Problem]) -> list[Entry]:
    """Entries under today's names and values; contradictions are added to ``problems``."""
    entries, result = list(entries), []
    loaded = {e.key.split(".")[0]: e.value for e in entries if e.key.endswith(".CUSTOM_LOAD")}
    for entry in entries:
        part, _, name = entry.key.partition(".")
        if name == "CUSTOM_LOAD":
            continue
        if name == "CUSTOM_LOAD_FILE":
            if loaded.get(part) and entry.value:
                result.append(Entry(f"{part}.CHECKPOINT_FILE_PATH", entry.value, entry.origin))
            continue
        key = current_name(entry.key)
        value = entry.value
        if isinstance(value, str) and (key, value) in _REPLACED:
            new, why = _REPLACED[key, value]
            logger.warning("%s: %r now means %r: %s (%s)", key, value, new, why, entry.origin)
            value = new
        if key == "TEST.NUM_ENSEMBLE_VIEWS" and value == -1:  # PySlowFast: five tests in a row
            key, value = "TEST.NUM_TEMPORAL_CLIPS", [1, 3, 5, 7, 10]
        if key == "MODEL.TEMPORAL_SCALE" and isinstance(value, int):  # STDD: one scale
            value = [value]
        if key == "TRAIN.CHECKPOINT_TYPE" and value == "caffe2":
            problems.append(
                Problem(
                    "Caffe2 weights are not supported",
                    "convert them with PySlowFast",
                    key,
                    entry.origin,
                )
            )
            continue
        result.append(Entry(key, value, entry.origin))
    return result


@functools.cache
def upstream_defaults() -> dict[str, list[Any]]:
    """Keys of PySlowFast and its forks that this version lacks -> their defaults."""
    text = resources.files("slowfast.config").joinpath("upstream_keys.json").read_text()
    return json.loads(text)


def judge_upstream(entry: Entry) -> object | Problem | None:
    """ACCEPTED, a Problem with the explanation, or None for a key nobody has."""
    if entry.key in _SWITCHES:
        if not entry.value:
            return ACCEPTED
        return Problem(_SWITCHES[entry.key], f"set {entry.key} False", entry.key, entry.origin)
    if entry.key.split(".")[0] in _FOREIGN_SECTIONS:
        return ACCEPTED
    defaults = upstream_defaults().get(entry.key)
    if defaults is None:
        return None
    if any(_same(entry.value, default) for default in defaults):
        return ACCEPTED
    shown = " or ".join(repr(d) for d in defaults)
    return Problem(
        f"this key of PySlowFast has no counterpart here; only its default ({shown}) is accepted",
        "remove the line",
        entry.key,
        entry.origin,
    )


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return len(value) == len(default) and all(_same(v, d) for v, d in zip(value, default))
    if value in (None, "") and default in (None, ""):
        return True
    return value == default
