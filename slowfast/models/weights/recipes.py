"""Which of several configurations describes the network that a file of weights is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slowfast.config.load import load_config
from slowfast.config.yaml_file import read_yaml
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model
from slowfast.models.spec import State
from slowfast.models.weights.files import networks_of_file
from slowfast.models.weights.read import Checkpoint
from slowfast.models.weights.sources import adapt_state

_ANY_CLASSES = {"DATA.INDEX_LABEL_MAPPING_FILE": "", "DATA.CLASS_NAMES": ["a"], "NUM_GPUS": 0}


def fitting_configuration(
    weights: str | Path, files: Sequence[Path], key: str
) -> tuple[Path | None, list[str]]:
    """(the configuration among ``files`` whose network the file fills best, the networks that it
    is of); None if it is of none of theirs. UserError naming ``key`` if it cannot be read."""
    networks = networks_of_file(weights, key)
    fitting = [file for file in files if _network_of(file) in networks]
    if len(fitting) < 2:
        return (fitting or [None])[0], networks
    state = Checkpoint.read(weights, key, mapped=True).state
    models = {file: build_model(load_config([file], _ANY_CLASSES)) for file in fitting}
    return max(models, key=lambda file: equal_share(state, models[file])), networks


def equal_share(state: State, model: VideoModel) -> float:
    """Share of the network's parameters for which the file has a tensor of the same name and
    shape, between 0 and 1."""
    _, adapted = adapt_state(state, model)
    sizes = {name: (p.numel(), p.shape) for name, p in model.named_parameters()}
    equal = (n for name, (n, shape) in sizes.items() if _shape_of(adapted, name) == shape)
    return sum(equal) / max(sum(n for n, _ in sizes.values()), 1)


def _shape_of(state: State, name: str) -> object:
    return state[name].shape if name in state else None


def _network_of(file: Path) -> str:
    named = [entry.value for entry in read_yaml(file) if entry.key == "MODEL.MODEL_NAME"]
    return named[-1] if named else ""
