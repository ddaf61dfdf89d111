"""Batch normalisation over parts of a batch ("Multigrid", arXiv 1912.00998)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast.layers.norm import Batch1SafeNorm, replace_norms

_STATISTICS = ("running_mean", "running_var")
_COUNTER = "num_batches_tracked"


class PartNorm(Batch1SafeNorm):
    """Batch normalisation of ``B C ...`` that may be given its weight and bias."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(
        self,
        input: torch.Tensor,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``B C ...`` -> ``B C ...``; ``weight`` and ``bias`` ``C`` for more than one clip."""
        if weight is None:
            return super().forward(input)
        rate = _count_batch(self) if self.training else 0.0
        statistics = self.running_mean, self.running_var
        return F.batch_norm(input, *statistics, weight, bias, self.training, rate, self.eps)


class SubBatchNorm(nn.Module):
    """Batch normalisation of ``B C ...`` whose statistics are those of parts of the batch.

    Part ``s`` of ``num_splits`` are the clips ``s, s + num_splits, ...``. ``split_bn`` holds the
    running statistics of all parts, ``num_splits * C`` of them; :meth:`aggregate_statistics` makes
    those of ``bn``, which evaluation uses, from them. One ``weight`` and ``bias`` serve all. What
    the given layer does afterwards (timm's dropout and activation) stays.
    """

    def __init__(self, norm: _BatchNorm, num_splits: int):
        super().__init__()
        self.num_splits = num_splits
        # The parameters themselves: an optimizer may refer to them already.
        self._parameters.update(norm._parameters)
        count, options = norm.num_features, (norm.eps, norm.momentum)
        self.bn = PartNorm(count, *options, affine=False)
        self.split_bn = PartNorm(count * num_splits, *options, affine=False)
        for name, child in norm.named_children():
            self.add_module(name, child)
        self._after = [name for name, _ in norm.named_children()]
        self.to(norm.running_mean.device)
        self.train(norm.training)
        for name in _STATISTICS:
            value = getattr(norm, name)
            getattr(self.bn, name).copy_(value)
            getattr(self.split_bn, name).copy_(value.repeat(num_splits))

    @torch.no_grad()
    def set_parts(
        self, num_splits: int, synchronise: Callable[[nn.Module], nn.Module] | None = None
    ) -> None:
        """Divide batches into another number of parts, whose statistics go on from those of ``bn``;
        ``synchronise`` makes the normalisation layers of a module those of several processes."""
        old, bn = self.split_bn, self.bn
        new = PartNorm(bn.num_features * num_splits, bn.eps, bn.momentum, affine=False)
        new.to(bn.running_mean.device).train(old.training)
        for name in _STATISTICS:
            getattr(new, name).copy_(getattr(bn, name).repeat(num_splits))
        for norm in (new, bn):
            norm.num_batches_tracked.copy_(old.num_batches_tracked)
        self.num_splits = num_splits
        self.split_bn = synchronise(nn.Sequential(new))[0] if synchronise else new

    def extra_repr(self) -> str:
        return f"num_splits={self.num_splits}"

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``B C ...`` -> ``B C ...``."""
        if not self.split_bn.training:
            out = self._normalise(self.bn, input)
        elif len(input) % self.num_splits == 0:
            parts = input.reshape(-1, self.split_bn.num_features, *input.shape[2:])
            out = self._normalise(self.split_bn, parts, self.num_splits).reshape(input.shape)
        else:
            out = self._scale(self._normalise_parts(input))
        for name in self._after:
            out = getattr(self, name)(out)
        return out

    def _normalise(self, norm: _BatchNorm, input: torch.Tensor, parts: int = 1) -> torch.Tensor:
        """``input`` by ``norm``, times weight, plus bias."""
        if self.weight is not None and len(input) > 1 and isinstance(norm, PartNorm):
            return norm(input, self.weight.repeat(parts), self.bias.repeat(parts))
        return self._scale(norm(input).reshape(-1, self.bn.num_features, *input.shape[2:]))

    def _scale(self, out: torch.Tensor) -> torch.Tensor:
        if self.weight is None:
            return out
        shape = (1, -1) + (1,) * (out.dim() - 2)
        scale, shift = self.weight.view(shape), self.bias.view(shape)
        return torch.addcmul(shift.to(out.dtype), out, scale.to(out.dtype))

    def _normalise_parts(self, input: torch.Tensor) -> torch.Tensor:
        """Parts that differ by one clip, as when a clip of the batch could not be read."""
        norm, parts, out = self.split_bn, self.num_splits, torch.empty_like(input)
        rate = _count_batch(norm)
        means, variances = (getattr(norm, name).chunk(parts) for name in _STATISTICS)
        for part in range(min(parts, len(input))):
            out[part::parts] = F.batch_norm(
                input[part::parts],
                means[part],
                variances[part],
                training=True,
                momentum=rate,
                eps=norm.eps,
            )
        return out

    @torch.no_grad()
    def aggregate_statistics(self) -> None:
        """Give ``bn`` the statistics of all parts together: the mean of the means; the mean of the
        variances plus the variance of the means."""
        means, variances = (
            getattr(self.split_bn, name).view(self.num_splits, -1) for name in _STATISTICS
        )
        mean = means.mean(0)
        self.bn.running_mean.copy_(mean)
        self.bn.running_var.copy_(variances.mean(0) + (means - mean).square().mean(0))


def _count_batch(norm: _BatchNorm) -> float:
    """Count a training batch; the share that its statistics have in the running ones."""
    norm.num_batches_tracked.add_(1)
    return norm.momentum if norm.momentum is not None else 1 / int(norm.num_batches_tracked)


_PLAIN = (nn.BatchNorm3d, nn.BatchNorm2d, nn.BatchNorm1d)


def with_sub_norm(network: nn.Module, num_splits: int) -> nn.Module:
    """``network`` with every batch normalisation turned into a :class:`SubBatchNorm`."""
    return replace_norms(
        network,
        lambda norm: isinstance(norm, _PLAIN) and norm.track_running_stats,
        lambda norm: SubBatchNorm(norm, num_splits),
    )


def aggregate_statistics(network: nn.Module) -> None:
    """Aggregate those of all :class:`SubBatchNorm`: before evaluations and checkpoints."""
    for module in network.modules():
        if isinstance(module, SubBatchNorm):
            module.aggregate_statistics()


def match_norm_names(state: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict with the statistics under the names that the layers of ``network`` have:
    ``x.running_mean`` in plain ones, ``x.bn.running_mean`` and ``x.split_bn.running_mean`` here."""
    layers = {
        f"{name}.": module
        for name, module in network.named_modules()
        if isinstance(module, SubBatchNorm)
    }
    for name in [name for name in state if name.endswith(".split_bn.running_mean")]:
        prefix = name.removesuffix("split_bn.running_mean")
        layer = layers.get(prefix)
        fits = layer is not None and state[name].shape == layer.split_bn.running_mean.shape
        if not fits and f"{prefix}bn.running_mean" in state:
            state = _plain_names(state, prefix)
    for prefix, layer in layers.items():
        if f"{prefix}running_mean" in state:
            state = _split_names(state, prefix, layer.num_splits)
    return state


def _plain_names(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    moved = {f"{prefix}bn.{name}": f"{prefix}{name}" for name in _STATISTICS}
    moved[f"{prefix}split_bn.{_COUNTER}"] = f"{prefix}{_COUNTER}"
    left_out = (f"{prefix}bn.", f"{prefix}split_bn.")
    return {
        moved.get(name, name): value
        for name, value in state.items()
        if name in moved or not name.startswith(left_out)
    }


def _split_names(
    state: dict[str, torch.Tensor], prefix: str, count: int
) -> dict[str, torch.Tensor]:
    moved = [name for name in (*_STATISTICS, _COUNTER) if f"{prefix}{name}" in state]
    rest = dict(state)
    for name in moved:
        value = rest.pop(f"{prefix}{name}")
        repeated = value if name == _COUNTER else value.repeat(count)
        rest |= {f"{prefix}bn.{name}": value, f"{prefix}split_bn.{name}": repeated}
    return rest
