"""The Triton kernels by Triton's interpreter, on the CPU, against PyTorch's convolution."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Older interpreters do not work with NumPy 2.5.
pytest.importorskip("triton", minversion="3.7")
ROOT = Path(__file__).parents[2]
COMPARE = """
import torch
import torch.nn.functional as F
from slowfast.layers.depthwise_triton import depthwise_conv3d

CASES = [
    # clips, channels, frames, height, width; kernel; stride
    ((2, 6, 2, 4, 5), (3, 3, 3), (1, 1, 1)),
    ((1, 40, 2, 3, 6), (3, 5, 5), (1, 1, 1)),
    ((2, 10, 2, 5, 5), (3, 3, 3), (1, 2, 2)),
    ((1, 5, 3, 6, 6), (1, 3, 3), (2, 4, 4)),
]
for shape, kernel, stride in CASES:
    torch.manual_seed(0)
    channels, biased = shape[1], stride == (1, 1, 1)
    inputs = [torch.randn(shape), torch.randn(channels, 1, *kernel)]
    inputs += [torch.randn(channels)] if biased else []
    inputs = [x.requires_grad_() for x in inputs]
    x, weight, bias = (*inputs, None)[:3]
    ours = depthwise_conv3d(x, weight, bias, list(stride))
    padding = [k // 2 for k in kernel]
    theirs = F.conv3d(x, weight, bias, stride, padding, groups=channels)
    slope = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    pairs = zip(*(torch.autograd.grad(y, inputs, slope) for y in (ours, theirs)))
    for gradient, expected in pairs:
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
    print(kernel, "equal")
torch.library.opcheck(
    depthwise_conv3d,
    (x.detach(), weight.detach(), None, list(stride)),
    test_utils=("test_schema", "test_faketensor"),
)
"""


def test_kernels_equal_the_convolution(tmp_path):
    script = tmp_path / "compare.py"
    script.write_text(COMPARE)
    # Triton reads it when it is imported, so that no process that is forked from another will do.
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("equal") == 4
