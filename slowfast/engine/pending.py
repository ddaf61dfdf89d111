"""A step that was launched and whose figures are still on the device."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from slowfast.datasets.batch import Batch
from slowfast.engine.tasks.base import LossOutput
from slowfast.utils.distributed import whole
from slowfast.utils.transfer import HostCopy


@dataclass
class PendingStep:
    """Step ``step``, launched with learning rate ``lr`` on batches of ``sizes[rank][i]`` labels.

    ``number``: of the step within its epoch. ``paths``: the videos of each batch of this rank.
    ``norms``: gradient norms of the parameters called ``parameters``, on the device.
    """

    step: int
    lr: float
    sizes: Sequence[Sequence[int]]
    local: Sequence[int]
    paths: list[list[str]]
    parameters: list[str]
    norms: torch.Tensor
    names: list[str]  # of the figures beside the loss, of which each batch has a row
    rows: list[list[float | None]]
    copy: HostCopy
    number: int = 0
    _read: list[float] = field(default_factory=list)

    @classmethod
    def launched(
        cls,
        outputs: Sequence[LossOutput],
        batches: Sequence[Batch],
        norm: torch.Tensor,
        finite: torch.Tensor,
        scale: torch.Tensor,
        **facts: object,
    ) -> PendingStep:
        """Begin to copy the figures of ``outputs``, the norm, whether it is finite, and the loss
        scale to the host, all in one piece."""
        names = sorted(outputs[0].stats)
        rows: list[list[float | None]] = []
        tensors = [norm, finite, scale]
        for output in outputs:
            values = [output.loss, *(output.stats[name] for name in names)]
            late = [isinstance(v, torch.Tensor) and v.device == norm.device for v in values]
            rows.append([None if is_late else float(v) for v, is_late in zip(values, late)])
            tensors += [v for v, is_late in zip(values, late) if is_late]
        # In double precision, in which the host computes with them.
        copy = HostCopy(torch.stack([t.detach().double().reshape(()) for t in tensors]))
        paths = [batch.path for batch in batches]
        return cls(names=names, rows=rows, copy=copy, paths=paths, **facts)

    def _values(self) -> list[float]:
        if not self._read:
            self._read = self.copy.read().tolist()
        return self._read

    @property
    def grad_norm(self) -> float:
        """Norm of the whole gradient before it was clipped."""
        return self._values()[0]

    @property
    def finite(self) -> bool:
        """Whether the gradient was finite, so that the optimizer took the step."""
        return bool(self._values()[1])

    @property
    def scale(self) -> float:
        """Loss scale of the step."""
        return self._values()[2]

    def batch_figures(self) -> list[list[float]]:
        """Of each batch of this rank the loss, then the figures in the order of ``names``."""
        late = iter(self._values()[3:])
        return [[next(late) if value is None else value for value in row] for row in self.rows]

    @property
    def losses(self) -> list[float]:
        """The loss of each batch of this rank."""
        return [row[0] for row in self.batch_figures()]

    @property
    def width(self) -> int:
        """Length of :meth:`message`."""
        return len(self.names) + 2

    def message(self) -> list[float]:
        """What other ranks have to know: whether the gradient was finite, and sums over the labels
        of this rank of the loss and of the figures. A batch of size 0 is a dummy and is ignored."""
        sums = [0.0] * (1 + len(self.names))
        for values, size in zip(self.batch_figures(), self.local):
            if size:
                sums = [total + value * size for total, value in zip(sums, values)]
        return [float(self.finite), *sums]

    def parameter_norms(self) -> dict[str, float]:
        """Gradient norms by parameter; all ranks of a sharded network must call it."""
        return dict(zip(self.parameters, whole(self.norms).tolist()))

    def nonfinite_batches(self) -> list[bool]:
        """Whether the loss of each batch was not finite."""
        return [not math.isfinite(loss) for loss in self.losses]


class PendingSteps:
    """The steps that were launched and not reported, in order.

    ``ahead``: how many of them may stay so, because the device still computes them.
    """

    def __init__(self, ahead: int):
        self._ahead = ahead
        self._steps: deque[PendingStep] = deque()

    def add(self, step: PendingStep) -> None:
        self._steps.append(step)

    def take(self, ahead: int | None = None) -> list[PendingStep]:
        """The steps to be reported now: all but the last ``ahead``."""
        kept = self._ahead if ahead is None else ahead
        return [self._steps.popleft() for _ in range(len(self._steps) - kept)]
