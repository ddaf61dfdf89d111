"""The convolutional MLP is an MLP of every position."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from slowfast.layers.mlp import ConvMlp


def test_every_position_by_itself():
    torch.manual_seed(0)
    layer = ConvMlp(4, 6)
    x = torch.randn(2, 4, 2, 3, 3)
    y = layer(x)
    one = x[1, :, 1, 2, 0]
    hidden = F.gelu(layer.fc1.weight.flatten(1) @ one + layer.fc1.bias)
    expected = layer.fc2.weight.flatten(1) @ hidden + layer.fc2.bias
    assert torch.allclose(y[1, :, 1, 2, 0], expected, atol=1e-6)


def test_dropout_acts_in_training_only():
    layer, x = ConvMlp(4, 6, drop=0.5), torch.randn(1, 4, 2, 2, 2)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
