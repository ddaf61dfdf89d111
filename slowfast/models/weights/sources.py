"""Source projects: recognised from the names of their parameters, adapted to ours."""

from __future__ import annotations

from dataclasses import replace

from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.clip.towers import sizes_of
from slowfast.models.spec import State, WeightSource
from slowfast.models.weights.clip_names import is_clip, is_video_clip, openai_names, video_names
from slowfast.utils.errors import UserError


def _backbone(state: State) -> State:
    """ImageNet weights of a 2-D network under names below ``base_model``."""
    adapted = {}
    for name, value in state.items():
        name = name.removeprefix("features.")  # torchvision's SqueezeNet
        # The first conversion of BN-Inception stored normalisations as 1 x C.
        flat = value[0] if "_bn." in name and value.ndim == 2 and len(value) == 1 else value
        adapted[f"base_model.{name}"] = flat
    return adapted


def _from_image_network(state: State, model: VideoModel) -> State:
    if not hasattr(model, "base_model"):
        return state
    own = set(model.state_dict())
    return {name: value for name, value in _backbone(state).items() if name in own}


# First convolutions of 2-D networks: BN-Inception, torchvision's SqueezeNet, timm's families.
_FIRST = (
    "conv1_7x7_s2.weight",
    "features.0.weight",
    "conv_stem.weight",
    "conv1.weight",
    "stem.conv.weight",
    "stem.conv1.weight",
    "stem.0.weight",
    "conv1.0.weight",
)


def _is_image_network(state: State) -> bool:
    return any(name in state and state[name].ndim == 4 for name in _FIRST)


_HEAD_PARTS = ("new_fc.", "consensus.")


def _is_staf(state: State) -> bool:
    return any(name.startswith(("cam.conv1.", "cam.module.conv1.")) for name in state)


def _from_staf(state: State, model: VideoModel) -> State:
    """``base``, ``cam`` and ``classifier``, each perhaps wrapped for several GPUs."""
    adapted = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        rest = rest.removeprefix("module.")
        adapted[f"base.{rest}" if part == "base" else f"head.{part}.{rest}"] = value
    return adapted


_RESNET_PLACES = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}


def _from_trx(state: State, model: VideoModel) -> State:
    """``resnet.<place>`` of a Sequential, and the branches ``transformers.<n>``."""
    adapted = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part == "resnet":
            place, _, rest = rest.removeprefix("module.").partition(".")
            adapted[f"base.base_model.{_RESNET_PLACES[place]}.{rest}"] = value
        else:
            adapted[f"head.logits.{name}"] = value
    return adapted


def _is_resnet3d(state: State) -> bool:
    return "layer4.0.conv1.weight" in state and state["layer4.0.conv1.weight"].ndim == 5


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


# Formats whose network does not list them itself.
SOURCES = (
    WeightSource("CLIP", is_clip, _from_clip, _CLIP_PARTS),
    WeightSource(
        "CLIP for videos (Open-VCLIP, FROSTER, STDD)", is_video_clip, _from_video_clip, _CLIP_PARTS
    ),
    WeightSource("STAF", _is_staf, _from_staf),
    WeightSource(
        "TRX",
        lambda s: any(name.startswith("transformers.0.k_linear.") for name in s),
        _from_trx,
        ("base.new_fc.", "base.consensus.", ".pe.pe"),
    ),
    WeightSource("3-D ResNet", _is_resnet3d),
    WeightSource("a 2-D network (ImageNet)", _is_image_network, _from_image_network, _HEAD_PARTS),
    WeightSource(
        "stmodeling",
        lambda s: "new_fc.weight" in s and any(name.startswith("base_model.") for name in s),
    ),
)
_SAME_NAMES = WeightSource("a state dict of these names", lambda state: True)


def known_sources() -> list[WeightSource]:
    """Formats of all registered networks, then the common ones; at most one matches a file."""
    of_networks = (s for name in MODEL_REGISTRY for s in MODEL_REGISTRY.get(name).spec.sources)
    return list(dict.fromkeys((*of_networks, *SOURCES)))


def detect_source(state: State) -> WeightSource:
    """The project that a state dict comes from, by its names."""
    return next((source for source in known_sources() if source.matches(state)), _SAME_NAMES)


def adapt_state(state: State, model: VideoModel) -> tuple[WeightSource, State]:
    """(source, state under our names); what fits the embedding inside a few-shot network goes
    there."""
    source = detect_source(state)
    base = getattr(model, "base", None)
    if base is None or any(name.startswith(("base.", "resnet.")) for name in state):
        return source, source.adapt(state, model)
    inner = {f"base.{name}": value for name, value in source.adapt(state, base).items()}
    return replace(source, new_parts=(*source.new_parts, "head.")), inner
