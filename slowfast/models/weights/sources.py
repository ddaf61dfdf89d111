"""Source projects: recognised from the names of their parameters, adapted to ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from slowfast.models.base import VideoModel

State = dict[str, torch.Tensor]


def _unchanged(state: State, model: VideoModel) -> State:
    return state


@dataclass(frozen=True)
class WeightSource:
    """A project's checkpoint format.

    ``new_parts``: beginnings of names that a network may have and this source never does;
    they keep their initial values without counting as missing.
    """

    name: str
    matches: Callable[[State], bool]
    adapt: Callable[[State, VideoModel], State] = _unchanged
    new_parts: tuple[str, ...] = ()


def _is_uniformer(state: State) -> bool:
    return "patch_embed1.proj.weight" in state and "blocks1.0.pos_embed.weight" in state


def _is_image(state: State) -> bool:
    return state["patch_embed1.proj.weight"].ndim == 4


def _into_stfm(state: State, model: VideoModel) -> State:
    """Stage 4 of a plain UniFormer starts the blocks that STFM puts in its place."""
    if not hasattr(model, "blocks40"):
        return state
    adapted = {}
    for name, value in state.items():
        if name.startswith("blocks4.") and "pos_embed" not in name:
            adapted[name.replace("blocks4.", "blocks40.", 1)] = value
        elif not name.startswith(("blocks4.", "patch_embed4.", "norm.")):
            adapted[name] = value
    return adapted


_STFM_PARTS = ("stfm.", "normF.")

# The first that matches is taken.
SOURCES = (
    WeightSource("STFM", lambda s: any(name.startswith("stfm.") for name in s)),
    WeightSource(
        "UniFormer (ImageNet)", lambda s: _is_uniformer(s) and _is_image(s), _into_stfm, _STFM_PARTS
    ),
    WeightSource("UniFormer (video)", _is_uniformer, _into_stfm, _STFM_PARTS),
    WeightSource("a state dict of these names", lambda s: True),
)


def detect_source(state: State) -> WeightSource:
    """The project that a state dict comes from, by its names."""
    return next(source for source in SOURCES if source.matches(state))
