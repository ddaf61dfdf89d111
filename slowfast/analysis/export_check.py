"""How far exported networks differ from the networks, for configurations with random weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.engine.tasks import task_class
from slowfast.inference.export import compared_views, export
from slowfast.inference.exported import KINDS
from slowfast.inference.predictor import Predictor
from slowfast.layers.consensus import HEAD_REGISTRY
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.build import set_train_mode
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime

_STFM = {"STFM.ENABLE": True}
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "UniFormer": ("Uniformer", {}),
    "UniFormer + STFM, hard": ("Uniformer", _STFM | {"STFM.SELECTION": "hard"}),
    "UniFormer + STFM, straight_through": (
        "Uniformer",
        _STFM | {"STFM.SELECTION": "straight_through"},
    ),
    "TimeSformer": ("TimeSformer", {}),
    "TimeSformer + STFM": ("TimeSformer", _STFM),
    "MViT v1": (
        "MViT",
        {
            "MVIT.DIM_MUL_IN_ATT": False,
            "MVIT.REL_POS_SPATIAL": False,
            "MVIT.REL_POS_TEMPORAL": False,
            "MVIT.RESIDUAL_POOLING": False,
            "MVIT.SEP_POS_EMBED": True,
            "MVIT.USE_ABS_POS": True,
        },
    ),
    "MViTv2": ("MViT", {}),
    "MViTv2 + STFM": ("MViT", _STFM),
    "reversible MViT": ("ReversibleMViT", {}),
    "STAM": ("STAM", {}),
    "SlowFast": ("SlowFast", {}),
    "ResNet of PySlowFast": ("ResNet", {}),
    "X3D": ("X3D", {}),
    "3-D ResNet": ("ResNet3D", {}),
    "embedding of STAF": ("ResNet3D", {"TASK": "fewshot", "FEWSHOT.METHOD": "staf"}),
    "CLIP": ("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": ""}),
    "CLIP, stcross_attend (STDD)": (
        "TemporalClipVideo",
        {"MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend"},
    ),
    "CLIP, expand_temporal_view (Open-VCLIP)": ("TemporalClipVideo", {}),
}
_SCALE = 10.0  # of the classifier: random ones give all classes the same probability


def small_families() -> dict[str, CfgNode]:
    """Small networks of all families and heads over frames, by names for people."""
    heads = {f"{head} over frames": ("TSN", {"TSN.CONSENSUS": head}) for head in HEAD_REGISTRY}
    return {name: _small(*spec) for name, spec in (_FAMILIES | heads).items()}


def _small(model: str, extra: dict[str, Any]) -> CfgNode:
    overrides = MODEL_REGISTRY.get(model).spec.test_overrides
    shared = {"MODEL.MODEL_NAME": model, "MODEL.NUM_CLASSES": 5, "NUM_GPUS": 0}
    return load_config(overrides=shared | overrides | {"TRAIN.MIXED_PRECISION": False} | extra)


def check_export(cfg: CfgNode) -> dict[str, Any]:
    """Export the network of a configuration in every format.

    By format: ``difference`` (the largest), ``megabytes``, ``seconds``, or why it is impossible;
    ``spread`` is the standard deviation of the network's outputs.
    """
    predictor = random_predictor(cfg)
    views = compared_views(predictor)
    result: dict[str, Any] = {"clip": list(views.shape[1:])}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in KINDS:
            target, started = Path(folder, f"network{suffix}"), perf_counter()
            try:
                written = export(predictor, target)
            except UserError as error:
                result[suffix] = str(error)
                continue
            result[suffix] = {
                "difference": written.difference,
                "megabytes": round(target.stat().st_size / 1e6, 1),
                "seconds": round(perf_counter() - started, 1),
            }
            result["spread"] = written.spread
    return result


def random_predictor(cfg: CfgNode, seed: int = 0) -> Predictor:
    """A network with random weights, whose batch normalisation knows its inputs and whose classes
    are not all equally probable."""
    runtime = Runtime(torch.device("cpu"))
    names = list(cfg.DATA.CLASS_NAMES) or [f"class {n}" for n in range(cfg.MODEL.NUM_CLASSES)]
    inference = task_class(cfg).inference(cfg, runtime, names)
    torch.manual_seed(seed)
    model = inference.module.build_model()
    predictor = Predictor(cfg, runtime, inference, model.eval())
    classifier = model.spec.classifier_of(getattr(model, "base", model))
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        if norms:
            _settle(predictor, norms)
        for name, value in model.named_parameters():
            if name.startswith(classifier) and value.ndim > 1:
                value *= _SCALE
    model.requires_grad_(False)
    return predictor


def _settle(predictor: Predictor, norms: list[nn.Module]) -> None:
    """Let batch normalisation take its statistics from one batch."""
    video = compared_views(predictor).permute(0, 4, 1, 2, 3)[:, None]
    inputs = predictor.inference.prepare(video)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    set_train_mode(predictor.model, frozen_bn=False)
    predictor.inference.answer(predictor.model, inputs.video)
    predictor.model.eval()
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
