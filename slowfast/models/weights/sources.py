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


def _focused(state: State, model: VideoModel) -> State:
    """The plain network's last blocks start those that STFM puts in their place."""
    if not hasattr(model, "blocks40"):
        return state
    plain = len(model.blocks)
    adapted = {}
    for name, value in state.items():
        head, _, rest = name.partition(".")
        number, _, leaf = rest.partition(".")
        if head == "blocks" and int(number) >= plain:
            adapted[f"blocks40.{int(number) - plain}.{leaf}"] = value
        else:
            adapted[name] = value
    return adapted


def _from_timesformer(state: State, model: VideoModel) -> State:
    return _focused({name.removeprefix("model."): v for name, v in state.items()}, model)


def _is_vit(state: State) -> bool:
    plain = {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"}
    return plain <= set(state) and state["patch_embed.proj.weight"].ndim == 4


def _from_vit(state: State, model: VideoModel) -> State:
    """Attention over time begins as a copy of that over space (TimeSformer)."""
    own = set(model.state_dict())
    adapted = dict(state)
    for name, value in state.items():
        for space, time in ((".attn.", ".temporal_attn."), (".norm1.", ".temporal_norm1.")):
            if space in name and name.replace(space, time) in own:
                adapted[name.replace(space, time)] = value
    return _focused(adapted, model)


_STFM_PARTS = ("stfm.", "normF.")
_OVER_TIME = ("time_embed", "temporal_fc.", "aggregate.")


def _is_mvit(state: State) -> bool:
    return any(".attn.pool_" in name or ".attn.rel_pos_" in name for name in state)


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
    WeightSource("STFM", lambda s: any(name.startswith("stfm.") for name in s)),
    WeightSource(
        "UniFormer (ImageNet)", lambda s: _is_uniformer(s) and _is_image(s), _into_stfm, _STFM_PARTS
    ),
    WeightSource("UniFormer (video)", _is_uniformer, _into_stfm, _STFM_PARTS),
    WeightSource(
        "TimeSformer",
        lambda s: "model.blocks.0.attn.qkv.weight" in s,
        _from_timesformer,
        _STFM_PARTS,
    ),
    WeightSource("MViT", _is_mvit, _focused, _STFM_PARTS),
    WeightSource("STAM", lambda s: any(name.startswith("aggregate.") for name in s)),
    WeightSource(
        "ViT (ImageNet, timm)",
        lambda s: _is_vit(s) and not _is_divided(s),
        _from_vit,
        _STFM_PARTS + _OVER_TIME,
    ),
)
# Names that are ours already.
OWN_NAMES = WeightSource("a state dict of these names", lambda s: True, _focused, _STFM_PARTS)


def _is_divided(state: State) -> bool:
    return "time_embed" in state or any(".temporal_" in name for name in state)


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
