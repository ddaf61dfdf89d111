"""Tiny networks of the registry and clips for them."""

from __future__ import annotations

from typing import Any

import torch

from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.engine.network import build_network
from slowfast.layers.consensus import HEAD_REGISTRY
from slowfast.models import MODEL_REGISTRY, VideoModel
from slowfast.models.clip.blocks import CLIP_BLOCK_REGISTRY
from tests.conftest import words

NAMES = sorted(MODEL_REGISTRY)
VARIANTS = [(name, {}) for name in NAMES] + [
    ("Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": "hard"}),
    ("Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through", "STFM.DENSE": False}),
    ("Uniformer", {"UNIFORMER.SPLIT": True, "UNIFORMER.REPRESENTATION_SIZE": 24}),
    ("TimeSformer", {"TIMESFORMER.ATTENTION_TYPE": "joint_space_time"}),
    ("TimeSformer", {"TIMESFORMER.ATTENTION_TYPE": "space_only"}),
    ("TimeSformer", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through"}),
    ("TimeSformer", {"STFM.ENABLE": True, "STFM.DENSE": False}),
    ("MViT", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through"}),
    ("MViT", {"MVIT.CLS_EMBED_ON": False, "MVIT.LAYER_SCALE_INIT_VALUE": 0.1, "MVIT.MODE": "max"}),
    (
        "MViT",
        {
            "MVIT.DIM_MUL_IN_ATT": False,
            "MVIT.USE_ABS_POS": True,
            "MVIT.SEP_POS_EMBED": True,
            "MVIT.REL_POS_SPATIAL": False,
            "MVIT.REL_POS_TEMPORAL": False,
            "MVIT.USE_MEAN_POOLING": True,
            "MVIT.MODE": "avg",
            "MVIT.POOL_KVQ_KERNEL": None,
        },
    ),
    ("MViT", {"MVIT.POOL_FIRST": True, "MVIT.MODE": "conv_unshared", "MVIT.NORM_STEM": True}),
    ("MViT", {"MVIT.EMBED_DIM": 32, "MVIT.USE_ABS_POS": True, "MVIT.USE_FIXED_SINCOS_POS": True}),
    *[
        ("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": kind})
        for kind in CLIP_BLOCK_REGISTRY
        if kind not in ("None", "expand_temporal_view")
    ],
    (
        "TemporalClipVideo",
        {
            "MODEL.KEEP_RAW_MODEL": True,
            "MODEL.RAW_MODEL_DISTILLATION": True,
            "MODEL.TEMPORAL_SHUFFLE": False,
        },
    ),
    ("TemporalClipVideo", {"MODEL.TEXT_PROMPT": True, "MODEL.PROMPT_NUM": 3}),
    ("TemporalClipVideo", {"TUNE_HEAD": True, "CLIP.ACTIVATION": "gelu"}),
    ("TemporalClipVideo", {"CLIP.TRAINED": ["visual", "text_projection", "text", "logit_scale"]}),
    ("STAM", {"STAM.AGGREGATION": "mean"}),
    ("STAM", {"STAM.INIT": "scratch"}),
    ("STAM", {"STAM.STEM": "conv3d"}),
    ("TimeSformer", {"TIMESFORMER.INIT": "scratch"}),
    ("TimeSformer", {"TIMESFORMER.STEM": "conv"}),
    *[("TSN", {"TSN.CONSENSUS": kind, "TSN.LAYERS": 2}) for kind in HEAD_REGISTRY],
    ("TSN", {"TSN.CONSENSUS": "TRNmultiscale", "TSN.TRN_EVAL_ALL": True}),
    ("TSN", {"TSN.BACKBONE": "squeezenet1_1", "TSN.CONSENSUS": "MLP"}),
    ("TSN", {"TSN.BACKBONE": "BNInception", "TSN.CONSENSUS": "FCN2D"}),
    ("Uniformer", {"UNIFORMER.STD": True, "UNIFORMER.QKV_SCALE": 0.2, "UNIFORMER.QKV_BIAS": False}),
    (
        "ResNet",
        {
            "MODEL.ARCH": "i3d",
            "NONLOCAL.LOCATION": [[[]], [[0, 1]], [[1]], [[]]],
            "NONLOCAL.GROUP": [[1], [2], [1], [1]],
            "NONLOCAL.INSTANTIATION": "softmax",
            "RESNET.ZERO_INIT_FINAL_BN": True,
        },
    ),
    ("ResNet", {"RESNET.TRANS_FUNC": "basic_transform", "MODEL.ARCH": "c2d"}),
    (
        "ResNet",
        {
            "RESNET.NUM_GROUPS": 2,
            "RESNET.STRIDE_1X1": True,
            "RESNET.SPATIAL_STRIDES": [[1], [2], [2], [1]],
            "RESNET.SPATIAL_DILATIONS": [[1], [1], [1], [2]],
            "RESNET.ZERO_INIT_FINAL_BN": True,
        },
    ),
    (
        "SlowFast",
        {
            "NONLOCAL.LOCATION": [[[], []], [[1], [0]], [[], []], [[], []]],
            "RESNET.ZERO_INIT_FINAL_BN": True,
        },
    ),
    ("X3D", {"X3D.CHANNELWISE_3x3x3": False, "X3D.SCALE_RES2": True, "X3D.BN_LIN5": True}),
]


def build(
    name: str, extra: dict[str, Any] | None = None, seed: int = 0
) -> tuple[CfgNode, VideoModel]:
    """(configuration, network) of the variant that a network names for tests."""
    tiny = {"NUM_GPUS": 0, "MODEL.NUM_CLASSES": 5, "MODEL.MODEL_NAME": name}
    cfg = load_config(
        overrides=words(tiny | MODEL_REGISTRY.get(name).spec.test_overrides | (extra or {}))
    )
    torch.manual_seed(seed)
    model = build_network(cfg)
    model.begin("train")
    return cfg, model


def to_eval(model: VideoModel) -> VideoModel:
    """``model`` in evaluation mode, with everything computed that does not depend on clips."""
    model.eval().begin("test")
    return model


def clips(cfg: CfgNode, batch: int = 2, seed: int = 1) -> torch.Tensor:
    """Noise of the size that a configuration trains on: ``batch 3 T S S``."""
    size = cfg.DATA.TRAIN_CROP_SIZE
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, cfg.DATA.NUM_FRAMES, size, size, generator=generator)
