"""Weights and inputs of parity cases, generated from their names, so that none are stored."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


def _normal(key: str, shape: Sequence[int], seed: int) -> np.ndarray:
    state = np.random.RandomState((zlib.crc32(key.encode()) + seed) & 0xFFFFFFFF)
    return state.standard_normal(tuple(shape)).astype(np.float32)


def fill_tensor(name: str, shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """The float32 tensor of the state-dict entry ``name``, of a scale that suits its kind."""
    x = _normal(name, shape, seed)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        x = 1.0 + 0.1 * np.abs(x)
    elif len(shape) <= 1 and leaf == "weight":
        x = 1.0 + 0.1 * x
    elif len(shape) <= 1 or (len(shape) >= 3 and shape[0] == 1):
        x = 0.1 * x
    else:
        x = x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def fill_state_dict(manifest: Mapping[str, Sequence[int]], seed: int = 0) -> dict:
    """``{name: shape}`` -> ``{name: tensor}``."""
    return {name: fill_tensor(name, shape, seed) for name, shape in manifest.items()}


def fill_input(case: str, name: str, shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """The standard-normal input ``name`` of a case."""
    return torch.from_numpy(_normal(f"input:{case}:{name}", shape, seed))


def read_case(
    path: Path,
) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict, dict[str, torch.Tensor]]:
    """(record, inputs, state dict, expected outputs) of a network case."""
    record = json.loads(path.read_text())
    seed, case = record["seed"], record["case"]
    inputs = {k: fill_input(case, k, s, seed) for k, s in record["inputs"].items()}
    with np.load(path.with_suffix(".npz")) as stored:
        expected = {k: torch.from_numpy(stored[k]) for k in stored.files}
    return record, inputs, fill_state_dict(record["manifest"], seed), expected
