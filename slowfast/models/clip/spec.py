"""What training, weights and tools need to know of CLIP over videos."""

from __future__ import annotations

from slowfast.models.base import TINY_CLIP
from slowfast.models.clip.checks import check_clip
from slowfast.models.clip.network_tower import with_network_tower
from slowfast.models.clip.parameters import clip_layer, clip_multipliers
from slowfast.models.clip.settings import original_weights
from slowfast.models.clip.sizes import ARCHITECTURES
from slowfast.models.clip.sources import CLIP_RESIZERS, CLIP_SOURCES
from slowfast.models.clip.stcross import CrossOptions
from slowfast.models.spec import ModelSpec

_VARIANTS = {f"clip_{name}": {"sizes": sizes} for name, sizes in ARCHITECTURES.items()} | {
    "stdd_vitb16": {
        "sizes": ARCHITECTURES["vitb16"],
        "temporal_modeling": "stcross_attend",
        "temporal_options": CrossOptions(channel_fold=32, scales=(1, 2), shuffle=True),
    }
}
_TINY = TINY_CLIP | {
    "MODEL.ARCH": "custom",
    "MODEL.TEMPORAL_MODELING_TYPE": "expand_temporal_view",
    "MODEL.CONTEXT_LENGTH": 16,
    "MODEL.CHANNEL_FOLD": 16,
    "CLIP.PATCH_SIZE": 8,
    "CLIP.WIDTH": 64,
    "CLIP.LAYERS": 2,
    "CLIP.EMBED_DIM": 32,
    "CLIP.TEXT_WIDTH": 64,
    "CLIP.TEXT_LAYERS": 1,
    "CLIP.TEMPLATES": ["a video of {}."],
    "CLIP.TEXT_CACHE": "",
    "DATA.CLASS_NAMES": ["archery", "bowling", "running", "diving", "skiing"],
}

CLIP_SPEC = with_network_tower(
    ModelSpec(
        sources=CLIP_SOURCES,
        resizers=CLIP_RESIZERS,
        classifier_prefixes=("head",),
        initial_weights=lambda cfg: cfg.TRAIN.CLIP_ORI_PATH,
        weights_key="TRAIN.CLIP_ORI_PATH",
        zero_shot_weights=original_weights,
        param_multipliers=clip_multipliers,
        layer_of=clip_layer,
        # Weights between the network's and the original ones take the places of all at once.
        reads_all_parameters=lambda model: bool(model.interpolation),
        full_precision=lambda model: model.text_towers(),
        check=check_clip,
        open_vocabulary=True,
        variants=_VARIANTS,
        test_overrides=_TINY,
    )
)
