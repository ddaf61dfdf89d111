"""CLIP's weights under OpenAI's names, whoever wrote the file."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import torch

from slowfast.models.weights.read import read_checkpoint, state_dict_of

State = dict[str, torch.Tensor]

_CONSTANTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


def is_clip(state: State) -> bool:
    """A CLIP with a vision transformer, of OpenAI or open_clip."""
    return "visual.conv1.weight" in state and "visual.class_embedding" in state


def is_video_clip(state: State) -> bool:
    """A checkpoint of Open-VCLIP, FROSTER, STDD, or ours."""
    return "model.visual.conv1.weight" in state


def openai_names(state: State) -> State:
    """The network alone: wrappers, frozen copies and constants of the archive are left out."""
    if is_video_clip(state):
        start = "model."
        state = {n.removeprefix(start): v for n, v in state.items() if n.startswith(start)}
    # open_clip keeps the text tower of some networks apart.
    state = {name.removeprefix("text."): value for name, value in state.items()}
    return {name: value for name, value in state.items() if name not in _CONSTANTS}


def video_names(state: State, own: Container[str]) -> State:
    """A CLIP of any file under the names of a video network with parameters ``own``; its frozen
    copy, where there is one, has the same weights."""
    state = openai_names(state)
    starts = [start for start in ("model.", "raw_model.") if f"{start}logit_scale" in own]
    return {start + name: value for start in starts for name, value in state.items()}


def read_clip(path: str | Path, key: str) -> State:
    """The weights of a file in OpenAI's names; UserError naming ``key`` if it cannot be read."""
    return openai_names(state_dict_of(read_checkpoint(path, key), path))
