"""Few-shot methods: heads that compare queries with support clips, by name (FEWSHOT.METHOD).

N episodes, K classes, S shots, Q queries. A method is one class. It states which embedding of a
clip it compares and, where there are any, its published checkpoint formats and its rules; its
keys stand above it::

    @FEWSHOT_REGISTRY.register("nearest")
    class NearestClip(FewShotHead):
        embedding_type = "vectors"

        def forward(self, support, queries):  # N K S D, N Q D
            pairs = support[:, None] - queries[:, :, None, None]  # N Q K S D
            return EpisodeOutput(-pairs.norm(dim=-1).amin(-1))
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

import slowfast.config.sections  # noqa: F401  (registers FEWSHOT, which methods extend)
from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, extend_section
from slowfast.layers.prototypes import cosine_logits, euclidean_logits, otam_logits
from slowfast.layers.staf import StafHead
from slowfast.layers.trx import TrxHead
from slowfast.models.fewshot_sources import FEWSHOT_SOURCES
from slowfast.models.spec import WeightSource
from slowfast.utils.errors import Problem
from slowfast.utils.registry import Registry

_STAF_WEIGHTS, _TRX_WEIGHTS = FEWSHOT_SOURCES

Losses = dict[str, torch.Tensor]


class EpisodeOutput(NamedTuple):
    """Logits ``N Q K``, and whatever else the losses of the head need."""

    logits: torch.Tensor
    context: Any = None


class FewShotHead(nn.Module):
    """A few-shot method: embeddings of support and query clips -> logits of the queries.

    ``embedding_type``: what of a clip is compared, ``maps`` (``C L``, positions flattened),
    ``frames`` (``T D``) or ``vectors`` (``D``); ``sources``: published checkpoint formats.
    """

    embedding_type: ClassVar[str]
    sources: ClassVar[tuple[WeightSource, ...]] = ()

    @classmethod
    def from_cfg(
        cls, cfg: CfgNode, embedding_shape: tuple[int, ...], num_train_classes: int
    ) -> FewShotHead:
        """The head that a configuration describes, for embeddings of a shape ``C L``, ``T D`` or
        ``D``."""
        return cls()

    @classmethod
    def check(cls, cfg: CfgNode) -> Iterable[Problem]:
        """Problems of a configuration that selects this method."""
        return ()

    def forward(self, support: torch.Tensor, queries: torch.Tensor) -> EpisodeOutput:
        """Embeddings ``N K S …`` and ``N Q …`` -> logits ``N Q K``."""
        raise NotImplementedError

    def losses(
        self, output: EpisodeOutput, labels: torch.Tensor, global_labels: torch.Tensor
    ) -> Losses:
        """Losses by name, means over the queries; their sum is minimised.

        ``labels`` ``N Q``: class of a query within its episode; ``global_labels`` ``N Q``: its
        class among the training classes.
        """
        logits = output.logits.flatten(0, 1)
        return {"loss_episode": F.cross_entropy(logits, labels.flatten())}


FEWSHOT_REGISTRY: Registry[type[FewShotHead]] = Registry("few-shot method", "FEWSHOT.METHOD")


extend_section(
    "FEWSHOT",
    {
        "DISTANCE": Key(
            "euclidean",
            "Method prototype: how queries are compared with prototypes.",
            choices=("euclidean", "cosine"),
            only_if={"FEWSHOT.METHOD": "prototype"},
        )
    },
)


@FEWSHOT_REGISTRY.register("prototype")
class PrototypeHead(FewShotHead):
    """Distance to the mean of a class's clips (arXiv 1703.05175), or mean cosine similarity with
    them; ``scale`` is the factor of the cosines."""

    embedding_type = "vectors"

    def __init__(self, distance: str = "euclidean", scale: float = 7.0):
        super().__init__()
        self.distance, self.scale = distance, scale

    @classmethod
    def from_cfg(
        cls, cfg: CfgNode, embedding_shape: tuple[int, ...], num_train_classes: int
    ) -> PrototypeHead:
        return cls(cfg.FEWSHOT.DISTANCE, cfg.FEWSHOT.SCALE)

    def forward(self, support: torch.Tensor, queries: torch.Tensor) -> EpisodeOutput:
        """``N K S D``, ``N Q D`` -> logits ``N Q K``."""
        if self.distance == "cosine":
            return EpisodeOutput(cosine_logits(support, queries, self.scale))
        return EpisodeOutput(euclidean_logits(support, queries))


extend_section(
    "FEWSHOT",
    {
        "SMOOTHING": Key(
            0.1,
            "OTAM: softness of the minimum over paths (lambda).",
            gt=0.0,
            only_if={"FEWSHOT.METHOD": "otam"},
        )
    },
)


@FEWSHOT_REGISTRY.register("otam")
class OtamHead(FewShotHead):
    """Temporal alignment of frames (arXiv 1906.11415); ``smoothing`` softens its minimum."""

    embedding_type = "frames"

    def __init__(self, smoothing: float = 0.1):
        super().__init__()
        self.smoothing = smoothing

    @classmethod
    def from_cfg(
        cls, cfg: CfgNode, embedding_shape: tuple[int, ...], num_train_classes: int
    ) -> OtamHead:
        return cls(cfg.FEWSHOT.SMOOTHING)

    def forward(self, support: torch.Tensor, queries: torch.Tensor) -> EpisodeOutput:
        """``N K S T D``, ``N Q T D`` -> logits ``N Q K``."""
        return EpisodeOutput(otam_logits(support, queries, self.smoothing))


extend_section(
    "FEWSHOT",
    {
        "TRX_DIM": Key(
            1152, "TRX: width of keys and values.", ge=1, only_if={"FEWSHOT.METHOD": "trx"}
        ),
        "TRX_TUPLES": Key(
            [2, 3],
            "TRX: numbers of frames in a tuple, one branch each.",
            item=int,
            min_length=1,
            ge=1,
            only_if={"FEWSHOT.METHOD": "trx"},
        ),
        "TRX_DROPOUT": Key(
            0.1,
            "TRX: dropout after the positions of frames are added.",
            ge=0.0,
            le=1.0,
            only_if={"FEWSHOT.METHOD": "trx"},
        ),
    },
)


@FEWSHOT_REGISTRY.register("trx")
class TrxFewShotHead(FewShotHead):
    """Attention between tuples of frames (arXiv 2101.06184)."""

    embedding_type = "frames"
    sources = (_TRX_WEIGHTS,)

    def __init__(self, head: TrxHead):
        super().__init__()
        self.logits = head  # the name in checkpoints

    @classmethod
    def from_cfg(
        cls, cfg: CfgNode, embedding_shape: tuple[int, ...], num_train_classes: int
    ) -> TrxFewShotHead:
        options = cfg.FEWSHOT
        sizes = (options.TRX_DIM, options.TRX_TUPLES, options.TRX_DROPOUT)
        return cls(TrxHead(*embedding_shape, *sizes))

    @classmethod
    def check(cls, cfg: CfgNode) -> Iterable[Problem]:
        sizes, num_frames = cfg.FEWSHOT.TRX_TUPLES, cfg.DATA.NUM_FRAMES
        if not sizes or min(sizes) < 1 or max(sizes) > num_frames:
            yield Problem(
                f"{list(sizes)} cannot be tuples of DATA.NUM_FRAMES {num_frames} frames",
                f"use sizes from 1 to {num_frames}",
                "FEWSHOT.TRX_TUPLES",
            )

    def forward(self, support: torch.Tensor, queries: torch.Tensor) -> EpisodeOutput:
        """``N K S T D``, ``N Q T D`` -> logits ``N Q K``."""
        return EpisodeOutput(self.logits(support, queries))


extend_section(
    "FEWSHOT",
    {
        "SELF_WEIGHT": Key(
            1.0,
            "STAF: weight of the similarity after self-attention (alpha).",
            only_if={"FEWSHOT.METHOD": "staf"},
        ),
        "EPISODE_LOSS_WEIGHT": Key(
            0.5,
            "STAF: weight of the episode's loss (lamda) beside that of the global classifier.",
            ge=0.0,
            only_if={"FEWSHOT.METHOD": "staf"},
        ),
        "TRAIN_CLASSES": Key(
            0,
            "STAF: outputs of the global classifier. 0: the classes of the training list "
            "(released weights may need more).",
            ge=0,
            only_if={"FEWSHOT.METHOD": "staf"},
        ),
    },
)


@FEWSHOT_REGISTRY.register("staf")
class StafFewShotHead(StafHead, FewShotHead):
    """Cross-attention of feature maps (arXiv 2112.04585) with its two losses.

    ``episode_loss_weight``: weight of the episode's loss (``lamda``); further arguments as in
    :class:`slowfast.layers.staf.StafHead`.
    """

    embedding_type = "maps"
    sources = (_STAF_WEIGHTS,)

    def __init__(
        self,
        channels: int,
        num_positions: int,
        num_classes: int,
        scale: float = 7.0,
        self_weight: float = 1.0,
        episode_loss_weight: float = 0.5,
    ):
        super().__init__(channels, num_positions, num_classes, scale, self_weight)
        self.episode_loss_weight = episode_loss_weight

    @classmethod
    def from_cfg(
        cls, cfg: CfgNode, embedding_shape: tuple[int, ...], num_train_classes: int
    ) -> StafFewShotHead:
        options = cfg.FEWSHOT
        num_classes = options.TRAIN_CLASSES or num_train_classes
        weights = (options.SCALE, options.SELF_WEIGHT, options.EPISODE_LOSS_WEIGHT)
        return cls(*embedding_shape, num_classes, *weights)

    def forward(self, support: torch.Tensor, queries: torch.Tensor) -> EpisodeOutput:
        """Maps ``N K S C L``, ``N Q C L`` -> logits ``N Q K`` and the attended maps."""
        maps = self.attend(support.mean(2), queries)
        return EpisodeOutput(self.similarity(maps), maps)

    def losses(
        self, output: EpisodeOutput, labels: torch.Tensor, global_labels: torch.Tensor
    ) -> Losses:
        """``loss_global`` (training classes) and the weighted ``loss_episode``, means over the
        queries and over the positions of their maps."""

        def cross_entropy(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(scores, targets.flatten()[:, None].expand(-1, scores.shape[-1]))

        scores = self.position_scores(output.context).flatten(0, 1)
        global_logits = self.global_logits(output.context, labels)
        episode_loss = self.episode_loss_weight * cross_entropy(scores, labels)
        return {
            "loss_global": cross_entropy(global_logits, global_labels),
            "loss_episode": episode_loss,
        }
