"""Convolutions in the form in which each device computes them fastest.

On the CPU oneDNN's backward passes of depthwise 3-D convolutions take ten to fifty times as long as
the forward pass, and 1x1x1 convolutions in float32 several times as long as the matrix product
that they are. The forms here give the same numbers up to the order of additions. Narrow float32
layers on the CPU keep PyTorch's own form, so that small runs stay equal to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from slowfast.layers.fold import folded_conv
from slowfast.layers.precision import autocast_dtype, to_autocast

Size3 = tuple[int, int, int]
_GPU_WIDTH = 5  # side up to which depthwise_triton.py computes
_WIDE = 48  # channels from which float32 layers on the CPU leave PyTorch's own form
_FLAT_WIDTH = 256  # channels up to which the CPU gains by 2-D convolutions
_SMALL = 1 << 17  # numbers of a clip up to which the CPU has nothing to gain
_FAST_SIDE = 3  # side up to which oneDNN has a fast weight gradient of depthwise 2-D convolutions
# Devices on which :class:`_Depthwise` beats the convolution's own backward pass. GPUs have kernels
# of their own (depthwise_triton.py).
OWN_GRADIENT_DEVICES = {"cpu"}


def keeps_plain_form(x: torch.Tensor, channels: int) -> bool:
    """Whether a layer of ``channels`` on ``x`` computes what it always did, to the bit."""
    half = autocast_dtype(x) is not torch.float32
    return x.device.type == "cpu" and not half and channels < _WIDE


class DepthwiseConv3d(nn.Conv3d):
    """Depthwise convolution ``B C T H W`` -> ``B C T' H' W'``, padded by ``kernel // 2``.

    Under autocast on the CPU its weight gradients are computed in float32: bfloat16 ones of small
    depthwise convolutions can be garbage there (1e32, seen with PyTorch 2.15).
    """

    def __init__(
        self,
        channels: int,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        *,
        bias: bool = True,
    ):
        size = (kernel,) * 3 if isinstance(kernel, int) else tuple(kernel)
        padding = tuple(k // 2 for k in size)
        stride = stride if isinstance(stride, int) else tuple(stride)
        super().__init__(channels, channels, size, stride, padding, groups=channels, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B C T' H' W'``."""
        if keeps_plain_form(x, self.in_channels):
            return super().forward(x)
        own = gpu_depthwise() if x.is_cuda else None
        if own is not None and self.kernel_size[2] <= _GPU_WIDTH and self._is_odd():
            return own(to_autocast(x), self.weight, self.bias, self.stride)
        x = x.to(memory_format=torch.channels_last_3d)
        learns = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if not learns or x.device.type not in OWN_GRADIENT_DEVICES:
            return super().forward(x)
        if self._is_odd():
            return _Depthwise.apply(to_autocast(x), self.weight, self.bias, self.stride)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())

    def _is_odd(self) -> bool:
        return all(k % 2 for k in self.kernel_size)


@functools.cache
def gpu_depthwise() -> Callable[..., torch.Tensor] | None:
    """The Triton kernels, where Triton is installed (PyTorch for GPUs brings it)."""
    try:
        from slowfast.layers.depthwise_triton import depthwise_conv3d
    except ImportError:
        return None
    return depthwise_conv3d


