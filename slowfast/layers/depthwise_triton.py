"""Depthwise 3-D convolutions on NVIDIA and AMD GPUs, as Triton kernels.

cuDNN computes them at a fraction of a percent of what the memory allows (docs/benchmarks.md), and
networks such as UniFormer spend nearly all of their time there. Here every output is gathered from
channels-last frames; sums are in float32 and their order is fixed, so that runs stay exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

Size3 = tuple[int, int, int]


@triton.jit
def _source(place, tap, size, KERNEL: tl.constexpr, STRIDE: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Where a tap reads along an axis, and whether that is inside."""
    if TRANSPOSED:
        spread = place + KERNEL // 2 - tap
        source = spread // STRIDE
        inside = (spread >= 0) & (source < size)
        if STRIDE > 1:
            inside = inside & (spread % STRIDE == 0)
    else:
        source = place * STRIDE + tap - KERNEL // 2
        inside = (source >= 0) & (source < size)
    return source, inside


@triton.jit
def _places(rows, frames, height, width):
    """Numbers of places -> clip, frame, row and column."""
    column = rows % width
    rest = rows // width
    row = rest % height
    rest = rest // height
    return rest // frames, rest % frames, row, column


@triton.jit
def _gather_kernel(
    x, weight, bias, y, count, frames, height, width, x_frames, x_height, x_width, channels,
    x_clip, x_frame, x_row, x_column,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    ST: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    TRANSPOSED: tl.constexpr, HAS_BIAS: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """``y[place, c] = bias[c] + sum over taps of weight[tap, c] * x[source(place, tap), c]``."""
    rows = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    clip, frame, row, column = _places(rows, frames, height, width)
    used = rows < count
    known = channel < channels
    total = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    if WIDE:
        rows, clip = rows.to(tl.int64), clip.to(tl.int64)
    start = x + clip * x_clip
    for kt in range(KT):
        source_t, inside_t = _source(frame, kt, x_frames, KT, ST, TRANSPOSED)
        for kh in range(KH):
            source_h, inside_h = _source(row, kh, x_height, KH, SH, TRANSPOSED)
            line = start + (source_t * x_frame + source_h * x_row)
            inside = used & inside_t & inside_h
            for kw in tl.static_range(KW):
                source_w, inside_w = _source(column, kw, x_width, KW, SW, TRANSPOSED)
                mask = (inside & inside_w)[:, None] & known[None, :]
                place = line + source_w * x_column
                value = tl.load(place[:, None] + channel[None, :], mask=mask, other=0.0)
                tap = (kt * KH + kh) * KW + kw
                factor = tl.load(weight + tap * channels + channel, mask=known, other=0.0)
                total += value.to(tl.float32) * factor[None, :]
    target = (y + rows * channels)[:, None] + channel[None, :]
    tl.store(target, total.to(y.dtype.element_ty), mask=used[:, None] & known[None, :])


@triton.jit
def _product(
    line, column, channel, slope, inside, known, x_column, x_width,
    KW: tl.constexpr, SW: tl.constexpr, tap: tl.constexpr,
):  # fmt: skip
    """``slope`` times what a tap of a row reads, ``places channels``."""
    source, inside_w = _source(column, tap, x_width, KW, SW, False)
    mask = (inside & inside_w)[:, None] & known[None, :]
    place = (line + source * x_column)[:, None] + channel[None, :]
    return tl.load(place, mask=mask, other=0.0).to(tl.float32) * slope


@triton.jit
def _weight_kernel(
    x, grad, partial, count, per_chunk, frames, height, width, x_frames, x_height, x_width,
    channels, x_clip, x_frame, x_row, x_column,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    ST: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sums over a chunk of places of ``grad * x``, for the taps of one frame and row offset.

    The taps of a row have a variable each, since Triton knows no lists: at most five.
    """
    chunk = tl.program_id(0)
    pair = tl.program_id(1)
    channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    known = channel < channels
    sum_0 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    sum_1, sum_2, sum_3, sum_4 = sum_0, sum_0, sum_0, sum_0
    begin = chunk * per_chunk
    end = tl.minimum(begin + per_chunk, count)
    for first in range(begin, end, BLOCK_P):
        rows = first + tl.arange(0, BLOCK_P)
        clip, frame, row, column = _places(rows, frames, height, width)
        used = rows < end
        if WIDE:
            rows, clip = rows.to(tl.int64), clip.to(tl.int64)
        source_t, inside_t = _source(frame, pair // KH, x_frames, KT, ST, False)
        source_h, inside_h = _source(row, pair % KH, x_height, KH, SH, False)
        inside = used & inside_t & inside_h
        place = (grad + rows * channels)[:, None] + channel[None, :]
        slope = tl.load(place, mask=inside[:, None] & known[None, :], other=0.0).to(tl.float32)
        line = x + (clip * x_clip + source_t * x_frame + source_h * x_row)
        sum_0 += _product(line, column, channel, slope, inside, known, x_column, x_width, KW, SW, 0)
        if KW > 1:
            sum_1 += _product(
                line, column, channel, slope, inside, known, x_column, x_width, KW, SW, 1
            )
            sum_2 += _product(
                line, column, channel, slope, inside, known, x_column, x_width, KW, SW, 2
            )
        if KW > 3:
            sum_3 += _product(
                line, column, channel, slope, inside, known, x_column, x_width, KW, SW, 3
            )
            sum_4 += _product(
                line, column, channel, slope, inside, known, x_column, x_width, KW, SW, 4
            )
    target = partial + (chunk * KT * KH + pair) * KW * channels + channel
    tl.store(target, tl.sum(sum_0, axis=0), mask=known)
    if KW > 1:
        tl.store(target + channels, tl.sum(sum_1, axis=0), mask=known)
        tl.store(target + 2 * channels, tl.sum(sum_2, axis=0), mask=known)
    if KW > 3:
        tl.store(target + 3 * channels, tl.sum(sum_3, axis=0), mask=known)
        tl.store(target + 4 * channels, tl.sum(sum_4, axis=0), mask=known)


# Places and channels of a block of the two kernels, and warps: measured on an H200.
GATHER_BLOCK = (64, 32, 4)
WEIGHT_BLOCK = (32, 32, 4)
_PROGRAMS = 4096  # of the weight gradient: enough to fill a large GPU


def _gather(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    size: Sequence[int],
    stride: Sequence[int],
    transposed: bool,
) -> torch.Tensor:
    """``B C T H W`` -> ``B C *size``, channels last in memory."""
    x = x.contiguous(memory_format=torch.channels_last_3d)
    clips, channels = x.shape[:2]
    y = torch.empty(
        (clips, channels, *size),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last_3d,
    )
    taps = weight.detach().flatten(1).t().contiguous().float()
    count = clips * size[0] * size[1] * size[2]
    places, width, warps = GATHER_BLOCK
    width = min(width, triton.next_power_of_2(channels))
    grid = (triton.cdiv(count, places), triton.cdiv(channels, width))
    _gather_kernel[grid](
        x, taps, taps if bias is None else bias, y, count, *size, *x.shape[2:], channels,
        x.stride(0), *x.stride()[2:], *weight.shape[2:], *stride,
        transposed, bias is not None, _is_wide(x, y),
        BLOCK_P=places, BLOCK_C=width, num_warps=warps,
    )  # fmt: skip
    return y


@torch.library.custom_op("slowfast::depthwise_conv3d", mutates_args=())
def depthwise_conv3d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: Sequence[int]
) -> torch.Tensor:
    """Depthwise convolution ``B C T H W`` -> ``B C T' H' W'`` with odd kernels ``C 1 kt kh kw``,
    padded by ``kernel // 2``; the weight may be float32 where ``x`` is not."""
    return _gather(x, weight, bias, _out_size(x, weight, stride), stride, transposed=False)


@torch.library.custom_op("slowfast::depthwise_conv3d_input_gradient", mutates_args=())
def _input_gradient(
    grad: torch.Tensor, weight: torch.Tensor, size: Sequence[int], stride: Sequence[int]
) -> torch.Tensor:
    return _gather(grad, weight, None, size, stride, transposed=True)


@torch.library.custom_op("slowfast::depthwise_conv3d_weight_gradient", mutates_args=())
def _weight_gradient(
    grad: torch.Tensor, x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int]
) -> torch.Tensor:
    """Float32 ``C 1 kt kh kw``."""
    x, grad = (t.contiguous(memory_format=torch.channels_last_3d) for t in (x, grad))
    channels = x.shape[1]
    count = grad.numel() // channels
    places, width, warps = WEIGHT_BLOCK
    width = min(width, triton.next_power_of_2(channels))
    blocks = triton.cdiv(channels, width)
    pairs = kernel[0] * kernel[1]
    chunks = max(1, min(_PROGRAMS // (pairs * blocks), triton.cdiv(count, 8 * places)))
    partial = torch.empty(chunks, pairs * kernel[2], channels, dtype=torch.float32, device=x.device)
    _weight_kernel[(chunks, pairs, blocks)](
        x, grad, partial, count, triton.cdiv(count, chunks), *grad.shape[2:], *x.shape[2:],
        channels, x.stride(0), *x.stride()[2:],
        *kernel, *stride, _is_wide(x, grad),
        BLOCK_P=places, BLOCK_C=width, num_warps=warps,
    )  # fmt: skip
    return partial.sum(0).t().reshape(channels, 1, *kernel)


def _is_wide(*tensors: torch.Tensor) -> bool:
    """Whether places in memory need 64 bits."""
    return any(tensor.numel() >= 2**31 for tensor in tensors)


def _out_size(x: torch.Tensor, weight: torch.Tensor, stride: Sequence[int]) -> Size3:
    pairs = zip(x.shape[2:], weight.shape[2:], stride)
    return tuple((side + 2 * (k // 2) - k) // s + 1 for side, k, s in pairs)


def _channels_last(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return x.new_empty((*x.shape[:2], *size)).to(memory_format=torch.channels_last_3d)


@depthwise_conv3d.register_fake
def _(x, weight, bias, stride):
    return _channels_last(x, _out_size(x, weight, stride))


@_input_gradient.register_fake
def _(grad, weight, size, stride):
    return _channels_last(grad, size)


@_weight_gradient.register_fake
def _(grad, x, kernel, stride):
    return x.new_empty((x.shape[1], 1, *kernel), dtype=torch.float32)


def _save(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, weight, bias, stride = inputs
    ctx.save_for_backward(x, weight)
    ctx.stride, ctx.bias = stride, bias


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
    grad_x = grad_weight = grad_bias = None
    if wants_x:
        grad_x = _input_gradient(grad, weight, list(x.shape[2:]), ctx.stride)
    if wants_weight:
        grad_weight = _weight_gradient(grad, x, list(weight.shape[2:]), ctx.stride).to(weight.dtype)
    if wants_bias:
        grad_bias = grad.sum((0, 2, 3, 4), dtype=torch.float32).to(ctx.bias.dtype)
    return grad_x, grad_weight, grad_bias, None


depthwise_conv3d.register_autograd(_backward, setup_context=_save)
