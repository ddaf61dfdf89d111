"""Source projects: recognised from the names of their parameters, adapted to ours."""

from __future__ import annotations

from dataclasses import replace

from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.spec import State, WeightSource


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
_STFM_PARTS = ("stfm.", "normF.")
_OVER_TIME = ("time_embed", "temporal_fc.", "aggregate.")


def _is_mvit(state: State) -> bool:
    return any(".attn.pool_" in name or ".attn.rel_pos_" in name for name in state)


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


# The first that matches is taken.
SOURCES = (
    WeightSource("STAF", _is_staf, _from_staf),
    WeightSource(
        "TRX",
        lambda s: any(name.startswith("transformers.0.k_linear.") for name in s),
        _from_trx,
        ("base.new_fc.", "base.consensus.", ".pe.pe"),
    ),
    WeightSource("3-D ResNet", _is_resnet3d),
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
    WeightSource("a 2-D network (ImageNet)", _is_image_network, _from_image_network, _HEAD_PARTS),
    WeightSource(
        "stmodeling",
        lambda s: "new_fc.weight" in s and any(name.startswith("base_model.") for name in s),
    ),
    WeightSource("a state dict of these names", lambda s: True, _focused, _STFM_PARTS),
)


def _is_divided(state: State) -> bool:
    return "time_embed" in state or any(".temporal_" in name for name in state)


def detect_source(state: State, model: VideoModel | None = None) -> WeightSource:
    """The project that a state dict comes from, by its names: one that ``model`` reads itself
    (without it: that any registered model reads), else one of all networks."""
    models = map(MODEL_REGISTRY.get, MODEL_REGISTRY) if model is None else [model]
    of_models = [source for one in models for source in one.spec.sources]
    return next(source for source in (*of_models, *SOURCES) if source.matches(state))


def adapt_state(state: State, model: VideoModel) -> tuple[WeightSource, State]:
    """(source, state under our names); what fits the embedding inside a few-shot network goes
    there."""
    source = detect_source(state, model)
    base = getattr(model, "base", None)
    if base is None or any(name.startswith(("base.", "resnet.")) for name in state):
        return source, source.adapt(state, model)
    inner = {f"base.{name}": value for name, value in source.adapt(state, base).items()}
    return replace(source, new_parts=(*source.new_parts, "head.")), inner
