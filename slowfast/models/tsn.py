"""TSN: a 2-D network on each frame, and a head over the frames' features.

TSN (arXiv 1608.00859), TRN (arXiv 1711.08496) and the heads compared by fubel/stmodeling.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.consensus import ALIASES, HEADS, HeadOptions, build_head
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel
from slowfast.models.frame_backbones import (
    backbone_input,
    build_backbone,
    frame_maps,
    is_backbone,
    similar_backbones,
)
from slowfast.models.spec import ModelSpec
from slowfast.utils.errors import Problem
from slowfast.video.device import InputFormat

TSN = register_section(
    Section(
        "TSN",
        "TSN, TRN and other heads over frames",
        {
            "BACKBONE": Key(
                "squeezenet1_1", "squeezenet1_1, BNInception, or timm/<convolutional network>."
            ),
            "CONSENSUS": Key(
                "TSN",
                "The head over the frames' features; avg is TSN, FCN is FCN2D.",
                choices=(*HEADS, *ALIASES),
            ),
            "FEATURE_DIM": Key(256, "Features of a frame (img_feature_dim).", ge=1),
            "DROPOUT": Key(0.3, "Dropout of the backbone's features.", ge=0.0, le=1.0),
            "HIDDEN_SIZE": Key(256, "State of recurrent heads (rnn_hidden_size).", ge=2),
            "LAYERS": Key(1, "Layers of recurrent and transformer heads (rnn_layer).", ge=1),
            "HEAD_DROPOUT": Key(0.2, "Dropout in the MLP and between layers.", ge=0.0, le=1.0),
            "HEAD_ATTENTION_HEADS": Key(4, "Attention heads of the transformer head.", ge=1),
            "TRN_SUBSETS": Key(3, "TRNmultiscale: sets of frames of each scale.", ge=1),
            "TRN_EVAL_ALL": Key(False, "TRNmultiscale: all sets of frames in evaluation."),
            "PARTIAL_BN": Key(
                True, "Batch normalisation of the backbone, but for the first, stays as it was."
            ),
            "LR_GROUPS": Key(
                True, "Biases of convolutions learn twice as fast, without decay; norms undecayed."
            ),
            "INPUT": Key(
                "backbone",
                "Mean, deviation and channel order: what the backbone's ImageNet weights expect "
                "(backbone), or DATA.MEAN, DATA.STD and DATA.INPUT_FORMAT (data).",
                choices=("backbone", "data"),
            ),
            "PRETRAIN_NAME": Key(
                "",
                "Weights to start from: a path or a name below MODEL.PRETRAINED_DIR "
                "(ImageNet weights of the backbone, or a whole network), or empty.",
            ),
        },
    )
)


def check_tsn(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of TSN."""
    options, kind = cfg.TSN, ALIASES.get(cfg.TSN.CONSENSUS, cfg.TSN.CONSENSUS)
    known = is_backbone(options.BACKBONE)
    if not known:
        similar = similar_backbones(options.BACKBONE)
        yield Problem(
            f"there is no backbone {options.BACKBONE!r}",
            f"squeezenet1_1, BNInception or timm/<name>, e.g. {', '.join(similar)}"
            if similar
            else "squeezenet1_1, BNInception or timm/<name>",
            "TSN.BACKBONE",
        )
    if kind == "BLSTM" and options.HIDDEN_SIZE % 2:
        yield Problem(
            f"{options.HIDDEN_SIZE} cannot be halved for two directions",
            "use an even number",
            "TSN.HIDDEN_SIZE",
        )
    if kind == "TRNmultiscale" and cfg.DATA.NUM_FRAMES < 2:
        yield Problem("one frame has no relation", "use 2 or more", "DATA.NUM_FRAMES")
    if kind == "TRNmultiscale" and options.TRN_EVAL_ALL and cfg.DATA.NUM_FRAMES > 16:
        yield Problem(
            f"{cfg.DATA.NUM_FRAMES} frames have too many subsets to take all of them",
            "16 frames at most, or set it to False",
            "TSN.TRN_EVAL_ALL",
        )
    if kind == "Transformer" and options.FEATURE_DIM % options.HEAD_ATTENTION_HEADS:
        yield Problem(
            f"{options.FEATURE_DIM} features cannot be divided among "
            f"{options.HEAD_ATTENTION_HEADS} heads",
            "change TSN.HEAD_ATTENTION_HEADS",
            "TSN.FEATURE_DIM",
        )
    order = cfg.DATA.INPUT_FORMAT
    if known and options.INPUT == "backbone" and order != "auto":
        expected = "BGR" if backbone_input(options.BACKBONE).bgr else "RGB"
        if order != expected:
            yield Problem(
                f"is {order}, {options.BACKBONE} expects {expected}",
                "leave it at auto, or set TSN.INPUT data",
                "DATA.INPUT_FORMAT",
            )


def tsn_input(cfg: CfgNode) -> InputFormat | None:
    """What the backbone's ImageNet weights expect, with TSN.INPUT backbone."""
    return backbone_input(cfg.TSN.BACKBONE) if cfg.TSN.INPUT == "backbone" else None


