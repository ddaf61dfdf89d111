"""STAF (arXiv 2112.04585): cross-attention between support and query feature maps.

N episodes, K classes, Q queries, C channels; maps are flattened to their ``L = d*h*w`` positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

_TEMPERATURE = 0.025
_HIDDEN_CHANNELS = 6


class _ConvNorm(nn.Module):
    """1x1 convolution and batch normalisation, under the published names."""

    def __init__(self, num_positions: int):
        super().__init__()
        self.conv = nn.Conv2d(num_positions, _HIDDEN_CHANNELS, 1)
        self.bn = nn.BatchNorm2d(_HIDDEN_CHANNELS)


class MapAttention(nn.Module):
    """Attention over the positions of a map, from its similarities with another map."""

    def __init__(self, num_positions: int):
        super().__init__()
        self.conv1 = _ConvNorm(num_positions)
        self.conv2 = nn.Conv2d(_HIDDEN_CHANNELS, num_positions, 1)
        for conv in (self.conv1.conv, self.conv2):
            nn.init.normal_(conv.weight, std=math.sqrt(2 / conv.out_channels))

    def forward(self, cosines: torch.Tensor, normalize: bool) -> torch.Tensor:
        """Cosines ``… L_x L_y`` between positions -> weights of X's positions ``… L_x``, 1 to 2.

        ``normalize`` False leaves out the batch normalisation, as the release does for a single
        map; its weights need that.
        """
        shape = cosines.shape
        mean = cosines.mean(-2).flatten(0, -2)[..., None, None]  # M L_y 1 1
        hidden = self.conv1.conv(mean)
        if normalize:
            hidden = self.conv1.bn(hidden)
        weight = self.conv2(F.relu(hidden)).view(*shape[:-2], 1, shape[-1])
        scores = (cosines * weight).mean(-1)
        return (scores / _TEMPERATURE).softmax(-1) + 1


@dataclass(frozen=True)
class AttendedMaps:
    """Feature maps after attention.

    ``prototypes`` and ``queries``, ``N Q K C L``: each pair after cross-attention;
    ``self_prototypes`` ``N K C L`` and ``self_queries`` ``N Q C L``: after self-attention.
    """

    prototypes: torch.Tensor
    queries: torch.Tensor
    self_prototypes: torch.Tensor
    self_queries: torch.Tensor


class StafHead(nn.Module):
    """STAF's attention (``cam``) and its classifier of the training classes.

    Args:
        channels, num_positions: C and L of the maps.
        num_classes: training classes.
        scale: factor of the cosines (``scale_cls``).
        self_weight: weight of the similarity after self-attention (``alpha``).
    """

    def __init__(
        self,
        channels: int,
        num_positions: int,
        num_classes: int,
        scale: float = 7.0,
        self_weight: float = 1.0,
    ):
        super().__init__()
        self.cam = MapAttention(num_positions)
        self.classifier = nn.Conv3d(channels, num_classes, 1)
        self.scale, self.self_weight = scale, self_weight

    def attend(self, prototypes: torch.Tensor, queries: torch.Tensor) -> AttendedMaps:
        """Cross- and self-attention of prototypes ``N K C L`` and queries ``N Q C L``."""
        several_classes, several_queries = prototypes.shape[1] > 1, queries.shape[1] > 1
        p, q = (F.normalize(x, dim=2) for x in (prototypes, queries))
        self_p = prototypes * self.cam(p.mT @ p, several_classes)[:, :, None]
        self_q = queries * self.cam(q.mT @ q, several_queries)[:, :, None]
        cosines = p[:, None].mT @ q[:, :, None]  # N Q K L_p L_q
        p_weights = self.cam(cosines, several_classes)
        q_weights = self.cam(cosines.mT, several_classes)
        return AttendedMaps(
            prototypes[:, None] * p_weights[..., None, :],
            queries[:, :, None] * q_weights[..., None, :],
            self_p,
            self_q,
        )

    def similarity(self, maps: AttendedMaps) -> torch.Tensor:
        """Scaled cosines of the pooled maps: ``N Q K``."""
        cross = F.cosine_similarity(maps.prototypes.mean(-1), maps.queries.mean(-1), dim=-1)
        self_p, self_q = maps.self_prototypes.mean(-1), maps.self_queries.mean(-1)
        self_similarity = F.cosine_similarity(self_p[:, None], self_q[:, :, None], dim=-1)
        return self.scale * (cross + self.self_weight * self_similarity)

    def position_scores(self, maps: AttendedMaps) -> torch.Tensor:
        """:meth:`similarity` with each position of the query, for training: ``N Q K L``."""
        cross = F.cosine_similarity(maps.prototypes.mean(-1, keepdim=True), maps.queries, dim=-2)
        self_p = maps.self_prototypes.mean(-1, keepdim=True)[:, None]  # N 1 K C 1
        self_similarity = F.cosine_similarity(self_p, maps.self_queries[:, :, None], dim=-2)
        return self.scale * (cross + self.self_weight * self_similarity)

    def global_logits(self, maps: AttendedMaps, labels: torch.Tensor) -> torch.Tensor:
        """Training classes at each position of each query: ``N*Q num_classes L``.

        ``labels`` ``N Q``: the class whose prototype attends to the query, its true one.
        """
        index = labels[:, :, None, None, None].expand(-1, -1, 1, *maps.queries.shape[-2:])
        queries = maps.queries.gather(2, index).flatten(0, 2)  # N*Q C L
        return self.classifier(queries[..., None, None]).flatten(2)
