"""Embeddings of clips in files that are mapped into memory: a tested network embeds a clip once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import keys_without_effect
from slowfast.datasets.batch import BadItem
from slowfast.datasets.clip_reader import ClipReader
from slowfast.datasets.lists import ItemList
from slowfast.engine.sharding import unwrap
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.files import make_dirs
from slowfast.utils.logging import get_logger
from slowfast.utils.map import file_stamp
from slowfast.utils.progress import ProgressBar

logger = get_logger(__name__)

_FEATURES, _FACTS = "features.npy", "facts.json"
_BATCH_SIZE = 16  # clips
# Sections that change no embedding of given weights, and the keys in them that do.
_OTHER_SECTIONS = ("FEWSHOT.", "SOLVER.", "TRAIN.", "TEST.", "AUG.", "MIXUP.", "EMA.", "BN.")
_EMBEDDING_KEYS = (
    "FEWSHOT.TEST_JITTER",
    "TRAIN.MIXED_PRECISION",
    "TRAIN.AMP_DTYPE",
    "TEST.SHORT_SIDE",
)
Embed = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class FeatureCache:
    """``embeddings`` ``N …`` float32 in list order, mapped from a file; rows of ``unreadable``
    clips, which are known by index, are zero."""

    embeddings: np.ndarray
    unreadable: dict[int, BadItem]


def cache_key(cfg: CfgNode, network: nn.Module, item_list: ItemList, reader: ClipReader) -> str:
    """Changes with anything that changes an embedding: weights, clips, frames, pixels, method."""
    network = unwrap(network)
    digest = hashlib.sha256()
    for name, value in sorted(network.base.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    harmless = keys_without_effect()
    keys = {
        key: value
        for key, value in cfg.flat().items()
        if key in _EMBEDDING_KEYS or not (key in harmless or key.startswith(_OTHER_SECTIONS))
    }
    settings = [keys, network.embedding_type, reader.backend]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for item in item_list.items:
        digest.update(f"{item.path}\t{file_stamp(item.path)}\n".encode())
    return digest.hexdigest()[:16]


def open_cache(
    cfg: CfgNode, network: nn.Module, item_list: ItemList, reader: ClipReader, embed: Embed
) -> FeatureCache:
    """The cache of a list of clips below FEWSHOT.CACHE; it is built if it is not there.

    ``reader`` gives the clips, ``embed`` turns uint8 clips ``B 3 T H W`` into embeddings ``B …``.
    Processes that build the same cache at once do not disturb each other: the first to finish is
    used by all. UserError if a cache cannot be read, or none of the clips.
    """
    caches = make_dirs(cfg.FEWSHOT.CACHE, "FEWSHOT.CACHE")
    folder = caches / cache_key(cfg, network, item_list, reader)
    if not folder.exists():
        _build(folder, item_list, reader, embed)
    return _read(folder, len(item_list.items))


def _read(folder: Path, num_clips: int) -> FeatureCache:
    try:
        facts = json.loads((folder / _FACTS).read_text())
        embeddings = np.load(folder / _FEATURES, mmap_mode="r")
        unreadable = {row["index"]: BadItem(**row) for row in facts["bad"]}
        if len(embeddings) != num_clips:
            raise ValueError(f"holds {len(embeddings)} clips of {num_clips}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} cannot be read: {error}", "remove it, it is built again", "FEWSHOT.CACHE"
        ) from error
    logger.info("embeddings of %d clips from %s", num_clips, folder)
    return FeatureCache(embeddings, unreadable)


def _build(folder: Path, item_list: ItemList, reader: ClipReader, embed: Embed) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        bad = _write(unfinished / _FEATURES, item_list, reader, embed)
        (unfinished / _FACTS).write_text(json.dumps({"bad": [vars(item) for item in bad]}))
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not folder.exists():
                raise
            logger.info("%s was built by another process in the meantime", folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(file: Path, item_list: ItemList, reader: ClipReader, embed: Embed) -> list[BadItem]:
    """Write the embeddings of all clips into ``file``; returns the clips that cannot be read."""
    items = item_list.items
    bar = ProgressBar("embedding clips", -(-len(items) // _BATCH_SIZE), 10)
    embeddings: np.ndarray | None = None
    bad: list[BadItem] = []
    for start in range(0, len(items), _BATCH_SIZE):
        videos, indices = [], []
        for index in range(start, min(start + _BATCH_SIZE, len(items))):
            item = items[index]
            try:
                videos.append(reader.read(item, 0, index)["video"])
                indices.append(index)
            except VideoError as error:
                bad.append(BadItem(index, item.path, item.line, error.cause))
        if videos:
            batch = embed(torch.stack(videos)).float().cpu().numpy()
            if embeddings is None:
                shape = (len(items), *batch.shape[1:])
                embeddings = np.lib.format.open_memmap(file, "w+", dtype=np.float32, shape=shape)
            embeddings[indices] = batch
        bar.update(start // _BATCH_SIZE + 1, "")
    bar.close()
    if embeddings is None:
        raise UserError(f"none of {len(items)} clips can be read", "", item_list.source)
    embeddings.flush()
    return bad
