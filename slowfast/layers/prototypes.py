"""Few-shot classifiers without parameters: prototypes and temporal alignment.

Tasks stand on the first axis; support clips are sorted by class, ``N K S …``, queries ``N Q …``.
"""

from __future__ import annotations

import torch

_COSINE_EPS = 0.01  # as in tobyperrett/few-shot-action-recognition


def euclidean_logits(support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """ProtoNet (arXiv 1703.05175): ``N K S D``, ``N Q D`` -> minus squared distances ``N Q K``."""
    prototypes = support.mean(2)
    return -(queries[:, :, None] - prototypes[:, None]).square().sum(-1)


def cosine_logits(support: torch.Tensor, queries: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Mean over a class's clips of the cosine with each: ``N K S D``, ``N Q D`` -> ``N Q K``."""
    return scale * soft_cosine(queries[:, :, None, None], support[:, None]).mean(-1)


def soft_cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosines over the last axis with 0.01 added to the product of the norms."""
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + _COSINE_EPS)


def otam_logits(
    support: torch.Tensor, queries: torch.Tensor, smoothing: float = 0.1
) -> torch.Tensor:
    """OTAM (arXiv 1906.11415): ``N K S T D``, ``N Q T D`` -> minus alignment costs ``N Q K``.

    The frames' distances are aligned in both directions, the costs added, and averaged over a
    class's clips.
    """
    q = queries[:, :, None, None, :, None]  # N Q 1 1 T 1 D
    s = support[:, None, :, :, None]  # N 1 K S 1 T D
    distances = 1 - soft_cosine(q, s)
    both = torch.stack([distances, distances.mT])
    return -alignment_cost(both, smoothing).sum(0).mean(-1)


def alignment_cost(distances: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Relaxed dynamic time warping: distances ``… T T`` (rows: the first clip's frames) -> ``…``.

    A column of zeros stands before and after, where the path may wait; the minimum over paths is
    soft, ``-smoothing * logsumexp(-x / smoothing)``.
    """
    rows, columns = distances.shape[-2:]

    def soft_min(*options: torch.Tensor) -> torch.Tensor:
        return -smoothing * torch.logsumexp(-torch.stack(options) / smoothing, dim=0)

    zero = distances.new_zeros(distances.shape[:-2])
    # The first row only goes on; its last column adds nothing.
    first = torch.cat([distances[..., 0, :], zero[..., None]], dim=-1).cumsum(-1)
    before = [zero, *first.unbind(-1)]
    for row in range(1, rows):
        current = [zero]
        for column in range(1, columns + 2):
            inner = column <= columns
            cost = distances[..., row, column - 1] if inner else zero
            steps = [before[column - 1], current[column - 1]]
            if column in (1, columns + 1):  # waiting in the columns of zeros
                steps.append(before[column])
            current.append(cost + soft_min(*steps))
        before = current
    return before[-1]
