"""Few-shot cases: STAF on clips or on feature maps, and the baselines on frame features."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from slowfast.config.defaults import get_cfg
from slowfast.config.node import CfgNode
from slowfast.models.fewshot import build_fewshot, embed_clips
from slowfast.models.fewshot_heads import FEWSHOT_REGISTRY, StafFewShotHead
from slowfast.models.weights.loader import load_state

Tensors = dict[str, torch.Tensor]

_RESNET = {
    "depth": "DEPTH",
    "conv1_t_size": "CONV1_T_SIZE",
    "conv1_t_stride": "CONV1_T_STRIDE",
    "shortcut_type": "SHORTCUT",
    "widen_factor": "WIDEN_FACTOR",
}


def resnet_words(config: dict[str, Any]) -> dict[str, Any]:
    """The reference's arguments of a 3-D ResNet as our keys."""
    words = {
        f"RESNET3D.{ours}": config[theirs] for theirs, ours in _RESNET.items() if theirs in config
    }
    words["RESNET3D.MAX_POOL"] = not config.get("no_max_pool", False)
    if "MODEL.NUM_CLASSES" in config:
        words["MODEL.NUM_CLASSES"] = config["MODEL.NUM_CLASSES"]
    return words | {"MODEL.MODEL_NAME": "ResNet3D"}


def is_fewshot(record: dict[str, Any]) -> bool:
    """Whether a case is one of episodes with support and query clips."""
    return "way" in record["config"]


def _configure(words: dict[str, Any]) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_list([word for pair in words.items() for word in pair])
    return cfg


def _by_class(support: torch.Tensor, way: int) -> torch.Tensor:
    """Clips with label ``i % way`` -> ``1 K S …``."""
    return support.unflatten(0, (-1, way)).transpose(0, 1)[None]


def compute_fewshot(record: dict[str, Any], inputs: Tensors, state: Tensors) -> Tensors:
    """All outputs of a few-shot case."""
    staf = "scale_cls" in record["config"]
    return (_staf if staf else _baseline)(record, inputs, state)


# -- STAF ----------------------------------------------------------------------------------------


def _staf(record: dict[str, Any], inputs: Tensors, state: Tensors) -> Tensors:
    config = record["config"]
    words = {
        "FEWSHOT.SCALE": float(config["scale_cls"]),
        "FEWSHOT.SELF_WEIGHT": float(config["alpha"]),
        "FEWSHOT.EPISODE_LOSS_WEIGHT": float(config["lamda"]),
    }
    train = config.get("mode") == "train" or "train" in record["case"]
    if "support" in inputs:
        model, support, queries = _whole(config, words, inputs, state, train)
        head = model.head
    else:
        support, queries = (inputs[f"{k}_features"].flatten(2) for k in ("support", "query"))
        queries = queries + support[config["query_labels"]]
        classes = config["train_num_classes"]
        model = head = StafFewShotHead.from_cfg(_configure(words), support.shape[1:], classes)
        head.load_state_dict(state, strict=False)
        head.train(train)
    keys = ("query_labels", "query_global_labels")
    labels, global_labels = (torch.tensor([config[key]]) for key in keys)
    with torch.set_grad_enabled(train):
        output = head(_by_class(support, config["way"]), queries[None])
        losses = head.losses(output, labels, global_labels)
        loss = sum(losses.values())
    if train:
        loss.backward()
    scores = head.position_scores(output.context).flatten(0, 1)
    outputs = {
        "similarity": output.logits,
        "episode_scores": scores,
        "episode_scores_mean": scores.mean(-1),
        "loss": loss,
        "loss_global": losses["loss_global"],
        "loss_episode": losses["loss_episode"] / head.episode_loss_weight,
        "global_logits_mean": head.global_logits(output.context, labels).mean(-1),
    }
    return {name: value.detach() for name, value in outputs.items()} | _gradients(model)


