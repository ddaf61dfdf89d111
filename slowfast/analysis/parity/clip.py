"""CLIP cases: the visual tower with each kind of temporal modelling, and zero-shot scores."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from slowfast.models.clip.scores import prompt_scores, text_scores
from slowfast.models.clip.sizes import infer_sizes
from slowfast.models.clip.stcross import CrossOptions
from slowfast.models.clip.towers import CLIP, VisualTower, block_builder

Tensors = dict[str, torch.Tensor]

_RELEASED_GROUP = 8  # frames among which the released channel shift exchanges channels


def is_clip_case(record: dict[str, Any]) -> bool:
    """Whether this is a case of CLIP on videos."""
    return "MODEL.TEMPORAL_MODELING_TYPE" in record["config"]


def compute_clip(record: dict[str, Any], inputs: Tensors, state: Tensors) -> Tensors:
    """All outputs of a CLIP case."""
    config = record["config"]
    cross = CrossOptions(
        config.get("mask_rate", 0.5),
        config.get("mask_stride", [1, 2, 2])[1:],
        config.get("channel_fold", 64),
        config.get("temporal_scale", [1]),
        config.get("spatial_repeat", True),
        config.get("temporal_shuffle", False),
    )
    kind = str(config["MODEL.TEMPORAL_MODELING_TYPE"] or "")
    options = {"stcross_attend": cross, "channel_shift": _RELEASED_GROUP}.get(kind)
    build_block = block_builder(kind, options)
    video = inputs["video"]
    with torch.no_grad():
        if "logit_scale" not in state:
            tower = VisualTower(
                infer_sizes({f"visual.{n}": v for n, v in state.items()}), build_block
            )
            tower.load_state_dict(state)
            return {"frame_features": tower.eval()(video).flatten(0, 1)}
        network = CLIP(infer_sizes(state), build_block)
        network.load_state_dict(state)
        return _scores(network.eval(), config, inputs)


def _scores(network: CLIP, config: dict[str, Any], inputs: Tensors) -> Tensors:
    texts = network.encode_text(torch.tensor(config["tokens"]))
    frames = F.normalize(network.visual(inputs["video"]), dim=-1)
    scale = network.logit_scale.exp()
    outputs = {
        "text_features": texts,
        "video_features": frames.flatten(0, 1),
        "zero_shot_logits": text_scores(frames, F.normalize(texts, dim=-1), scale),
    }
    if "text_aug" in inputs:
        prompts = F.normalize(inputs["text_aug"], dim=-1)
        outputs["text_aug_logits"] = prompt_scores(frames, prompts, scale)
    return outputs
