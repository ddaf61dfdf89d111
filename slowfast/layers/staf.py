"""The attention head of STAF (arXiv 2112.04585): support and query maps look at each other.

Maps are flattened over their positions, ``L = d*h*w``; tasks stand on the first axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

_TEMPERATURE = 0.025
_HIDDEN = 6


class _Fusion(nn.Module):
    """1x1 convolution and batch normalisation, under the published names."""

    def __init__(self, positions: int):
        super().__init__()
        self.conv = nn.Conv2d(positions, _HIDDEN, 1)
        self.bn = nn.BatchNorm2d(_HIDDEN)


class MapAttention(nn.Module):
    """How much every position of a map matters, seen from another map: 1 to 2.

    Quirk of the release, kept because its weights need it: batch normalisation is left out where
    the caller says so (a single query's self-attention).
    """

    def __init__(self, positions: int):
        super().__init__()
        self.conv1 = _Fusion(positions)
        self.conv2 = nn.Conv2d(_HIDDEN, positions, 1)
        for conv in (self.conv1.conv, self.conv2):
            nn.init.normal_(conv.weight, std=math.sqrt(2 / conv.out_channels))

    def forward(self, cosines: torch.Tensor, normalised: bool) -> torch.Tensor:
        """Cosines ``… L_x L_y`` between positions -> attention of X's positions, ``… L_x``."""
        shape = cosines.shape
        mean = cosines.mean(-2).flatten(0, -2)[..., None, None]  # M L_y 1 1
        hidden = self.conv1.conv(mean)
        if normalised:
            hidden = self.conv1.bn(hidden)
        weight = self.conv2(F.relu(hidden)).view(*shape[:-2], 1, shape[-1])
        scores = (cosines * weight).mean(-1)
        return (scores / _TEMPERATURE).softmax(-1) + 1


@dataclass(frozen=True)
class AttendedEpisode:
    """Maps after attention: prototypes ``N Q K C L`` and queries ``N Q K C L`` as the others make
    them, and each by itself, ``N K C L`` and ``N Q C L``."""

    prototypes: torch.Tensor
    queries: torch.Tensor
    own_prototypes: torch.Tensor
    own_queries: torch.Tensor


class StafHead(nn.Module):
    """``cam`` and ``classifier``; L follows from backbone and clip."""

    def __init__(self, channels: int, positions: int, classes: int, scale: float, alpha: float):
        super().__init__()
        self.cam = MapAttention(positions)
        self.classifier = nn.Conv3d(channels, classes, 1)
        self.scale, self.alpha = scale, alpha

    def attend(self, prototypes: torch.Tensor, queries: torch.Tensor) -> AttendedEpisode:
        """Prototypes ``N K C L`` and queries ``N Q C L`` -> what attention makes of them."""
        way, count = prototypes.shape[1], queries.shape[1]
        p, q = (F.normalize(x, dim=2) for x in (prototypes, queries))
        own_p = prototypes * self.cam(p.mT @ p, way > 1)[:, :, None]
        own_q = queries * self.cam(q.mT @ q, count > 1)[:, :, None]
        cosines = p[:, None].mT @ q[:, :, None]  # N Q K L_p L_q
        of_p = self.cam(cosines, way > 1)
        of_q = self.cam(cosines.mT, way > 1)
        return AttendedEpisode(
            prototypes[:, None] * of_p[..., None, :],
            queries[:, :, None] * of_q[..., None, :],
            own_p,
            own_q,
        )

    def similarity(self, episode: AttendedEpisode) -> torch.Tensor:
        """``N Q K``: scaled cosines of the pooled maps, attended by others and by themselves."""
        cross = F.cosine_similarity(episode.prototypes.mean(-1), episode.queries.mean(-1), dim=-1)
        own_p, own_q = episode.own_prototypes.mean(-1), episode.own_queries.mean(-1)
        own = F.cosine_similarity(own_p[:, None], own_q[:, :, None], dim=-1)
        return self.scale * (cross + self.alpha * own)

    def position_scores(self, episode: AttendedEpisode) -> torch.Tensor:
        """``N Q K L``: the same, but the query keeps its positions (training)."""
        cross = F.cosine_similarity(
            episode.prototypes.mean(-1, keepdim=True), episode.queries, dim=-2
        )
        own_p = episode.own_prototypes.mean(-1, keepdim=True)[:, None]  # N 1 K C 1
        own = F.cosine_similarity(own_p, episode.own_queries[:, :, None], dim=-2)
        return self.scale * (cross + self.alpha * own)

    def global_logits(self, episode: AttendedEpisode, labels: torch.Tensor) -> torch.Tensor:
        """``N*Q classes L``: training classes of each query, seen by its true class (N Q)."""
        index = labels[:, :, None, None, None].expand(-1, -1, 1, *episode.queries.shape[-2:])
        true = episode.queries.gather(2, index).flatten(0, 2)  # N*Q C L
        return self.classifier(true[..., None, None]).flatten(2)
