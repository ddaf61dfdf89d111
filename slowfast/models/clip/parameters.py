"""Which parameters of CLIP over videos learn, how fast, and in which layer they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

# Parts that can be trained -> beginnings of names of parameters in OpenAI's names.
PARTS = {
    "visual": ("visual.",),
    "text": ("token_embedding.", "positional_embedding", "transformer.", "ln_final."),
    "text_projection": ("text_projection",),
    "logit_scale": ("logit_scale",),
}
_TEXT = tuple(f"model.{start}" for part in ("text", "text_projection") for start in PARTS[part])
_EMBEDDINGS = (
    "conv1.",
    "class_embedding",
    "positional_embedding",
    "ln_pre.",
    "token_embedding.",
    "prompt_embed",
)


@dataclass(frozen=True)
class LearningRateFactors:
    """Factors of the learning rate: ``message`` for X-CLIP's message tokens, ``adapter`` for
    ST-Adapter, ``mlp`` for the MLPs of all blocks, ``default`` for all others. Parameters of the
    text tower and its projection are multiplied by ``text`` as well."""

    default: float = 1.0
    message: float = 1.0
    adapter: float = 1.0
    mlp: float = 1.0
    text: float = 1.0

    def factor(self, name: str) -> float:
        """Factor of one parameter of the video network."""
        by_part = {"message": self.message, "stadapt": self.adapter, "mlp": self.mlp}
        factor = next((value for part, value in by_part.items() if part in name), self.default)
        return factor * (self.text if name.startswith(_TEXT) else 1.0)


def clip_multipliers(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Name -> (factor of the weight decay, factor of the learning rate), see ``lr_factors``."""
    factors = {name: model.lr_factors.factor(name) for name, _ in model.named_parameters()}
    return {name: (1.0, factor) for name, factor in factors.items() if factor != 1.0}


def clip_layer(model: nn.Module, name: str) -> int:
    """Layer of a parameter for layer decay: 0 embeddings of either tower, ``i + 1`` its block
    ``i``, last everything behind the blocks."""
    sizes = model.model.sizes
    inner = name.removeprefix("model.").removeprefix("visual.")
    if inner.startswith("transformer.resblocks."):
        return int(inner.split(".")[2]) + 1
    return 0 if inner.startswith(_EMBEDDINGS) else max(sizes.layers, sizes.text_layers) + 1


def freeze_all_but(network: nn.Module, parts: Iterable[str]) -> None:
    """Freeze every parameter of a CLIP outside ``parts``; DDP would wait for unused gradients."""
    starts = tuple(start for part in parts for start in PARTS[part])
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(starts))
