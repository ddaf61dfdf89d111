"""CLIP's weights under OpenAI's names, from a file of any project."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from slowfast.models.spec import State
from slowfast.models.weights.read import read_checkpoint, state_dict_of

_CONSTANTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


def is_clip(state: State) -> bool:
    """Whether a state dict is a CLIP with a vision transformer, of OpenAI or open_clip."""
    return "visual.conv1.weight" in state and "visual.class_embedding" in state


def is_video_clip(state: State) -> bool:
    """Whether a state dict is a checkpoint of Open-VCLIP, FROSTER, STDD or this package."""
    return "model.visual.conv1.weight" in state


def openai_names(state: State) -> State:
    """The network alone, without wrappers, frozen copies and constants of the archive."""
    if is_video_clip(state):
        start = "model."
        state = {n.removeprefix(start): v for n, v in state.items() if n.startswith(start)}
    # open_clip keeps the text tower of some networks in a module of its own.
    state = {name.removeprefix("text."): value for name, value in state.items()}
    return {name: value for name, value in state.items() if name not in _CONSTANTS}


def video_names(state: State, parameters: Container[str]) -> State:
    """A CLIP of any file under the names of a video network with these ``parameters``; its frozen
    copy, where there is one, has the same weights."""
    state = openai_names(state)
    prefixes = [p for p in ("model.", "raw_model.") if f"{p}logit_scale" in parameters]
    return {prefix + name: value for prefix in prefixes for name, value in state.items()}


def read_clip(path: str | Path, key: str) -> State:
    """The weights of a file in OpenAI's names; UserError naming ``key`` if it cannot be read."""
    return openai_names(state_dict_of(read_checkpoint(path, key, mapped=True), path))
