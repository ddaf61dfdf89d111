"""Few-shot networks: an embedding of clips (``base``) and a method that compares them."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.layers.prototypes import cosine_logits, euclidean_logits, otam_logits
from slowfast.layers.staf import AttendedEpisode, StafHead
from slowfast.layers.trx import TrxHead
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model
from slowfast.models.spec import ModelSpec
from slowfast.utils.errors import Problem, UserError


class Episode(NamedTuple):
    """One task: clips ``K*S+Q 3 T H W`` (support sorted by class, then queries) and labels.

    ``labels`` ``Q``: the class of each query within the task; ``global_labels`` ``Q``: its number
    among the training classes.
    """

    video: torch.Tensor
    way: int
    labels: torch.Tensor
    global_labels: torch.Tensor


Losses = dict[str, torch.Tensor]


class Comparison(nn.Module):
    """How queries are compared with classes, for methods that only have logits."""

    def __init__(self, logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]):
        super().__init__()
        self.logits = logits

    def forward(
        self,
        support: torch.Tensor,
        queries: torch.Tensor,
        labels: torch.Tensor,
        global_labels: torch.Tensor,
    ) -> tuple[torch.Tensor, Losses]:
        """Embeddings of tasks ``N K S …``, ``N Q …`` and labels ``N Q`` -> logits ``N Q K``,
        losses (means over queries)."""
        logits = self.logits(support, queries)
        return logits, {"loss_episode": F.cross_entropy(logits.flatten(0, 1), labels.flatten())}


class StafComparison(StafHead):
    """STAF's head with its two losses, over the positions of the maps."""

    def __init__(self, channels: int, positions: int, classes: int, options: CfgNode):
        super().__init__(channels, positions, classes, options.SCALE, options.SELF_WEIGHT)
        self.weight = options.EPISODE_LOSS_WEIGHT

    def forward(
        self,
        support: torch.Tensor,
        queries: torch.Tensor,
        labels: torch.Tensor,
        global_labels: torch.Tensor,
    ) -> tuple[torch.Tensor, Losses]:
        """As :class:`Comparison`; the losses exist in training only."""
        episode = self.attend(support.mean(2), queries)
        logits = self.similarity(episode)
        if not self.training:
            return logits, {}
        return logits, self.losses(episode, labels, global_labels)

    def losses(
        self, episode: AttendedEpisode, labels: torch.Tensor, global_labels: torch.Tensor
    ) -> Losses:
        """``loss_global`` (training classes) and the weighted ``loss_episode``."""

        def entropy(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(scores, wanted.flatten()[:, None].expand(-1, scores.shape[-1]))

        scores = self.position_scores(episode).flatten(0, 1)
        known = self.global_logits(episode, labels)
        episode_loss = self.weight * entropy(scores, labels)
        return {"loss_global": entropy(known, global_labels), "loss_episode": episode_loss}


# What of a clip each method compares: maps (C L), frames (T D) or vectors (D).
_KINDS = {"staf": "maps", "prototype": "vectors", "otam": "frames", "trx": "frames"}


def build_comparison(cfg: CfgNode, shape: tuple[int, ...], train_classes: int) -> nn.Module:
    """The head FEWSHOT.METHOD over embeddings of ``shape``."""
    options = cfg.FEWSHOT
    if options.METHOD == "staf":
        return StafComparison(*shape, options.TRAIN_CLASSES or train_classes, options)
    if options.METHOD == "trx":
        sizes = (options.TRX_DIM, options.TRX_TUPLES, options.TRX_DROPOUT)
        return Comparison(TrxHead(*shape, *sizes))
    if options.METHOD == "otam":
        return Comparison(functools.partial(otam_logits, smoothing=options.SMOOTHING))
    if options.DISTANCE == "cosine":
        return Comparison(functools.partial(cosine_logits, scale=options.SCALE))
    return Comparison(euclidean_logits)


class FewShotNetwork(nn.Module):
    """``network(episode)`` gives ``(logits Q K, {name: loss})``, ``network(video)`` embeddings."""

    def __init__(self, cfg: CfgNode, base: VideoModel, train_classes: int):
        super().__init__()
        self.base, self.kind = base, _KINDS[cfg.FEWSHOT.METHOD]
        self.spec = _spec_of(base)
        shape, reached = probe_embedding(base, cfg, self.kind)
        for name, parameter in base.named_parameters():
            if name not in reached:  # a classifier of another task, say: nobody asks it here
                parameter.requires_grad_(False)
        self.head = build_comparison(cfg, shape, train_classes)

    def begin(self, split: str) -> None:
        """Nothing: embeddings do not depend on the texts of classes."""

    def embed(self, video: torch.Tensor) -> torch.Tensor:
        """Clips ``B 3 T H W`` -> maps ``B C L``, frames ``B T D`` or vectors ``B D``."""
        return embed_clips(self.base, video, self.kind)

    def forward(self, given: Episode | torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, Losses]:
        if isinstance(given, torch.Tensor):
            return self.embed(given)
        features, count = self.embed(given.video), len(given.labels)
        support, queries = features[:-count].unflatten(0, (given.way, -1)), features[-count:]
        logits, losses = self.head(
            support[None], queries[None], given.labels[None], given.global_labels[None]
        )
        return logits[0], losses


def _spec_of(base: VideoModel) -> ModelSpec:
    """The embedding's facts, under the names that its parameters have inside the network."""
    spec = base.spec
    return dataclasses.replace(
        spec,
        classifier_prefixes=("head.classifier.", *(f"base.{p}" for p in spec.classifier_of(base))),
        no_weight_decay=lambda model: spec.no_weight_decay(model.base),
        param_multipliers=lambda model: {
            f"base.{name}": pair for name, pair in spec.param_multipliers(model.base).items()
        },
        unused_parameters=lambda model: False,
    )


def embed_clips(base: VideoModel, video: torch.Tensor, kind: str) -> torch.Tensor:
    """What ``kind`` asks for, from feature maps if the network has them."""
    if not hasattr(base, "feature_maps"):
        features = base.forward_features(video)
        return features.mean(1) if kind == "vectors" and features.ndim == 3 else features
    maps = base.feature_maps(video)  # B C d h w
    if kind == "maps":
        return maps.flatten(2)
    frames = maps.mean((3, 4)).mT  # B d C
    return frames if kind == "frames" else frames.mean(1)


def probe_embedding(base: VideoModel, cfg: CfgNode, kind: str) -> tuple[tuple[int, ...], set[str]]:
    """Sizes of one clip's embedding, and names of the parameters that it depends on.

    UserError if the method cannot use it. Nothing is computed: a twin without data is asked.
    """
    size, frames = cfg.DATA.TRAIN_CROP_SIZE, cfg.DATA.NUM_FRAMES
    twin = copy.deepcopy(base).to("meta").eval()
    made = embed_clips(twin, torch.zeros(1, 3, frames, size, size, device="meta"), kind)
    made.sum().backward()
    reached = {name for name, p in twin.named_parameters() if p.grad is not None}
    fits = made.ndim == (2 if kind == "vectors" else 3)
    fits &= kind != "maps" or hasattr(base, "feature_maps")
    if not fits or (kind == "frames" and made.shape[1] < 2):
        raise UserError(
            f"{cfg.MODEL.MODEL_NAME} gives {tuple(made.shape[1:])} for a clip of {frames} x "
            f"{size}², {cfg.FEWSHOT.METHOD} compares {kind}",
            "choose another embedding (ResNet3D gives maps, TSN frames) or method",
            "FEWSHOT.METHOD",
        )
    return tuple(made.shape[1:]), reached


def build_fewshot(cfg: CfgNode, train_classes: int, device: torch.device | str) -> FewShotNetwork:
    """The embedding MODEL.MODEL_NAME under FEWSHOT.METHOD, on ``device``."""
    return FewShotNetwork(cfg, build_model(cfg), train_classes).to(device)


@register_rule
def _cache_rules(cfg: CfgNode) -> Iterable[Problem]:
    if cfg.TASK == "fewshot" and cfg.FEWSHOT.CACHE and cfg.FEWSHOT.TEST_JITTER:
        yield Problem(
            "every task draws other frames of a clip",
            "set FEWSHOT.TEST_JITTER False, or no cache",
            "FEWSHOT.CACHE",
        )


@register_rule
def _trx_rules(cfg: CfgNode) -> Iterable[Problem]:
    sizes = cfg.FEWSHOT.TRX_TUPLES
    used = cfg.TASK == "fewshot" and cfg.FEWSHOT.METHOD == "trx"
    if used and (not sizes or min(sizes) < 1 or max(sizes) > cfg.DATA.NUM_FRAMES):
        yield Problem(
            f"{list(sizes)} cannot be tuples of DATA.NUM_FRAMES {cfg.DATA.NUM_FRAMES} frames",
            "use sizes within it",
            "FEWSHOT.TRX_TUPLES",
        )
