"""Checkpoint formats of other projects: recognised by parameter names, adapted to ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.clip.towers import sizes_of
from slowfast.models.fewshot_sources import FEWSHOT_SOURCES
from slowfast.models.spec import Resizer, State, WeightSource
from slowfast.models.weights.clip_names import is_clip, is_video_clip, openai_names, video_names
from slowfast.models.weights.convert import resize_by_name
from slowfast.utils.errors import UserError

_CLIP_PARTS = ("projector_v.", "prompt_embed", "head", ".message_", ".stadapt_")


def _from_clip(state: State, model: VideoModel) -> State:
    own = model.state_dict()
    _check_architecture(openai_names(state), own)
    return video_names(state, own)


def _from_video_clip(state: State, model: VideoModel) -> State:
    own = model.state_dict()
    _check_architecture(openai_names(state), own)
    extra = ("projector_t.", "projector_v.", "raw_model.")  # not every network has them
    return {n: v for n, v in state.items() if n in own or not n.startswith(extra)}


def _check_architecture(state: State, own: State) -> None:
    """UserError if a file holds a CLIP of another size."""
    if not is_video_clip(own):
        return
    given, wanted = sizes_of(state), sizes_of(openai_names(own))
    flexible = ("resolution", "context")
    if any(vars(given)[k] != v for k, v in vars(wanted).items() if k not in flexible):
        raise UserError(
            f"the file holds a CLIP with {given}; the network has {wanted}",
            "choose the ARCH of the file (vitb32, vitb16, vitl14), or custom and its sizes",
            "MODEL.ARCH",
        )


# Those of networks whose specification does not name them yet.
_EXTRA = (
    *FEWSHOT_SOURCES,
    WeightSource("CLIP", is_clip, _from_clip, _CLIP_PARTS),
    WeightSource(
        "CLIP for videos (Open-VCLIP, FROSTER, STDD)", is_video_clip, _from_video_clip, _CLIP_PARTS
    ),
)
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
    return tuple(dict.fromkeys([*own, resize_by_name]))


def detect_source(state: State, preferred: Iterable[WeightSource] = ()) -> WeightSource:
    """The format of a state dict by its names; ``preferred`` formats are tried first."""
    sources = (*preferred, *registered_sources())
    return next((source for source in sources if source.matches(state)), OWN_NAMES)


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