def tsn_multipliers(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Convolutions' biases twice as fast and undecayed, norms undecayed (TSN)."""
    if not model.learning_groups:
        return {}
    factors = {}
    for prefix, module in model.named_modules():
        if isinstance(module, _ConvNd) and module.bias is not None:
            factors[f"{prefix}.bias"] = (0.0, 2.0)
        elif isinstance(module, _BatchNorm):
            factors |= {f"{prefix}.{name}": (0.0, 1.0) for name in ("weight", "bias")}
    return factors


@MODEL_REGISTRY.register("TSN")
class Tsn(VideoModel):
    """``base_model``, dropout, projection ``new_fc``, ``consensus``: names as published."""

    spec = ModelSpec(
        initial_weights=lambda cfg: cfg.TSN.PRETRAIN_NAME,
        classifier_prefixes=lambda model: model.classifier_prefixes,
        param_multipliers=tsn_multipliers,
        check=check_tsn,
        input_format=tsn_input,
        test_overrides=TINY_CLIP
        | {
            "TSN.BACKBONE": "timm/test_efficientnet",
            "TSN.FEATURE_DIM": 16,
            "TSN.HIDDEN_SIZE": 16,
            "TSN.DROPOUT": 0.0,
            "TSN.HEAD_DROPOUT": 0.0,
            "TSN.TRN_SUBSETS": 6,  # all of them: nothing is random
            "TSN.PARTIAL_BN": False,
            "TSN.INPUT": "data",
        },
        finetune_patterns=("new_fc", "consensus"),
    )

    def __init__(self, cfg: CfgNode):
        super().__init__()
        options, classes = cfg.TSN, cfg.MODEL.NUM_CLASSES
        self.base_model, channels = build_backbone(options.BACKBONE)
        self.dropout = nn.Dropout(options.DROPOUT)
        kind = ALIASES.get(options.CONSENSUS, options.CONSENSUS)
        averaged = kind == "TSN"
        sizes = HeadOptions(
            frames=cfg.DATA.NUM_FRAMES,
            dim=options.FEATURE_DIM,
            classes=classes,
            hidden=options.HIDDEN_SIZE,
            layers=options.LAYERS,
            dropout=options.HEAD_DROPOUT,
            attention_heads=options.HEAD_ATTENTION_HEADS,
            subsets=options.TRN_SUBSETS,
            all_subsets_in_eval=options.TRN_EVAL_ALL,
        )
        head = build_head(kind, sizes)
        dim = classes if averaged else options.FEATURE_DIM
        self.new_fc = nn.Conv2d(channels, dim, 1) if head.wants_maps else nn.Linear(channels, dim)
        nn.init.normal_(self.new_fc.weight, std=0.001)
        nn.init.zeros_(self.new_fc.bias)
        self.consensus = head
        # What depends on the number of classes: released weights of other classes leave it out.
        self.classifier_prefixes = ("new_fc.",) if averaged else tuple(_last_layers(head))
        self.learning_groups = options.LR_GROUPS
        self.partial_bn = options.PARTIAL_BN
        for norm in self._frozen_norms():
            norm.requires_grad_(False)

    def _frozen_norms(self) -> list[nn.Module]:
        """The backbone's batch normalisations but the first, with partial BN."""
        norms = [m for m in self.base_model.modules() if isinstance(m, _BatchNorm)]
        return norms[1:] if self.partial_bn else []

    def train(self, mode: bool = True) -> Tsn:
        super().train(mode)
        for norm in self._frozen_norms():
            norm.eval()
        return self

    def feature_maps(self, video: torch.Tensor) -> torch.Tensor:
        """The backbone's maps, ``B C T h w``."""
        return self.frame_maps(video).unflatten(0, (len(video), -1)).transpose(1, 2)

    def frame_maps(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> the backbone's maps of every frame, ``B*T C h w``."""
        return frame_maps(self.base_model, video.transpose(1, 2).flatten(0, 1))

    @property
    def head(self) -> nn.Module:
        """What makes logits of the features; published names call it ``consensus``."""
        return self.consensus

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """Features of the frames, ``B T D`` (``B T D h w`` for heads over maps)."""
        features = self.frame_maps(video)
        if not self.consensus.wants_maps:
            features = features.mean((2, 3))
        return self.new_fc(self.dropout(features)).unflatten(0, (len(video), -1))


def _last_layers(head: nn.Module) -> Iterable[str]:
    """Prefixes of the layers of a head that give classes."""
    for name, child in head.named_children():
        parts = child if isinstance(child, nn.ModuleList) else [child]
        for number, part in enumerate(parts):
            prefix = f"consensus.{name}." + (f"{number}." if part is not child else "")
            if isinstance(part, nn.Sequential):
                last = max(
                    i for i, layer in enumerate(part) if any(True for _ in layer.parameters())
                )
                yield f"{prefix}{last}."
            elif name == "fc":
                yield prefix
