"""Loaders: samples become batches; worker processes read the samples.

Workers give samples, not batches, in any order; a reorder buffer puts them where they belong. So a
slow video occupies one worker while the others go on, and batches and the samples in them still
come in exactly the order of the batch sampler.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator

import torch
from torch.utils.data import default_collate

from slowfast.config.node import CfgNode
from slowfast.datasets.base import SampleSource
from slowfast.datasets.batch import BadItem, Batch
from slowfast.datasets.batch_samplers import BATCH_SAMPLER_REGISTRY, EpochBatchSampler
from slowfast.datasets.build import build_dataset
from slowfast.datasets.clip_reader import Sample
from slowfast.datasets.multigrid import active_switch, plan_phases
from slowfast.datasets.reorder import Collate, LoaderOptions, WorkerReader
from slowfast.datasets.shared import join_clips
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime, cpu_count
from slowfast.video.device_augment import ClipsToAugment

_BATCH_FIELDS = {"video", "label", "index", "path", "boxes", "replaced", "deferred"}


def collate(samples: list[Sample | BadItem]) -> Batch:
    """Samples -> batch; copies of a video become neighbours, bad items stand apart.

    Fields beyond those of :class:`Batch` go through PyTorch's ``default_collate`` into ``extra``.
    """
    good = [s for s in samples if not isinstance(s, BadItem)]
    bad = [s for s in samples if isinstance(s, BadItem)]
    bad += [item for s in good for item in s.get("replaced", ())]
    if not good:
        return Batch(bad=bad)
    copies = good[0]["boxes"].shape[0] if "boxes" in good[0] else 1
    clips = [s["video"] for s in good]
    if "deferred" in good[0]:
        video = ClipsToAugment(clips, [s["deferred"] for s in good])
    else:
        video = join_clips(clips)
        video = video.flatten(0, 1) if copies > 1 else video
    rows = [s for s in good for _ in range(copies)]
    extra = {name: [s[name] for s in rows] for name in good[0].keys() - _BATCH_FIELDS}
    return Batch(
        video=video,
        label=torch.stack([torch.as_tensor(s["label"]) for s in rows]),
        index=torch.tensor([s["index"] for s in rows]),
        path=[s["path"] for s in rows],
        bad=bad,
        boxes=torch.cat([s["boxes"] for s in good]) if "boxes" in good[0] else None,
        extra={name: default_collate(values) for name, values in extra.items()},
    )


class Loader:
    """Batches of a data set, in the order of ``batch_sampler``.

    Each ``iter(loader)`` is a pass over ``batch_sampler``, and ends one that is not complete. The
    workers start with the first pass and end with the loader. Memory: at most
    :attr:`LoaderOptions.ahead` batches that nobody has asked for yet, and those that are in use.
    """

    def __init__(
        self,
        dataset: SampleSource,
        batch_sampler: EpochBatchSampler,
        collate_fn: Collate = collate,
        options: LoaderOptions | None = None,
    ):
        self.dataset, self.batch_sampler, self.collate_fn = dataset, batch_sampler, collate_fn
        self.options = options or LoaderOptions()
        self._reader: WorkerReader | None = None

    @property
    def num_workers(self) -> int:
        """Worker processes."""
        return self.options.workers

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        if not self.options.workers:
            return self._read_here()
        if self._reader is None:
            self._reader = WorkerReader(self.dataset, self.collate_fn, self.options)
        return self._reader.read(iter(self.batch_sampler))

    def _read_here(self) -> Iterator[Batch]:
        for keys in self.batch_sampler:
            batch = self.collate_fn([self.dataset[key] for key in keys])
            yield batch.pin_memory() if self.options.pin else batch


def views_per_process(cfg: CfgNode, processes: int = 1) -> int:
    """Views that one of a machine's ``processes`` puts through the network at once in a test.

    This is the meaning of TEST.BATCH_SIZE: views over the processes of a machine.
    """
    return max(cfg.TEST.BATCH_SIZE // processes, 1)


def videos_per_process(cfg: CfgNode, split: str, processes: int = 1, views: int = 1) -> int:
    """Videos that one of a machine's ``processes`` reads for a batch."""
    if split == "test":
        return max(views_per_process(cfg, processes) // views, 1)
    return max(cfg.TRAIN.BATCH_SIZE // processes, 1)


def construct_loader(
    cfg: CfgNode,
    split: str,
    runtime: Runtime | None = None,
    dataset: SampleSource | None = None,
    batch_size: int | None = None,
    collate_fn: Collate = collate,
) -> Loader:
    """The loader of ``train``, ``val`` or ``test`` for this process.

    ``batch_size``: samples per batch, where it is not that of the configuration. The loader's
    ``batch_sampler.set_epoch`` chooses the epoch. UserError if a training list is smaller than
    one batch.
    """
    runtime = runtime or Runtime(torch.device("cpu"))
    dataset = dataset or build_dataset(cfg, split)
    size = batch_size or videos_per_process(
        cfg, split, runtime.local_world, dataset.views_per_video
    )
    batches = _batch_sampler(cfg, split, runtime, dataset, size)
    if split == "train":
        _check_length(batches, dataset)
    return Loader(dataset, batches, collate_fn, _options(cfg, runtime, batches.longest_epoch))


def _check_length(batches: EpochBatchSampler, dataset: SampleSource) -> None:
    """UserError if a training list is smaller than the first batch of an epoch."""
    videos = batches.first_batch
    if len(dataset) < videos:
        raise UserError(
            f"a step takes {videos} videos, but {dataset.item_list.source} has {len(dataset)}",
            "lower TRAIN.BATCH_SIZE",
            "TRAIN.BATCH_SIZE",
        )


def _options(cfg: CfgNode, runtime: Runtime, batches: int) -> LoaderOptions:
    keys = cfg.DATA_LOADER
    workers = keys.NUM_WORKERS
    if workers < 0:  # a core is left to the main process
        workers = max(cpu_count() // runtime.local_world - 1, 1)
    workers = min(workers, batches)
    return LoaderOptions(
        workers=workers,
        ahead=workers * keys.PREFETCH_FACTOR,
        start_method=start_method(cfg),
        imports=tuple(cfg.IMPORTS),
        pin=keys.PIN_MEMORY and runtime.on_gpu,
        decodes_on_gpu=cfg.DATA.DECODING_DEVICE == "cuda",
        runtime=runtime,
    )


def start_method(cfg: CfgNode) -> str:
    """How worker processes start.

    ``auto`` is fork on Linux, also beside a GPU: a forked worker shares the list in memory, starts
    in milliseconds and must not use the GPU, which it has no reason to. Where workers decode on
    the GPU, they are forked from a server that has never used it. Elsewhere: the system's default.
    """
    method = cfg.DATA_LOADER.START_METHOD
    if method != "auto":
        return method
    if cfg.DATA.DECODING_DEVICE != "cpu":
        return "forkserver"
    return "fork" if sys.platform == "linux" else multiprocessing.get_start_method()


def _batch_sampler(
    cfg: CfgNode, split: str, runtime: Runtime, dataset: SampleSource, size: int
) -> EpochBatchSampler:
    """The sampler that the configuration names; evaluation reads every sample once, in order."""
    train = split == "train"
    kind = EpochBatchSampler
    if train:
        kind = BATCH_SAMPLER_REGISTRY.get(cfg.DATA.BATCH_SAMPLER)
    sampler = kind(
        len(dataset),
        size,
        train=train,
        seed=cfg.RNG_SEED,
        rank=runtime.rank,
        world=runtime.world,
        labels=getattr(dataset, "labels", ()),
    )
    sampler.configure(cfg, dataset)
    if train and active_switch(cfg):
        sampler.phases = plan_phases(cfg)
    return sampler
