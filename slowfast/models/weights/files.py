"""Checkpoint files: inspect, convert to a network, reduce to the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from slowfast.config.node import CfgNode
from slowfast.models.base import VideoModel
from slowfast.models.weights.loader import load_state, log_report
from slowfast.models.weights.read import read_checkpoint, state_dict_of
from slowfast.models.weights.sources import detect_source
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, write_atomic

_FACTS = ("epoch", "iteration", "world", "data")


def inspect_file(path: str | Path) -> dict[str, Any]:
    """Facts about a checkpoint of any project: numbers, texts and shapes, no tensors."""
    content = read_checkpoint(path, "FILE")
    state = state_dict_of(content, path)
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": Path(path).stat().st_size,
        "source": detect_source(state).name,
        "entries": [key for key, value in content.items() if not isinstance(value, torch.Tensor)],
        "tensors": len(state),
        "parameters": sum(v.numel() for v in state.values()),
        "not_finite": [
            n for n, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()
        ],
    }
    facts |= {
        key: content[key] for key in _FACTS if isinstance(content.get(key), (int, float, str))
    }
    facts["average"] = bool(content.get("ema_state"))
    facts["classes"] = list(content.get("class_names") or [])
    facts["model"] = _model_name(content.get("cfg"))
    facts["shapes"] = {name: list(value.shape) for name, value in state.items()}
    return facts


def _model_name(cfg: Any) -> str:
    tree = yaml.safe_load(cfg) if isinstance(cfg, str) else None
    return tree.get("MODEL", {}).get("MODEL_NAME", "") if isinstance(tree, dict) else ""


def strip_file(path: str | Path, target: str | Path, average: bool = False) -> dict[str, Any]:
    """Write the weights alone, with class names and configuration; returns facts about the file.

    ``average`` takes the averaged weights; UserError if there are none.
    """
    content = read_checkpoint(path, "FILE")
    if average and not content.get("ema_state"):
        raise UserError(f"{path} holds no averaged weights", "leave out --average", "--average")
    state = dict(content["ema_state"]) if average else state_dict_of(content, path)
    return write_weights(target, state, content.get("class_names"), content.get("cfg"))


def convert_file(
    path: str | Path, target: str | Path, model: VideoModel, cfg: CfgNode
) -> dict[str, Any]:
    """Write a file of any project as weights of ``model``, which ``cfg`` describes.

    UserError if the file fills less than TRAIN.CHECKPOINT_MIN_MATCH of it.
    """
    content = read_checkpoint(path, "FILE")
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
    """Write ``model_state`` (safetensors: the tensors alone) atomically; returns a few facts."""
    target = Path(target)
    make_dirs(target.parent)
    state = {name: value.detach().contiguous().clone() for name, value in state.items()}
    if target.suffix == ".safetensors":
        write_atomic(target, lambda temporary: save_file(state, temporary))
    else:
        content: dict[str, Any] = {"model_state": state}
        if class_names:
            content["class_names"] = [str(name) for name in class_names]
        if isinstance(cfg, str):
            content["cfg"] = cfg
        write_atomic(target, lambda temporary: torch.save(content, temporary))
    return {"file": str(target), "tensors": len(state), "bytes": target.stat().st_size}
