"""Consensus heads: aggregate the features of a video's frames into logits (stmodeling, TRN).

Heads over vectors take ``B T D``, heads over maps (``wants_maps``) take ``B T D H W``; both give
logits ``B classes``. Names of parameters are those of the published code (fubel/stmodeling).

A head of one's own is registered with :data:`HEAD_REGISTRY`::

    @HEAD_REGISTRY.register("max")
    class MaxConsensus(nn.Module):
        def __init__(self, options: HeadOptions):
            super().__init__()
            self.fc = nn.Linear(options.dim, options.num_classes)

        def forward(self, x):  # B T D -> B classes
            return self.fc(x.amax(1))
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from slowfast.utils.registry import Registry

_MAX_LISTED_SUBSETS = 20_000  # above it subsets of frames are drawn without listing all of them


@dataclass(frozen=True)
class HeadOptions:
    """Sizes of a head; each kind reads those that it needs.

    ``num_frames`` T and ``dim`` D of the features; ``hidden_size`` of recurrent states;
    ``num_layers`` of recurrent and transformer heads; ``num_subsets`` and ``all_subsets_in_eval``
    as :class:`MultiScaleRelationConsensus` says.
    """

    num_frames: int
    dim: int
    num_classes: int
    hidden_size: int = 256
    num_layers: int = 1
    dropout: float = 0.2
    num_heads: int = 4
    num_subsets: int = 3
    all_subsets_in_eval: bool = False


HeadBuilder = Callable[[HeadOptions], nn.Module]
ALIASES = {"avg": "TSN", "FCN": "FCN2D"}


def _by_alias(name: str) -> HeadBuilder | None:
    return HEAD_REGISTRY.get(ALIASES[name]) if name in ALIASES else None


# A builder takes HeadOptions. Its module may set ``wants_maps`` (True: it takes maps, not
# vectors), ``wants_logits`` (True: frames are projected to classes before it) and
# ``classifier_prefixes`` (beginnings of names of its parameters that depend on the classes).
HEAD_REGISTRY: Registry[HeadBuilder] = Registry("head", "TSN.CONSENSUS", resolve=_by_alias)


def build_head(kind: str, options: HeadOptions) -> nn.Module:
    """The head called ``kind``, or by one of its other names; UserError for an unknown one."""
    return HEAD_REGISTRY.get(kind)(options)


@HEAD_REGISTRY.register("TSN")
class MeanConsensus(nn.Module):
    """``TSN``: the mean over frames, whose features are projected to classes before it."""

    wants_maps, wants_logits = False, True

    def __init__(self, options: HeadOptions):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


class MlpConsensus(nn.Module):
    """``MLP`` and ``TRN`` (one scale, arXiv 1711.08496): two layers over all frames in order.

    Only the MLP has dropout; it shifts the numbers in the names of the published layers.
    """

    wants_maps = False
    hidden = 512

    def __init__(self, options: HeadOptions, with_dropout: bool):
        super().__init__()
        self.classifier = nn.Sequential(
            nn.ReLU(),
            nn.Linear(options.num_frames * options.dim, self.hidden),
            *([nn.Dropout(options.dropout)] if with_dropout else []),
            nn.ReLU(),
            nn.Linear(self.hidden, options.num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(x.flatten(1))


HEAD_REGISTRY.register("MLP")(functools.partial(MlpConsensus, with_dropout=True))
HEAD_REGISTRY.register("TRN")(functools.partial(MlpConsensus, with_dropout=False))


@HEAD_REGISTRY.register("TRNmultiscale")
class MultiScaleRelationConsensus(nn.Module):
    """``TRNmultiscale`` (arXiv 1711.08496): relations over T, T-1, … 2 frames, summed.

    Every scale but the largest takes ``num_subsets`` ordered subsets of the frames. In training
    they are drawn at each forward without replacement from PyTorch's generator (the published
    code draws in evaluation as well). In evaluation they are the first in lexicographic order, or,
    with ``all_subsets_in_eval``, all of them, scaled to the same number. Scales with more than
    20,000 subsets draw the frames of each subset independently, so that a subset may repeat.
    """

    wants_maps = False

    def __init__(self, options: HeadOptions):
        super().__init__()
        self.num_frames, self.num_subsets = options.num_frames, options.num_subsets
        self.sizes = range(options.num_frames, 1, -1)
        self.fc_fusion_scales = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Linear(size * options.dim, 256),
                nn.ReLU(),
                nn.Linear(256, options.num_classes),
            )
            for size in self.sizes
        )
        for size in self.sizes:
            total = math.comb(self.num_frames, size)
            listed = total if total <= _MAX_LISTED_SUBSETS else 0
            in_eval = total if options.all_subsets_in_eval else min(self.num_subsets, total)
            for name, count in (("all", listed), ("eval", in_eval)):
                subsets = itertools.combinations(range(self.num_frames), size)
                first = torch.tensor(list(itertools.islice(subsets, count)), dtype=torch.long)
                self.register_buffer(
                    f"{name}_subsets_{size}", first.view(-1, size), persistent=False
                )

    def draw_subsets(self, size: int) -> torch.Tensor:
        """Random ordered subsets of ``size`` frames for one training step: ``num_subsets size``."""
        listed = getattr(self, f"all_subsets_{size}")
        device = listed.device  # drawn there: nothing is copied from the host
        if len(listed):
            return listed[torch.randperm(len(listed), device=device)[: self.num_subsets]]
        draws = [
            torch.randperm(self.num_frames, device=device)[:size].sort().values
            for _ in range(self.num_subsets)
        ]
        return torch.stack(draws)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = 0.0
        for size, relation in zip(self.sizes, self.fc_fusion_scales):
            if self.training:
                subsets = self.draw_subsets(size)
            else:
                subsets = getattr(self, f"eval_subsets_{size}")
            logits = relation(x[:, subsets].flatten(2)).sum(1)  # B count size*D -> B classes
            total = total + logits * (min(len(subsets), self.num_subsets) / len(subsets))
        return total


class RecurrentConsensus(nn.Module):
    """``RNN_TANH``, ``RNN_RELU``, ``LSTM``, ``GRU``: classifies the state after the last frame."""

    wants_maps = False
    kinds = {
        "RNN_TANH": lambda *a, **k: nn.RNN(*a, nonlinearity="tanh", **k),
        "RNN_RELU": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
        "LSTM": nn.LSTM,
        "GRU": nn.GRU,
    }

    def __init__(self, options: HeadOptions, kind: str):
        super().__init__()
        self.rnn = self.kinds[kind](
            options.dim,
            options.hidden_size,
            options.num_layers,
            batch_first=True,
            dropout=options.dropout if options.num_layers > 1 else 0.0,
        )
        self.fc = nn.Linear(options.hidden_size, options.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


for _kind in RecurrentConsensus.kinds:
    HEAD_REGISTRY.register(_kind)(functools.partial(RecurrentConsensus, kind=_kind))


@HEAD_REGISTRY.register("BLSTM")
class BidirectionalLstmConsensus(nn.Module):
    """``BLSTM``: backward state at the first frame, concatenated with the forward one at the last.

    Each direction has half of ``hidden_size``.
    """

    wants_maps = False

    def __init__(self, options: HeadOptions):
        super().__init__()
        self.half = options.hidden_size // 2
        self.rnn = nn.LSTM(
            options.dim,
            self.half,
            options.num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=options.dropout if options.num_layers > 1 else 0.0,
        )
        self.fc = nn.Linear(2 * self.half, options.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.rnn(x)[0]
        return self.fc(torch.cat([states[:, 0, self.half :], states[:, -1, : self.half]], dim=1))


@HEAD_REGISTRY.register("FCN2D")
class Fcn2dConsensus(nn.Module):
    """``FCN2D``: 2-D convolutions over the features as an image ``1 T D`` (the paper's FCN)."""

    wants_maps = False
    widths = (64, 64, 128, 128, 256)

    def __init__(self, options: HeadOptions):
        super().__init__()
        layers: list[nn.Module] = [nn.ReLU()]
        for before, width in zip((1, *self.widths), self.widths):
            conv = nn.Conv2d(before, width, 3, stride=(1, 2), padding=1)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        # In place of the published dropout of probability 0, so that layers keep their numbers.
        layers += [nn.Identity(), nn.Conv2d(self.widths[-1], options.num_classes, 1), nn.ReLU()]
        self.classifier = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # PyTorch 2.15: bfloat16 convolutions with a stride larger than a side of the image give
            # garbage on the CPU, which narrow features meet in the last layers.
            with torch.autocast("cpu", enabled=False):
                return self.forward(x.float())
        return self.classifier(x.unsqueeze(1)).mean((2, 3))


@HEAD_REGISTRY.register("FCN3D")
class Fcn3dConsensus(nn.Module):
    """``FCN3D``: 3-D convolutions over the feature maps of all frames."""

    wants_maps = True
    widths = (64, 128, 256)

    def __init__(self, options: HeadOptions):
        super().__init__()
        layers: list[nn.Module] = [nn.ReLU()]
        for before, width in zip((options.dim, *self.widths), self.widths):
            conv = nn.Conv3d(before, width, 3, stride=(2, 1, 1), padding=1)
            layers += [conv, nn.BatchNorm3d(width), nn.ReLU()]
        layers += [nn.Identity(), nn.Conv3d(self.widths[-1], options.num_classes, 1), nn.ReLU()]
        self.classifier = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(x.transpose(1, 2)).mean((2, 3, 4))


class ConvLstmCell(nn.Module):
    """One convolution over input and state gives the gates i, f, o, g (arXiv 1506.04214)."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.conv = nn.Conv2d(dim + hidden, 4 * hidden, 3, padding=1)

    def forward(
        self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Input ``B D H W`` and state ``B hidden H W`` twice -> the next state."""
        i, f, o, g = self.conv(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


@HEAD_REGISTRY.register("CONVLSTM")
class ConvLstmConsensus(nn.Module):
    """``CONVLSTM``: last state of convolutional LSTM layers, averaged over space."""

    wants_maps = True

    def __init__(self, options: HeadOptions):
        super().__init__()
        self.hidden = options.hidden_size
        dims = [options.dim] + [options.hidden_size] * (options.num_layers - 1)
        self.cell_list = nn.ModuleList(ConvLstmCell(dim, options.hidden_size) for dim in dims)
        self.fc = nn.Linear(options.hidden_size, options.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = x.unbind(1)
        for cell in self.cell_list:
            h = c = steps[0].new_zeros(x.shape[0], self.hidden, *x.shape[-2:])
            states = []
            for step in steps:
                h, c = cell(step, h, c)
                states.append(h)
            steps = states
        return self.fc(steps[-1].mean((2, 3)))


@HEAD_REGISTRY.register("Transformer")
class TransformerConsensus(nn.Module):
    """``Transformer``: class token of pre-norm encoder layers over the frames (unpublished)."""

    wants_maps = False

    def __init__(self, options: HeadOptions):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            options.dim,
            options.num_heads,
            4 * options.dim,
            options.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, options.num_layers, norm=nn.LayerNorm(options.dim), enable_nested_tensor=False
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, options.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, options.num_frames, options.dim))
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        self.fc = nn.Linear(options.dim, options.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x + self.pos_embed], dim=1)
        return self.fc(self.encoder(x)[:, 0])
