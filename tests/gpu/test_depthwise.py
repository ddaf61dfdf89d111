"""On a real GPU: the Triton kernels of depthwise convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from slowfast.layers.conv import DepthwiseConv3d, gpu_depthwise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "shape, kernel, stride",
    [
        ((2, 64, 4, 14, 14), 5, 1),
        ((3, 96, 4, 28, 28), 3, (1, 2, 2)),
        ((2, 40, 5, 9, 9), 3, (2, 1, 1)),
        ((2, 128, 1, 7, 7), (1, 3, 3), (1, 4, 4)),
    ],
)
def test_equal_to_the_convolution_and_to_themselves(shape, kernel, stride, dtype):
    torch.manual_seed(0)
    layer = DepthwiseConv3d(shape[1], kernel, stride).cuda()
    x = torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True)

    def run():
        y = gpu_depthwise()(x, layer.weight, layer.bias, layer.stride)
        return y, torch.autograd.grad(y, (x, layer.weight, layer.bias), torch.ones_like(y) + y)

    ours, gradients = run()
    x64, weight, bias = (
        t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias)
    )
    theirs = F.conv3d(x64, weight, bias, layer.stride, layer.padding, groups=shape[1])
    expected = torch.autograd.grad(theirs, (x64, weight, bias), 1 + ours.double().detach())
    limit = 1e-5 if dtype == torch.float32 else 1e-2
    for value, other in zip((ours, *gradients), (theirs, *expected)):
        error = (value.double() - other).norm() / other.norm()
        assert error.item() < limit
    again, same = run()
    assert torch.equal(ours, again) and all(map(torch.equal, gradients, same))


def test_more_places_than_32_bits_count():
    layer = DepthwiseConv3d(64, 3).cuda().bfloat16()
    x = torch.randn(2, 64, 4, 2048, 2056, device="cuda", dtype=torch.bfloat16)
    x = x.to(memory_format=torch.channels_last_3d)
    assert x.numel() > 2**31
    with torch.no_grad():
        corner = layer(x)[1:, :, -2:, -3:, -3:].float()
        expected = F.conv3d(
            x[1:, :, -3:, -4:, -4:].float(),
            layer.weight.float(),
            layer.bias.float(),
            padding=1,
            groups=64,
        )[:, :, 1:, 1:, 1:]
    torch.testing.assert_close(corner, expected, rtol=2e-2, atol=2e-2)


def test_autocast_and_compilation_use_them():
    layer = DepthwiseConv3d(64, 3).cuda()
    x = torch.randn(2, 64, 4, 8, 8, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        eager = layer(x)
        compiled = torch.compile(layer, fullgraph=True)(x)
    assert eager.dtype == torch.bfloat16
    assert eager.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(eager, compiled)