class PointwiseConv3d(nn.Conv3d):
    """1x1x1 convolution ``B C T H W`` -> ``B D T H W``, computed as one matrix product."""

    def __init__(self, channels: int, out_channels: int, *, bias: bool = True):
        super().__init__(channels, out_channels, 1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B D T H W``."""
        if keeps_plain_form(x, min(self.in_channels, self.out_channels)):
            return super().forward(x)
        return _product(x, self)


class FlatConv3d(nn.Conv3d):
    """Convolution over space alone (1 x k x k) or over time alone (k x 1 x 1), whatever the device
    the same numbers up to rounding.

    oneDNN computes up to 256 channels two to five times faster as a 2-D convolution: of frames, or
    of time against all positions of a frame.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B D T' H' W'``."""
        if x.device.type != "cpu" or self.out_channels > _FLAT_WIDTH or _is_small(x):
            return super().forward(x)
        batch, channels, frames, *size = x.shape
        last = x.movedim(1, -1)  # contiguous where x is channels-last
        if self.kernel_size[0] == 1:
            axis, planes = 1, last.reshape(batch * frames, *size, channels)
        else:
            axis, planes = 0, last.reshape(batch, frames, -1, channels)
        y = F.conv2d(
            planes.movedim(-1, 1),
            self.weight.squeeze(2) if axis else self.weight.squeeze(-1),
            self.bias,
            self.stride[axis : axis + 2],
            self.padding[axis : axis + 2],
            self.dilation[axis : axis + 2],
            self.groups,
        ).movedim(1, -1)
        y = y.unflatten(0, (batch, -1)) if axis else y.unflatten(2, size)
        return y.movedim(-1, 1)


def _is_small(x: torch.Tensor) -> bool:
    return x.shape[1:].numel() <= _SMALL


class ProjectionConv3d(nn.Conv3d):
    """1x1x1 convolution with any stride, ``B C T H W`` -> ``B D T' H' W'``, computed as one matrix
    product."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B D T' H' W'``."""
        if x.device.type == "cpu" and _is_small(x):
            return super().forward(x)
        time, rows, columns = self.stride
        return _product(x[:, :, ::time, ::rows, ::columns], self)


def _product(x: torch.Tensor, conv: nn.Conv3d) -> torch.Tensor:
    """``B C T H W`` by the matrix of a 1x1x1 convolution, ``B D T H W``.

    One product of all positions: of a clip that is not contiguous, PyTorch would otherwise make one
    per clip or frame, each with a copy of the weights.
    """
    last = x.movedim(1, -1)
    y = F.linear(last.reshape(-1, last.shape[-1]), conv.weight.flatten(1), conv.bias)
    return y.view(*last.shape[:-1], -1).movedim(-1, 1)


def conv3d(
    in_channels: int,
    channels: int,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    bias: bool = False,
) -> nn.Conv3d:
    """The convolution ``B C T H W`` -> ``B D T' H' W'`` in the form that suits it.

    Padded so that a stride of 1 keeps the size. ``dilation`` is that of rows and columns.
    """
    size = (kernel,) * 3 if isinstance(kernel, int) else tuple(kernel)
    steps = (stride,) * 3 if isinstance(stride, int) else tuple(stride)
    if groups == in_channels == channels and dilation == 1:
        return DepthwiseConv3d(channels, size, steps, bias=bias)
    over_space, over_time = size[0] == steps[0] == 1, size[1:] == steps[1:] == (1, 1)
    kind = nn.Conv3d
    if size == (1, 1, 1) and groups == 1:
        kind = ProjectionConv3d
    elif over_space or over_time:
        kind = FlatConv3d
    padding = (size[0] // 2, *(dilation * (side // 2) for side in size[1:]))
    dilations = (1, dilation, dilation)
    return kind(in_channels, channels, size, steps, padding, dilations, groups, bias)


def conv_norm(conv: nn.Module, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A convolution and its normalisation, ``B C T H W`` -> ``B D T' H' W'``; at once within
    :func:`~slowfast.layers.fold.folded_norms`."""
    folded = folded_conv(conv, norm)
    return norm(conv(x)) if folded is None else folded(x)


class PatchConv3d(nn.Conv3d):
    """Convolution ``B C T H W`` -> ``B D T' H' W'`` over patches of a clip. Where they do not
    overlap in space, it is computed as one matrix product."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B D T' H' W'``."""
        side, apart = self.kernel_size[1:], self.stride[1:] == self.kernel_size[1:]
        if not apart or any(self.padding[1:]) or keeps_plain_form(x, self.out_channels):
            if x.is_cuda:  # the layout in which tensor cores compute
                x = x.contiguous(memory_format=torch.channels_last_3d)
            return super().forward(x)
        taps, step, border = self.kernel_size[0], self.stride[0], self.padding[0]
        rows, columns = x.shape[3] // side[0], x.shape[4] // side[1]
        x = x[..., : rows * side[0], : columns * side[1]]
        x = F.pad(to_autocast(x), (0, 0, 0, 0, border, border))
        last = x.shape[2] - taps
        frames = torch.stack([x[:, :, tap : tap + last + 1 : step] for tap in range(taps)], dim=2)
        patches = rearrange(
            frames, "b c k t (h p) (w q) -> b t h w (c k p q)", p=side[0], q=side[1]
        )
        return F.linear(patches, self.weight.flatten(1), self.bias).movedim(-1, 1)


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution with odd kernels, padded by ``kernel // 2``, with gradients of its
    own: that of the input is a forward convolution by the mirrored kernel, that of the weight is
    one of 2-D convolutions over frames."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: Size3
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.has_bias = stride, bias is not None
        return _convolve(x, weight, bias, stride)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if wants_x:
            grad_x = _convolve(
                _spread(grad, x.shape, ctx.stride), weight.flip((2, 3, 4)), None, (1, 1, 1)
            )
        if wants_weight:
            grad_weight = depthwise_weight_gradient(x, grad, weight.shape[2:], ctx.stride)
            grad_weight = grad_weight.to(weight.dtype)
        if wants_bias and ctx.has_bias:
            grad_bias = grad.sum((0, 2, 3, 4), dtype=torch.float32).to(weight.dtype)
        return grad_x, grad_weight, grad_bias, None


def _convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: Sequence[int]
) -> torch.Tensor:
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    padding = [k // 2 for k in weight.shape[2:]]
    return F.conv3d(x, weight, bias, stride, padding, groups=len(weight))


def _spread(grad: torch.Tensor, shape: torch.Size, stride: Size3) -> torch.Tensor:
    """``grad`` of a strided convolution on the grid ``shape`` of its input, zeros between."""
    if all(s == 1 for s in stride):
        return grad
    spread = torch.empty(
        shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last_3d
    ).zero_()
    spread[:, :, :: stride[0], :: stride[1], :: stride[2]] = grad
    return spread


def depthwise_weight_gradient(
    x: torch.Tensor, grad: torch.Tensor, kernel: Sequence[int], stride: Sequence[int]
) -> torch.Tensor:
    """Gradient ``C 1 kt kh kw`` of the weight of a depthwise convolution of ``x`` ``B C T H W``
    padded by ``kernel // 2``, from that of its result.

    Every temporal tap is a 2-D convolution over pairs of an input and an output frame. oneDNN has
    fast weight gradients for kernels up to 3x3, so that larger ones are put together from such.
    """
    channels, frames, taps = x.shape[1], x.shape[2], range(kernel[0])
    x, grad = _frames_first(x), _frames_first(grad)
    total = grad.new_zeros(channels, 1, *kernel)
    padding = [k // 2 for k in kernel[1:]]
    small = all(k <= _FAST_SIDE for k in kernel[1:])
    if not small:
        x = F.pad(x, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    for rows in _parts(kernel[1]):
        for columns in _parts(kernel[2]):
            part = x if small else _crop(x, grad, rows, columns, stride)
            for tap in taps:
                inputs, outputs = _pairs(tap - kernel[0] // 2, frames, grad.shape[1], stride[0])
                total[:, :, tap, rows, columns] = _weight_gradient_2d(
                    part[:, inputs],
                    grad[:, outputs],
                    (rows.stop - rows.start, columns.stop - columns.start),
                    stride[1:],
                    padding if small else (0, 0),
                )
    return total


def _frames_first(x: torch.Tensor) -> torch.Tensor:
    """``B C T H W`` -> ``B T H W C``; on the CPU in float32 (see :class:`DepthwiseConv3d`)."""
    x = x.float() if x.device.type == "cpu" else x
    return x.permute(0, 2, 3, 4, 1).contiguous()


def _parts(size: int) -> Iterator[slice]:
    """Parts of a kernel's side, each as long as is fast; the last ones may overlap."""
    length = min(size, _FAST_SIDE)
    starts = [*range(0, size - length, length), size - length]
    return (slice(start, start + length) for start in starts)


def _crop(
    x: torch.Tensor, grad: torch.Tensor, rows: slice, columns: slice, stride: Sequence[int]
) -> torch.Tensor:
    """What the part ``rows`` x ``columns`` of a kernel meets of padded frames ``B T H W C``."""
    height, width = grad.shape[2:4]
    bottom = rows.stop + (height - 1) * stride[1]
    right = columns.stop + (width - 1) * stride[2]
    return x[:, :, rows.start : bottom, columns.start : right].contiguous()


def _pairs(offset: int, frames: int, out_frames: int, stride: int) -> tuple[slice, slice]:
    """Input and output frames that meet at a temporal ``offset``."""
    first = -(min(offset, 0) // stride)
    count = min(out_frames - first, (frames - 1 - offset - first * stride) // stride + 1)
    start = first * stride + offset
    return slice(start, start + (count - 1) * stride + 1, stride), slice(first, first + count)


def _weight_gradient_2d(
    x: torch.Tensor,
    grad: torch.Tensor,
    kernel: tuple[int, int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> torch.Tensor:
    """The same for 2-D convolutions of frames ``B T H W C``: ``C 1 kh kw``."""
    x, grad = (y.flatten(0, 1).permute(0, 3, 1, 2) for y in (x, grad))
    channels = x.shape[1]
    weight = x.new_empty(channels, 1, *kernel)
    only_weight = (False, True, False)
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), channels, only_weight
    )[1]
