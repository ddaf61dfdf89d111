"""CLIP over videos, for recognition by class names: Open-VCLIP (arXiv 2302.00624), FROSTER
(arXiv 2402.03241) and STDD (arXiv 2412.09895)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.models.base import MODEL_REGISTRY, AuxLogits, AuxLosses, VideoModel
from slowfast.models.clip import texts
from slowfast.models.clip.network_tower import NetworkTower
from slowfast.models.clip.parameters import LearningRateFactors, freeze_all_but
from slowfast.models.clip.regularizers import FrozenDistillation, InterpolatedWeights, RawEnsemble
from slowfast.models.clip.scores import class_scores
from slowfast.models.clip.settings import clip_arguments
from slowfast.models.clip.sizes import ClipSizes
from slowfast.models.clip.spec import CLIP_SPEC
from slowfast.models.clip.text_bank import TextBank
from slowfast.models.clip.towers import CLIP, FrozenCLIP, block_builder
from slowfast.models.looks.clip import trace_clip
from slowfast.models.looks.trace import Trace
from slowfast.utils.errors import UserError


@MODEL_REGISTRY.register("TemporalClipVideo")
class TemporalClipVideo(VideoModel):
    """Compares the frames of a clip with the texts of the classes.

    ``set_classes(names)``, load weights, ``begin("test")``, ``eval()``: texts are encoded by
    :meth:`begin`, never inside a forward pass, which is a UserError where they are not. Other
    names, other weights and :meth:`train` make another :meth:`begin` necessary. (A text tower that
    learns encodes one template at each training step.)

    Args:
        sizes: sizes of both towers.
        temporal_modeling, temporal_options: registered kind of block, and its options.
        templates: sentences with ``{}`` for the class name; empty: the 28 published ones.
        text_folder: folder in which encoded texts are stored and found again; empty: none.
        text_features: normalised features ``K n D`` of n texts per class, instead of encoded names.
        trained: parts that learn: visual, text, text_projection, logit_scale.
        num_prompt_tokens: learned tokens before the class names; they replace the templates.
        num_classes: size of a learned classifier, initialised as the features of the class names.
        activation: quick_gelu (OpenAI) or gelu (most CLIPs that open_clip trained).
        keep_raw_model: keep a frozen copy of the original, which the next two need.
        distillation_weight: weight of FROSTER's distillation from the copy; 0: none.
        ensemble_ratio: share of the copy's scores in evaluation; 0: none.
        interpolation: Open-VCLIP's regularisation.
        lr_factors: factors of the learning rate.
        visual: another visual tower, ``B 3 T H W`` -> ``B T D`` or one feature per clip, ``B 1 D``.
        checkpointing: recompute the activations of the visual tower in the backward pass.
    """

    spec = CLIP_SPEC

    def __init__(
        self,
        sizes: ClipSizes,
        *,
        temporal_modeling: str = "",
        temporal_options: Any = None,
        templates: Sequence[str] = (),
        text_folder: str = "",
        text_features: torch.Tensor | None = None,
        trained: Sequence[str] = ("visual", "text_projection"),
        num_prompt_tokens: int = 0,
        num_classes: int | None = None,
        activation: str = "quick_gelu",
        keep_raw_model: bool = False,
        distillation_weight: float = 0.0,
        ensemble_ratio: float = 0.0,
        interpolation: InterpolatedWeights | None = None,
        lr_factors: LearningRateFactors | None = None,
        visual: NetworkTower | None = None,
        checkpointing: bool = False,
    ):
        super().__init__()
        if (distillation_weight or ensemble_ratio) and not keep_raw_model:
            raise UserError("distillation and ensemble need the frozen copy", "keep_raw_model=True")
        dim, build_block = sizes.embed_dim, block_builder(temporal_modeling, temporal_options)
        # Released checkpoints have these names: model, raw_model, projector_v, prompt_embed, head.
        self.model = CLIP(sizes, build_block, checkpointing=checkpointing, visual=visual)
        self.raw_model = FrozenCLIP(sizes) if keep_raw_model else None
        if self.raw_model is not None:
            self.raw_model.copy_weights(self.model)
        if activation == "gelu":
            for network in filter(None, (self.model, self.raw_model)):
                network.use_gelu()
        self.projector_v = self.prompt_embed = self.head = self.ensemble = None
        if distillation_weight:
            self.projector_v = FrozenDistillation(dim, distillation_weight)
        if ensemble_ratio:
            self.ensemble = RawEnsemble(ensemble_ratio)
        if num_prompt_tokens:
            templates = [texts.prompt_template(num_prompt_tokens)]
            self.prompt_embed = nn.Parameter(
                0.01 * torch.randn(num_prompt_tokens, sizes.text_width)
            )
        if num_classes is not None:
            self.head = nn.Parameter(torch.zeros(num_classes, dim))
        self._head_is_loaded = False
        self.texts = TextBank(templates, sizes.context, text_folder, text_features)
        if text_features is not None or num_classes is not None:
            trained = set(trained) - {"text", "text_projection"}  # no training step uses them
        elif num_prompt_tokens:
            trained = set(trained) - {"text"}
        self._text_tower_learns = "text" in trained
        freeze_all_but(self.model, trained)
        if visual is not None:
            visual.freeze_unused()
        self.interpolation = interpolation
        if interpolation is not None:
            interpolation.restrict_to(dict(self.model.named_parameters()))
        self.lr_factors = lr_factors or LearningRateFactors()
        self.register_load_state_dict_post_hook(_follow_new_weights)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> TemporalClipVideo:
        return cls(**clip_arguments(cfg))

    # -- classes ---------------------------------------------------------------------------------

    def set_classes(self, names: Sequence[str]) -> None:
        """Classify by these names; a learned classifier that no file has filled follows them."""
        if self.head is not None and len(names) != len(self.head):
            raise UserError(
                f"the classifier has {len(self.head)} outputs, there are {len(names)} names",
                "a learned classifier cannot change its classes",
                "TUNE_HEAD",
            )
        self.texts.set_classes(names)
        if self.head is not None and not self._head_is_loaded:
            self._init_head()

    @torch.no_grad()
    def _init_head(self) -> None:
        hidden = texts.encode(self.model, self.texts.tokens)
        self.head.copy_(texts.mean_features(hidden, self.model.text_projection))

    def begin(self, split: str) -> None:
        """Encode the texts of the classes that stay the same during this epoch or evaluation."""
        device, bank = self.model.logit_scale.device, self.texts
        bank.to(device)
        if self.interpolation is not None:
            self.interpolation.to(device)
        if bank.prompts is not None:
            return
        with torch.inference_mode(False), torch.no_grad():
            if self.head is None and self.prompt_embed is None and not self._text_tower_learns:
                bank.encode(self.model)
            if split != "train":
                bank.store_features(self._text_features(all_templates=True))
                if self.ensemble is not None:
                    bank.encode_raw(self.raw_model)

    def class_features(self) -> torch.Tensor:
        """Normalised features of the classes, ``K D``, or of several texts of each, ``K n D``."""
        if self.training and self.texts.prompts is None:
            return self._text_features(all_templates=False)
        return self.texts.features().to(self.model.logit_scale.device)

    def _text_features(self, all_templates: bool) -> torch.Tensor:
        """Features ``K D`` by the weights as they are, with gradient where they learn."""
        if self.head is not None:
            return F.normalize(self.head, dim=-1)
        if self.prompt_embed is not None:
            hidden = texts.encode_with_prompt(self.model, self.texts.tokens, self.prompt_embed)
        elif not self._text_tower_learns:
            hidden = self.texts.hidden()
        elif all_templates:
            hidden = texts.encode(self.model, self.texts.tokens)
        else:
            hidden = texts.encode_one_template(self.model, self.texts.tokens)
        return texts.mean_features(hidden, self.model.text_projection)

    def text_features(self, names: Sequence[str]) -> torch.Tensor:
        """Texts in the templates of the classes, ``N D``: as a test encodes the names of its
        classes."""
        bank, prompt = self.texts, self.prompt_embed
        tokens = texts.fill_templates(bank.templates, names, bank.context)
        tokens = tokens.to(self.model.logit_scale.device)
        if prompt is not None:
            hidden = texts.encode_with_prompt(self.model, tokens, prompt)
        else:
            hidden = texts.encode(self.model, tokens)
        return texts.mean_features(hidden, self.model.text_projection)

    def train(self, mode: bool = True) -> TemporalClipVideo:
        if mode:  # the weights are about to change
            self.texts.forget_features()
        return super().train(mode)

    def text_towers(self) -> list[nn.Module]:
        """The blocks that encode texts, in full precision as :func:`texts.encode` has it."""
        return [network.transformer for network in (self.model, self.raw_model) if network]

    # -- videos ----------------------------------------------------------------------------------

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> normalised features of the frames, ``B T D``."""
        return F.normalize(self.model.visual(video).float(), dim=-1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Normalised features of frames ``B T D`` -> scores ``B classes``."""
        return class_scores(features, self.class_features(), self.model.logit_scale.exp())

    def forward(
        self, video: torch.Tensor, with_losses: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, AuxLosses]:
        """``B 3 T H W`` -> scores ``B classes``."""
        frames = self.forward_features(video)
        scores = self.classify(frames)
        if self.ensemble is not None and not self.training:
            classes = self.texts.raw_features().to(scores.device)
            scores = self.ensemble.mix(scores, self.raw_model, video, classes)
        if not with_losses:
            return scores
        losses: AuxLosses = {}
        if self.training and self.projector_v is not None:
            losses["loss_distillation"] = self.projector_v.loss(self.raw_model, video, frames)
        if self.training and self.interpolation:
            interpolated = self.interpolation.scores(self, video)
            losses["loss_connection"] = AuxLogits(interpolated, self.interpolation.weight)
        return scores, losses

    def attention_map(self, trace: Trace, shape: tuple[int, ...]) -> torch.Tensor | None:
        if isinstance(self.model.visual, NetworkTower):
            return None
        return trace_clip(trace, self, shape)


def _follow_new_weights(model: TemporalClipVideo, keys: Any) -> None:
    """After weights were loaded: texts are to be encoded again, and a classifier that the file
    does not have starts as the texts of the classes."""
    model.texts.forget()
    if model.head is not None:
        model._head_is_loaded = "head" not in keys.missing_keys
        if not model._head_is_loaded and model.texts.names:
            model._init_head()
