"""Class names as sentences, tokens and features."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from slowfast.models.clip.towers import Clip
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, short_hash, write_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.progress import Progress

logger = get_logger(__name__)

_KINDS = ("photo", "video", "example", "demonstration")
_DOING = ("", "using ", "doing ", "during ", "performing ", "practicing ")
# "a photo of {}.", "a photo of a person {}.", "a photo of a person using {}." … (STDD, after
# "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020).
TEMPLATES = [
    f"a {kind} of {who}{{}}."
    for kind, who in itertools.product(_KINDS, ("", *(f"a person {doing}" for doing in _DOING)))
]
_BATCH = 256  # texts encoded at once

Tokenizer = Callable[[Sequence[str], int], torch.Tensor]


@functools.cache
def load_tokenizer() -> Tokenizer:
    """CLIP's tokenizer, from open_clip (extra ``clip``); UserError if it is not there."""
    try:
        module = importlib.import_module("open_clip.tokenizer")
    except ImportError as error:
        raise UserError(
            f"CLIP's tokenizer is not installed ({error})",
            'pip install "slowfast[clip]", or give text features: DATA.TEXT_AUG_FEATURE_FILE',
            "MODEL.MODEL_NAME",
        ) from error
    try:
        return module.SimpleTokenizer()
    except OSError as error:
        raise UserError(
            f"open_clip has no vocabulary: {error}",
            "install open_clip_torch again",
            "MODEL.MODEL_NAME",
        ) from error


def tokenize(texts: Sequence[str], context: int) -> torch.Tensor:
    """Texts -> tokens ``N L``, L at most ``context`` and as long as the longest text.

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


def mean_features(states: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """States ``T K W`` -> features ``K D``: normalised in each template, averaged, normalised."""
    features = F.normalize((states @ projection).float(), dim=-1)
    return F.normalize(features.mean(0), dim=-1)


def encode(network: Clip, tokens: torch.Tensor, progress: Progress | None = None) -> torch.Tensor:
    """States of the text tower for tokens ``… L``: ``… W``, without gradient.

    Mixed precision is left aside: what is stored must not depend on the run that stored it.
    """
    device = network.text_projection.device
    flat, states = tokens.flatten(0, -2).to(device), []
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for part in flat.split(_BATCH):
            states.append(network.text_states(part))
            if progress is not None:
                progress.update(sum(map(len, states)), "texts")
    return torch.cat(states).unflatten(0, tokens.shape[:-1])


def encode_cached(network: Clip, tokens: torch.Tensor, folder: str) -> torch.Tensor:
    """:func:`encode`, found again in ``folder`` by the text tower's weights and the tokens."""
    if not folder:
        return encode(network, tokens)
    path = Path(folder) / f"{_fingerprint(network, tokens)}.safetensors"
    device = network.text_projection.device
    if path.is_file():
        try:
            states = load_file(path)["states"]
            logger.info("texts of %d classes: encoded before (%s)", tokens.shape[1], path)
            return states.to(device)
        except (SafetensorError, KeyError) as error:
            logger.warning("%s cannot be read (%s): encoding the texts again", path, error)
    count = tokens[..., 0].numel()
    progress = Progress(f"encoding the texts of {tokens.shape[1]} classes", count, 10 * _BATCH)
    states = encode(network, tokens, progress)
    progress.close()
    make_dirs(folder, "CLIP.TEXT_CACHE")
    content = {"states": states.float().cpu().contiguous()}
    write_atomic(path, lambda temporary: save_file(content, temporary))
    return states


def _fingerprint(network: Clip, tokens: torch.Tensor) -> str:
    parts = [str(tuple(tokens.shape)), tokens.numpy(force=True).tobytes()]
    for name, value in network.named_parameters():
        if not name.startswith("visual.") and name not in ("text_projection", "logit_scale"):
            parts += [name, value.detach().float().numpy(force=True).tobytes()]
    activation = type(network.visual.transformer.resblocks[0].mlp.gelu).__name__
    return short_hash(activation, *parts)


def read_features(path: str, width: int, classes: int, key: str) -> torch.Tensor:
    """A file of text features ``K n D`` (or ``K D``), normalised; UserError if it does not fit."""
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
    if len(features) != classes:
        raise UserError(
            f"{path} has texts of {len(features)} classes, there are {classes}",
            "make both from the same class map",
            key,
        )
    return F.normalize(features, dim=-1)


def _read_tensor(file: Path, key: str) -> torch.Tensor:
    try:
        if file.suffix == ".safetensors":
            content = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{file} cannot be read: {(str(error).splitlines() or [''])[0]}",
            "save a tensor alone",
            key,
        ) from error
    tensors = list(content.values()) if isinstance(content, dict) else [content]
    if len(tensors) != 1 or not isinstance(tensors[0], torch.Tensor):
        raise UserError(f"{file} holds no single tensor", "save classes x texts x width", key)
    return tensors[0]
