"""Consensus heads: what becomes of the features of a video's frames (stmodeling, TRN).

Heads over vectors take ``B T D``, heads over maps (``wants_maps``) take ``B T D H W``; both give
logits ``B classes``. Names of parameters are those of the published code (fubel/stmodeling).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

_ENUMERABLE = 20_000  # subsets of frames up to which all of them are listed


@dataclass(frozen=True)
class HeadOptions:
    """Sizes of a head: ``frames`` T, ``dim`` D, ``classes``, and what single kinds need."""

    frames: int
    dim: int
    classes: int
    hidden: int = 256
    layers: int = 1
    dropout: float = 0.2
    attention_heads: int = 4
    subsets: int = 3
    all_subsets_in_eval: bool = False


class MeanHead(nn.Module):
    """``TSN``: frames were projected to classes already; their mean."""

    wants_maps = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


class FlatHead(nn.Module):
    """``MLP`` and ``TRN`` (one scale, arXiv 1711.08496): two layers over all frames in order.

    They differ in the MLP's dropout, which counts in the names of the published layers.
    """

    wants_maps = False
    hidden = 512

    def __init__(self, options: HeadOptions, with_dropout: bool):
        super().__init__()
        self.classifier = nn.Sequential(
            nn.ReLU(),
            nn.Linear(options.frames * options.dim, self.hidden),
            *([nn.Dropout(options.dropout)] if with_dropout else []),
            nn.ReLU(),
            nn.Linear(self.hidden, options.classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(x.flatten(1))


class MultiScaleRelationHead(nn.Module):
    """``TRNmultiscale``: relations over T, T-1, … 2 frames, summed.

    Every scale but the largest takes ``subsets`` ordered subsets of the frames: in training drawn
    at each forward, without replacement, from PyTorch's generator (the published code draws in
    evaluation, too); in evaluation the first in lexicographic order, or, scaled to the same
    number, all of them. Scales with more than 20,000 subsets draw frames for each subset anew, so
    that one may come twice.
    """

    wants_maps = False

    def __init__(self, options: HeadOptions):
        super().__init__()
        self.frames, self.subsets = options.frames, options.subsets
        self.sizes = range(options.frames, 1, -1)
        self.fc_fusion_scales = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Linear(size * options.dim, 256),
                nn.ReLU(),
                nn.Linear(256, options.classes),
            )
            for size in self.sizes
        )
        for size in self.sizes:
            count = math.comb(self.frames, size)
            first = count if options.all_subsets_in_eval else min(self.subsets, count)
            for name, wanted in (("all", count if count <= _ENUMERABLE else 0), ("eval", first)):
                subsets = itertools.islice(itertools.combinations(range(self.frames), size), wanted)
                chosen = torch.tensor(list(subsets), dtype=torch.long).view(-1, size)
                self.register_buffer(f"{name}_subsets_{size}", chosen, persistent=False)

    def _drawn(self, size: int) -> torch.Tensor:
        """Subsets of ``size`` frames for one training step: ``count size``."""
        listed = getattr(self, f"all_subsets_{size}")
        if len(listed):
            order = torch.randperm(len(listed))[: self.subsets]
            return listed[order.to(listed.device)]
        draws = [torch.randperm(self.frames)[:size].sort().values for _ in range(self.subsets)]
        return torch.stack(draws).to(listed.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = 0.0
        for size, relation in zip(self.sizes, self.fc_fusion_scales):
            chosen = self._drawn(size) if self.training else getattr(self, f"eval_subsets_{size}")
            logits = relation(x[:, chosen].flatten(2)).sum(1)  # B count size*D -> B classes
            total = total + logits * (min(len(chosen), self.subsets) / len(chosen))
        return total


class RecurrentHead(nn.Module):
    """``RNN_TANH``, ``RNN_RELU``, ``LSTM``, ``GRU``: the state after the last frame."""

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
            options.hidden,
            options.layers,
            batch_first=True,
            dropout=options.dropout if options.layers > 1 else 0.0,
        )
        self.fc = nn.Linear(options.hidden, options.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


class BidirectionalHead(nn.Module):
    """``BLSTM``: the backward state at the first frame beside the forward one at the last."""

    wants_maps = False

    def __init__(self, options: HeadOptions):
        super().__init__()
        self.half = options.hidden // 2
        self.rnn = nn.LSTM(
            options.dim,
            self.half,
            options.layers,
            batch_first=True,
            bidirectional=True,
            dropout=options.dropout if options.layers > 1 else 0.0,
        )
        self.fc = nn.Linear(2 * self.half, options.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.rnn(x)[0]
        return self.fc(torch.cat([states[:, 0, self.half :], states[:, -1, : self.half]], dim=1))


class Fcn2dHead(nn.Module):
    """``FCN2D``: the features of all frames as a picture ``1 T D``, convolved (the paper's FCN)."""

    wants_maps = False
    widths = (64, 64, 128, 128, 256)

    def __init__(self, options: HeadOptions):
        super().__init__()
        layers: list[nn.Module] = [nn.ReLU()]
        for before, width in zip((1, *self.widths), self.widths):
            conv = nn.Conv2d(before, width, 3, stride=(1, 2), padding=1)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        # A dropout of probability 0 stands here in the published code: it counts in the names.
        layers += [nn.Identity(), nn.Conv2d(self.widths[-1], options.classes, 1), nn.ReLU()]
        self.classifier = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(x.unsqueeze(1)).mean((2, 3))


class Fcn3dHead(nn.Module):
    """``FCN3D``: 3-D convolutions over the feature maps of all frames."""

    wants_maps = True
    widths = (64, 128, 256)

    def __init__(self, options: HeadOptions):
        super().__init__()
        layers: list[nn.Module] = [nn.ReLU()]
        for before, width in zip((options.dim, *self.widths), self.widths):
            conv = nn.Conv3d(before, width, 3, stride=(2, 1, 1), padding=1)
            layers += [conv, nn.BatchNorm3d(width), nn.ReLU()]
        layers += [nn.Identity(), nn.Conv3d(self.widths[-1], options.classes, 1), nn.ReLU()]
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


class ConvLstmHead(nn.Module):
    """``CONVLSTM``: the last state of convolutional LSTM layers, averaged over space."""

    wants_maps = True

    def __init__(self, options: HeadOptions):
        super().__init__()
        self.hidden = options.hidden
        dims = [options.dim] + [options.hidden] * (options.layers - 1)
        self.cell_list = nn.ModuleList(ConvLstmCell(dim, options.hidden) for dim in dims)
        self.fc = nn.Linear(options.hidden, options.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = x.unbind(1)
        for cell in self.cell_list:
            h = c = steps[0].new_zeros(len(x), self.hidden, *x.shape[-2:])
            states = []
            for step in steps:
                h, c = cell(step, h, c)
                states.append(h)
            steps = states
        return self.fc(steps[-1].mean((2, 3)))


class TransformerHead(nn.Module):
    """``Transformer``: a class token after encoder layers over the frames (unpublished)."""

    wants_maps = False

    def __init__(self, options: HeadOptions):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            options.dim,
            options.attention_heads,
            4 * options.dim,
            options.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, options.layers, norm=nn.LayerNorm(options.dim), enable_nested_tensor=False
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, options.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, options.frames, options.dim))
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        self.fc = nn.Linear(options.dim, options.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x + self.pos_embed], dim=1)
        return self.fc(self.encoder(x)[:, 0])


HEADS: dict[str, Callable[[HeadOptions], nn.Module]] = {
    "TSN": lambda options: MeanHead(),
    "MLP": lambda options: FlatHead(options, with_dropout=True),
    "TRN": lambda options: FlatHead(options, with_dropout=False),
    "TRNmultiscale": MultiScaleRelationHead,
    **{
        kind: lambda options, kind=kind: RecurrentHead(options, kind)
        for kind in RecurrentHead.kinds
    },
    "BLSTM": BidirectionalHead,
    "FCN2D": Fcn2dHead,
    "FCN3D": Fcn3dHead,
    "CONVLSTM": ConvLstmHead,
    "Transformer": TransformerHead,
}
ALIASES = {"avg": "TSN", "FCN": "FCN2D"}


def build_head(kind: str, options: HeadOptions) -> nn.Module:
    """The head called ``kind``, or by one of its other names."""
    return HEADS[ALIASES.get(kind, kind)](options)
