"""A real optimizer step on fake CUDA tensors: what a GPU would wait for, copy, and compute with.

``record_step`` runs :class:`slowfast.engine.step.OptimizerStep` of a configuration, from the uint8
batch of the loader to the optimizer, in PyTorch's FakeTensorMode with the device ``cuda``, and a
:class:`Spy` notes every operator. Nothing is computed and no GPU is needed: shapes, types, strides
and devices are those that a GPU would see. The backward pass is replaced by one that gives every
trained parameter a gradient (autograd threads ask for a driver, pytorch #92627).

Limits: values are unknown (a scalar that is read is 1); without a driver PyTorch chooses other
convolution kernels for bfloat16, so that layouts are to be checked in float16; recurrent layers
ask cuDNN for its version and are replaced by a linear one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch, EpisodeInfo
from slowfast.engine.network import arrange
from slowfast.engine.optim import build_optimizer
from slowfast.engine.precision import build_autocast
from slowfast.engine.prefetch import on_device
from slowfast.engine.step import OptimizerStep
from slowfast.engine.tasks import task_class
from slowfast.utils.runtime import Runtime
from slowfast.utils.transfer import HostCopy

PACKAGE = f"{Path(__file__).resolve().parent.parent / 'slowfast'}/"
GPU = torch.device("cuda", 0)
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# Operators whose result has a size that depends on values: the host has to wait for it.
_VALUE_DEPENDENT = {"nonzero", "masked_select", "_unique2", "unique_dim", "equal"}


@dataclass(frozen=True)
class Call:
    """An operator with CUDA tensors; ``where``: the line of the package that called it."""

    operator: str
    where: str
    inputs: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    detail: str = ""


@dataclass
class Record:
    """What a step did.

    - ``waits``: the host reads a value of the device, or needs the size of a result;
    - ``copies``: between host and device; ``detail`` is e.g. ``cpu->cuda blocking``;
    - ``convolutions``: ``detail`` is ``channels last`` or ``contiguous``;
    - ``attention``: scaled dot products, inputs are the shapes of query, key and value, and
      ``detail`` names what keeps the fast kernels away: ``mask``, ``width``, ``batch``, ``type``;
    - ``products``: matrix products, inputs are the shapes of both matrices;
    - ``operators``: how many operators ran on the device.
    """

    waits: list[Call] = field(default_factory=list)
    copies: list[Call] = field(default_factory=list)
    convolutions: list[Call] = field(default_factory=list)
    attention: list[Call] = field(default_factory=list)
    products: list[Call] = field(default_factory=list)
    operators: int = 0

    def blocking_copies(self) -> list[Call]:
        """Copies for which the host waits."""
        return [call for call in self.copies if "blocking" in call.detail]

    def unaligned_products(self, at_least: float = 1e8) -> list[Call]:
        """Products of ``at_least`` so many multiplications whose inner or last size is no multiple
        of 8, which keeps them from the fast kernels of tensor cores."""

        def count(call: Call) -> float:
            first, second = call.inputs
            rows = 1
            for size in first[:-1]:
                rows *= size
            return float(rows) * first[-1] * second[-1]

        return [
            call
            for call in self.products
            if count(call) >= at_least and (call.inputs[0][-1] % 8 or call.inputs[1][-1] % 8)
        ]


def _caller() -> str:
    """``engine/step.py:12 launch``: the innermost line of the package on the stack, but for layers
    that hand their input on."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE) and not name.endswith("/layers/safe_conv.py"):
            return f"{name[len(PACKAGE) :]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "(outside)"


