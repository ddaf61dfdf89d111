"""What several tests of CLIP need."""

from __future__ import annotations

import torch

from tests.models.helpers import build

NAME = "TemporalClipVideo"


def write_clip(path, seed=9):
    """Weights of a CLIP of the tiny sizes."""
    _, model = build(NAME, {"MODEL.TEMPORAL_MODELING_TYPE": ""}, seed=seed)
    state = {n.removeprefix("model."): v for n, v in model.state_dict().items()}
    torch.save(state, path)
    return state
