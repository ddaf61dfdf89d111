"""What a configuration says of CLIP over videos, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.datasets.classnames import configured_names
from slowfast.models.clip.stcross import CrossOptions
from slowfast.models.clip.towers import ARCHITECTURES, CROSS, ClipSizes, sizes_of
from slowfast.models.weights.clip_names import read_clip
from slowfast.utils.errors import Problem

# CLIP.TRAINED -> beginnings of names of parameters.
_TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.")
PARTS = {
    "visual": ("visual.",),
    "text": _TEXT,
    "text_projection": ("text_projection",),
    "logit_scale": ("logit_scale",),
}


def configured_sizes(cfg: CfgNode) -> ClipSizes:
    """Sizes by MODEL.ARCH; ``custom``: those of the original weights, else of the section CLIP."""
    model, options = cfg.MODEL, cfg.CLIP
    original = cfg.TRAIN.CLIP_ORI_PATH or cfg.TEST.CLIP_ORI_PATH
    known = ARCHITECTURES.get(model.ARCH)
    if known is None and original:
        known = sizes_of(read_clip(original, "TRAIN.CLIP_ORI_PATH"))
    if known is None:
        known = ClipSizes(
            options.PATCH_SIZE,
            options.WIDTH,
            options.LAYERS,
            options.EMBED_DIM,
            text_width=options.TEXT_WIDTH,
            text_layers=options.TEXT_LAYERS,
        )
    sized = {"resolution": cfg.DATA.TRAIN_CROP_SIZE, "context": model.CONTEXT_LENGTH}
    return ClipSizes(**(vars(known) | sized))


def cross_options(cfg: CfgNode) -> CrossOptions:
    """Options of ``stcross_attend``."""
    model = cfg.MODEL
    return CrossOptions(
        model.MASK_RATE,
        model.MASK_STRIDE[1:],
        model.CHANNEL_FOLD,
        model.TEMPORAL_SCALE,
        model.SPATIAL_REPEAT,
        model.TEMPORAL_SHUFFLE,
        model.TEMPORAL_SHUFFLE and cfg.CLIP.SHUFFLE_IN_EVAL,
    )


def check_clip(cfg: CfgNode) -> Iterable[Problem]:
    """All problems of a configuration of ``TemporalClipVideo``."""
    yield from _check_classes(cfg)
    yield from _check_originals(cfg)
    yield from _check_sizes(cfg)


def _check_classes(cfg: CfgNode) -> Iterable[Problem]:
    model, data = cfg.MODEL, cfg.DATA
    if not configured_names(data):
        yield Problem(
            "this network reads the names of classes, and there are none",
            'name a JSON file {"0": "first class", "1": …}, or list them in DATA.CLASS_NAMES',
            "DATA.INDEX_LABEL_MAPPING_FILE",
        )
    if data.TEXT_AUG and not data.TEXT_AUG_FEATURE_FILE:
        yield Problem(
            "is not set",
            "make one with tools/text_prompts.py features, or use class names alone",
            "DATA.TEXT_AUG_FEATURE_FILE",
        )
    chosen = [
        k
        for k, on in (
            ("DATA.TEXT_AUG", data.TEXT_AUG),
            ("TUNE_HEAD", cfg.TUNE_HEAD),
            ("MODEL.TEXT_PROMPT", model.TEXT_PROMPT),
        )
        if on
    ]
    if len(chosen) > 1:
        yield Problem(f"excludes {' and '.join(chosen[1:])}", "set one of them", chosen[0])
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


def _check_sizes(cfg: CfgNode) -> Iterable[Problem]:
    model, data = cfg.MODEL, cfg.DATA
    if model.ARCH not in (*ARCHITECTURES, "custom"):
        yield Problem(
            f"{model.ARCH!r} is not one of {', '.join(ARCHITECTURES)} and custom",
            "choose one",
            "MODEL.ARCH",
        )
        return
    for key in ("WIDTH", "TEXT_WIDTH"):
        if cfg.CLIP[key] % 64:
            yield Problem("is not a multiple of 64", "a head has 64 channels", f"CLIP.{key}")
    original = cfg.TRAIN.CLIP_ORI_PATH or cfg.TEST.CLIP_ORI_PATH
    if model.ARCH == "custom" and original and not Path(original).expanduser().is_file():
        return  # said when it is read
    sizes = configured_sizes(cfg)
    cell = model.MASK_STRIDE if model.TEMPORAL_MODELING_TYPE == CROSS else [1, 1, 1]
    if len(cell) != 3 or cell[0] != 1 or min(cell) < 1:
        yield Problem(
            f"{cell} is not [1, rows, columns]", "cells are of one frame", "MODEL.MASK_STRIDE"
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