class Spy(TorchDispatchMode):
    """Notes the operators that run on CUDA tensors in a :class:`Record`."""

    def __init__(self) -> None:
        super().__init__()
        self.record = Record()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = [t for t in tensors if t.device.type == GPU.type]
        if name == "_local_scalar_dense":
            if on_device:
                self._note(self.record.waits, name, on_device)
            return 1.0 if tensors[0].is_floating_point() else 1
        if name in _VALUE_DEPENDENT and on_device:
            self._note(self.record.waits, name, on_device)
        if name == "index" and any(
            isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        ):
            if on_device:
                self._note(self.record.waits, "index by a mask", on_device)
        if name == "_fused_sgd_":  # works in place, has no fake operator
            return None
        result = func(*args, **kwargs)
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self._note_copy(name, args, kwargs, tensors, results)
        if on_device or any(r.device.type == GPU.type for r in results):
            self.record.operators += 1
            self._note_kernel(name, args, on_device)
        return _with_layout(name, args, result)

    def _note(self, calls: list[Call], name: str, tensors: list, detail: str = "") -> None:
        shapes = tuple(tuple(t.shape) for t in tensors)
        calls.append(Call(name, _caller(), shapes, tensors[0].dtype, detail))

    def _note_copy(self, name: str, args: tuple, kwargs: dict, tensors: list, results: list):
        if name not in ("_to_copy", "copy_", "lift_fresh_copy", "_pin_memory"):
            return
        source = args[1] if name == "copy_" else args[0]
        target = args[0] if name == "copy_" else results[0]
        if source.device.type == target.device.type:
            return
        free = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        way = f"{source.device.type}->{target.device.type}"
        detail = f"{way}{'' if free else ' blocking'}"
        self._note(self.record.copies, name, [source], detail)

    def _note_kernel(self, name: str, args: tuple, tensors: list) -> None:
        if name == "convolution":
            # A view with gaps is copied before cuDNN takes it, into the order that it has.
            last = _is_channels_last(args[0])
            detail = "channels last" if last else "contiguous"
            self._note(self.record.convolutions, name, [args[0], args[1]], detail)
        elif name in ("mm", "bmm"):
            self._note(self.record.products, name, list(args[:2]))
        elif name in ("addmm", "baddbmm"):
            self._note(self.record.products, name, list(args[1:3]))


def _is_channels_last(x: torch.Tensor) -> bool:
    form = _CHANNELS_LAST.get(x.ndim)
    if form is None or x.is_contiguous(memory_format=form):
        return True
    return suggest_memory_format(x) == form


def _with_layout(name: str, args: tuple, result: Any) -> Any:
    """cuDNN's batch norm keeps the layout of its input; its fake operator forgets it."""
    if name == "cudnn_batch_norm" and args[0].ndim in _CHANNELS_LAST:
        form = _CHANNELS_LAST[args[0].ndim]
        if args[0].is_contiguous(memory_format=form) and not args[0].is_contiguous():
            return (result[0].contiguous(memory_format=form), *result[1:])
    return result


# -- stand-ins -----------------------------------------------------------------------------------


def _attention(spy: Spy) -> Callable[..., torch.Tensor]:
    """Scaled dot-product attention by the flash operator, which needs no driver here."""

    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        width = query.shape[-1]
        if torch.is_autocast_enabled(GPU.type):
            half = torch.get_autocast_dtype(GPU.type)
            query, key, value = query.to(half), key.to(half), value.to(half)
        faults = [
            fault
            for fault, present in (
                ("mask", attn_mask is not None),
                ("width", width % 8 or value.shape[-1] % 8),
                ("batch", query.shape[0] > 65535),
                ("type", query.dtype == torch.float32),
            )
            if present
        ]
        shapes = tuple(tuple(t.shape) for t in (query, key, value))
        spy.record.attention.append(
            Call("attention", _caller(), shapes, query.dtype, " ".join(faults))
        )
        if attn_mask is not None or query.dtype == torch.float32:
            with torch.autocast(GPU.type, enabled=False):
                weights = (query @ key.transpose(-2, -1)).softmax(-1)
                return weights @ value
        query, key, value = (F.pad(t, (0, -t.shape[-1] % 8)) for t in (query, key, value))
        result = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale or width**-0.5
        )[0]
        return result[..., :width]

    return attention


def _recurrent(self: nn.RNNBase, x: torch.Tensor, *_: Any) -> tuple[torch.Tensor, None]:
    """States of the right shape and type; cuDNN's operator asks for a driver."""
    width = self.hidden_size * (2 if self.bidirectional else 1)
    return x.new_zeros(*x.shape[:-1], width) + x.mean(-1, keepdim=True), None


