"""Network cases: build, load with the loader of released weights, compute the outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F

from slowfast.analysis.parity.clip import compute_clip, is_clip_case
from slowfast.analysis.parity.fewshot import compute_fewshot, is_fewshot, resnet_words
from slowfast.config.defaults import get_cfg
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model
from slowfast.models.weights.loader import load_state

Tensors = dict[str, torch.Tensor]


# Arguments of the published networks -> keys, within the section of the network.
_ARGUMENTS = {
    "patch": "PATCH_SIZE",
    "embed_dim": "EMBED_DIM",
    "depth": "DEPTH",
    "num_heads": "NUM_HEADS",
    "temporal_layers": "TEMPORAL_LAYERS",
    "temporal_heads": "TEMPORAL_HEADS",
    "temporal_mlp_dim": "TEMPORAL_MLP_DIM",
    "backbone": "BACKBONE",
    "consensus": "CONSENSUS",
    "img_feature_dim": "FEATURE_DIM",
    "rnn_hidden_size": "HIDDEN_SIZE",
    "rnn_layers": "LAYERS",
    "dropout": "DROPOUT",
}
# Part of the name of the published code -> model and its section.
_PROJECTS = {
    "timesformer": ("TimeSformer", "TIMESFORMER"),
    "stam": ("STAM", "STAM"),
    "stmodeling": ("TSN", "TSN"),
}
_NOT_OF_NETWORK = ("input_size", "input_frames", "yaml", "overrides")


def case_words(record: dict[str, Any]) -> dict[str, Any]:
    """KEY -> value: the configuration of a case."""
    config, reference = record["config"], record["reference"].lower()
    if "conv1_t_size" in config:
        return resnet_words(config)
    model, section = next((v for k, v in _PROJECTS.items() if k in reference), ("", ""))
    words: dict[str, Any] = {"MODEL.MODEL_NAME": model} if model else {}
    for key, value in config.items():
        if key in _ARGUMENTS:
            words[f"{section}.{_ARGUMENTS[key]}"] = value
        elif key == "crop":
            words["DATA.TRAIN_CROP_SIZE"] = value
        elif isinstance(value, dict) and key not in _NOT_OF_NETWORK:
            words |= {f"{key}.{name}": v for name, v in value.items()}
            words["MODEL.MODEL_NAME"] = "MViT"
        elif key not in _NOT_OF_NETWORK:
            words[key] = value
    return words


def build_case_model(record: dict[str, Any], state: Tensors) -> VideoModel:
    """The network of a case with its weights loaded."""
    cfg = get_cfg()
    cfg.merge_from_list([word for pair in case_words(record).items() for word in pair])
    model = build_model(cfg)
    load_state(model, state, min_match=1.0)
    return model


def compute_outputs(
    record: dict[str, Any], inputs: Tensors, state: Tensors, expected: Tensors
) -> Tensors:
    """The outputs that a case expects, as far as its network has them."""
    if is_fewshot(record):
        return compute_fewshot(record, inputs, state)
    if is_clip_case(record):
        return compute_clip(record, inputs, state)
    model = build_case_model(record, state)
    if "loss" in expected:
        return _train_outputs(model, inputs, expected, record["config"].get("labels"))
    model.eval()
    with torch.no_grad():
        video = inputs["video"]
        outputs = {
            name: _first_channels(compute(model, video), expected[name])
            for name, compute in _FEATURES.items()
            if name in expected
        }
        logits, losses = model(video, with_losses=True)
    return {"logits": logits, **losses, **outputs}


# Outputs of which cases contain the first channels only.
_FEATURES = {
    "cls_feature_head": lambda model, video: model.forward_features(video),
    "frame_features_head": lambda model, video: model.frame_features(video).flatten(0, 1),
    "backbone_head": lambda model, video: model.frame_maps(video).mean((2, 3)),
}


def _first_channels(value: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    return value[..., : expected.shape[-1]]


def _train_outputs(
    model: VideoModel, inputs: Tensors, expected: Iterable[str], labels: list[int] | None
) -> Tensors:
    """Outputs in training mode: cross entropy with ``labels`` (None: label i for clip i), and norms
    of gradients."""
    model.train()
    logits, losses = model(inputs["video"], with_losses=True)
    targets = torch.arange(len(logits)) if labels is None else torch.tensor(labels)
    loss = F.cross_entropy(logits, targets)
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
