"""ClipReader: an item of a list -> the clips of a split, decoded, sampled and cropped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from slowfast.config.node import CfgNode
from slowfast.datasets.lists import Item
from slowfast.utils.addresses import is_address
from slowfast.utils.copies import Copies
from slowfast.utils.errors import VideoError
from slowfast.utils.remote import RetryPolicy
from slowfast.utils.remote_file import Extent
from slowfast.utils.seeding import sample_rng
from slowfast.video import pipelines
from slowfast.video.clip_ops import frame_size
from slowfast.video.device_augment import Deferred
from slowfast.video.sampler import build_sampler
from slowfast.video.source import Clip, Source, open_source, resolve_backend
from slowfast.video.transforms import build_transforms

Sample = dict[str, Any]
Labels = tuple[int, ...]
Copy = tuple[torch.Tensor, torch.Tensor, bool]  # what the training pipeline makes of a clip

_LARGE_CLIP = 256 << 20  # bytes of decoded frames above which they are not held together


class Views(NamedTuple):
    """Views of a test video: temporal clips times spatial crops."""

    clips: int
    crops: int

    @property
    def count(self) -> int:
        return self.clips * self.crops

    @property
    def central(self) -> int:
        """Number of the central crop of the central clip; the crops of a clip stand together."""
        return self.clips // 2 * self.crops + self.crops // 2


class ClipSize(NamedTuple):
    """Size of a training clip, where it is not that of the configuration: frames, side of the crop,
    lowest and highest DATA.SAMPLING_RATE, between which one is drawn for each clip."""

    frames: int
    crop: int
    rates: tuple[int, int]


def configured_views(cfg: CfgNode) -> Views:
    """The views that the section TEST asks for."""
    return Views(cfg.TEST.NUM_ENSEMBLE_VIEWS, cfg.TEST.NUM_SPATIAL_CROPS)


class ClipReader:
    """Reads clips for one split.

    ``sampling``: how frames are chosen where DATA.SAMPLING is ``auto``; ``views``: of a test video;
    ``short_side_is_crop``: test frames are resized so that their short side is the crop;
    ``mirrored_labels``: label -> label of the mirrored clip, None where clips are not mirrored;
    ``single_clip``: a test reads one clip without views, as a validation does; ``random_frames``:
    the frames of a single clip are drawn at random, as in training; ``pipeline``: crops the clips
    of an evaluation instead of the pipeline that the configuration describes.
    """

    def __init__(
        self,
        cfg: CfgNode,
        split: str,
        *,
        sampling: str = "clip",
        views: Views | None = None,
        short_side_is_crop: bool = False,
        mirrored_labels: Mapping[int, int | None] | None = None,
        single_clip: bool = False,
        random_frames: bool = False,
        pipeline: pipelines.EvalPipeline | None = None,
    ):
        assert split in ("train", "val", "test"), split
        self._cfg, self._sampling = cfg, sampling
        self._resized: dict[tuple[int, int, int], ClipReader] = {}
        self.split, self.data, self.seed = split, cfg.DATA, cfg.RNG_SEED
        self.views = views or configured_views(cfg)
        self.copies = cfg.AUG.NUM_SAMPLE
        self.sampler = build_sampler(cfg, sampling)
        self.backend = resolve_backend(cfg.DATA.DECODING_BACKEND, cfg.DATA.DECODING_DEVICE)
        self.mirrored_labels = mirrored_labels or {}
        self.random_frames = random_frames
        self.is_single_clip = split == "val" or single_clip
        self.transforms = build_transforms(cfg, split)
        self._policy = RetryPolicy(total_s=cfg.DATA.FETCH_TIMEOUT)
        self._shard_copies = Copies(cfg.DATA.COPY_SHARDS, self._policy)
        self._decode_threads = cfg.DATA_LOADER.ENABLE_MULTI_THREAD_DECODE
        if split == "train":
            self.pipeline: Any = pipelines.build_train_pipeline(cfg)
            self._clips_of = self._train_clips
        elif self.is_single_clip:
            self.pipeline = pipeline or pipelines.build_val_pipeline(cfg)
            self._clips_of = self._evaluated_clips
        else:
            self.pipeline = pipeline or pipelines.build_test_pipeline(cfg, short_side_is_crop)
            self._clips_of = self._evaluated_clips

    def open(self, item: Item) -> Source:
        """The source of an item: a frame folder or a video file."""
        return open_source(
            item.path,
            self.data.IMAGE_TEMPLATE,
            item.num_frames,
            self.backend,
            self._decode_threads,
            self.data.MAX_PIXELS,
            item.image_names,
            self._policy,
            self._extent_of(item),
        )

    def _extent_of(self, item: Item) -> Extent | None:
        """The part of a file that an item is, on this machine if shards are copied."""
        if not (self.data.COPY_SHARDS and item.extent and is_address(item.extent.file)):
            return item.extent
        try:
            copy = self._shard_copies.of(item.extent.file)
        except OSError as error:
            raise VideoError(item.path, error.strerror or str(error)) from error
        return item.extent._replace(file=str(copy))

    def read(self, item: Item, epoch: int, index: int, size: ClipSize | None = None) -> Sample:
        """Clips of an item; random numbers depend on (seed, ``epoch``, ``index``) alone. Training
        clips may be of another ``size``.

        Gives ``video`` (uint8 ``C T H W``; training with AUG.NUM_SAMPLE > 1 ``copies C T H W``,
        test ``views C T H W``), in training also ``boxes`` ``copies count 5`` and the ``labels`` of
        the clip, which may be mirrored, or a part of a video whose frames have labels. VideoError
        if the item cannot be read.
        """
        reader = self if size is None else self._of_size(size, epoch, index)
        return reader.read_source(reader.open(item), item, epoch, index)

    def _of_size(self, size: ClipSize, epoch: int, index: int) -> ClipReader:
        """The reader of training clips of another size (PySlowFast's multigrid training): frames
        are resized to less, as the crop is smaller; the rate is drawn."""
        frames, crop, (low, high) = size
        rate = low
        if high > low:
            rng = sample_rng(self.seed, epoch, index, "rate")
            rate = int(rng.integers(low, high, endpoint=True))
        if (frames, crop, rate) not in self._resized:
            reader = self._resized[frames, crop, rate] = copy.copy(self)
            values = {"DATA.NUM_FRAMES": frames, "DATA.SAMPLING_RATE": rate}
            reader.sampler = build_sampler(self._cfg.with_values(values, "clip"), self._sampling)
            lowest, highest = self.pipeline.scales
            lowest = round(lowest * crop / self.pipeline.size)
            reader.pipeline = replace(self.pipeline, size=crop, scales=[lowest, highest])
            reader._clips_of = reader._train_clips
        return self._resized[frames, crop, rate]

    def read_source(self, source: Source, item: Item, epoch: int = 0, index: int = 0) -> Sample:
        """What :meth:`read` gives, of a source of the item that is open."""
        if source.num_frames < self.data.MIN_FRAMES:
            raise VideoError(
                source.path,
                f"has {source.num_frames} frames, DATA.MIN_FRAMES is {self.data.MIN_FRAMES}",
            )
        return self._clips_of(source, item, epoch, index)

    def _train_clips(self, source: Source, item: Item, epoch: int, index: int) -> Sample:
        rng = sample_rng(self.seed, epoch, index)
        transforms = self.transforms.for_sample(self.seed, epoch, index)
        indices = self.sampler.train_indices(source.num_frames, source.fps, rng)
        labels = item.labels_between(int(min(indices)), int(max(indices)))
        other = self._mirrored(labels)
        if self.pipeline.deferred:
            (clip,) = source.clips([indices])
            return self._deferred(transforms.before(clip), rng, labels, other)
        if self._is_large(source, len(indices)):
            # Every frame is treated with the same random numbers, as the frames of a clip are.
            (frames,) = source.clips(
                [indices], lambda frame: self._copies([frame], copy.deepcopy(rng), other)
            )
            copies = [join_frames(parts) for parts in zip(*frames)]
        else:
            (clip,) = source.clips([indices])
            copies = self._copies(clip, rng, other, transforms.before)
        videos, boxes, mirrored = zip(*copies)
        videos = [transforms.after(video) for video in videos]
        if self.copies == 1:
            sample = {"video": videos[0], "boxes": boxes[0][None]}
            return sample | {"labels": other if mirrored[0] else labels}
        sample = {"video": stack_channels_last(videos), "boxes": torch.stack(boxes)}
        return sample | {"labels": labels}

    def _mirrored(self, labels: Labels) -> Labels | None:
        """The labels of the mirrored clip, None if it may not be mirrored."""
        others = [self.mirrored_labels.get(label, label) for label in labels]
        return None if None in others else tuple(others)

    def _deferred(
        self, clip: Clip, rng: np.random.Generator, labels: Labels, other: Labels | None
    ) -> Sample:
        """Whole frames, and what the network's device has to do with them (AUG.DEVICE)."""
        size = frame_size(clip)
        draws = [self.pipeline.draw(*size, rng, other is not None) for _ in range(self.copies)]
        return {
            "video": pipelines.to_tensor(np.stack(clip)),
            "boxes": torch.from_numpy(np.stack([draw.erasing for draw in draws])),
            "deferred": Deferred.of(self.pipeline, draws),
            "labels": other if self.copies == 1 and draws[0].mirrored else labels,
        }

    def _copies(
        self,
        clip: Clip,
        rng: np.random.Generator,
        other: Labels | None,
        before: Callable[[Clip], Clip] = lambda clip: clip,
    ) -> list[Copy]:
        return [self.pipeline(before(clip), rng, other is not None) for _ in range(self.copies)]

    def _is_large(self, source: Source, frames: int) -> bool:
        """Whether frames are cropped one by one, each when it is decoded, because together they
        would take too much memory. Transforms of whole clips need all of them."""
        whole = self.transforms.before or getattr(self.pipeline, "motion_shift", False)
        return not whole and 3 * source.pixels * frames > _LARGE_CLIP

    def evaluated_indices(
        self, num_frames: int, fps: float, epoch: int = 0, index: int = 0
    ) -> list[np.ndarray]:
        """Frames of each clip of an evaluation, for a video of ``num_frames`` frames."""
        if not self.is_single_clip:
            return self.sampler.test_indices(num_frames, fps, self.views.clips)
        if self.random_frames:
            rng = sample_rng(self.seed, epoch, index, "jitter")
            return [self.sampler.train_indices(num_frames, fps, rng)]
        return [self.sampler.val_indices(num_frames, fps)]

    def _evaluated_clips(self, source: Source, item: Item, epoch: int, index: int) -> Sample:
        """All clips from one decode; views in the reference's order: crops within clips."""
        index_lists = self.evaluated_indices(source.num_frames, source.fps, epoch, index)
        views = self._evaluated(source, index_lists, epoch, index)
        return {"video": views[0] if self.is_single_clip else views}

    def _evaluated(
        self, source: Source, index_lists: Sequence[Sequence[int]], epoch: int, index: int
    ) -> torch.Tensor:
        """Clips of an evaluation, with own transforms before and after the pipeline."""
        transforms = self.transforms.for_sample(self.seed, epoch, index)
        if self._is_large(source, len({int(i) for indices in index_lists for i in indices})):
            parts = source.clips(index_lists, lambda frame: self.pipeline([[frame]]))
            return transforms.after(torch.cat([torch.cat(frames, dim=-3) for frames in parts]))
        clips = [transforms.before(clip) for clip in source.clips(index_lists)]
        return transforms.after(self.pipeline(clips))


def join_frames(parts: Sequence[Copy]) -> Copy:
    """One clip from clips of one frame each, which were made with the same random numbers."""
    videos, boxes, mirrored = zip(*parts)
    return torch.cat(videos, dim=-3), boxes[0], mirrored[0]


def stack_channels_last(videos: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack ``C T H W`` tensors in channels-last memory without reordering them."""
    return torch.stack([v.movedim(-4, -1) for v in videos]).movedim(-1, -4)
