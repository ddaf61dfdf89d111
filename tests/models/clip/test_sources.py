"""Weights of CLIP: which files are recognised, which tensors are resized."""

from __future__ import annotations

import torch

from slowfast.layers.positions import resize_clip_pos_embed
from slowfast.models.clip.sources import CLIP_RESIZERS, CLIP_SOURCES
from slowfast.models.weights.sources import OWN_NAMES, detect_source
from tests.models.clip.helpers import NAME
from tests.models.helpers import build


def resized(name, tensor, shape):
    results = [resize(name, tensor, shape) for resize in CLIP_RESIZERS]
    return next((result for result in results if result is not None), None)


def test_the_network_knows_its_files():
    _, model = build(NAME)
    state, own = model.state_dict(), model.spec.sources
    assert detect_source(state) is detect_source(state, own) is CLIP_SOURCES[1]
    plain = {name.removeprefix("model."): value for name, value in state.items()}
    assert detect_source(plain) is detect_source(plain, own) is CLIP_SOURCES[0]
    _, other = build("FrameAverage")
    assert detect_source(other.state_dict(), own) is OWN_NAMES


def test_resized_positions():
    positions = torch.randn(17, 8)
    for prefix in ("model.", "raw_model."):
        name = f"{prefix}visual.positional_embedding"
        assert torch.equal(resized(name, positions, (10, 8)), resize_clip_pos_embed(positions, 10))
        assert resized(name, positions, (10, 4)) is None
        text = f"{prefix}positional_embedding"
        assert torch.equal(resized(text, positions, (5, 8)), positions[:5])
        assert resized(text, positions, (20, 8)) is None  # nothing is made up
    assert resized("pos_embed", positions, (5, 8)) is None
