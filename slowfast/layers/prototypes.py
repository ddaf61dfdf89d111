"""Few-shot classifiers without parameters: distances to prototypes, and temporal alignment.

N episodes, K classes, S shots, Q queries: support ``N K S …``, queries ``N Q …``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

_COSINE_EPS = 0.01  # as in tobyperrett/few-shot-action-recognition


def euclidean_logits(support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Negative squared distance to the mean of a class's clips (ProtoNet, arXiv 1703.05175).

    ``N K S D``, ``N Q D`` -> ``N Q K``.
    """
    prototypes = support.mean(2)
    return -(queries[:, :, None] - prototypes[:, None]).square().sum(-1)


def cosine_logits(support: torch.Tensor, queries: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Scaled mean of the cosine similarities with each clip of a class.

    ``N K S D``, ``N Q D`` -> ``N Q K``.
    """
    return scale * cosine_similarity(queries[:, :, None, None], support[:, None]).mean(-1)


def cosine_similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine similarity over the last axis; 0.01 is added to the product of the norms."""
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + _COSINE_EPS)


def otam_logits(
    support: torch.Tensor, queries: torch.Tensor, smoothing: float = 0.1
) -> torch.Tensor:
    """Negative alignment costs of OTAM (arXiv 1906.11415): ``N K S T D``, ``N Q T D`` -> ``N Q K``.

    The costs of aligning a query with a support clip and the reverse are added, and averaged over
    the clips of a class.
    """
    q = queries[:, :, None, None, :, None]  # N Q 1 1 T 1 D
    s = support[:, None, :, :, None]  # N 1 K S 1 T D
    distances = 1 - cosine_similarity(q, s)
    both = torch.stack([distances, distances.mT])
    return -alignment_cost(both, smoothing).sum(0).mean(-1)


def alignment_cost(distances: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Relaxed dynamic time warping: distances ``… T T`` (rows: frames of the first clip) -> ``…``.

    One zero-cost column is padded at both ends (OTAM's relaxed boundary): frames at the start and
    the end of the first clip may stay unmatched. The minimum over paths is soft:
    ``-smoothing * logsumexp(-costs / smoothing)``.
    """
    # In the first row a path only moves right. The padded last column costs nothing.
    logs = -F.pad(distances, (0, 1)) / smoothing
    ends = logs[..., 0, :].cumsum(-1)  # logarithm of the weights of all paths to each cell
    # A path enters a cell diagonally from above, through the first column also from the padded
    # one on its left, which has no cost, and next to a padded column also straight down.
    diagonal, down = logs.new_zeros(logs.shape[-1]), logs.new_full(logs.shape[-1:], -math.inf)
    diagonal[0] = math.log(2)
    down[0] = down[-1] = 0.0
    through = logs.cumsum(-1)
    for row, before in zip(through[..., 1:, :].unbind(-2), (through - logs)[..., 1:, :].unbind(-2)):
        entries = torch.logaddexp(F.pad(ends[..., :-1], (1, 0)) + diagonal, ends + down)
        ends = row + (entries - before).logcumsumexp(-1)  # then it moves right
    return -smoothing * ends[..., -1]
