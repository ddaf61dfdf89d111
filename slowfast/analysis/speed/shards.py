"""Samples a second of files, of shards, and of shards in an S3 server on the loopback interface.

Beside them: the decoding floor in as many processes, and the webdataset package on the same shards,
whose videos become samples by the same code. All decode the same frames of the same videos.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch.utils.data import DataLoader, Dataset

from slowfast.analysis.speed.data import RECIPE, make_clip
from slowfast.analysis.speed.floor import DecodeFloor
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.datasets.base import VideoDataset
from slowfast.datasets.batch import Batch
from slowfast.datasets.lists import Item, read_named_lists
from slowfast.datasets.loader import construct_loader
from slowfast.datasets.shard_writer import plan_shards, write_shards
from slowfast.utils.errors import UserError
from slowfast.utils.processes import enter_worker, free_port
from slowfast.utils.remote_file import LocalPart
from slowfast.utils.seeding import sample_rng
from slowfast.video.backends.pyav import PyAVSource

_SPLITS, _SHARDS = ("train", "val", "test"), 8
_BUCKET = "benchmark"


class _Bytes(LocalPart):
    """The bytes of a video in memory."""

    def __init__(self, content: bytes):
        super().__init__("memory", 0, len(content), fetch_at_once=True)
        self._content = content

    def _read_range(self, start: int, stop: int) -> bytes:
        return self._content[start:stop]


class _FloorSamples(Dataset):
    """The frames of the samples of an epoch, decoded at the lowest cost and not used."""

    def __init__(self, dataset: VideoDataset):
        self.items, self.seed = dataset.items, dataset.seed
        self.sampler = dataset.reader.sampler
        self.floor = DecodeFloor(dataset.items[0].path)  # all videos are copies of one

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = sample_rng(self.seed, 0, index)
        indices = self.sampler.train_indices(len(self.floor.pts), self.floor.fps, rng)
        return {"label": len(self.floor(indices.tolist()))}


def _enter(_: int) -> None:
    enter_worker()
    torch.set_num_threads(1)


def _webdataset(shards: list[str], dataset: VideoDataset, options: dict[str, Any]) -> Iterable:
    try:
        import webdataset
    except ModuleNotFoundError as error:
        remedy = "pip install webdataset"
        raise UserError("the package webdataset is not installed", remedy, "webdataset") from error

    def sample(row: dict[str, bytes]) -> dict[str, Any]:
        index = int(row["__key__"])
        source = PyAVSource(row["__key__"], file=_Bytes(row["mp4"]))
        read = dataset.reader.read_source(source, Item("", 0), 0, index)
        return {"video": read["video"], "label": 0}

    rows = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0, empty_check=False)
    return DataLoader(rows.shuffle(100).map(sample), **options)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    """An S3 server (moto's) of its own process; its address. What leads to it stands in the
    environment meanwhile."""
    try:
        import moto  # noqa: F401
        import s3fs
    except ModuleNotFoundError as error:
        remedy = 'pip install "moto[server]" s3fs'
        raise UserError(f"{error.name} is not installed", remedy, error.name) from error
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
    try:
        with mock.patch.dict(os.environ, dict(zip(names, ("key", "secret", url, "us-east-1")))):
            _wait_for(url)
            system = s3fs.S3FileSystem()
            system.mkdir(_BUCKET)
            system.put(str(folder), f"{_BUCKET}/set", recursive=True)
            yield f"s3://{_BUCKET}/set"
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _samples_per_s(batches: Iterable[Any], clock: Callable[[], float]) -> float:
    start, samples = clock(), 0
    for batch in batches:
        samples += batch.size if isinstance(batch, Batch) else len(batch["label"])
    return samples / (clock() - start)


def _configured(folder: str, name: str, workers: int, batch: int) -> CfgNode:
    values = RECIPE | {
        "TRAIN.DATASET": name,
        "TEST.DATASET": name,
        "DATA.PATH_TO_DATA_DIR": folder,
        "DATA_LOADER.NUM_WORKERS": workers,
        "TRAIN.BATCH_SIZE": batch,
        "NUM_GPUS": 0,
    }
    return load_config(overrides=[str(word) for pair in values.items() for word in pair])


def _measure(
    loaders: dict[str, Iterable[Any]], rounds: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """Medians of samples a second, and ratios to the floor, to files and to webdataset, which are
    medians over rounds in which all were measured."""
    for loader in loaders.values():  # workers start, files are in memory
        _samples_per_s(itertools.islice(iter(loader), 2), clock)
    found: dict[str, list[float]] = {name: [] for name in loaders}
    for _, (name, loader) in itertools.product(range(rounds), loaders.items()):
        found[name].append(_samples_per_s(loader, clock))
    result: dict[str, Any] = {f"{name}_per_s": median(rates) for name, rates in found.items()}
    pairs = [(name, "floor") for name in loaders if name != "floor"]
    pairs += [("shards", "files"), ("s3", "files"), ("s3", "shards"), ("shards", "webdataset")]
    for one, other in pairs:
        ratios = [a / b for a, b in zip(found[one], found[other])]
        result[f"{one}/{other}"] = median(ratios)
    return result


def benchmark_shards(
    video: str, rounds: int, workers: int, batch: int, videos: int
) -> dict[str, Any]:
    """Samples a second of ``videos`` copies of a video (empty: one is generated), with ``workers``
    processes each; 0: samples a CPU second of this process, in which the server has no part.
    UserError naming a package that is missing."""
    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.dict(os.environ, {"SLOWFAST_CACHE": os.path.join(name, "cache")}),
    ):
        folder = Path(name)
        usual = Path(video) if video else folder / "usual.mp4"
        if not video:
            make_clip(usual, 256, 340)
        (folder / "videos").mkdir()
        names = [f"videos/{number:04d}.mp4" for number in range(videos)]
        for copy in names:
            shutil.copy(usual, folder / copy)
        text = io.StringIO()
        text.writelines(f"{folder / copy} {n % 2}\n" for n, copy in enumerate(names))
        for split in _SPLITS:
            (folder / f"{split}.csv").write_text(text.getvalue())
        size = usual.stat().st_size / 1e6
        for split, listed in read_named_lists([f"{folder}/{s}.csv" for s in _SPLITS]).items():
            place = folder / "shards" / split
            write_shards(plan_shards(listed, name, place, size * videos / _SHARDS))
        with _server(folder / "shards") as address:
            loaders = _loaders(folder, address, workers, batch)
            result = _measure(loaders, rounds, time.perf_counter if workers else time.process_time)
    facts = {"videos": videos, "megabytes": size, "workers": workers, "batch": batch}
    return facts | {"rounds": rounds} | result


def _loaders(folder: Path, address: str, workers: int, batch: int) -> dict[str, Iterable[Any]]:
    def ours(place: str, kind: str) -> Any:
        return construct_loader(_configured(place, kind, workers, batch), "train")

    files = ours(str(folder), "kinetics")
    options: dict[str, Any] = {
        "batch_size": batch,
        "num_workers": files.num_workers,
        "worker_init_fn": _enter,
    }
    if workers:
        options |= {"prefetch_factor": 2, "persistent_workers": True}
    shards = sorted(map(str, (folder / "shards/train").glob("*.tar")))
    return {
        "floor": DataLoader(_FloorSamples(files.dataset), **options),
        "files": files,
        "shards": ours(str(folder / "shards"), "shards"),
        "s3": ours(address, "shards"),
        "webdataset": _webdataset(shards, files.dataset, options),
    }
