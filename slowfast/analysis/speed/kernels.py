"""Microbenchmarks of the operations that decide a GPU's speed: depthwise convolutions, products
of widths that are not multiples of eight, and the rate of a large product."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from slowfast.analysis.speed.timing import alternate, median_ms
from slowfast.layers.conv import DepthwiseConv3d
from slowfast.utils.runtime import Runtime

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def product_rate(runtime: Runtime, precision: str, rounds: int = 5) -> float:
    """TFLOP/s of a large square matrix product: the peak that shares are measured against."""
    side = 8192 if runtime.on_gpu else 1024
    left, right = (
        torch.randn(side, side, device=runtime.device, dtype=_DTYPES[precision]) for _ in range(2)
    )
    runtime.tune(tf32=precision == "tf32", cudnn_benchmark=False, deterministic=False)
    (seconds,) = alternate([lambda _: left @ right], rounds, runtime)
    return 2 * side**3 / median_ms(seconds) / 1e9


@dataclass(frozen=True)
class KernelRow:
    """One way to compute an operation, and its milliseconds."""

    operation: str
    shape: str
    way: str
    milliseconds: float


def depthwise_rows(runtime: Runtime, batch: int, rounds: int) -> Iterator[KernelRow]:
    """Depthwise 3-D convolutions of UniFormer-S (3³ positions, 5³ mixing; stages 1 and 2), by
    memory layout and precision, forward + backward; of a smaller clip on the CPU."""
    for kernel, (channels, *size) in ((3, (64, 8, 56)), (5, (64, 8, 56)), (5, (128, 8, 28))):
        frames, side = size if runtime.on_gpu else (2, 14)
        shape = (batch if runtime.on_gpu else 1, channels, frames, side, side)
        ways: dict[str, Callable[[int], object]] = {}
        for precision in ("fp32", "bf16"):
            for layout in ("contiguous", "channels last", "ours"):
                work = _depthwise(runtime, shape, kernel, _DTYPES[precision], layout)
                ways[f"{precision} {layout}"] = work
        name = f"depthwise {kernel}x{kernel}x{kernel}"
        yield from _rows(name, "x".join(map(str, shape)), ways, rounds, runtime)


def _depthwise(
    runtime: Runtime, shape: Sequence[int], kernel: int, dtype: torch.dtype, layout: str
) -> Callable[[int], object]:
    channels = shape[1]
    conv = nn.Conv3d(channels, channels, kernel, padding=kernel // 2, groups=channels)
    memory = torch.channels_last_3d if layout != "contiguous" else torch.contiguous_format
    if layout == "ours":
        conv = DepthwiseConv3d(channels, kernel)
    conv = conv.to(runtime.device, dtype, memory_format=memory)
    clip = torch.randn(*shape, device=runtime.device, dtype=dtype).to(memory_format=memory)
    clip.requires_grad_()

    def work(_: int) -> None:
        conv.zero_grad(set_to_none=True)
        clip.grad = None
        output = conv(clip)
        output.backward(output.detach())

    return work


def product_rows(runtime: Runtime, batch: int, rounds: int) -> Iterator[KernelRow]:
    """STFM's product of 2873 and 2809 features, as it is and padded to multiples of eight."""
    rows = 64 * batch if runtime.on_gpu else 64
    for precision in ("fp32", "bf16"):
        ways: dict[str, Callable[[int], object]] = {}
        for name, (inner, outer) in {"as it is": (2873, 2809), "padded": (2880, 2816)}.items():
            options = {"device": runtime.device, "dtype": _DTYPES[precision]}
            left, right = torch.randn(rows, inner, **options), torch.randn(outer, inner, **options)
            ways[name] = lambda _, a=left, b=right: a @ b.T
        yield from _rows(f"product {precision}", f"{rows}x2873 x 2873x2809", ways, rounds, runtime)


def _rows(
    operation: str,
    shape: str,
    ways: dict[str, Callable[[int], object]],
    rounds: int,
    runtime: Runtime,
) -> Iterator[KernelRow]:
    seconds = alternate(list(ways.values()), rounds, runtime)
    for way, values in zip(ways, seconds):
        yield KernelRow(operation, shape, way, median_ms(values))
