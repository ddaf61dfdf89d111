"""Keys of CLIP over videos, and the numbers and tensors that the network is built from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import slowfast.config.sections  # noqa: F401  (registers the sections that are extended)
from slowfast.config.effect import names_part
from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, extend_section, register_section
from slowfast.models.clip.blocks import CLIP_BLOCK_REGISTRY
from slowfast.models.clip.names import read_clip
from slowfast.models.clip.network_tower import NetworkTower
from slowfast.models.clip.parameters import LearningRateFactors
from slowfast.models.clip.regularizers import InterpolatedWeights
from slowfast.models.clip.sizes import ARCHITECTURES, ClipSizes, infer_sizes
from slowfast.models.clip.texts import read_features

# -- keys ----------------------------------------------------------------------------------------

_CLIP = {"MODEL.MODEL_NAME": "TemporalClipVideo"}
_CROSS = {"MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend"}
extend_section(
    "MODEL",
    {
        "TEMPORAL_MODELING_TYPE": Key(
            "", "CLIP: how the frames of a clip attend to each other; empty or None: not at all."
        ),
        "MASK_RATE": Key(
            0.5,
            "CLIP, stcross_attend: share of the patches of each cell that is left out of the "
            "exchange between frames.",
            gt=0.0,
            le=0.99,
            only_if=_CROSS,
        ),
        "MASK_STRIDE": Key(
            [1, 2, 2],
            "CLIP, stcross_attend: size of a cell (frames, rows, columns).",
            item=int,
            min_length=3,
            ge=1,
            only_if=_CROSS,
        ),
        "SPATIAL_REPEAT": Key(
            True,
            "CLIP, stcross_attend: one random offset per clip instead of one per cell.",
            only_if=_CROSS,
        ),
        "TEMPORAL_SHUFFLE": Key(
            True,
            "CLIP, stcross_attend: permute the patterns of the frames at random in training; in "
            "evaluation CLIP.SHUFFLE_IN_EVAL decides.",
            only_if=_CROSS,
        ),
        "CHANNEL_FOLD": Key(
            64,
            "CLIP, stcross_attend: width // CHANNEL_FOLD channels are exchanged in each direction.",
            ge=2,
            only_if=_CROSS,
        ),
        "TEMPORAL_SCALE": Key(
            [1],
            "CLIP, stcross_attend: reach of the exchange in frames; several values are averaged.",
            item=int,
            min_length=1,
            ge=1,
            only_if=_CROSS,
        ),
        "CONTEXT_LENGTH": Key(77, "CLIP: largest number of tokens of a text.", ge=3),
        "KEEP_RAW_MODEL": Key(
            False, "CLIP: keep a frozen copy of the original beside the network."
        ),
        "RAW_MODEL_DISTILLATION": Key(
            False, "CLIP: distil the features of frames from the frozen copy (FROSTER)."
        ),
        "DISTILLATION_RATIO": Key(
            1.0,
            "CLIP: weight of the loss of MODEL.RAW_MODEL_DISTILLATION.",
            ge=0.0,  # no only_if: published files hold it while the loss is off
        ),
        "ENSEMBLE_PRED": Key(False, "CLIP: mix the scores of the frozen copy in, in evaluation."),
        "ENSEMBLE_RAWMODEL_RATIO": Key(
            0.0,
            "CLIP: share of the frozen copy's scores for MODEL.ENSEMBLE_PRED.",
            ge=0.0,
            le=1.0,
            only_if={"MODEL.ENSEMBLE_PRED": True},
        ),
        "TEXT_PROMPT": Key(False, "CLIP: learn prompt tokens before the class names."),
        "PROMPT_NUM": Key(
            1,
            "CLIP: number of learned prompt tokens before the class names.",
            ge=1,
            only_if={"MODEL.TEXT_PROMPT": True},
        ),
        "FINETUNE_FACTOR": Key(
            1.0, "CLIP: factor of the learning rate of parameters called message_*.", ge=0.0
        ),
        "ADAPT_FINETUNE_FACTOR": Key(
            1.0, "CLIP: factor of the learning rate of parameters called stadapt_*.", ge=0.0
        ),
        "MLP_FINETUNE_FACTOR": Key(
            1.0, "CLIP: factor of the learning rate of parameters called mlp.", ge=0.0
        ),
        "DEFAULT_FINETUNE_FACTOR": Key(
            1.0,
            "CLIP: factor of the learning rate of all parameters without a factor of their own.",
            ge=0.0,
        ),
        "STATIC_GRAPH": Key(
            False, "No effect, accepted for old files: DDP finds out by itself.", unused=True
        ),
    },
    _CLIP,
)
extend_section(
    "DATA",
    {
        "TEXT_AUG": Key(False, "CLIP: several texts per class, from DATA.TEXT_AUG_FEATURE_FILE."),
        "TEXT_AUG_FEATURE_FILE": Key(
            "",
            "CLIP: file of text features for DATA.TEXT_AUG, a tensor classes x texts x width.",
            only_if={"DATA.TEXT_AUG": True},
        ),
    },
    _CLIP,
)
extend_section(
    "TRAIN",
    {
        "CLIP_ORI_PATH": Key(
            "",
            "CLIP: original weights that training starts from (OpenAI's archive, a state dict, a "
            "file of open_clip).",
            affects_result=False,
        ),
        "LINEAR_CONNECT_CLIMB": Key(
            False,
            "CLIP: each step also learns on weights interpolated between the original ones and "
            "the network's (Open-VCLIP, arXiv 2302.00624).",
        ),
        "LINEAR_CONNECT_LOSS_RATIO": Key(
            1.0,
            "CLIP: weight of the loss of TRAIN.LINEAR_CONNECT_CLIMB.",
            ge=0.0,  # no only_if: published files hold it while the loss is off
        ),
        "LINEAR_CONNECT_SAMPLE": Key(
            True,
            "CLIP: draw the share of the original weights between LINEAR_CONNECT_SAMPLE_L and _R "
            "at each step; False: always the middle.",
            only_if={"TRAIN.LINEAR_CONNECT_CLIMB": True},
        ),
        "LINEAR_CONNECT_SAMPLE_L": Key(
            0.4,
            "CLIP: smallest share of the original weights in TRAIN.LINEAR_CONNECT_CLIMB.",
            ge=0.0,
            le=1.0,
            only_if={"TRAIN.LINEAR_CONNECT_CLIMB": True},
        ),
        "LINEAR_CONNECT_SAMPLE_R": Key(
            0.6,
            "CLIP: largest share of the original weights in TRAIN.LINEAR_CONNECT_CLIMB.",
            ge=0.0,
            le=1.0,
            only_if={"TRAIN.LINEAR_CONNECT_CLIMB": True},
        ),
    },
    _CLIP,
)
extend_section(
    "TEST",
    {
        "CLIP_ORI_PATH": Key(
            "",
            "CLIP: original weights, for TEST.PATCHING_MODEL and for tests without training; "
            "empty: TRAIN.CLIP_ORI_PATH.",
        ),
        "PATCHING_MODEL": Key(
            False,
            "Test TEST.PATCHING_RATIO of the original weights (TEST.CLIP_ORI_PATH) plus the rest "
            "of the trained ones, for any network.",
        ),
        "PATCHING_RATIO": Key(
            0.5,
            "Share of the original weights for TEST.PATCHING_MODEL.",
            ge=0.0,
            le=1.0,
            only_if={"TEST.PATCHING_MODEL": True},
        ),
        "OPENSET": Key(
            False,
            "No effect, accepted for old files: the class names of a test decide.",
            unused=True,
        ),
        "UPDATE_STATE": Key(
            False,
            "No effect, accepted for old files: texts are always encoded by the tested weights.",
            unused=True,
        ),
    },
)
register_section(
    Section(
        "CLIP",
        "CLIP for videos (MODEL.MODEL_NAME TemporalClipVideo)",
        {
            "TRAINED": Key(
                ["visual", "text_projection"],
                "Parts of CLIP that learn: visual, text_projection, text (the text tower), "
                "logit_scale.",
                item=str,
            ),
            "TEXT_FACTOR": Key(
                1.0, "Factor of the learning rate of the text tower and its projection.", ge=0.0
            ),
            "TEMPLATES": Key(
                [], "Sentences with {} for the class name; empty: the 28 published ones.", item=str
            ),
            "TEXT_CACHE": Key(
                "output/text_features",
                "Folder in which encoded texts are stored, by weights, templates and class names; "
                "empty: none.",
                affects_result=False,
            ),
            "SHUFFLE_IN_EVAL": Key(
                False,
                "stcross_attend: permute the patterns of the frames in evaluation, too (as "
                "released: results vary from run to run).",
                only_if=_CROSS,
            ),
            "SHIFT_GROUP": Key(
                0,
                "channel_shift: number of frames of a batch that count as one clip; 0: "
                "DATA.NUM_FRAMES (the release always takes 8).",
                ge=0,
                only_if={"MODEL.TEMPORAL_MODELING_TYPE": "channel_shift"},
            ),
            "ACTIVATION": Key(
                "quick_gelu",
                "Activation of all blocks, quick_gelu for OpenAI's weights, gelu for most that "
                "open_clip trained.",
                choices=("quick_gelu", "gelu"),
            ),
            "VISUAL_TOWER": Key(
                "",
                "Network of the registry that is the visual tower, with the keys of its own "
                "section (for example ResNet3D); empty: CLIP's vision transformer.",
            ),
            "STEM": Key(
                "patch",
                "How the vision transformer makes tokens of pixels, for MODEL.ARCH custom: patch "
                "(one linear map), conv (3x3 convolutions; learns faster without pretraining) or "
                "conv3d (3x3x3: they see motion within a patch).",
                choices=("patch", "conv", "conv3d"),
                only_if={"MODEL.ARCH": "custom"},
            ),
            "PATCH_SIZE": Key(
                16,
                "Side of a patch in pixels, for MODEL.ARCH custom.",
                ge=1,
                only_if={"MODEL.ARCH": "custom"},
            ),
            "WIDTH": Key(
                768,
                "Width of the visual tower (64 per head), for MODEL.ARCH custom.",
                ge=64,
                only_if={"MODEL.ARCH": "custom"},
            ),
            "LAYERS": Key(
                12,
                "Layers of the visual tower, for MODEL.ARCH custom.",
                ge=1,
                only_if={"MODEL.ARCH": "custom"},
            ),
            "EMBED_DIM": Key(
                512,
                "Width of the features of frames and texts, for MODEL.ARCH custom.",
                ge=1,
                only_if={"MODEL.ARCH": "custom"},
            ),
            "TEXT_WIDTH": Key(
                512,
                "Width of the text tower (64 per head), for MODEL.ARCH custom.",
                ge=64,
                only_if={"MODEL.ARCH": "custom"},
            ),
            "TEXT_LAYERS": Key(
                12,
                "Layers of the text tower, for MODEL.ARCH custom.",
                ge=1,
                only_if={"MODEL.ARCH": "custom"},
            ),
        },
        only_if=_CLIP,
    )
)

names_part("CLIP.VISUAL_TOWER", like="MODEL.MODEL_NAME")


# -- configuration -> arguments of the network -----------------------------------------------------


def original_weights(cfg: CfgNode) -> str:
    """Path of CLIP's original weights, or empty: those of the test, else those of training."""
    return cfg.TEST.CLIP_ORI_PATH or cfg.TRAIN.CLIP_ORI_PATH


