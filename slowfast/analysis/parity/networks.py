"""Network cases: build, load through the loader of released weights, compute the outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F

from slowfast.config.defaults import get_cfg
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model
from slowfast.models.weights.loader import load_state

Tensors = dict[str, torch.Tensor]


def build_case_model(config: dict[str, Any], state: Tensors) -> VideoModel:
    """The network of a case's configuration with its weights loaded."""
    cfg = get_cfg()
    cfg.merge_from_list([word for pair in config.items() for word in pair])
    model = build_model(cfg)
    load_state(model, state, min_match=1.0)
    return model


def compute_outputs(
    record: dict[str, Any], inputs: Tensors, state: Tensors, expected: Iterable[str]
) -> Tensors:
    """The outputs that a case expects, as far as this network has them."""
    model = build_case_model(record["config"], state)
    if "loss" in expected:
        return _train_outputs(model, inputs, expected)
    model.eval()
    with torch.no_grad():
        logits, losses = model(inputs["video"], with_losses=True)
    return {"logits": logits, **losses}


def _train_outputs(model: VideoModel, inputs: Tensors, expected: Iterable[str]) -> Tensors:
    """Training mode: cross entropy with label i for clip i, and norms of gradients."""
    model.train()
    logits, losses = model(inputs["video"], with_losses=True)
    loss = F.cross_entropy(logits, torch.arange(len(logits)))
    loss.backward()
    parameters = dict(model.named_parameters())
    outputs = {"logits": logits.detach(), "loss": loss.detach()}
    outputs |= {name: value.detach() for name, value in losses.items()}
    for name in expected:
        kind, _, parameter = name.partition(":")
        if kind == "grad_norm":
            gradient = parameters[parameter].grad
            # -1 stands for "no gradient at all".
            outputs[name] = torch.tensor(-1.0) if gradient is None else gradient.norm()
    return outputs
