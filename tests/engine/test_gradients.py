"""Gradients that PyTorch lets share memory."""

from __future__ import annotations

import torch

from slowfast.engine.gradients import separate_gradients
from tests.models.helpers import build, clips

SHARING = {"MVIT.USE_ABS_POS": True, "MVIT.SEP_POS_EMBED": True}


def test_no_two_parameters_share_a_gradient():
    """Accumulated clip by clip, the gradient is that of all clips."""
    cfg, network = build("MViT", SHARING)
    video = clips(cfg, 3)

    def gradients(parts: list[list[int]]) -> dict[str, torch.Tensor]:
        network.zero_grad()
        for part in parts:
            network(video[part]).square().sum().backward()
            separate_gradients(network)
        return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}

    together, alone = gradients([[0, 1, 2]]), gradients([[0], [1], [2]])
    for name, value in together.items():
        assert torch.allclose(value, alone[name], rtol=1e-3, atol=1e-4), name
    storages = [p.grad.untyped_storage()._cdata for p in network.parameters() if p.grad is not None]
    assert len(set(storages)) == len(storages)
