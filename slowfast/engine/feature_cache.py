"""Embeddings of clips on disk, memory-mapped: with a frozen network each is computed once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import keys_without_effect
from slowfast.datasets.batch import BadItem
from slowfast.datasets.embedded_episodes import FeatureCache
from slowfast.datasets.episodes import FewShotClips
from slowfast.engine.sharding import unwrap
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.files import make_dirs
from slowfast.utils.logging import get_logger
from slowfast.utils.parallel import file_stamp
from slowfast.utils.progress import Progress

logger = get_logger(__name__)

_FEATURES, _FACTS = "features.npy", "facts.json"
_BATCH = 16
Embed = Callable[[torch.Tensor], torch.Tensor]


def cache_key(cfg: CfgNode, network: nn.Module, clips: FewShotClips) -> str:
    """Changes with anything that changes an embedding: weights, clips, frames, pixels, method."""
    digest = hashlib.sha256()
    for name, value in sorted(unwrap(network).base.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    harmless = keys_without_effect()
    settings = {k: v for k, v in cfg.DATA.items() if f"DATA.{k}" not in harmless}
    kept = [
        settings,
        cfg.MODEL.MODEL_NAME,
        unwrap(network).kind,
        cfg.RNG_SEED,
        cfg.FEWSHOT.TEST_JITTER,
        cfg.TRAIN.MIXED_PRECISION,
        clips.reader.backend,
    ]
    digest.update(json.dumps(kept, sort_keys=True, default=str).encode())
    for item in clips.items:
        digest.update(f"{item.path}\t{file_stamp(item.path)}\n".encode())
    return digest.hexdigest()[:16]


def open_cache(cfg: CfgNode, network: nn.Module, clips: FewShotClips, embed: Embed) -> FeatureCache:
    """The cache of these clips below FEWSHOT.CACHE, built if it is not there.

    ``embed`` takes uint8 clips ``B 3 T H W``. Processes that build the same cache at once do not
    disturb each other: the first to finish is kept.
    """
    folder = make_dirs(cfg.FEWSHOT.CACHE, "FEWSHOT.CACHE")
    place = folder / cache_key(cfg, network, clips)
    if not place.exists():
        _build(place, clips, embed)
    return _read(place, clips)


def _read(place: Path, clips: FewShotClips) -> FeatureCache:
    try:
        facts = json.loads((place / _FACTS).read_text())
        features = np.load(place / _FEATURES, mmap_mode="r")
        bad = {row["index"]: BadItem(**row) for row in facts["bad"]}
        if len(features) != len(clips.items):
            raise ValueError(f"holds {len(features)} clips of {len(clips.items)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{place} cannot be read: {error}", "remove it, it is built again", "FEWSHOT.CACHE"
        ) from error
    logger.info("embeddings of %d clips from %s", len(features), place)
    return FeatureCache(features, bad)


def _build(place: Path, clips: FewShotClips, embed: Embed) -> None:
    part = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        bad = _write(part, clips, embed)
        (part / _FACTS).write_text(json.dumps({"bad": [vars(item) for item in bad]}))
        try:
            os.rename(part, place)
        except OSError:
            if not place.exists():
                raise
            logger.info("%s was built by another process meanwhile", place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, clips: FewShotClips, embed: Embed) -> list[BadItem]:
    """Embed all clips into ``part``; gives those that cannot be read."""
    bar = Progress("embedding clips", -(-len(clips.items) // _BATCH), 10)
    features: np.ndarray | None = None
    bad: list[BadItem] = []
    for begin in range(0, len(clips.items), _BATCH):
        videos, places = [], []
        for index in range(begin, min(begin + _BATCH, len(clips.items))):
            try:
                videos.append(clips.clip(index, 0))
                places.append(index)
            except VideoError as error:
                item = clips.items[index]
                bad.append(BadItem(index, item.path, item.line, error.cause))
        if videos:
            made = embed(torch.stack(videos)).float().cpu().numpy()
            if features is None:
                shape = (len(clips.items), *made.shape[1:])
                features = np.lib.format.open_memmap(
                    part / _FEATURES, "w+", dtype=np.float32, shape=shape
                )
            features[places] = made
        bar.update(begin // _BATCH + 1, "")
    bar.close()
    if features is None:
        raise UserError(f"none of {len(clips.items)} clips can be read", "", clips.item_list.source)
    features.flush()
    return bad
