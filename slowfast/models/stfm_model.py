"""Networks whose last blocks STFM can replace: its keys, its position, its weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.checkpointing import run_checkpointed
from slowfast.layers.stfm import Stfm, StfmOptions, StfmShape, token_distance_loss
from slowfast.models.base import VideoModel
from slowfast.models.spec import State, WeightSource
from slowfast.utils.errors import Problem

STFM = register_section(
    Section(
        "STFM",
        "Spatial and temporal focus module",
        {
            "ENABLE": Key(False, "Put the module into the network."),
            "INSERT_AFTER": Key(
                -1,
                "Index of the block, from 0, that the module follows (TimeSformer, MViT); "
                "-1: after three quarters of the blocks, in MViT before the last stage.",
                ge=-1,
                only_if={"MODEL.MODEL_NAME": ("TimeSformer", "MViT")},
            ),
            "NUM_TOKENS": Key(64, "Tokens per frame (64 for B, 16 for S in the paper).", ge=1),
            "DENSE": Key(True, "Overlapping patches, 4 pixels apart, instead of 16."),
            "POS_KERNEL": Key(3, "Kernel size of the position convolution (odd).", ge=1),
            "SIMILAR_LOSS": Key(
                False, "Add the mean distance of the tokens over time to the loss (similar_loss)."
            ),
            "SELECTION": Key(
                "hard",
                "How tokens are selected. hard: the released arg-max, which trains neither "
                "selector; straight_through: arg-max forward, soft-max backward.",
                choices=("hard", "straight_through"),
            ),
            "TEMPERATURE": Key(
                1.0,
                "Temperature of the soft-max of SELECTION straight_through.",
                gt=0.0,
                only_if={"STFM.SELECTION": "straight_through"},
            ),
        },
        only_if={"MODEL.MODEL_NAME": ("Uniformer", "TimeSformer", "MViT"), "STFM.ENABLE": True},
    )
)


def read_stfm_options(cfg: CfgNode) -> StfmOptions | None:
    """The section STFM as options, or None without ``STFM.ENABLE``."""
    section = cfg.STFM
    if not section.ENABLE:
        return None
    return StfmOptions(
        num_tokens=section.NUM_TOKENS,
        dense=section.DENSE,
        pos_kernel=section.POS_KERNEL,
        selection=section.SELECTION,
        temperature=section.TEMPERATURE,
        insert_after=section.INSERT_AFTER,
        similar_loss=section.SIMILAR_LOSS,
    )


class StfmModel(VideoModel):
    """A network with ``pre_logits`` and ``head``, and STFM in place of its last blocks or not.

    With STFM its parts have the published names: ``stfm``, ``blocks40``, ``normF``.
    """

    stfm_options: StfmOptions | None = None
    pre_logits: nn.Module
    head: nn.Module

    def build_stfm(
        self, options: StfmOptions, shape: StfmShape, blocks: Iterable[nn.Module]
    ) -> None:
        """Add the module and ``blocks``, which run on its tokens."""
        self.stfm_options = options
        self.stfm = Stfm(options, shape)
        self.blocks40 = nn.ModuleList(blocks)
        self.normF = nn.LayerNorm(shape.dim)

    def apply_stfm(
        self, x: torch.Tensor, video: torch.Tensor, num_checkpointed: float = 0
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Feature map ``B C T' H' W'`` and clip ``B 3 T H W`` -> features ``B D`` and losses."""
        tokens, positions = self.stfm(x, video)
        losses = {}
        if self.stfm_options.similar_loss:
            losses["similar_loss"] = token_distance_loss(tokens)
        x, positions = tokens.flatten(1, 2), positions.flatten(1, 2)
        x = run_checkpointed(self.blocks40, x, num_checkpointed, positions)
        return self.normF(x).mean(1), losses

    def features_and_losses(
        self, video: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """``B 3 T H W`` -> features ``B D`` and auxiliary losses by name."""
        raise NotImplementedError

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        return self.pre_logits(self.features_and_losses(video)[0])

    def forward(
        self, video: torch.Tensor, with_losses: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """``B 3 T H W`` -> logits ``B classes``, with ``with_losses`` and the losses."""
        features, losses = self.features_and_losses(video)
        logits = self.classify(self.pre_logits(features))
        return (logits, losses) if with_losses else logits


def stfm_insert_index(options: StfmOptions, depth: int) -> int:
    """Index of the last block before the module, for ``depth`` blocks of one width."""
    return options.insert_after if options.insert_after >= 0 else depth * 3 // 4 - 1


def check_stfm(cfg: CfgNode, stride_t: int) -> Iterable[Problem]:
    """Problems of clips and crops with STFM; ``stride_t``: frames per step of the feature map."""
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


# -- weights ---------------------------------------------------------------------------------

STFM_PARTS = ("stfm.", "normF.")  # of a network that starts from one without STFM


def has_stfm(state: State) -> bool:
    """Whether a state dict, under its published names, is that of a network with STFM."""
    return any(name.startswith("stfm.") for name in state)


STFM_SOURCE = WeightSource("STFM", has_stfm)


def last_blocks_to_stfm(state: State, model: VideoModel) -> State:
    """Initialise ``blocks40`` with the blocks that STFM replaces."""
    if not hasattr(model, "blocks40"):
        return state
    num_plain = len(model.blocks)
    adapted = {}
    for name, value in state.items():
        first, _, rest = name.partition(".")
        number, _, leaf = rest.partition(".")
        if first == "blocks" and int(number) >= num_plain:
            adapted[f"blocks40.{int(number) - num_plain}.{leaf}"] = value
        else:
            adapted[name] = value
    return adapted
