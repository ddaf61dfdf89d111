"""CLIP over videos, for recognition by class names: Open-VCLIP (arXiv 2302.00624), FROSTER
(arXiv 2402.03241) and STDD (arXiv 2412.09895)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from slowfast.config.node import CfgNode
from slowfast.datasets.classnames import configured_names
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, AuxLogits, VideoModel
from slowfast.models.clip import texts
from slowfast.models.clip.blocks import ClipBlock
from slowfast.models.clip.scores import prompt_scores, text_scores
from slowfast.models.clip.settings import PARTS, check_clip, configured_sizes, cross_options
from slowfast.models.clip.towers import Clip, ClipSizes, block_of
from slowfast.models.spec import ModelSpec
from slowfast.models.weights.clip_names import read_clip

_SHARE = 0.1  # of the projector in what distillation compares


def _projector(dim: int) -> nn.Sequential:
    """Starts as nothing."""
    layers = (nn.Linear(dim, dim, bias=False), nn.GELU(), nn.Linear(dim, dim, bias=False))
    nn.init.kaiming_normal_(layers[0].weight)
    nn.init.zeros_(layers[2].weight)
    return nn.Sequential(*layers)


def clip_multipliers(model: nn.Module) -> dict[str, tuple[float, float]]:
    """``MODEL.*FINETUNE_FACTOR`` by the first word that a name holds; CLIP.TEXT_FACTOR."""
    text = tuple(f"model.{start}" for part in ("text", "text_projection") for start in PARTS[part])
    found = {}
    for name, _ in model.named_parameters():
        factor = next(factor for word, factor in model._factors.items() if word in name)
        found[name] = factor * (model.options.TEXT_FACTOR if name.startswith(text) else 1.0)
    return {name: (1.0, factor) for name, factor in found.items() if factor != 1.0}


@MODEL_REGISTRY.register("TemporalClipVideo")
class TemporalClipVideo(VideoModel):
    """``model`` is CLIP, ``raw_model`` its frozen copy; names as in released checkpoints."""

    spec = ModelSpec(
        initial_weights=lambda cfg: cfg.TRAIN.CLIP_ORI_PATH,
        zero_shot_weights=lambda cfg: cfg.TEST.CLIP_ORI_PATH or cfg.TRAIN.CLIP_ORI_PATH,
        param_multipliers=clip_multipliers,
        check=check_clip,
        open_vocabulary=True,
        weights_key="TRAIN.CLIP_ORI_PATH",
        classifier_prefixes=("head",),
        test_overrides=TINY_CLIP
        | {
            "MODEL.ARCH": "custom",
            "MODEL.TEMPORAL_MODELING_TYPE": "expand_temporal_view",
            "MODEL.CONTEXT_LENGTH": 16,
            "MODEL.CHANNEL_FOLD": 16,
            "CLIP.PATCH_SIZE": 8,
            "CLIP.WIDTH": 64,
            "CLIP.LAYERS": 2,
            "CLIP.EMBED_DIM": 32,
            "CLIP.TEXT_WIDTH": 64,
            "CLIP.TEXT_LAYERS": 1,
            "CLIP.TEMPLATES": ["a video of {}."],
            "CLIP.TEXT_CACHE": "",
            "DATA.CLASS_NAMES": ["archery", "bowling", "running", "diving", "skiing"],
        },
    )

    def __init__(self, cfg: CfgNode):
        super().__init__()
        model, self.options, sizes = cfg.MODEL, cfg.CLIP, configured_sizes(cfg)
        num_checkpointed = math.inf if model.ACT_CHECKPOINT or model.USE_CHECKPOINT else 0
        kind = model.TEMPORAL_MODELING_TYPE
        make = block_of(kind, cross_options(cfg), self.options.SHIFT_GROUP)
        self.model = Clip(sizes, make, num_checkpointed)
        self.raw_model = Clip(sizes, ClipBlock) if model.KEEP_RAW_MODEL else None
        if self.options.ACTIVATION == "gelu":
            for network in filter(None, (self.model, self.raw_model)):
                network.use_plain_gelu()
        self._copy_raw()
        self.distillation = model.DISTILLATION_RATIO if model.RAW_MODEL_DISTILLATION else 0.0
        self.ensemble = model.ENSEMBLE_RAWMODEL_RATIO if model.ENSEMBLE_PRED else 0.0
        if self.distillation:
            self.projector_v = _projector(sizes.embed_dim)
        self._set_factors(cfg)
        self._set_classes(cfg, sizes)
        self._freeze(cfg)
        self._set_originals(cfg)
        self.register_load_state_dict_post_hook(_texts_of_new_weights)

    # -- what the constructor sets up ------------------------------------------------------------

    def _copy_raw(self) -> None:
        if self.raw_model is not None:
            plain = self.raw_model.state_dict()
            self.raw_model.load_state_dict(
                {name: v for name, v in self.model.state_dict().items() if name in plain}
            )
            self.raw_model.requires_grad_(False).eval()

    def _set_factors(self, cfg: CfgNode) -> None:
        model = cfg.MODEL
        self._factors = {
            "message": model.FINETUNE_FACTOR,
            "stadapt": model.ADAPT_FINETUNE_FACTOR,
            "mlp": model.MLP_FINETUNE_FACTOR,
            "": model.DEFAULT_FINETUNE_FACTOR,
        }

    def _set_classes(self, cfg: CfgNode, sizes: ClipSizes) -> None:
        self._states: torch.Tensor | None = None  # of the frozen text tower
        self._features: torch.Tensor | None = None  # of one evaluation
        self._raw_features: torch.Tensor | None = None  # the frozen copy's
        # No buffers: those are sent to all processes at every step.
        self._constants: dict[str, torch.Tensor] = {}
        names = configured_names(cfg.DATA)
        if cfg.DATA.TEXT_AUG:
            file, key = cfg.DATA.TEXT_AUG_FEATURE_FILE, "DATA.TEXT_AUG_FEATURE_FILE"
            prompts = texts.read_features(file, sizes.embed_dim, len(names), key)
            self._constants["prompts"] = prompts
            return
        templates, count = list(self.options.TEMPLATES) or texts.TEMPLATES, cfg.MODEL.PROMPT_NUM
        if cfg.MODEL.TEXT_PROMPT:
            templates = [" ".join(["X"] * count) + " {}."]
            self.prompt_embed = nn.Parameter(0.01 * torch.randn(count, sizes.text_width))
        self._constants["tokens"] = texts.fill_templates(templates, names, sizes.context)
        if cfg.TUNE_HEAD:
            self.head = nn.Parameter(torch.empty(len(names), sizes.embed_dim))
            self._begin_head()

    def _begin_head(self) -> None:
        with torch.no_grad():
            states = texts.encode(self.model, self.tokens)
            self.head.copy_(texts.mean_features(states, self.model.text_projection))

    def _freeze(self, cfg: CfgNode) -> None:
        """Parameters that nobody uses in training have no gradient to wait for."""
        self.text_learns = "text" in self.options.TRAINED and not cfg.MODEL.TEXT_PROMPT
        trained = set(self.options.TRAINED)
        if cfg.DATA.TEXT_AUG or cfg.TUNE_HEAD:
            trained -= {"text", "text_projection"}
        if cfg.MODEL.TEXT_PROMPT:
            trained -= {"text"}
        starts = tuple(start for part in trained for start in PARTS[part])
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(starts))

    def _set_originals(self, cfg: CfgNode) -> None:
        """The weights that LINEAR_CONNECT_CLIMB goes towards; they are not saved."""
        train = cfg.TRAIN
        self.connection = train.LINEAR_CONNECT_LOSS_RATIO if train.LINEAR_CONNECT_CLIMB else 0.0
        low, high = train.LINEAR_CONNECT_SAMPLE_L, train.LINEAR_CONNECT_SAMPLE_R
        middle = (low + high) / 2
        self._range = (low, high) if train.LINEAR_CONNECT_SAMPLE else (middle, middle)
        self._towards: list[str] = []  # parameters, by the names that their originals have, too
        if not (self.connection and train.ENABLE):
            return
        given = read_clip(train.CLIP_ORI_PATH, "TRAIN.CLIP_ORI_PATH")
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and name in given and given[name].shape == parameter.shape:
                self._towards.append(f"model.{name}")
                self._constants[f"model.{name}"] = given[name].float()

    # -- what the framework asks -----------------------------------------------------------------

    def train(self, mode: bool = True) -> TemporalClipVideo:
        super().train(mode)
        if self.raw_model is not None:
            self.raw_model.eval()
        self._features = None  # weights may have changed since the last evaluation
        return self

    def forget_texts(self) -> None:
        """The weights have changed: texts are to be encoded again."""
        self._states = self._features = self._raw_features = None

    def _apply(self, function: Any, *args: Any, **kwargs: Any) -> TemporalClipVideo:
        self.forget_texts()  # they are of another device or precision
        self._constants = {name: function(value) for name, value in self._constants.items()}
        return super()._apply(function, *args, **kwargs)

    @property
    def tokens(self) -> torch.Tensor:
        """Tokens of the classes in every template, ``T K L``."""
        return self._constants["tokens"]

    @property
    def prompts(self) -> torch.Tensor | None:
        """Features of several texts a class, ``K n D``, if a file gives them."""
        return self._constants.get("prompts")

    # -- classes ---------------------------------------------------------------------------------

    def class_features(self) -> torch.Tensor:
        """Normalised features of the classes, ``K D``, or of several texts of each, ``K n D``."""
        if self.prompts is not None:
            return self.prompts
        if self.training:
            return self._compute_features()
        if self._features is None:
            self._features = self._compute_features().detach()
        return self._features

    def _compute_features(self) -> torch.Tensor:
        network = self.model
        if hasattr(self, "head"):
            return F.normalize(self.head, dim=-1)
        if hasattr(self, "prompt_embed"):
            states = self._prompted_states()[None]
        elif self.text_learns and self.training:
            # One template a step, as encoding all of them would cost more than the videos.
            drawn = torch.randint(len(self.tokens), (1,), device=self.tokens.device)
            states = network.text_states(self.tokens.index_select(0, drawn)[0])[None]
        elif self.text_learns:
            states = texts.encode(network, self.tokens)
        else:
            states = self._frozen_states()
        return texts.mean_features(states, network.text_projection)

    def _frozen_states(self) -> torch.Tensor:
        if self._states is None:
            self._states = texts.encode_cached(self.model, self.tokens, self.options.TEXT_CACHE)
        return self._states

    def _prompted_states(self) -> torch.Tensor:
        """States of ``<start> learned tokens name.``: ``K W``."""
        tokens, count = self.tokens[0], len(self.prompt_embed)
        embedded = self.model.token_embedding(tokens)
        learned = self.prompt_embed.to(embedded.dtype).expand(len(tokens), -1, -1)
        embedded = torch.cat([embedded[:, :1], learned, embedded[:, 1 + count :]], dim=1)
        return self.model.text_states(tokens, embedded)

    # -- videos ----------------------------------------------------------------------------------

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> normalised features of the frames, ``B T D``."""
        return F.normalize(self.model.visual(video).float(), dim=-1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Normalised features of frames ``B T D`` -> scores ``B classes``."""
        classes, scale = self.class_features(), self.model.logit_scale.exp()
        score = text_scores if classes.ndim == 2 else prompt_scores
        return score(features, classes, scale)

    def forward(
        self, video: torch.Tensor, with_losses: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor | AuxLogits]]:
        """``B 3 T H W`` -> scores ``B classes``."""
        frames = self.forward_features(video)
        scores = self.classify(frames)
        if not self.training and self.ensemble:
            scores = (1 - self.ensemble) * scores + self.ensemble * self._raw_scores(video)
        if not with_losses:
            return scores
        losses: dict[str, torch.Tensor | AuxLogits] = {}
        if self.training and self.distillation:
            losses["loss_distillation"] = self._distillation_loss(video, frames)
        if self.training and self._towards:
            losses["loss_connection"] = AuxLogits(self._connected_scores(video), self.connection)
        return scores, losses

    def _raw_frames(self, video: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return F.normalize(self.raw_model.visual(video).float(), dim=-1)

    def _raw_scores(self, video: torch.Tensor) -> torch.Tensor:
        frames, scale = self._raw_frames(video), self.raw_model.logit_scale.exp()
        if self.prompts is not None:
            return prompt_scores(frames, self.prompts, scale)
        if self._raw_features is None:  # it never changes
            own = self.text_learns or hasattr(self, "prompt_embed")
            states = texts.encode(self.raw_model, self.tokens) if own else self._frozen_states()
            projection = self.raw_model.text_projection
            self._raw_features = texts.mean_features(states, projection).detach()
        return text_scores(frames, self._raw_features, scale)

    def _distillation_loss(self, video: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Frames, moved a little by a projector, keep the direction of the frozen copy's."""
        moved = frames + _SHARE * self.projector_v(frames)
        likeness = F.cosine_similarity(moved, self._raw_frames(video), dim=-1)
        return self.distillation * (1 - likeness.mean())

    def _connected_scores(self, video: torch.Tensor) -> torch.Tensor:
        """Scores of weights part of the way back to the originals; their gradient is added to
        that of the network's own weights as it is, as published."""
        low, high = self._range
        share = torch.empty((), device=video.device).uniform_(low, high)
        own = dict(self.named_parameters())
        between = {
            name: own[name] + share * (self._constants[name] - own[name]).detach()
            for name in self._towards
        }
        return functional_call(self, between, (video,))


def _texts_of_new_weights(model: TemporalClipVideo, keys: Any) -> None:
    """After weights have been loaded: texts and, if the file had none, the head follow."""
    model.forget_texts()
    if "head" in keys.missing_keys:
        model._begin_head()
