"""Few-shot classifiers without parameters: distances to prototypes, and temporal alignment.

N episodes, K classes, S shots, Q queries: support ``N K S …``, queries ``N Q …``.
"""

from __future__ import annotations

import torch

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
    rows, columns = distances.shape[-2:]

    def soft_min(*costs: torch.Tensor) -> torch.Tensor:
        return -smoothing * torch.logsumexp(-torch.stack(costs) / smoothing, dim=0)

    zero = distances.new_zeros(distances.shape[:-2])
    # A path of the first row only moves right; the padded last column is free.
    first = torch.cat([distances[..., 0, :], zero[..., None]], dim=-1).cumsum(-1)
    above = [zero, *first.unbind(-1)]
    for row in range(1, rows):
        current = [zero]
        for column in range(1, columns + 2):
            is_padding = column > columns
            cost = zero if is_padding else distances[..., row, column - 1]
            previous = [above[column - 1], current[column - 1]]
            if column == 1 or is_padding:  # next to a padded column a path may move down, too
                previous.append(above[column])
            current.append(cost + soft_min(*previous))
        above = current
    return above[-1]
