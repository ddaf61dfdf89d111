"""Batch normalisation as part of the convolution before it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slowfast.layers.conv import conv3d, conv_norm
from slowfast.layers.fold import folded_conv, folded_norms
from tests.models.helpers import build, clips, to_eval

CONVOLUTIONAL = [
    ("ResNet", {"MODEL.ARCH": "i3d", "NONLOCAL.LOCATION": [[[]], [[1]], [[]], [[]]]}),
    ("ResNet", {"RESNET.TRANS_FUNC": "basic_transform", "MODEL.ARCH": "c2d"}),
    ("SlowFast", {}),
    ("X3D", {}),
    ("ResNet3D", {}),
]


def with_statistics(model: nn.Module) -> nn.Module:
    """``model`` with norms that do something: random statistics, scales and shifts."""
    generator = torch.Generator().manual_seed(0)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm3d)):
        for tensor in (norm.running_var, norm.weight.data):
            tensor.uniform_(0.5, 1.5, generator=generator)
        for tensor in (norm.running_mean, norm.bias.data):
            tensor.normal_(0, 0.1, generator=generator)
    return model


@pytest.mark.parametrize("name, extra", CONVOLUTIONAL)
def test_networks_answer_as_before(name, extra):
    cfg, model = build(name, extra)
    with_statistics(to_eval(model))
    video = clips(cfg)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        expected = model(video)
        with folded_norms():
            folded = [model(video) for _ in range(2)]
    assert (folded[0] - expected).abs().max() < 1e-5 * expected.abs().max()
    assert torch.equal(*folded) and not torch.equal(folded[0], expected)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def pair():
    torch.manual_seed(0)
    return with_statistics(nn.ModuleList([conv3d(3, 4, 1), nn.BatchNorm3d(4)])).eval()


def test_a_pair_by_hand():
    conv, norm = pair()
    with torch.inference_mode(), folded_norms():
        folded = folded_conv(conv, norm)
        assert folded_conv(conv, norm) is folded  # once
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    assert torch.allclose(folded.weight.flatten(1), scale[:, None] * conv.weight.flatten(1))
    assert torch.allclose(folded.bias, norm.bias - scale * norm.running_mean)
    assert conv.bias is None


def test_new_weights_in_the_next_context():
    conv, norm = pair()
    x = torch.randn(1, 3, 2, 2, 2)
    with torch.inference_mode(), folded_norms():
        conv_norm(conv, norm, x)
    norm.running_mean += 1
    with torch.inference_mode(), folded_norms():
        assert torch.allclose(conv_norm(conv, norm, x), norm(conv(x)), atol=1e-6)


def test_where_the_two_stay_apart():
    conv, norm = pair()
    with torch.no_grad():
        assert folded_conv(conv, norm) is None  # no context
    with folded_norms():
        assert folded_conv(conv, norm) is None  # gradients
        with torch.no_grad():
            assert folded_conv(conv, nn.Identity()) is None
            assert folded_conv(conv, nn.BatchNorm3d(4)) is None  # training
            handle = norm.register_forward_hook(lambda *_: None)
            assert folded_conv(conv, norm) is None
            handle.remove()
            assert folded_conv(conv, norm) is not None
