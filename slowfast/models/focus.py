"""Networks whose last blocks STFM may replace: the module, its blocks, and the head they share."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.layers.checkpointing import run_blocks
from slowfast.layers.stfm import Stfm, StfmShape, similarity_loss
from slowfast.models.base import VideoModel
from slowfast.utils.errors import Problem


def hard_selection(model: FocusedModel) -> bool:
    """Whether the selectors of STFM get no gradient."""
    return model.hard_selection


class FocusedModel(VideoModel):
    """Features with losses of their own, then ``pre_logits`` and ``head``.

    With STFM the parts are called as in its release: ``stfm``, ``blocks40``, ``normF``.
    """

    hard_selection = False
    pre_logits: nn.Module
    head: nn.Module

    def build_focus(self, cfg: CfgNode, shape: StfmShape, blocks: Iterable[nn.Module]) -> None:
        """Add the module and the blocks that run on its tokens."""
        self.stfm = Stfm(cfg, shape)
        self.blocks40 = nn.ModuleList(blocks)
        self.normF = nn.LayerNorm(shape.dim)
        self.hard_selection = cfg.STFM.SELECTION == "hard"
        self.add_similar_loss = cfg.STFM.SIMILAR_LOSS

    def focus(
        self, x: torch.Tensor, video: torch.Tensor, recomputed: int = 0
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Map ``B C T' H' W'`` and clip ``B 3 T H W`` -> features ``B D`` and losses."""
        tokens, positions = self.stfm(x, video)
        losses = {"similar_loss": similarity_loss(tokens)} if self.add_similar_loss else {}
        x, positions = tokens.flatten(1, 2), positions.flatten(1, 2)
        return self.normF(run_blocks(self.blocks40, x, recomputed, positions)).mean(1), losses

    def features_and_losses(
        self, video: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """``B 3 T H W`` -> features ``B D`` and the network's own losses by name."""
        raise NotImplementedError

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        return self.pre_logits(self.features_and_losses(video)[0])

    def forward(
        self, video: torch.Tensor, with_losses: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        features, losses = self.features_and_losses(video)
        logits = self.head(self.pre_logits(features))
        return (logits, losses) if with_losses else logits


def focus_after(cfg: CfgNode, depth: int) -> int:
    """Number of the last block before the module, of ``depth`` like ones."""
    chosen = cfg.STFM.INSERT_AFTER
    return chosen if chosen >= 0 else depth * 3 // 4 - 1


def check_focus(cfg: CfgNode, stride_t: int) -> Iterable[Problem]:
    """What STFM asks of clips and crops; ``stride_t`` frames make one of the network's."""
    if cfg.DATA.NUM_FRAMES % stride_t:
        yield Problem(
            f"STFM needs {'an even number' if stride_t == 2 else f'a multiple of {stride_t}'} of "
            f"frames, not {cfg.DATA.NUM_FRAMES}",
            "the network divides time and STFM multiplies it again",
            "DATA.NUM_FRAMES",
        )
    if cfg.TEST.ENABLE and cfg.DATA.TEST_CROP_SIZE != cfg.DATA.TRAIN_CROP_SIZE:
        yield Problem(
            f"is {cfg.DATA.TEST_CROP_SIZE}, DATA.TRAIN_CROP_SIZE is {cfg.DATA.TRAIN_CROP_SIZE}",
            "STFM's weights fit one number of patches: set both to the same size",
            "DATA.TEST_CROP_SIZE",
        )
    if cfg.STFM.POS_KERNEL % 2 == 0:
        yield Problem(f"{cfg.STFM.POS_KERNEL} is even", "use an odd kernel", "STFM.POS_KERNEL")
