"""Checkpoints of few-shot projects under the names of an embedding (``base``) and its head."""

from __future__ import annotations

from torch import nn

from slowfast.models.spec import State, WeightSource


def is_staf(state: State) -> bool:
    """Whether a state dict is that of STAF: ``base``, ``cam`` and ``classifier``."""
    return any(name.startswith(("cam.conv1.", "cam.module.conv1.")) for name in state)


def _from_staf(state: State, model: nn.Module) -> State:
    """``base``, ``cam`` and ``classifier``, each possibly wrapped for several GPUs."""
    adapted = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        rest = rest.removeprefix("module.")
        adapted[f"base.{rest}" if part == "base" else f"head.{part}.{rest}"] = value
    return adapted


def is_trx(state: State) -> bool:
    """Whether a state dict is that of TRX: a ResNet as a Sequential, and ``transformers``."""
    return any(name.startswith("transformers.0.k_linear.") for name in state)


# Index in TRX's Sequential -> name in a ResNet.
_RESNET_LAYERS = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}


def _from_trx(state: State, model: nn.Module) -> State:
    """``resnet.<index>`` of a Sequential, and the branches ``transformers.<n>``."""
    adapted = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part == "resnet":
            index, _, rest = rest.removeprefix("module.").partition(".")
            adapted[f"base.base_model.{_RESNET_LAYERS[index]}.{rest}"] = value
        else:
            adapted[f"head.logits.{name}"] = value
    return adapted


FEWSHOT_SOURCES = (
    WeightSource("STAF", is_staf, _from_staf),
    WeightSource("TRX", is_trx, _from_trx, ("base.new_fc.", "base.consensus.", ".pe.pe")),
)
