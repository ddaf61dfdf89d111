"""Work of a training step in operations and bytes, and the time that a machine needs at least.

The counts are those of PyTorch's operators as they are called, backward pass and mixed precision
included, on tensors without content; an estimate for a machine follows from them alone and is
marked as an estimate wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Machine:
    """Peak rates of a device, from its data sheet: dense products in TFLOP/s by precision, and
    the bandwidth of its memory in TB/s."""

    name: str
    fp32: float
    tf32: float
    bf16: float
    bandwidth: float

    def seconds(self, flops: float, bytes_moved: float, precision: str) -> float:
        """The larger of the time to compute and the time to move."""
        rate = getattr(self, precision)
        return max(flops / (rate * 1e12), bytes_moved / (self.bandwidth * 1e12))


# NVIDIA's data sheets; without sparsity.
MACHINES = (
    Machine("H200", 67.0, 494.0, 989.0, 4.8),
    Machine("H100 SXM", 67.0, 494.0, 989.0, 3.35),
    Machine("A100 80GB SXM", 19.5, 156.0, 312.0, 2.04),
    Machine("L40S", 91.6, 183.0, 362.0, 0.864),
    Machine("RTX 4090", 82.6, 82.6, 165.2, 1.008),
)


@dataclass(frozen=True)
class Operation:
    """One operator call: its name, floating-point operations (a multiply-add is two), and bytes
    that it reads and writes."""

    name: str
    flops: int
    bytes: int


# Operators that only describe memory otherwise, or reserve it.
_FREE = {
    *("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "slice", "select"),
    *("unbind", "split", "split_with_sizes", "chunk", "unsqueeze", "squeeze", "detach", "alias"),
    *("as_strided", "unflatten", "_reshape_alias", "diagonal", "unfold", "lift_fresh", "empty"),
    *("empty_like", "empty_strided", "new_empty", "new_empty_strided", "narrow", "movedim"),
}


class OperationCounter(TorchDispatchMode):
    """Within ``with OperationCounter() as counter:`` every operator is noted."""

    def __init__(self):
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        library, name = function._schema.name.split("::")
        if library != "prim" and name not in _FREE:
            flops = _flops(function, name, args, kwargs, result)
            moved = _tensor_bytes((args, kwargs)) + _tensor_bytes(result)
            self.operations.append(Operation(name, flops, moved))
        return result


def _tensor_bytes(values: Any) -> int:
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _flops(function: Any, name: str, args: tuple, kwargs: dict, result: Any) -> int:
    count = flop_registry.get(function._overloadpacket)
    if count is None:
        return 0
    if name != "convolution_backward":
        return int(count(*args, **kwargs, out_val=result))
    # PyTorch's own count of this one forgets the groups of depthwise convolutions: each of the
    # two gradients costs as much as the forward pass.
    gradient, video, weight = args[:3]
    forward = 2 * gradient.numel() * weight[0].numel()
    if args[7]:  # transposed: every input value meets the weights
        forward = 2 * video.numel() * weight[0].numel()
    return forward * sum(map(bool, args[10][:2]))


def count_step(
    network: nn.Module, clip_shape: Sequence[int], precision: str, train: bool = True
) -> list[Operation]:
    """Operators of one forward pass, in training with loss and backward pass.

    ``clip_shape``: ``B 3 T H W``. The network stays as it is; nothing is computed.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    state = {
        name: mode.from_tensor(value.detach()).requires_grad_(value.requires_grad)
        for name, value in state.items()
    }
    was_training = network.training
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")
    counter = OperationCounter()
    try:
        network.train(train)
        with mode, counter, torch.set_grad_enabled(train):
            with autocast:
                logits = functional_call(network, state, (torch.empty(tuple(clip_shape)),))
            if train:
                labels = torch.empty(logits.shape[:1], dtype=torch.long)
                F.cross_entropy(logits.float(), labels).backward()
    finally:
        network.train(was_training)
    return counter.operations


@dataclass(frozen=True)
class Estimate:
    """What the counts say of a machine: milliseconds at its peak rate, milliseconds if every
    operator runs at the limit of products or memory, and the operators that would be called."""

    machine: str
    peak_ms: float
    roofline_ms: float
    operators: int


def estimate(operations: Sequence[Operation], precision: str) -> Iterator[Estimate]:
    """An estimate for each of :data:`MACHINES`; real kernels need 1.25 to 1.4 times as long."""
    flops = sum(operation.flops for operation in operations)
    for machine in MACHINES:
        seconds = sum(machine.seconds(op.flops, op.bytes, precision) for op in operations)
        peak = machine.seconds(flops, 0, precision)
        yield Estimate(
            machine.name, round(1000 * peak, 2), round(1000 * seconds, 2), len(operations)
        )
