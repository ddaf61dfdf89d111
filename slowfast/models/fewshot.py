"""FewShotNetwork: an embedding of clips (``base``) and a head that compares them.

N episodes, K classes, S shots, Q queries. The clips of an episode are sorted: support by class,
then queries.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import NamedTuple

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.layers.workarounds import with_cpu_workarounds
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model
from slowfast.models.fewshot_heads import FEWSHOT_REGISTRY, FewShotHead, Losses
from slowfast.models.spec import ModelSpec
from slowfast.utils.errors import UserError


class EpisodeTargets(NamedTuple):
    """Labels of the queries, ``N Q``: the class within the episode, and that among all training
    classes."""

    labels: torch.Tensor
    global_labels: torch.Tensor


class EpisodeScores(NamedTuple):
    """Logits ``N Q K``, and in training the losses by name."""

    logits: torch.Tensor
    losses: Losses


def split_episode(
    embeddings: torch.Tensor, way: int, num_queries: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings ``N K*S+Q …`` of the clips -> support ``N K S …`` and queries ``N Q …``."""
    support = embeddings[:, :-num_queries].unflatten(1, (way, -1))
    return support, embeddings[:, -num_queries:]


class FewShotNetwork(nn.Module):
    """``network(video, way, num_queries)`` gives the logits of the queries of an episode.

    ``base`` embeds clips, ``head`` compares their embeddings. Parameters of ``base`` that the
    embedding does not depend on, such as a classifier of its pretraining, are frozen.
    """

    def __init__(self, cfg: CfgNode, base: VideoModel, num_train_classes: int):
        super().__init__()
        head_class = FEWSHOT_REGISTRY.get(cfg.FEWSHOT.METHOD)
        self.base, self.embedding_type = base, head_class.embedding_type
        embedding = embedding_shape_and_params(base, cfg, self.embedding_type)
        for name, parameter in base.named_parameters():
            if name not in embedding.parameters:
                parameter.requires_grad_(False)
        self.head = head_class.from_cfg(cfg, embedding.shape, num_train_classes)
        self.spec = _network_spec(base, self.head)

    def embed(self, video: torch.Tensor) -> torch.Tensor:
        """Clips ``B 3 T H W`` -> maps ``B C L``, frames ``B T D`` or vectors ``B D``."""
        return embed_clips(self.base, video, self.embedding_type)

    def forward(
        self, video: torch.Tensor, way: int, num_queries: int, targets: EpisodeTargets | None = None
    ) -> EpisodeScores:
        """Clips ``K*S+Q 3 T H W`` of one episode (N = 1) of ``way`` classes.

        Training passes ``targets`` and gets the losses, so that all trained parameters take part
        in the forward pass, as DDP and FSDP require. Without targets no label is needed.
        """
        output = self.head(*split_episode(self.embed(video)[None], way, num_queries))
        losses = {} if targets is None else self.head.losses(output, *targets)
        return EpisodeScores(output.logits, losses)


def _network_spec(base: VideoModel, head: FewShotHead) -> ModelSpec:
    """The specification of the embedding, under the names of its parameters in the network."""
    spec, layer_of = base.spec, base.spec.layer_of
    last = max(layer_of(base, name) for name, _ in base.named_parameters()) if layer_of else 0

    def network_layer_of(model: FewShotNetwork, name: str) -> int:
        inner = name.removeprefix("base.")
        return last if inner == name else layer_of(model.base, inner)

    return dataclasses.replace(
        spec,
        sources=(*head.sources, *spec.sources),
        classifier_prefixes=("head.classifier.", *(f"base.{p}" for p in spec.classifier_of(base))),
        no_weight_decay=lambda model: spec.no_weight_decay(model.base),
        param_multipliers=lambda model: {
            f"base.{name}": pair for name, pair in spec.param_multipliers(model.base).items()
        },
        layer_of=network_layer_of if layer_of else None,
        unused_parameters=lambda model: False,
        reads_all_parameters=lambda model: spec.reads_all_parameters(model.base),
        full_precision=lambda model: spec.full_precision(model.base),
    )


def embed_clips(base: VideoModel, video: torch.Tensor, embedding_type: str) -> torch.Tensor:
    """Clips ``B 3 T H W`` -> ``maps`` ``B C L``, ``frames`` ``B T D`` or ``vectors`` ``B D``.

    From the feature maps of networks that have them, else from their features.
    """
    if not hasattr(base, "feature_maps"):
        features = base.forward_features(video)
        return features.mean(1) if embedding_type == "vectors" and features.ndim == 3 else features
    maps = base.feature_maps(video)  # B C d h w
    if embedding_type == "maps":
        return maps.flatten(2)
    frames = maps.mean((3, 4)).mT  # B d C
    return frames if embedding_type == "frames" else frames.mean(1)


class EmbeddingInfo(NamedTuple):
    """The shape of a clip's embedding, and the names of the parameters that it depends on."""

    shape: tuple[int, ...]
    parameters: set[str]


def embedding_shape_and_params(
    base: VideoModel, cfg: CfgNode, embedding_type: str
) -> EmbeddingInfo:
    """What :func:`embed_clips` gives for a training clip, on a copy without data (meta device).

    UserError if the network has no embedding of this type.
    """
    size, frames = cfg.DATA.TRAIN_CROP_SIZE, cfg.DATA.NUM_FRAMES
    twin = copy.deepcopy(base).to("meta").eval()
    video = torch.zeros(1, 3, frames, size, size, device="meta")
    embedding = embed_clips(twin, video, embedding_type)
    embedding.sum().backward()
    parameters = {name for name, p in twin.named_parameters() if p.grad is not None}
    shape = tuple(embedding.shape[1:])
    fits = len(shape) == (1 if embedding_type == "vectors" else 2)
    fits &= embedding_type != "maps" or hasattr(base, "feature_maps")
    if not fits or (embedding_type == "frames" and shape[0] < 2):
        raise UserError(
            f"{cfg.MODEL.MODEL_NAME} gives {shape} for a clip of {frames} x {size}², "
            f"{cfg.FEWSHOT.METHOD} compares {embedding_type}",
            "choose another embedding (ResNet3D gives maps, TSN frames) or method",
            "FEWSHOT.METHOD",
        )
    return EmbeddingInfo(shape, parameters)


def build_fewshot(
    cfg: CfgNode, num_train_classes: int, device: torch.device | str
) -> FewShotNetwork:
    """The embedding MODEL.MODEL_NAME under the head FEWSHOT.METHOD, on ``device``."""
    network = FewShotNetwork(cfg, build_model(cfg), num_train_classes)
    return with_cpu_workarounds(network).to(device)
