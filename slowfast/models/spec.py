"""ModelSpec: what training, weights and tools need to know about a network, beside the module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.utils.errors import Problem
from slowfast.video.device import InputFormat

if TYPE_CHECKING:
    from slowfast.models.base import VideoModel

State = dict[str, torch.Tensor]


def _unchanged(state: State, model: VideoModel) -> State:
    return state


@dataclass(frozen=True)
class WeightSource:
    """A project's checkpoint format.

    Args:
        name: for reports ("weights of <name>").
        matches: recognises the format by the names of a state dict; formats exclude each other.
        adapt: (state dict, network) -> state dict under the names of the network. It is called
            with any network that reads such a file, and must leave alone what it does not know.
        new_parts: parts of names that the network may have and this format never has; such
            parameters keep their initial values without counting as missing.
    """

    name: str
    matches: Callable[[State], bool]
    adapt: Callable[[State, VideoModel], State] = _unchanged
    new_parts: tuple[str, ...] = ()


# (name of the parameter, tensor of the file, shape of the parameter) -> tensor of that shape, or
# None where it does not apply.
Resizer = Callable[[str, torch.Tensor, tuple[int, ...]], "torch.Tensor | None"]


@dataclass(frozen=True)
class ModelSpec:
    """Facts of one network class, its attribute ``spec``; functions take the network or the keys.

    Weights:
        sources: checkpoint formats that this network brings along. When its weights are loaded
            they are tried before those of other networks.
        resizers: tried in order on tensors of another shape, the first result of the right shape
            counts; then convolutions are inflated.
        classifier_prefixes: beginnings of names of parameters whose shape depends on the classes.
        initial_weights: name or path of the weights that a recipe starts from, or empty.
        weights_key: the key that names them, for messages.
        zero_shot_weights: weights that can be tested without any training, or empty.

    Training:
        finetune_patterns: parts of names of parameters that MODEL.FINETUNNING trains.
        no_weight_decay: names, or parts of names, of parameters that are not decayed.
        param_multipliers: name -> (factor of the weight decay, factor of the learning rate).
        layer_of: number of the layer of a parameter, 0 next to the input, for SOLVER.LAYER_DECAY;
            the largest number is the head. None: layer decay is refused.
        unused_parameters: whether a training step leaves parameters without gradient.
        reads_all_parameters: whether a forward pass reads the parameters of its blocks from
            outside of them, so that FSDP has to gather the network as a whole.
        full_precision: parts whose parameters FSDP gathers in float32, mixed precision or not.

    Configuration:
        check: problems of a configuration that selects this network.
        any_clip_size: it trains on clips of any number of frames (that ``check`` allows) and any
            crop, as multigrid training has them.
        input_format: mean, deviation and channel order that it needs; None: what DATA says.
        cam_layers: names of the modules whose maps Grad-CAM takes, one for each pathway; empty: the
            module that gives the last map.
        open_vocabulary: it knows classes by their names, so that any classes can be tested.
        variants: name for ``slowfast.create_model`` -> arguments of the constructor.
        test_overrides: KEY -> value of a variant small enough for tests over the whole registry.
    """

    sources: tuple[WeightSource, ...] = ()
    resizers: tuple[Resizer, ...] = ()
    classifier_prefixes: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = ("head.",)
    initial_weights: Callable[[CfgNode], str] = lambda cfg: ""
    weights_key: str = "TRAIN.CHECKPOINT_FILE_PATH"
    zero_shot_weights: Callable[[CfgNode], str] = lambda cfg: ""
    finetune_patterns: tuple[str, ...] = ("stfm", "normF", "blocks40", "head")
    no_weight_decay: Callable[[Any], set[str]] = lambda model: set()
    param_multipliers: Callable[[Any], dict[str, tuple[float, float]]] = lambda model: {}
    layer_of: Callable[[Any, str], int] | None = None
    unused_parameters: Callable[[Any], bool] = lambda model: False
    reads_all_parameters: Callable[[Any], bool] = lambda model: False
    full_precision: Callable[[Any], Sequence[nn.Module]] = lambda model: ()
    check: Callable[[CfgNode], Iterable[Problem]] = lambda cfg: ()
    any_clip_size: bool = False
    input_format: Callable[[CfgNode], InputFormat | None] = lambda cfg: None
    cam_layers: Callable[[Any], Sequence[str]] = lambda model: ()
    open_vocabulary: bool = False
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    test_overrides: Mapping[str, Any] = field(default_factory=dict)

    def classifier_of(self, model: VideoModel) -> tuple[str, ...]:
        """Beginnings of the names of the parameters of ``model`` that give the classes."""
        prefixes = self.classifier_prefixes
        return tuple(prefixes(model) if callable(prefixes) else prefixes)