class _Queue:
    """In place of a stream or an event."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __enter__(self) -> _Queue:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@contextlib.contextmanager
def fake_gpu() -> Iterator[FakeTensorMode]:
    """A context in which tensors are fake and a GPU with bfloat16 seems to be there."""
    # The mode first: it asks whether there is a GPU, and must be told the truth.
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, contextlib.ExitStack() as stack:
        for name, value in (
            ("is_available", lambda: True),
            ("is_bf16_supported", lambda including_emulation=True: True),
            ("get_device_capability", lambda device=None: (9, 0)),
            ("current_device", lambda: 0),
            ("current_stream", _Queue),
            ("Stream", _Queue),
            ("Event", _Queue),
            ("stream", _Queue),
        ):
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(
            mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        )
        stack.enter_context(mock.patch.object(torch.Tensor, "record_stream", lambda *_: None))
        stack.enter_context(mock.patch.object(nn.RNN, "forward", _recurrent))
        stack.enter_context(mock.patch.object(nn.LSTM, "forward", _recurrent))
        stack.enter_context(mock.patch.object(nn.GRU, "forward", _recurrent))
        yield mode


def to_fake_gpu(network: nn.Module) -> nn.Module:
    """Replace all parameters and buffers, and tensors that modules keep beside them."""
    seen: dict[int, torch.Tensor] = {}
    visited: set[int] = set()

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in seen:
            with torch.no_grad():
                fake = torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device=GPU
                )
            if isinstance(tensor, nn.Parameter):
                fake = nn.Parameter(fake, requires_grad=tensor.requires_grad)
            seen[id(tensor)] = fake
        return seen[id(tensor)]

    def converted(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return convert(value)
        if type(value) is dict:
            return {name: converted(item) for name, item in value.items()}
        own = type(value).__module__.startswith("slowfast.") and hasattr(value, "__dict__")
        if own and not isinstance(value, (nn.Module, type)) and id(value) not in visited:
            visited.add(id(value))  # such as the texts of classes
            for name, item in vars(value).items():
                value.__dict__[name] = converted(item)
        return value

    for module in network.modules():
        for group in (module._parameters, module._buffers):
            for name, tensor in group.items():
                group[name] = None if tensor is None else convert(tensor)
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                module.__dict__[name] = converted(value)
        if isinstance(module, nn.RNNBase):
            module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
    return network


# -- the step ------------------------------------------------------------------------------------


def fake_batch(cfg: CfgNode, size: int) -> Batch:
    """A batch as the loader gives it: uint8 clips on the host, channels last in memory."""
    frames, side = cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE
    episode, clips, labels = None, size, (size,)
    if cfg.TASK == "fewshot":
        options = cfg.FEWSHOT
        queries = options.QUERY * (options.WAY if options.QUERY_CLASSES == "all" else 1)
        clips, labels = options.WAY * options.SHOT + queries, (1, queries)
        episode = EpisodeInfo([0], options.WAY, torch.zeros(labels, dtype=torch.long))
    video = torch.empty(clips, frames, side, side, 3, dtype=torch.uint8).permute(0, 4, 1, 2, 3)
    return Batch(
        video=video,
        label=torch.zeros(labels, dtype=torch.long),
        index=torch.zeros(labels[-1], dtype=torch.long),
        path=["clip"] * clips,
        episode=episode,
    )


@contextlib.contextmanager
def _backward_of(network: nn.Module) -> Iterator[None]:
    def backward(self: torch.Tensor, *_: Any, **__: Any) -> None:
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)

    with mock.patch.object(torch.Tensor, "backward", backward):
        yield


@contextlib.contextmanager
def _spied(cfg: CfgNode, network: nn.Module) -> Iterator[tuple[Spy, Any, Runtime]]:
    """(spy, what the task computes, runtime) of a fake GPU that holds ``network``."""
    with fake_gpu():
        spy, runtime = Spy(), Runtime(GPU)
        arrange(cfg, to_fake_gpu(network))
        module = task_class(cfg)(cfg, runtime).module
        attention = mock.patch.object(F, "scaled_dot_product_attention", _attention(spy))
        with attention, _backward_of(network):
            yield spy, module, runtime


def record_step(
    cfg: CfgNode, network: nn.Module, *, batch: int = 2, accumulated: int = 1
) -> Record:
    """One optimizer step of ``network``, which was built on the CPU and is spoilt by this: from the
    batches of the loader to the copy of the figures."""
    with _spied(cfg, network.train()) as (spy, module, runtime):
        step = OptimizerStep(cfg, network, module, build_optimizer(cfg, network), runtime)
        batches = [fake_batch(cfg, batch) for _ in range(accumulated)]
        with spy:
            module.prepare(batches[0], "train")
            spy.record = Record()  # without what is copied once, such as mean and deviation
            step.launch(list(on_device(batches, GPU)), 1e-4, 0)
    return spy.record


def record_prediction(cfg: CfgNode, network: nn.Module, *, batch: int = 2) -> Record:
    """The scores of a validation batch, as :func:`record_step`."""
    with _spied(cfg, network.eval()) as (spy, module, runtime):
        data = fake_batch(cfg, batch)
        with spy, torch.no_grad():
            module.prepare(data, "val")
            spy.record = Record()
            for moved in on_device([data], GPU):
                inputs = module.prepare(moved, "val")
                with build_autocast(cfg, runtime)():
                    HostCopy(module.predict(network, inputs))
    return spy.record
