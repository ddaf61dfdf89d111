"""Checkpoint files: inspect, convert to a network, reduce to the weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from slowfast.config.node import CfgNode
from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.weights.finite import check_finite, not_finite
from slowfast.models.weights.folder import size_of
from slowfast.models.weights.loader import conversion, load_state, log_report
from slowfast.models.weights.read import read_checkpoint, state_dict_of, tensors_of
from slowfast.models.weights.safetensors import write_safetensors
from slowfast.models.weights.sources import detect_source, networks_of
from slowfast.models.weights.write import write_archive
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, write_atomic
from slowfast.utils.text import shorten
from slowfast.utils.yaml_text import BadYaml, load_yaml

_FACTS = ("epoch", "iteration", "world", "data")
_MAX_FACTS = 10_000  # of a list
SUFFIXES = (".pyth", ".pth", ".pt", ".safetensors")  # of files of weights


def inspect_file(path: str | Path) -> dict[str, Any]:
    """Facts about a checkpoint of any project: numbers, texts and shapes, no tensors."""
    content = read_checkpoint(path, "FILE", mapped=True)
    state = state_dict_of(content, path)
    with conversion(str(path)):
        source = detect_source(state).name
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": size_of(Path(path)),
        "source": source,
        "entries": _texts(k for k, v in content.items() if not isinstance(v, torch.Tensor)),
        "tensors": len(state),
        "parameters": sum(v.numel() for v in state.values()),
        "not_finite": _texts(not_finite(state)),
    }
    facts |= {
        key: shorten(content[key]) if isinstance(content[key], str) else content[key]
        for key in _FACTS
        if isinstance(content.get(key), (int, float, str))
    }
    facts["average"] = bool(content.get("ema_state"))
    classes = content.get("class_names")
    facts["classes"] = _texts(classes) if isinstance(classes, (list, tuple)) else []
    facts["model"] = _model_name(content.get("cfg"))
    facts["shapes"] = {name: list(value.shape) for name, value in state.items()}
    return facts


def networks_of_file(path: str | Path, key: str) -> list[str]:
    """Names of the registered networks that a file is of: by its configuration, if it holds one,
    else by the names of its tensors; empty if none is known. UserError naming ``key``."""
    content = read_checkpoint(path, key, mapped=True)
    name = _model_name(content.get("cfg"))
    return [name] if name in MODEL_REGISTRY else networks_of(state_dict_of(content, path))


def _texts(values: Iterable[Any]) -> list[str]:
    shown = itertools.islice(values, _MAX_FACTS)
    return [shorten(v if isinstance(v, str) else type(v).__name__) for v in shown]


def _model_name(cfg: Any) -> str:
    """MODEL.MODEL_NAME of a configuration as text; empty if it is none."""
    try:
        tree = load_yaml(cfg) if isinstance(cfg, str) else None
    except BadYaml:
        return ""
    model = tree.get("MODEL") if isinstance(tree, dict) else None
    name = model.get("MODEL_NAME") if isinstance(model, dict) else None
    return shorten(name) if isinstance(name, str) else ""


def check_suffix(target: str | Path) -> None:
    """UserError if a file of weights cannot have the name ``target``."""
    suffix = Path(target).suffix
    if suffix in SUFFIXES:
        return
    remedy = f"a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
    if suffix in (".onnx", ".pt2"):
        remedy = "tools/export.py writes networks that run without this package"
    raise UserError(f"{target} is no name of a file of weights", remedy, "OUT")


def strip_file(path: str | Path, target: str | Path, average: bool = False) -> dict[str, Any]:
    """Write the weights alone, with class names and configuration; returns facts about the file.

    ``average`` takes the averaged weights; UserError if there are none.
    """
    content = read_checkpoint(path, "FILE", mapped=True)
    averaged = content.get("ema_state")
    if average and not (isinstance(averaged, dict) and averaged):
        raise UserError(f"{path} holds no averaged weights", "leave out --average", "--average")
    state = tensors_of(averaged, path) if average else state_dict_of(content, path)
    check_finite(state, str(path), state)
    return write_weights(target, state, content.get("class_names"), content.get("cfg"))


def convert_file(
    path: str | Path, target: str | Path, model: VideoModel, cfg: CfgNode
) -> dict[str, Any]:
    """Write a file of any project as weights of ``model``, which ``cfg`` describes.

    UserError if the file fills less than TRAIN.CHECKPOINT_MIN_MATCH of it.
    """
    content = read_checkpoint(path, "FILE", mapped=True)
    report = load_state(
        model,
        state_dict_of(content, path),
        clear_patterns=cfg.TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN,
        inflate=cfg.TRAIN.CHECKPOINT_INFLATE,
        min_match=cfg.TRAIN.CHECKPOINT_MIN_MATCH,
        origin=str(path),
    )
    log_report(report, path)
    return write_weights(target, model.state_dict(), content.get("class_names"), cfg.dump())


def write_weights(
    target: str | Path, state: dict[str, torch.Tensor], class_names: Any, cfg: Any
) -> dict[str, Any]:
    """Write the weights atomically, with class names (list of texts) and configuration (text)
    where they are known; returns a few facts.

    UserError if the name of ``target`` says another kind of file.
    """
    target = Path(target)
    check_suffix(target)
    make_dirs(target.parent)
    state = {name: value.detach().contiguous().clone() for name, value in state.items()}
    facts: dict[str, Any] = {}
    if isinstance(class_names, (list, tuple)) and class_names:
        facts["class_names"] = _texts(class_names)
    if isinstance(cfg, str):
        facts["cfg"] = cfg
    if target.suffix == ".safetensors":
        write_atomic(target, lambda temporary: write_safetensors(state, temporary, facts))
    else:
        content = {"model_state": state, **facts}
        write_atomic(target, lambda temporary: write_archive(content, temporary))
    return {"file": str(target), "tensors": len(state), "bytes": target.stat().st_size}
