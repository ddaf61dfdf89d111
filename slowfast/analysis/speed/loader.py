"""Samples a second of the loader, beside PyTorch's by batches and one that works as PySlowFast's.

All read the same training samples of 16 frames from the same files with the same number of worker
processes: 32 videos of 340x256, and the same list with one long video of 1920x1080 in it.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from slowfast.analysis.speed.data import RECIPE, make_clip
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.datasets.base import VideoDataset
from slowfast.datasets.batch import Batch
from slowfast.datasets.lists import Item
from slowfast.datasets.loader import collate, construct_loader
from slowfast.utils.processes import enter_worker

_VIDEOS, _PASSES = 32, 4
Loaders = dict[str, Callable[[], Iterable[Any]]]


class PySlowFastSamples(Dataset):
    """Training samples as PySlowFast makes them: all frames between the first and the last of the
    clip become RGB, and the clip is normalised, scaled and cropped in float32, in the worker."""

    def __init__(self, items: list[Item], cfg: CfgNode):
        self.items, self.cfg = items, cfg

    def __len__(self) -> int:
        return _PASSES * len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.items[index % len(self.items)]
        clip = torch.from_numpy(self._decode(item.path)).float() / 255
        clip = (clip - torch.tensor(self.cfg.DATA.MEAN)) / torch.tensor(self.cfg.DATA.STD)
        clip = clip.permute(3, 0, 1, 2)
        side = int(np.random.randint(*self.cfg.DATA.TRAIN_JITTER_SCALES))
        factor, size = side / min(clip.shape[-2:]), self.cfg.DATA.TRAIN_CROP_SIZE
        target = [round(edge * factor) for edge in clip.shape[-2:]]
        clip = F.interpolate(clip, target, mode="bilinear", align_corners=False)
        top, left = (int(np.random.randint(0, edge - size + 1)) for edge in target)
        clip = clip[:, :, top : top + size, left : left + size]
        clip = clip.flip(-1) if np.random.random() < 0.5 else clip
        return {"video": clip, "label": item.label, "index": index}

    def _decode(self, path: str) -> np.ndarray:
        frames, rate = self.cfg.DATA.NUM_FRAMES, self.cfg.DATA.SAMPLING_RATE
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            step = stream.duration / stream.frames
            start = int(np.random.random() * max(stream.frames - frames * rate, 0))
            container.seek(int(start * step), stream=stream)
            images = []
            for frame in container.decode(stream):
                if frame.pts >= start * step:
                    images.append(frame.to_rgb().to_ndarray())
                if len(images) == frames * rate:
                    break
        chosen = torch.linspace(0, len(images) - 1, frames).long()
        return np.stack([images[index] for index in chosen])


def _enter(_: int) -> None:
    enter_worker()
    torch.set_num_threads(1)


def _loaders(cfg: CfgNode) -> Loaders:
    """name -> an iterable of batches in the order of an epoch, of ``_PASSES`` passes."""
    ours = construct_loader(cfg, "train")
    dataset: VideoDataset = ours.dataset
    common = {
        "num_workers": ours.num_workers,
        "prefetch_factor": cfg.DATA_LOADER.PREFETCH_FACTOR,
        "worker_init_fn": _enter,
        "persistent_workers": True,
    }
    by_batches = DataLoader(dataset, batch_sampler=ours.batch_sampler, collate_fn=collate, **common)
    theirs = DataLoader(
        PySlowFastSamples(dataset.items[: len(dataset) // _PASSES], cfg),
        batch_size=cfg.TRAIN.BATCH_SIZE,
        shuffle=True,
        drop_last=True,
        **common,
    )
    return {"ours": ours, "by_batches": by_batches, "pyslowfast": theirs}


def _measure(batches: Iterable[Any]) -> dict[str, float]:
    """Samples a second of a pass, and the longest time between two batches."""
    start = last = time.perf_counter()
    samples, gaps = 0, []
    for batch in batches:
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
        samples += batch.size if isinstance(batch, Batch) else len(batch["label"])
    return {"samples_per_s": samples / (last - start), "first_s": gaps[0], "longest_s": max(gaps)}


def _compare(cfg: CfgNode, rounds: int) -> dict[str, Any]:
    loaders = _loaders(cfg)
    for loader in loaders.values():  # workers start, files are in memory
        next(iter(loader))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in loaders}
    for _, (name, loader) in itertools.product(range(rounds), loaders.items()):
        rows[name].append(_measure(loader))
    result: dict[str, Any] = {
        name: {key: median(row[key] for row in found) for key in found[0]}
        for name, found in rows.items()
    }
    for name in ("by_batches", "pyslowfast"):
        pairs = zip(rows["ours"], rows[name])
        result[f"ours/{name}"] = median(a["samples_per_s"] / b["samples_per_s"] for a, b in pairs)
    return result


def benchmark_loader(videos: list[str], rounds: int, workers: int, batch: int) -> dict[str, Any]:
    """Samples a second without and with one slow video among 32; ratios of the same round.

    ``videos``: the usual one and the slow one; without them both are generated (some minutes).
    """
    results: dict[str, Any] = {"workers": workers, "batch": batch, "rounds": rounds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        usual, slow = (folder / file for file in ("usual.mp4", "slow.mp4"))
        if videos:
            shutil.copy(videos[0], usual), shutil.copy(videos[1], slow)
        else:
            make_clip(usual, 256, 340)
            make_clip(slow, 1080, 1920)
        for kind, files in (
            ("usual", [usual] * _VIDEOS),
            ("one_slow", [usual] * (_VIDEOS - 1) + [slow]),
        ):
            lines = [f"{file} {n % 2}\n" for n, file in enumerate(files * _PASSES)]
            for split in ("train", "val", "test"):
                (folder / f"{split}.csv").write_text("".join(lines))
            values = RECIPE | {
                "DATA.PATH_TO_DATA_DIR": name,
                "DATA_LOADER.NUM_WORKERS": workers,
                "TRAIN.BATCH_SIZE": batch,
                "NUM_GPUS": 0,
            }
            cfg = load_config(overrides=[str(w) for pair in values.items() for w in pair])
            results[kind] = _compare(cfg, rounds)
    return results
