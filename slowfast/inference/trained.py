"""From a checkpoint to the configuration with which its network answers for single videos."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from slowfast.config.load import load_config
from slowfast.config.node import CfgNode, parse_overrides
from slowfast.config.yaml_file import read_yaml
from slowfast.datasets.classnames import read_class_names
from slowfast.engine.checkpoint import checkpoint_folder, find_tested
from slowfast.engine.initial import class_names
from slowfast.engine.results import affects_answers
from slowfast.models.weights.folder import is_folder_checkpoint
from slowfast.models.weights.read import Checkpoint
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime, gpu_count
from slowfast.utils.yaml_text import BadYaml, load_yaml

PathLike = str | os.PathLike[str]
Overrides = Sequence[str] | Mapping[str, Any]
KEY = "checkpoint"

# What of a training's configuration does not concern its network.
_FIXED = {
    "TRAIN.ENABLE": False,
    "TEST.ENABLE": True,
    "TRAIN.CHECKPOINT_FILE_PATH": "",
    "TEST.SAVE_RESULTS_PATH": "",
    "NUM_SHARDS": 1,
    "SHARD_ID": 0,
    "DIST.STRATEGY": "ddp",
    "FEWSHOT.TEST_JITTER": False,  # a video has one answer
    "FEWSHOT.CACHE": "",
    "DEMO.ENABLE": False,
    "DATA.PATH_TO_DATA_DIR": "",
}
_VIEWS = ("TEST.NUM_ENSEMBLE_VIEWS", "TEST.NUM_TEMPORAL_CLIPS")
_VIEWS_ON_CPU = 8  # more at once take memory and no less time
_MIXED = "TRAIN.MIXED_PRECISION"


def read_trained(checkpoint: PathLike) -> Checkpoint:
    """The checkpoint of a path or address; of a folder of a run, the one that a test would take.

    UserError if there is none.
    """
    path = os.path.expanduser(os.fspath(checkpoint))
    if path.lower().endswith((".pt2", ".onnx")):
        problem = f"{path} is an exported network, which runs without this package"
        raise UserError(problem, "name the checkpoint that it was made from", KEY)
    if not os.path.isdir(path) or is_folder_checkpoint(Path(path)):
        return Checkpoint.read(path, KEY, mapped=True)
    found = find_tested(path, "best")
    if found is None:
        raise UserError(
            f"{path} holds no checkpoint",
            f"name a file, or the folder of a run, in which {checkpoint_folder('')} lies",
            KEY,
        )
    return found


def read_names(classes: PathLike | Sequence[str] | None, trained: Checkpoint) -> list[str]:
    """Class names as the caller gives them (names, or a file of names), else the checkpoint's."""
    if classes is None:
        return class_names(trained)
    if isinstance(classes, (str, os.PathLike)):
        return read_class_names(Path(classes).expanduser(), "classes")
    return [str(name) for name in classes]


def choose_runtime(device: torch.device | str | None) -> Runtime:
    """The device of that name; without a name a GPU, if there is one."""
    if device is None:
        device = "cuda" if gpu_count() else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError:
        problem = f"there is no device {device!r}"
        raise UserError(problem, "say cpu, cuda or cuda:1", "device") from None
    if device.type == "cuda":
        count = gpu_count()
        if (device.index or 0) >= count:
            problem = f"there is no {device}: this machine has {count or 'no'} GPUs"
            raise UserError(problem, "say cpu, or leave the device out", "device")
    return Runtime(device)


def configuration(
    trained: Checkpoint,
    runtime: Runtime,
    names: Sequence[str],
    cfg: PathLike | CfgNode | Mapping[str, Any] | None = None,
    overrides: Overrides = (),
) -> CfgNode:
    """What the checkpoint was trained with, or ``cfg`` instead, for single videos on a device.

    UserError if there is no configuration, or something in it cannot be used here.
    """
    values = _saved(trained) if cfg is None else _named(cfg)
    own = {entry.key: entry.value for entry in parse_overrides(overrides)}
    return for_single_videos(values, runtime, names, own)


def for_single_videos(
    values: Mapping[str, Any], runtime: Runtime, names: Sequence[str], own: Mapping[str, Any]
) -> CfgNode:
    """The configuration of ``values`` by dotted key for single videos on a device, with class
    ``names`` and the values that a person's ``own`` keys have."""
    values = {**values, **_FIXED, "NUM_GPUS": int(runtime.on_gpu)}
    if names:
        values["DATA.CLASS_NAMES"] = list(names)
    if values.get(_MIXED) and not runtime.has_fast_bfloat16():
        values[_MIXED] = None  # the decision of another device
    loaded = load_config(overrides=values | dict(own))
    if runtime.on_gpu or "TEST.BATCH_SIZE" in own or loaded.TEST.BATCH_SIZE <= _VIEWS_ON_CPU:
        return loaded
    return loaded.with_value("TEST.BATCH_SIZE", _VIEWS_ON_CPU, "the CPU")


def affects_features(key: str) -> bool:
    """Whether the answers and features of given weights may depend on a key, but for names of
    classes."""
    return key in _VIEWS or (affects_answers(key) and key != "DATA.CLASS_NAMES")


def _saved(trained: Checkpoint) -> dict[str, Any]:
    text = trained.content.get("cfg")
    if not text or not isinstance(text, str):
        raise UserError(
            f"{trained.path} holds weights without a configuration",
            "name the recipe of its network, as a file or a published one: "
            'cfg="Kinetics/UNIFORMER_S"',
            KEY,
        )
    try:
        tree = load_yaml(text)
    except BadYaml as error:
        raise UserError(
            f"the configuration in {trained.path} cannot be read: {error}",
            "name a file instead: cfg=…",
            KEY,
        ) from None
    return {entry.key: entry.value for entry in parse_overrides(tree)}


def _named(cfg: PathLike | CfgNode | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(cfg, CfgNode):
        return cfg.flat()
    if isinstance(cfg, Mapping):
        return dict(cfg)
    return {entry.key: entry.value for entry in read_yaml(cfg)}