def _whole(
    config: dict[str, Any], words: dict[str, Any], inputs: Tensors, state: Tensors, train: bool
) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(network, support maps, query maps) from clips, one forward for both."""
    video = torch.cat([inputs["support"], inputs["query"]])
    backbone = {"depth": 50, "MODEL.NUM_CLASSES": len(state["base.fc.weight"])}
    cfg = _configure(
        words
        | resnet_words(config.get("backbone", backbone))
        | {"DATA.NUM_FRAMES": video.shape[2], "DATA.TRAIN_CROP_SIZE": video.shape[3]}
    )
    model = build_fewshot(cfg, config["train_num_classes"], "cpu")
    load_state(model, state, min_match=1.0)
    model.train(train)
    with torch.set_grad_enabled(train):
        features = model.embed(video)
    count = len(inputs["query"])
    return model, features[:-count], features[-count:]


# -- baselines -----------------------------------------------------------------------------------


def _baseline(record: dict[str, Any], inputs: Tensors, state: Tensors) -> Tensors:
    config = record["config"]
    way, frames = config["way"], config["seq_len"]
    method = "prototype" if config["method"] == "tsn" else config["method"]
    words = {"FEWSHOT.METHOD": method, "FEWSHOT.SCALE": 1.0, "DATA.NUM_FRAMES": frames}
    if "distance" in config:
        words["FEWSHOT.DISTANCE"] = config["distance"]
    if "otam_lambda" in config:
        words["FEWSHOT.SMOOTHING"] = config["otam_lambda"]
    if method == "trx":
        words |= {
            "FEWSHOT.TRX_DIM": config["trans_linear_out_dim"],
            "FEWSHOT.TRX_TUPLES": config["temp_set"],
            "FEWSHOT.TRX_DROPOUT": config["trans_dropout"],
        }
    train = config["mode"] == "train"
    if "support" in inputs:
        head, support, queries = _trx_on_frames(config, words, inputs, state)
    else:
        support, queries = inputs["support_features"], inputs["query_features"]
        queries = queries + support[config["query_labels"]]
        scale = config.get("feature_scale", 1.0)
        support, queries = support * scale, queries * scale
        cfg = _configure(words)
        head = FEWSHOT_REGISTRY.get(method).from_cfg(cfg, (frames, support.shape[-1]), 0)
        head.load_state_dict({f"logits.{k}": v for k, v in state.items()}, strict=False)
    if method == "prototype":
        support, queries = support.mean(1), queries.mean(1)
    head.train(train)
    labels = torch.tensor(config["query_labels"])
    with torch.set_grad_enabled(train):
        output = head(_by_class(support, way), queries[None])
        losses = head.losses(output, labels[None], labels[None])
        # TRX's loss is the sum over queries.
        loss = losses["loss_episode"] * (len(labels) if method == "trx" else 1)
    if train:
        loss.backward()
    return {"logits": output.logits[0].detach(), "loss": loss.detach()} | _gradients(
        head, "logits."
    )


def _trx_on_frames(
    config: dict[str, Any], words: dict[str, Any], inputs: Tensors, state: Tensors
) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """TRX with its 2-D backbone; frames are stacked clip after clip."""
    cfg = _configure(
        words
        | {
            "MODEL.MODEL_NAME": "TSN",
            "TSN.BACKBONE": f"timm/{config['backbone']}",
            "DATA.TRAIN_CROP_SIZE": inputs["query"].shape[-1],
        }
    )
    model = build_fewshot(cfg, 0, "cpu").eval()
    load_state(model, state)
    clips = torch.cat([inputs["support"], inputs["query"]])
    clips = clips.unflatten(0, (-1, config["seq_len"])).transpose(1, 2)
    with torch.no_grad():
        features = embed_clips(model.base, clips, "frames")
    count = len(inputs["query"]) // config["seq_len"]
    return model.head, features[:-count], features[-count:]


def _gradients(model: nn.Module, prefix: str = "") -> Tensors:
    """Norms of gradients under the published names; -1 stands for no gradient at all."""
    return {
        f"grad_norm:{name.removeprefix(prefix or 'head.')}": torch.tensor(-1.0)
        if p.grad is None
        else p.grad.norm()
        for name, p in model.named_parameters()
    }
