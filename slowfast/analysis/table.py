"""The model table: size of the network of each configuration file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slowfast.analysis.markdown import table
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.engine.network import build_network
from slowfast.models.summary import ModelSize, measure_model


def network_size(cfg: CfgNode) -> ModelSize:
    """Size of the network of a configuration; GFLOPs of one view, of its training crop."""
    return measure_model(build_network(cfg), cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)


def model_rows(files: Iterable[str | Path], overrides: list[str]) -> list[list[str]]:
    """One row per file: the network's size, and GFLOPs x views of its test protocol."""
    rows = []
    for file in files:
        cfg = load_config([file], overrides)
        size = network_size(cfg)
        clip = f"{cfg.DATA.NUM_FRAMES} x {cfg.DATA.TRAIN_CROP_SIZE}²"
        views = f"{cfg.TEST.NUM_SPATIAL_CROPS} x {cfg.TEST.NUM_ENSEMBLE_VIEWS}"
        rows.append(
            [
                str(file),
                clip,
                f"{size.parameters / 1e6:.2f}",
                f"{size.gflops:.2f}",
                views,
                f"{size.mega_activations:.1f}",
            ]
        )
    return rows


def as_markdown(rows: Iterable[list[str]]) -> str:
    """The rows as a Markdown table."""
    names = (
        "configuration",
        "clip",
        "M parameters",
        "GFLOPs per view",
        "views (crops x clips)",
        "M activations per view",
    )
    return table(names, rows)
