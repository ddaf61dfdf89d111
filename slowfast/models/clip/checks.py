"""What cannot work in a configuration of CLIP over videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.clip.blocks import CLIP_BLOCK_REGISTRY, HEAD_DIM
from slowfast.models.clip.parameters import PARTS
from slowfast.models.clip.settings import configured_sizes, original_weights
from slowfast.models.clip.sizes import ARCHITECTURES
from slowfast.models.clip.stcross import CrossBlock
from slowfast.utils.errors import Problem


def check_clip(cfg: CfgNode) -> Iterable[Problem]:
    """All problems of a configuration of ``TemporalClipVideo``."""
    yield from _check_classifier(cfg)
    yield from _check_originals(cfg)
    yield from _check_visual_tower(cfg) if cfg.CLIP.VISUAL_TOWER else _check_sizes(cfg)


def _check_classifier(cfg: CfgNode) -> Iterable[Problem]:
    model, data = cfg.MODEL, cfg.DATA
    if data.TEXT_AUG and not data.TEXT_AUG_FEATURE_FILE:
        yield Problem(
            "is not set",
            "make one with tools/text_prompts.py features, or use class names alone",
            "DATA.TEXT_AUG_FEATURE_FILE",
        )
    switches = {
        "DATA.TEXT_AUG": data.TEXT_AUG,
        "TUNE_HEAD": cfg.TUNE_HEAD,
        "MODEL.TEXT_PROMPT": model.TEXT_PROMPT,
    }
    enabled = [key for key, on in switches.items() if on]
    if len(enabled) > 1:
        yield Problem(f"excludes {' and '.join(enabled[1:])}", "set one of them", enabled[0])
    wrong = sorted(set(cfg.CLIP.TRAINED) - set(PARTS))
    if wrong:
        yield Problem(f"{wrong} are unknown", f"choose from {', '.join(PARTS)}", "CLIP.TRAINED")


def _check_originals(cfg: CfgNode) -> Iterable[Problem]:
    model, train = cfg.MODEL, cfg.TRAIN
    for key in ("RAW_MODEL_DISTILLATION", "ENSEMBLE_PRED"):
        if model[key] and not model.KEEP_RAW_MODEL:
            yield Problem("needs the frozen copy", "set MODEL.KEEP_RAW_MODEL True", f"MODEL.{key}")
    if not (train.ENABLE and train.LINEAR_CONNECT_CLIMB):
        return
    if not train.CLIP_ORI_PATH:
        yield Problem(
            "needs the original weights", "set TRAIN.CLIP_ORI_PATH", "TRAIN.LINEAR_CONNECT_CLIMB"
        )
    if train.LINEAR_CONNECT_SAMPLE_L > train.LINEAR_CONNECT_SAMPLE_R:
        yield Problem("is above _R", "give a range", "TRAIN.LINEAR_CONNECT_SAMPLE_L")
    if model.ACT_CHECKPOINT or model.USE_CHECKPOINT:
        yield Problem(
            "the backward pass would recompute with other weights",
            "set MODEL.USE_CHECKPOINT and MODEL.ACT_CHECKPOINT False",
            "TRAIN.LINEAR_CONNECT_CLIMB",
        )


def _check_visual_tower(cfg: CfgNode) -> Iterable[Problem]:
    name, key = cfg.CLIP.VISUAL_TOWER, "CLIP.VISUAL_TOWER"
    needs_vit = {
        "MODEL.KEEP_RAW_MODEL": cfg.MODEL.KEEP_RAW_MODEL,
        "TRAIN.CLIP_ORI_PATH": original_weights(cfg),
        "MODEL.TEMPORAL_MODELING_TYPE": cfg.MODEL.TEMPORAL_MODELING_TYPE not in ("", "None"),
        "SOLVER.LAYER_DECAY": cfg.SOLVER.LAYER_DECAY != 1.0,
    }
    for other in (other for other, on in needs_vit.items() if on):
        yield Problem("needs CLIP's vision transformer", f"leave {key} empty", other)
    network = MODEL_REGISTRY.get(name)  # UserError naming the nearest ones
    if network.spec.open_vocabulary:
        yield Problem(f"{name} has two towers itself", "name a network over clips", key)
        return
    cfg = cfg.with_value("MODEL.MODEL_NAME", name, key)
    weights = network.spec.initial_weights(cfg) if cfg.TRAIN.ENABLE else ""
    if weights:
        yield Problem(
            f"{weights!r} would not be loaded: {name} is a visual tower here",
            "leave it empty; TRAIN.CHECKPOINT_FILE_PATH names weights of the whole network",
            network.spec.weights_key,
        )
    yield from network.spec.check(cfg)


def _check_sizes(cfg: CfgNode) -> Iterable[Problem]:
    model, data, original = cfg.MODEL, cfg.DATA, original_weights(cfg)
    if model.ARCH not in (*ARCHITECTURES, "custom"):
        yield Problem(
            f"{model.ARCH!r} is not one of {', '.join(ARCHITECTURES)} and custom",
            "choose one",
            "MODEL.ARCH",
        )
        return
    for key in ("WIDTH", "TEXT_WIDTH"):
        if cfg.CLIP[key] % HEAD_DIM:
            yield Problem(
                f"is not a multiple of {HEAD_DIM}", f"a head has {HEAD_DIM} channels", f"CLIP.{key}"
            )
    if model.ARCH == "custom" and original and not Path(original).expanduser().is_file():
        return  # reported when the weights are loaded
    sizes = configured_sizes(cfg)
    block = CLIP_BLOCK_REGISTRY.get(model.TEMPORAL_MODELING_TYPE)
    cell = model.MASK_STRIDE if issubclass(block, CrossBlock) else [1, 1, 1]
    if len(cell) != 3 or cell[0] != 1 or min(cell) < 1:
        yield Problem(
            f"{cell} is not [1, rows, columns]", "a cell is of one frame", "MODEL.MASK_STRIDE"
        )
        return
    for key in ("TRAIN_CROP_SIZE", "TEST_CROP_SIZE"):
        side, rest = divmod(data[key], sizes.patch)
        if rest or side % cell[1] or side % cell[2]:
            yield Problem(
                f"{data[key]} is not a whole number of patches of {sizes.patch}"
                + (f" in cells of {cell[1]} x {cell[2]}" if max(cell) > 1 else ""),
                f"use a multiple of {sizes.patch * max(cell)}",
                f"DATA.{key}",
            )
