"""TSN: a 2-D network on each frame, and a head over the frames' features.

TSN (arXiv 1608.00859), TRN (arXiv 1711.08496) and the heads compared by fubel/stmodeling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.consensus import ALIASES, HeadOptions, build_head
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel
from slowfast.models.frame_backbones import (
    BACKBONE_REGISTRY,
    backbone_input,
    build_backbone,
    frame_maps,
)
from slowfast.models.image_weights import IMAGE_SOURCE
from slowfast.models.spec import ModelSpec, State, WeightSource
from slowfast.utils.errors import Problem
from slowfast.video.device import InputFormat

TSN = register_section(
    Section(
        "TSN",
        "TSN, TRN and other heads over frames",
        {
            "BACKBONE": Key(
                "squeezenet1_1",
                "squeezenet1_1, BNInception, or timm/<convolutional network>.",
                checked_by_rule=True,
            ),
            "CONSENSUS": Key(
                "TSN",
                "Head over the frames' features: TSN, MLP, TRN, TRNmultiscale, RNN_TANH, RNN_RELU, "
                "LSTM, GRU, BLSTM, FCN2D, FCN3D, CONVLSTM, Transformer; avg is TSN, FCN is FCN2D.",
            ),
            "FEATURE_DIM": Key(256, "Features of a frame (img_feature_dim).", ge=1),
            "DROPOUT": Key(0.3, "Dropout of the backbone's features.", ge=0.0, le=1.0),
            "HIDDEN_SIZE": Key(256, "State of recurrent heads (rnn_hidden_size).", ge=2),
            "LAYERS": Key(1, "Layers of recurrent and transformer heads (rnn_layer).", ge=1),
            "HEAD_DROPOUT": Key(0.2, "Dropout in the MLP and between layers.", ge=0.0, le=1.0),
            "HEAD_ATTENTION_HEADS": Key(4, "Attention heads of the transformer head.", ge=1),
            "TRN_SUBSETS": Key(3, "TRNmultiscale: sets of frames per scale.", ge=1),
            "TRN_EVAL_ALL": Key(False, "TRNmultiscale: all sets of frames in evaluation."),
            "PARTIAL_BN": Key(
                True,
                "Freeze the backbone's batch normalisation layers except the first (partial BN).",
            ),
            "LR_GROUPS": Key(
                True,
                "Biases of convolutions have twice the learning rate and no weight decay; "
                "normalisation layers have no weight decay.",
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
        only_if={"MODEL.MODEL_NAME": "TSN"},
    )
)


def check_tsn(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of TSN."""
    options, kind = cfg.TSN, ALIASES.get(cfg.TSN.CONSENSUS, cfg.TSN.CONSENSUS)
    for problem in BACKBONE_REGISTRY.problems(options.BACKBONE):
        remedy = f"{problem.remedy}; timm/<name> is any convolutional network of timm"
        yield dataclasses.replace(problem, remedy=remedy)
    if kind == "BLSTM" and options.HIDDEN_SIZE % 2:
        yield Problem(
            f"{options.HIDDEN_SIZE} cannot be halved for two directions",
            "use an even number",
            "TSN.HIDDEN_SIZE",
        )
    if kind == "TRNmultiscale" and cfg.DATA.NUM_FRAMES < 2:
        yield Problem("TRNmultiscale relates at least 2 frames", "use 2 or more", "DATA.NUM_FRAMES")
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
    known = options.BACKBONE in BACKBONE_REGISTRY
    if known and options.INPUT == "backbone" and order != "auto":
        expected = "BGR" if backbone_input(options.BACKBONE).bgr else "RGB"
        if order != expected:
            yield Problem(
                f"is {order}, but {options.BACKBONE} expects {expected}",
                "leave it at auto, or set TSN.INPUT data",
                "DATA.INPUT_FORMAT",
            )


