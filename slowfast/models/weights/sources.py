"""Checkpoint formats of other projects: recognised by parameter names, adapted to ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.fewshot_sources import FEWSHOT_SOURCES
from slowfast.models.spec import Resizer, State, WeightSource

# Those of networks over episodes, which are not in the registry.
_EXTRA = FEWSHOT_SOURCES
# Names that are ours already.
OWN_NAMES = WeightSource("a state dict of these names", lambda state: True)


def registered_sources() -> list[WeightSource]:
    """The formats of all registered networks in the order of registration, then the others.

    Predicates exclude each other, so that the order does not matter.
    """
    specs = [MODEL_REGISTRY.get(name).spec for name in MODEL_REGISTRY]
    own = [source for spec in specs for source in spec.sources]
    return list(dict.fromkeys([*own, *_EXTRA]))


def registered_resizers() -> tuple[Resizer, ...]:
    """The resizers of all registered networks."""
    specs = [MODEL_REGISTRY.get(name).spec for name in MODEL_REGISTRY]
    own = [resizer for spec in specs for resizer in spec.resizers]
    return tuple(dict.fromkeys(own))


def detect_source(state: State, preferred: Iterable[WeightSource] = ()) -> WeightSource:
    """The format of a state dict by its names; ``preferred`` formats are tried first."""
    sources = (*preferred, *registered_sources())
    return next((source for source in sources if source.matches(state)), OWN_NAMES)


def networks_of(state: State) -> list[str]:
    """Names of the registered networks that have such a file as their own format; empty if none
    is known."""
    source = detect_source(state)
    return [name for name in MODEL_REGISTRY if source in MODEL_REGISTRY.get(name).spec.sources]


def adapt_state(state: State, model: VideoModel) -> tuple[WeightSource, State]:
    """(format, state under our names).

    The formats of the network's own specification are tried first. What fits the embedding inside
    a few-shot network is loaded there.
    """
    source = detect_source(state, model.spec.sources)
    base = getattr(model, "base", None)
    if base is None or any(name.startswith(("base.", "resnet.")) for name in state):
        return source, source.adapt(state, model)
    embedding = {f"base.{name}": value for name, value in source.adapt(state, base).items()}
    return replace(source, new_parts=(*source.new_parts, "head.")), embedding
