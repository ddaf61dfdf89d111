"""The model table: size of the network of each configuration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slowfast.config.load import load_config
from slowfast.models.build import build_model
from slowfast.models.summary import measure_model


def model_rows(files: Iterable[str | Path], overrides: list[str]) -> list[list[str]]:
    """(configuration, frames x crop, parameters in M, GFLOPs a view) of each file."""
    rows = []
    for file in files:
        cfg = load_config([file], overrides)
        size = measure_model(build_model(cfg), cfg)
        clip = f"{cfg.DATA.NUM_FRAMES} x {cfg.DATA.TRAIN_CROP_SIZE}²"
        rows.append([str(file), clip, f"{size.parameters / 1e6:.2f}", f"{size.gflops:.2f}"])
    return rows


def as_markdown(rows: Iterable[list[str]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| configuration | clip | M parameters | GFLOPs a view |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])
