"""Class names as sentences, tokens and features."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from slowfast.models.clip.towers import CLIP
from slowfast.models.weights.read import read_content
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.progress import ProgressBar

logger = get_logger(__name__)

_MEDIA = ("photo", "video", "example", "demonstration")
_ACTIVITIES = ("", "using ", "doing ", "during ", "performing ", "practicing ")
# "a photo of {}.", "a photo of a person {}.", "a photo of a person using {}." … (STDD, after
# "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020).
TEMPLATES = [
    f"a {medium} of {subject}{{}}."
    for medium, subject in itertools.product(
        _MEDIA, ("", *(f"a person {activity}" for activity in _ACTIVITIES))
    )
]
_BATCH = 256  # texts encoded at once

Tokenizer = Callable[[Sequence[str], int], torch.Tensor]


@functools.cache
def load_tokenizer() -> Tokenizer:
    """CLIP's tokenizer from open_clip (extra ``clip``); UserError if it is not installed."""
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise UserError(
            f"CLIP's tokenizer is not installed ({error})",
            'pip install "slowfast[clip]", or give text features: DATA.TEXT_AUG_FEATURE_FILE',
            "MODEL.MODEL_NAME",
        ) from error
    try:
        return SimpleTokenizer()
    except OSError as error:
        raise UserError(
            f"open_clip has no vocabulary: {error}",
            "install open_clip_torch again",
            "MODEL.MODEL_NAME",
        ) from error


def tokenize(texts: Sequence[str], context: int) -> torch.Tensor:
    """Texts -> tokens ``N L``; L is the length of the longest text, at most ``context``.

    Longer texts lose their end, with a warning.
    """
    tokenizer = load_tokenizer()
    tokens = tokenizer(list(texts), context + 1)
    length = int((tokens != 0).sum(1).max())
    if length > context:
        cut = int((tokens[:, -1] != 0).sum())
        logger.warning("%d of %d texts are longer than %d tokens: cut", cut, len(texts), context)
        tokens, length = tokenizer(list(texts), context), context
    return tokens[:, :length].contiguous()


def fill_templates(templates: Sequence[str], names: Sequence[str], context: int) -> torch.Tensor:
    """Tokens of every class in every template: ``templates classes L``."""
    for template in templates:
        if "{}" not in template:
            raise UserError(
                f"{template!r} has no place for a class name",
                "write {} where it belongs",
                "CLIP.TEMPLATES",
            )
    texts = [template.replace("{}", name) for template in templates for name in names]
    return tokenize(texts, context).unflatten(0, (len(templates), len(names)))


def mean_features(hidden: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """Hidden states ``templates K W`` -> features ``K D``: normalised for each template, averaged
    over templates, normalised."""
    features = F.normalize((hidden @ projection).float(), dim=-1)
    return F.normalize(features.mean(0), dim=-1)


def encode(
    network: CLIP, tokens: torch.Tensor, progress: ProgressBar | None = None
) -> torch.Tensor:
    """Hidden states of the text tower at the end tokens: tokens ``… L`` -> ``… W``, no gradient.

    Always in full precision: stored texts must not depend on the precision of the run that
    encoded them. The result is usable in a later training step, even if the caller runs under
    ``torch.inference_mode``.
    """
    device = network.text_projection.device
    flat, hidden = tokens.flatten(0, -2).to(device), []
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        for part in flat.split(_BATCH):
            hidden.append(network.encode_tokens(part))
            if progress is not None:
                progress.update(sum(map(len, hidden)), "texts")
        return torch.cat(hidden).unflatten(0, tokens.shape[:-1])


def encode_one_template(network: CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """Hidden states of all classes in one template, drawn at random, with gradient: tokens
    ``templates K L`` -> ``1 K W``.

    Encoding all templates at every training step would cost more than the videos.
    """
    drawn = torch.randint(len(tokens), (1,), device=tokens.device)
    return network.encode_tokens(tokens.index_select(0, drawn)[0])[None]


def encode_with_prompt(network: CLIP, tokens: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
    """Hidden states of ``<start> learned tokens name.``, with gradient: tokens of one template
    ``1 K L`` and embeddings ``P W`` of the P learned tokens -> ``1 K W``."""
    tokens, count = tokens[0], len(prompt)
    embedded = network.token_embedding(tokens)
    learned = prompt.to(embedded.dtype).expand(len(tokens), -1, -1)
    embedded = torch.cat([embedded[:, :1], learned, embedded[:, 1 + count :]], dim=1)
    return network.encode_tokens(tokens, embedded)[None]


def prompt_template(count: int) -> str:
    """The template whose ``count`` first words stand for learned tokens."""
    return " ".join(["X"] * count) + " {}."


def read_features(path: str, width: int, key: str) -> torch.Tensor:
    """A file of text features ``K n D`` or ``K D`` -> normalised features ``K n D``.

    UserError naming ``key`` if the file cannot be read or its features are not ``width`` wide.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(
            f"there is no file {path}", "make it with tools/text_prompts.py features", key
        )
    features = _read_tensor(file, key).float()
    features = features[:, None] if features.ndim == 2 else features
    if features.ndim != 3:
        raise UserError(
            f"{path} is of shape {tuple(features.shape)}", "classes x texts x width is needed", key
        )
    if features.shape[-1] != width:
        raise UserError(
            f"{path} holds features of width {features.shape[-1]}, this CLIP's have {width}",
            "encode the texts with the same CLIP (MODEL.ARCH)",
            key,
        )
    return F.normalize(features, dim=-1)


def _read_tensor(file: Path, key: str) -> torch.Tensor:
    content = read_content(file, key)
    if file.suffix == ".safetensors":
        content = content["model_state"]
    tensors = list(content.values()) if isinstance(content, dict) else [content]
    if len(tensors) != 1 or not isinstance(tensors[0], torch.Tensor):
        raise UserError(f"{file} holds no single tensor", "save classes x texts x width", key)
    return tensors[0]