def tsn_input(cfg: CfgNode) -> InputFormat | None:
    """What the backbone's ImageNet weights expect, with TSN.INPUT backbone."""
    return backbone_input(cfg.TSN.BACKBONE) if cfg.TSN.INPUT == "backbone" else None


def tsn_multipliers(model: nn.Module) -> dict[str, tuple[float, float]]:
    """(weight decay, learning rate) factors as published: (0, 2) for biases of convolutions,
    (0, 1) for normalisation layers."""
    if not model.lr_groups:
        return {}
    factors = {}
    for prefix, module in model.named_modules():
        if isinstance(module, _ConvNd) and module.bias is not None:
            factors[f"{prefix}.bias"] = (0.0, 2.0)
        elif isinstance(module, _BatchNorm):
            factors |= {f"{prefix}.{name}": (0.0, 1.0) for name in ("weight", "bias")}
    return factors


def is_stmodeling(state: State) -> bool:
    """Whether a state dict is that of a network of fubel/stmodeling, or of :class:`Tsn`."""
    return "new_fc.weight" in state and any(name.startswith("base_model.") for name in state)


@MODEL_REGISTRY.register("TSN")
class Tsn(VideoModel):
    """A 2-D network on each frame and a head over the frames; parameter names as published.

    Args:
        num_classes: outputs.
        num_frames: frames per clip; most heads are built for this number.
        backbone: a name of ``BACKBONE_REGISTRY``, or ``timm/<convolutional network>``.
        consensus: a name of ``HEAD_REGISTRY``.
        feature_dim: features per frame before the head (TSN: frames are projected to classes).
        dropout: of the backbone's features.
        hidden_size: state of recurrent heads.
        num_layers: layers of recurrent and transformer heads.
        head_dropout: inside the MLP head, and between layers of recurrent and transformer heads.
        num_heads: attention heads of the transformer head.
        trn_subsets: subsets of frames per scale of TRNmultiscale.
        trn_eval_all: TRNmultiscale takes all subsets in evaluation.
        partial_bn: the backbone's batch normalisation layers except the first are frozen.
        lr_groups: factors of weight decay and learning rate as published (``tsn_multipliers``).

    UserError if there is no backbone or head of that name.
    """

    spec = ModelSpec(
        sources=(IMAGE_SOURCE, WeightSource("stmodeling", is_stmodeling)),
        initial_weights=lambda cfg: cfg.TSN.PRETRAIN_NAME,
        weights_key="TSN.PRETRAIN_NAME",
        classifier_prefixes=lambda model: model.classifier_prefixes,
        param_multipliers=tsn_multipliers,
        check=check_tsn,
        input_format=tsn_input,
        variants={
            "tsn_squeezenet": {"backbone": "squeezenet1_1", "consensus": "TSN"},
            "tsn_bninception": {"backbone": "BNInception", "consensus": "TSN"},
            "trn_squeezenet": {"backbone": "squeezenet1_1", "consensus": "TRN"},
            "trn_bninception": {"backbone": "BNInception", "consensus": "TRN"},
            "trn_multiscale_bninception": {"backbone": "BNInception", "consensus": "TRNmultiscale"},
        },
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

    def __init__(
        self,
        *,
        num_classes: int = 174,
        num_frames: int = 8,
        backbone: str = "squeezenet1_1",
        consensus: str = "TSN",
        feature_dim: int = 256,
        dropout: float = 0.3,
        hidden_size: int = 256,
        num_layers: int = 1,
        head_dropout: float = 0.2,
        num_heads: int = 4,
        trn_subsets: int = 3,
        trn_eval_all: bool = False,
        partial_bn: bool = True,
        lr_groups: bool = True,
    ):
        super().__init__()
        self.base_model, channels = build_backbone(backbone)
        self.dropout = nn.Dropout(dropout)
        options = HeadOptions(
            num_frames=num_frames,
            dim=feature_dim,
            num_classes=num_classes,
            hidden_size=hidden_size,
            num_layers=num_layers,
            dropout=head_dropout,
            num_heads=num_heads,
            num_subsets=trn_subsets,
            all_subsets_in_eval=trn_eval_all,
        )
        head = build_head(consensus, options)
        self.wants_maps = getattr(head, "wants_maps", False)
        wants_logits = getattr(head, "wants_logits", False)
        dim = num_classes if wants_logits else feature_dim
        self.new_fc = nn.Conv2d(channels, dim, 1) if self.wants_maps else nn.Linear(channels, dim)
        nn.init.normal_(self.new_fc.weight, std=0.001)
        nn.init.zeros_(self.new_fc.bias)
        self.consensus = head
        # What depends on the number of classes: released weights of other classes leave it out.
        self.classifier_prefixes = ("new_fc.",) if wants_logits else _classifier_prefixes(head)
        self.lr_groups, self.partial_bn = lr_groups, partial_bn
        for norm in self._frozen_norms():
            norm.requires_grad_(False)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> Tsn:
        options = cfg.TSN
        return cls(
            num_classes=cfg.MODEL.NUM_CLASSES,
            num_frames=cfg.DATA.NUM_FRAMES,
            backbone=options.BACKBONE,
            consensus=options.CONSENSUS,
            feature_dim=options.FEATURE_DIM,
            dropout=options.DROPOUT,
            hidden_size=options.HIDDEN_SIZE,
            num_layers=options.LAYERS,
            head_dropout=options.HEAD_DROPOUT,
            num_heads=options.HEAD_ATTENTION_HEADS,
            trn_subsets=options.TRN_SUBSETS,
            trn_eval_all=options.TRN_EVAL_ALL,
            partial_bn=options.PARTIAL_BN,
            lr_groups=options.LR_GROUPS,
        )

    def _frozen_norms(self) -> list[nn.Module]:
        """Batch normalisation layers of the backbone except the first, with partial BN."""
        norms = [m for m in self.base_model.modules() if isinstance(m, _BatchNorm)]
        return norms[1:] if self.partial_bn else []

    def train(self, mode: bool = True) -> Tsn:
        super().train(mode)
        for norm in self._frozen_norms():
            norm.eval()
        return self

    def feature_maps(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> the backbone's maps, ``B C T h w``."""
        return self.frame_maps(video).unflatten(0, (video.shape[0], -1)).transpose(1, 2)

    def frame_maps(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> the backbone's maps of every frame, ``B*T C h w``."""
        return frame_maps(self.base_model, video.transpose(1, 2).flatten(0, 1))

    @property
    def head(self) -> nn.Module:
        """The consensus head under the name that other networks use."""
        return self.consensus

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """Features of the frames, ``B T D`` (``B T D h w`` for heads over maps)."""
        features = self.frame_maps(video)
        if not self.wants_maps:
            features = features.mean((2, 3))
        return self.new_fc(self.dropout(features)).unflatten(0, (video.shape[0], -1))


def _classifier_prefixes(head: nn.Module) -> tuple[str, ...]:
    """Prefixes of a head's layers that give classes: what it names itself, else ``fc`` and the
    last layers of its Sequentials."""
    declared = getattr(head, "classifier_prefixes", None)
    if declared is not None:
        return tuple(f"consensus.{prefix}" for prefix in declared)
    prefixes = []
    for name, child in head.named_children():
        parts = {f"{name}.": child}
        if isinstance(child, nn.ModuleList):
            parts = {f"{name}.{number}.": part for number, part in enumerate(child)}
        for prefix, part in parts.items():
            if isinstance(part, nn.Sequential):
                learned = [n for n, layer in part.named_children() if list(layer.parameters())]
                prefixes += [f"consensus.{prefix}{n}." for n in learned[-1:]]
        if name == "fc":
            prefixes.append("consensus.fc.")
    return tuple(prefixes)
