"""The texts of the classes: encoded when asked, kept in memory and on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from slowfast.models.clip import texts
from slowfast.models.clip.towers import CLIP
from slowfast.models.weights.read import read_checkpoint
from slowfast.models.weights.safetensors import write_safetensors
from slowfast.utils.distributed import whole
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, short_hash, write_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.progress import ProgressBar

logger = get_logger(__name__)

_PROGRESS_EVERY = 2560  # texts


class TextBank:
    """Tokens of the class names, and what a text tower has made of them.

    A bank is no module with buffers, because DDP would send those to all processes at every step.
    It encodes nothing by itself: :meth:`encode`, :meth:`encode_raw` and :meth:`store_features`
    fill it, :meth:`forget` empties it when the weights have changed. Its tensors can be used in a
    training step, even if it was filled under ``torch.inference_mode``.

    Args:
        templates: sentences with ``{}`` for the class name; empty: the 28 published ones.
        context: largest number of tokens of a text.
        folder: encoded texts are stored in this folder and found there again; empty: no folder.
        prompts: normalised features ``K n D`` of n texts per class, instead of encoded names.
    """

    def __init__(
        self,
        templates: Sequence[str] = (),
        context: int = 77,
        folder: str = "",
        prompts: torch.Tensor | None = None,
    ):
        self.templates = list(templates) or texts.TEMPLATES
        self.context, self.folder = context, folder
        self.names: list[str] = []
        self.prompts = prompts
        self._tokens: torch.Tensor | None = None
        self._hidden: torch.Tensor | None = None
        self._features: torch.Tensor | None = None
        self._raw_features: torch.Tensor | None = None

    # -- classes ---------------------------------------------------------------------------------

    @torch.inference_mode(False)
    def set_classes(self, names: Sequence[str]) -> None:
        """Tokenise other class names; with features of a file only their number is compared."""
        if not names:
            raise UserError("there are no class names", "give at least one")
        if self.prompts is not None and len(self.prompts) != len(names):
            raise UserError(
                f"the file has texts of {len(self.prompts)} classes, there are {len(names)}",
                "make both from the same class map",
                "DATA.TEXT_AUG_FEATURE_FILE",
            )
        self.names = list(names)
        self.forget()
        if self.prompts is None:
            self._tokens = texts.fill_templates(self.templates, self.names, self.context)

    @property
    def tokens(self) -> torch.Tensor:
        """Tokens of the classes in every template, ``templates K L``."""
        if self._tokens is None:
            raise _no_classes()
        return self._tokens

    @torch.inference_mode(False)
    def to(self, device: torch.device) -> None:
        """Move all tensors to ``device``."""
        for name in ("prompts", "_tokens", "_hidden", "_features", "_raw_features"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value.to(device))

    # -- encoded texts ---------------------------------------------------------------------------

    def forget(self) -> None:
        """The weights or the classes have changed: everything has to be encoded again."""
        self._hidden = self._features = self._raw_features = None

    def forget_features(self) -> None:
        """The weights are about to change; those of a frozen text tower, whose hidden states are
        stored, and of the frozen copy are not."""
        self._features = None

    @torch.inference_mode(False)
    def encode(self, network: CLIP) -> None:
        """Store the hidden states of a frozen text tower, unless they are."""
        if self._hidden is None:
            self._hidden = encode_cached(network, self.tokens, self.folder)

    @torch.inference_mode(False)
    def encode_raw(self, network: CLIP) -> None:
        """Store the features of the frozen copy, unless they are; while the text tower of the
        network is frozen, too, its hidden states are those of the copy."""
        if self._raw_features is None:
            hidden = self._hidden
            if hidden is None:
                hidden = texts.encode(network, self.tokens)
            self._raw_features = texts.mean_features(hidden, network.text_projection)

    def store_features(self, features: torch.Tensor) -> None:
        """Store the features ``K D`` of the classes for the next evaluation."""
        self._features = features

    def hidden(self) -> torch.Tensor:
        """Hidden states at the end tokens, ``templates K W``; UserError before :meth:`encode`."""
        return self._stored(self._hidden, "train")

    def features(self) -> torch.Tensor:
        """Features of the classes for an evaluation, ``K D``, or of several texts of each, ``K n
        D``; UserError where they are not stored."""
        return self._stored(self._features if self.prompts is None else self.prompts, "test")

    def raw_features(self) -> torch.Tensor:
        """:meth:`features` of the frozen copy."""
        return self._stored(self._raw_features if self.prompts is None else self.prompts, "test")

    def _stored(self, value: torch.Tensor | None, split: str) -> torch.Tensor:
        if value is not None:
            return value
        if not self.names:
            raise _no_classes()
        raise UserError(
            "the texts of the classes are not encoded for these weights",
            f'call begin("{split}") after set_classes, loading weights or training',
        )


def _no_classes() -> UserError:
    return UserError("this network has no classes yet", "call set_classes(names)")


def encode_cached(network: CLIP, tokens: torch.Tensor, folder: str) -> torch.Tensor:
    """:func:`texts.encode`; a result for the same text tower and tokens is read from ``folder``."""
    if not folder:
        return texts.encode(network, tokens)
    path = Path(folder) / f"{_fingerprint(network, tokens)}.safetensors"
    device = network.text_projection.device
    if path.is_file():
        try:
            hidden = read_checkpoint(path, "CLIP.TEXT_CACHE")["model_state"]["states"]
            logger.info("texts of %d classes: encoded before (%s)", tokens.shape[1], path)
            return hidden.to(device)
        except (UserError, KeyError) as error:
            logger.warning("%s: encoding the texts again", error)
    count = tokens[..., 0].numel()
    progress = ProgressBar(
        f"encoding the texts of {tokens.shape[1]} classes", count, _PROGRESS_EVERY
    )
    hidden = texts.encode(network, tokens, progress)
    progress.close()
    make_dirs(folder, "CLIP.TEXT_CACHE")
    content = {"states": hidden.float().cpu().contiguous()}
    write_atomic(path, lambda temporary: write_safetensors(content, temporary))
    return hidden


def _fingerprint(network: CLIP, tokens: torch.Tensor) -> str:
    parts = [str(tuple(tokens.shape)), tokens.numpy(force=True).tobytes()]
    for name, value in network.named_parameters():
        if not name.startswith("visual.") and name not in ("text_projection", "logit_scale"):
            # A copy: FSDP frees memory of gathered parameters, and cannot once NumPy has seen it.
            copy = whole(value.detach()).to("cpu", torch.float32, copy=True)
            parts += [name, copy.numpy().tobytes()]
    activation = type(network.transformer.resblocks[0].mlp.gelu).__name__
    return short_hash(activation, *parts)