def configured_sizes(cfg: CfgNode) -> ClipSizes:
    """Sizes by MODEL.ARCH; ``custom``: those of the original weights, else of the section CLIP."""
    model, options, original = cfg.MODEL, cfg.CLIP, original_weights(cfg)
    sizes = ARCHITECTURES.get(model.ARCH)
    if sizes is None and original:
        path = Path(original).expanduser()
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        sizes = _read_sizes(original, changed)
    if sizes is None:
        sizes = ClipSizes(
            options.PATCH_SIZE,
            options.WIDTH,
            options.LAYERS,
            options.EMBED_DIM,
            text_width=options.TEXT_WIDTH,
            text_layers=options.TEXT_LAYERS,
            stem=options.STEM,
        )
    configured = {"resolution": cfg.DATA.TRAIN_CROP_SIZE, "context": model.CONTEXT_LENGTH}
    return ClipSizes(**(vars(sizes) | configured))


@functools.lru_cache(maxsize=16)
def _read_sizes(path: str, changed: int) -> ClipSizes:
    """Sizes of a file of weights; ``changed``, its time, makes a new file be read again."""
    return infer_sizes(read_clip(path, "TRAIN.CLIP_ORI_PATH"))


def clip_arguments(cfg: CfgNode) -> dict[str, Any]:
    """The arguments of :class:`slowfast.models.clip.video.TemporalClipVideo`."""
    model, options, sizes = cfg.MODEL, cfg.CLIP, configured_sizes(cfg)
    kind = model.TEMPORAL_MODELING_TYPE
    file_key = "DATA.TEXT_AUG_FEATURE_FILE"
    features = None
    if cfg.DATA.TEXT_AUG:
        features = read_features(cfg.DATA.TEXT_AUG_FEATURE_FILE, sizes.embed_dim, file_key)
    return {
        "sizes": sizes,
        "temporal_modeling": kind,
        "temporal_options": CLIP_BLOCK_REGISTRY.get(kind).options_from_cfg(cfg),
        "templates": list(options.TEMPLATES),
        "text_folder": options.TEXT_CACHE,
        "text_features": features,
        "trained": list(options.TRAINED),
        "num_prompt_tokens": model.PROMPT_NUM if model.TEXT_PROMPT else 0,
        "num_classes": model.NUM_CLASSES if cfg.TUNE_HEAD else None,
        "activation": options.ACTIVATION,
        "keep_raw_model": model.KEEP_RAW_MODEL,
        "distillation_weight": model.DISTILLATION_RATIO if model.RAW_MODEL_DISTILLATION else 0.0,
        "ensemble_ratio": model.ENSEMBLE_RAWMODEL_RATIO if model.ENSEMBLE_PRED else 0.0,
        "interpolation": _interpolation(cfg),
        "lr_factors": LearningRateFactors(
            default=model.DEFAULT_FINETUNE_FACTOR,
            message=model.FINETUNE_FACTOR,
            adapter=model.ADAPT_FINETUNE_FACTOR,
            mlp=model.MLP_FINETUNE_FACTOR,
            text=options.TEXT_FACTOR,
        ),
        "visual": visual_tower(cfg, sizes.embed_dim),
        "checkpointing": model.ACT_CHECKPOINT or model.USE_CHECKPOINT,
    }


def visual_tower(cfg: CfgNode, embed_dim: int) -> NetworkTower | None:
    """The network that CLIP.VISUAL_TOWER names; None: the vision transformer."""
    name = cfg.CLIP.VISUAL_TOWER
    return NetworkTower.from_cfg(cfg, name, embed_dim) if name else None


def _interpolation(cfg: CfgNode) -> InterpolatedWeights | None:
    train = cfg.TRAIN
    weight = train.LINEAR_CONNECT_LOSS_RATIO if train.LINEAR_CONNECT_CLIMB else 0.0
    if not (weight and train.ENABLE):
        return None
    low, high = train.LINEAR_CONNECT_SAMPLE_L, train.LINEAR_CONNECT_SAMPLE_R
    if not train.LINEAR_CONNECT_SAMPLE:
        low = high = (low + high) / 2
    originals = read_clip(train.CLIP_ORI_PATH, "TRAIN.CLIP_ORI_PATH")
    return InterpolatedWeights(originals, weight, low, high)
