"""``launches.jsonl``: every start of a run in its OUTPUT_DIR, with what it ran on, and its end."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from slowfast.config.node import DEFAULT_ORIGIN, CfgNode
from slowfast.utils.errors import Interrupted
from slowfast.utils.files import append_line
from slowfast.utils.json_text import json_text
from slowfast.utils.runtime import Runtime, cpu_count, cudnn_version, describe_devices
from slowfast.utils.text import shorten
from slowfast.version import __version__

FILE_NAME = "launches.jsonl"
# What the lines of other versions may lack.
_ABSENT: dict[str, Any] = {
    "time": "",
    "command": [],
    "directory": "",
    "train": False,
    "test": False,
    "processes": 1,
    "devices": [],
    "system": "",
    "python": "",
    "slowfast": "",
    "packages": {},
    "origins": {},
}
_PACKAGES = ("torch", "torchvision", "numpy", "av", "opencv-python-headless", "timm")


@contextlib.contextmanager
def recorded_launch(cfg: CfgNode, runtime: Runtime) -> Iterator[None]:
    """Around a run: a line when it starts, and one with its outcome and seconds when it ends."""
    file, begin = Path(cfg.OUTPUT_DIR) / FILE_NAME, time.monotonic()
    append_line(file, json_text(_start(cfg, runtime)))
    outcome = ""
    try:
        yield
        outcome = "finished"
    except BaseException as error:
        stopped = isinstance(error, (Interrupted, KeyboardInterrupt))
        outcome = "stopped" if stopped else f"failed: {shorten(str(error))}"
        raise
    finally:
        seconds = round(time.monotonic() - begin, 1)
        end = {"event": "end", "time": _now(), "seconds": seconds, "outcome": outcome}
        with contextlib.suppress(OSError):  # what the run itself could not write was said
            append_line(file, json_text(end))


def _start(cfg: CfgNode, runtime: Runtime) -> dict[str, Any]:
    origins = {key: text for key, text in cfg.origins.items() if text != DEFAULT_ORIGIN}
    on_gpu = runtime.device.type == "cuda"
    return {
        "event": "start",
        "time": _now(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "directory": os.getcwd(),
        "train": cfg.TRAIN.ENABLE,
        "test": cfg.TEST.ENABLE,
        "processes": runtime.world,
        "devices": describe_devices() if on_gpu else [f"CPU, {cpu_count()} cores"],
        "system": platform.platform(),
        "python": platform.python_version(),
        "slowfast": __version__,
        "packages": dict(_versions()),
        "origins": origins,
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
    if torch.version.cuda:
        yield "CUDA", torch.version.cuda
    if version := cudnn_version():
        yield "cuDNN", ".".join(map(str, version))


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")


def read_launches(folder: str | Path) -> list[dict[str, Any]]:
    """The starts, oldest first, each with ``outcome``, ``seconds`` and ``end`` (None until it has
    ended); a line that is damaged is left out."""
    file = Path(folder) / FILE_NAME
    lines = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    launches: list[dict[str, Any]] = []
    for line in lines.splitlines():
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        if not isinstance(facts, dict):
            continue
        if facts.get("event") == "start":
            launches.append(_ABSENT | facts | {"outcome": "", "seconds": None, "end": None})
        elif launches:
            launches[-1] |= {key: facts.get(key) for key in ("outcome", "seconds")}
            launches[-1]["end"] = facts.get("time")
    return launches
