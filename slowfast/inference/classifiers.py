"""Classifiers over features of a frozen network: linear, and nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

PENALTIES = tuple(10.0**power for power in range(1, -6, -1))  # the largest first
_FOLDS = 5
_ITERATIONS = 200
_TEMPERATURE = 0.07  # of the weights of neighbours (arXiv 1805.01978)


@dataclass(frozen=True)
class LinearClassifier:
    """Logits ``features @ weight.T + bias``, with ``weight`` ``K D`` and ``bias`` ``K`` in float32.

    ``penalty``: of the squared weights, chosen by ``accuracy``, that of cross-validation in
    percent (None, where a class has a single video and nothing could be compared).
    """

    weight: torch.Tensor
    bias: torch.Tensor
    penalty: float
    accuracy: float | None

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``N D`` -> logits ``N K``."""
        return features @ self.weight.T + self.bias


def fit_linear(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> LinearClassifier:
    """Logistic regression on standardised features ``N D`` and labels ``N``.

    The penalty is the one with the best accuracy in up to five stratified folds, of equal ones the
    largest. The same input gives the same result.
    """
    features = features.double()
    mean = features.mean(0)
    deviation = features.std(0, correction=0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    inputs = (features - mean) / deviation
    fold_of = stratified_folds(labels, _FOLDS)
    folds = int(fold_of.max()) + 1
    penalty, accuracy = 1e-2, None
    if folds > 1:
        correct = torch.zeros(len(PENALTIES))
        for fold in range(folds):
            held = fold_of == fold
            fits = _path(inputs[~held], labels[~held], num_classes)
            for number, (weight, bias) in enumerate(fits):
                guesses = (inputs[held] @ weight.T + bias).argmax(1)
                correct[number] += (guesses == labels[held]).sum()
        best = int(correct.argmax())  # the first of equal ones
        penalty, accuracy = PENALTIES[best], 100 * float(correct[best]) / len(labels)
    weight, bias = _solve(inputs, labels, num_classes, penalty)
    weight = weight / deviation
    return LinearClassifier(weight.float(), (bias - weight @ mean).float(), penalty, accuracy)


def stratified_folds(labels: torch.Tensor, most: int) -> torch.Tensor:
    """Number of the fold of each sample, ``N``: as many as the smallest class has samples, at most
    ``most``; the samples of a class take turns."""
    values, counts = labels.unique(return_counts=True)
    folds = max(min(most, int(counts.min())), 1)
    fold_of = torch.zeros(len(labels), dtype=torch.long)
    for value in values:
        rows = (labels == value).nonzero().flatten()
        fold_of[rows] = torch.arange(len(rows)) % folds
    return fold_of


def _path(
    inputs: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Solutions for all penalties, each started from the one before."""
    solutions: list[tuple[torch.Tensor, torch.Tensor]] = []
    for penalty in PENALTIES:
        start = solutions[-1] if solutions else None
        solutions.append(_solve(inputs, labels, num_classes, penalty, start))
    return solutions


def _solve(
    inputs: torch.Tensor,
    labels: torch.Tensor,
    num_classes: int,
    penalty: float,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights ``K D`` and biases ``K`` with the least mean cross-entropy plus penalty / 2 times the
    squared weights (convex; L-BFGS)."""
    if start is None:
        start = inputs.new_zeros(num_classes, inputs.shape[1]), inputs.new_zeros(num_classes)
    weight, bias = (tensor.clone().requires_grad_(True) for tensor in start)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(inputs @ weight.T + bias, labels)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach(), bias.detach()


def neighbour_probabilities(
    queries: torch.Tensor,
    features: torch.Tensor,
    labels: torch.Tensor,
    num_classes: int,
    neighbours: int,
) -> torch.Tensor:
    """Probabilities ``Q K`` of queries ``Q D``: votes of the most similar of ``features`` ``N D``
    by cosine, each with the weight exp(cosine / 0.07)."""
    count = min(neighbours, len(features))
    votes = []
    reference = F.normalize(features.double(), dim=1)
    for part in F.normalize(queries.double(), dim=1).split(1024):
        similarity = part @ reference.T
        # Of equally similar ones the first: topk promises no order.
        order = torch.from_numpy(np.argsort(-similarity.numpy(), axis=1, kind="stable"))[:, :count]
        best = similarity.gather(1, order)
        weights = ((best - best[:, :1]) / _TEMPERATURE).exp()
        votes.append(best.new_zeros(len(part), num_classes).scatter_add(1, labels[order], weights))
    found = torch.cat(votes)
    return (found / found.sum(1, keepdim=True)).float()
