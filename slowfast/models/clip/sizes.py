"""Sizes of CLIP networks: the published ones, and those of a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from slowfast.utils.errors import UserError


@dataclass(frozen=True)
class ClipSizes:
    """Sizes of a CLIP network; those of the text tower are 0 where there is none.

    ``patch`` and ``resolution`` are sides in pixels, ``context`` is the largest number of tokens
    of a text, ``embed_dim`` the width of the features of frames and texts. ``stem`` is how pixels
    become patches, see :func:`slowfast.layers.patch_embed.build_stem`.
    """

    patch: int
    width: int
    layers: int
    embed_dim: int
    resolution: int = 224
    context: int = 77
    vocabulary: int = 49408
    text_width: int = 512
    text_layers: int = 12
    stem: str = "patch"

    def __str__(self) -> str:
        return (
            f"patches of {self.patch}, {self.layers} layers of {self.width}, text tower of "
            f"{self.text_layers} layers of {self.text_width}, {self.embed_dim} features"
        )


ARCHITECTURES = {
    "vitb32": ClipSizes(32, 768, 12, 512),
    "vitb16": ClipSizes(16, 768, 12, 512),
    "vitl14": ClipSizes(14, 1024, 24, 768, text_width=768),
}


def infer_sizes(state: Mapping[str, torch.Tensor]) -> ClipSizes:
    """Sizes of the network of a state dict in OpenAI's names; UserError if it is not a CLIP."""
    try:
        conv, proj = state["visual.conv1.weight"], state["visual.proj"]
        positions = len(state["visual.positional_embedding"])
    except KeyError as error:
        raise UserError(
            f"these are no weights of a CLIP with a vision transformer: {error} is missing",
            "name ViT-B-32.pt, ViT-B-16.pt or ViT-L-14.pt of OpenAI, or a checkpoint made of one",
        ) from None
    text = dict.fromkeys(("context", "vocabulary", "text_width", "text_layers"), 0)
    if "token_embedding.weight" in state:
        vocabulary, text_width = state["token_embedding.weight"].shape
        text = {
            "context": len(state["positional_embedding"]),
            "vocabulary": vocabulary,
            "text_width": text_width,
            "text_layers": _count_layers(state, "transformer."),
        }
    patch = conv.shape[-1]
    return ClipSizes(
        patch,
        conv.shape[0],
        _count_layers(state, "visual.transformer."),
        proj.shape[1],
        round((positions - 1) ** 0.5) * patch,
        **text,
    )


def _count_layers(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    start = f"{prefix}resblocks."
    return len({name[len(start) :].split(".")[0] for name in state if name.startswith(start)})
