"""VideoDataset: item -> sample, for every data set of the framework.

A data set differs from others only in how its list is read and in a few facts about its
published loader; both are what a subclass states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch.utils.data import Dataset

from slowfast.config.node import CfgNode
from slowfast.datasets import lists
from slowfast.datasets.batch import BadItem
from slowfast.datasets.checks import check_list
from slowfast.datasets.classnames import configured_names
from slowfast.datasets.lists import Item, ItemList
from slowfast.datasets.mirror import mirrored_labels
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.registry import Registry
from slowfast.utils.seeding import sample_rng
from slowfast.video import pipelines
from slowfast.video.sampler import build_sampler
from slowfast.video.source import Source, open_source, resolve_backend
from slowfast.video.transforms import build_transforms

DATASET_REGISTRY: Registry[type[VideoDataset]] = Registry(
    "data set", "TRAIN.DATASET / TEST.DATASET", ignore_case=True
)

_REPLACEMENTS = 5  # videos that are tried in place of an unreadable one

Sample = dict[str, Any]


class SampleKey(NamedTuple):
    """What fixes a sample besides the seed."""

    epoch: int
    index: int


class VideoDataset(Dataset):
    """A split (``train``, ``val`` or ``test``) of a data set.

    ``dataset[SampleKey(epoch, index)]`` gives a sample:

    - ``video``: uint8 RGB, ``C T H W`` (training: ``copies C T H W`` with AUG.NUM_SAMPLE > 1,
      test: ``views C T H W`` with all clips x crops of the video from one decode);
    - ``label``, ``index``: int; ``path``: str;
    - ``boxes``: erasing boxes ``copies count 5`` (training).

    An unreadable video gives a :class:`BadItem` (``DATA.ON_ERROR skip``), a VideoError
    (``raise``), or in training another video's sample with the BadItems in ``replaced``.
    """

    sampling: ClassVar[str] = "clip"  # how the published loader chooses frames
    reads_bgr: ClassVar[bool] = False  # the published loader reads images through OpenCV
    crops_fill_frame: ClassVar[bool] = False  # test: short side = crop, also with one crop

    def __init__(self, cfg: CfgNode, split: str):
        assert split in ("train", "val", "test"), split
        self.split = split
        self.data = cfg.DATA
        self.seed = cfg.RNG_SEED
        self.copies = cfg.AUG.NUM_SAMPLE
        self.views = cfg.TEST.NUM_ENSEMBLE_VIEWS
        self.crops = cfg.TEST.NUM_SPATIAL_CROPS
        self.list = self._load_list(cfg)
        self.sampler = build_sampler(cfg, self.sampling)
        self.transforms = build_transforms(cfg, split)
        self.backend = resolve_backend(cfg.DATA.DECODING_BACKEND)
        self.mirrored_labels = (
            mirrored_labels(cfg, self.list.class_names) if split == "train" else {}
        )
        self._decode_threads = cfg.DATA_LOADER.ENABLE_MULTI_THREAD_DECODE
        self._train = pipelines.build_train_pipeline(cfg)
        self._val = pipelines.build_val_pipeline(cfg)
        self._test = pipelines.build_test_pipeline(cfg, self.crops_fill_frame)

    # -- what subclasses state -----------------------------------------------------------------

    def read_list(self, cfg: CfgNode) -> ItemList:
        """The items of ``self.split``; UserError if the list cannot be read."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------

    @classmethod
    def list_of(cls, cfg: CfgNode, split: str) -> ItemList:
        """The list of a split as it stands, without any check and without the data set."""
        unread = cls.__new__(cls)
        unread.split = split
        return unread.read_list(cfg)

    def _load_list(self, cfg: CfgNode) -> ItemList:
        found = self.read_list(cfg)
        mapped = cfg.DATA.INDEX_LABEL_MAPPING_FILE or cfg.DATA.CLASS_NAMES
        names = (not mapped and found.class_names) or configured_names(cfg.DATA)
        found = ItemList(found.items, found.source, names)
        problems = check_list(found, self.split, cfg.MODEL.NUM_CLASSES, cfg.DATA.ALLOW_SINGLE_LABEL)
        if problems:
            raise UserError(problems)
        return found

    @property
    def items(self) -> list[Item]:
        return self.list.items

    @property
    def class_names(self) -> list[str]:
        """Names in label order, empty if unknown."""
        return self.list.class_names

    @property
    def views_per_video(self) -> int:
        """Views of a test video (1 in other splits)."""
        return self.views * self.crops if self.split == "test" else 1

    @property
    def videos_per_pass(self) -> int:
        """Videos that a pass over the data set reads."""
        return len(self)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: SampleKey | int) -> Sample | BadItem:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        bad: list[BadItem] = []
        for candidate in self._candidates(epoch, index):
            item = self.items[candidate]
            try:
                sample = self._build(item, epoch, candidate)
            except VideoError as error:
                if self.data.ON_ERROR == "raise":
                    raise
                bad.append(BadItem(candidate, item.path, item.line, error.cause))
                continue
            facts = {"label": item.label, "index": candidate, "path": item.path}
            sample = facts | sample  # a mirrored clip has its own label
            return sample | {"replaced": bad} if bad else sample
        return bad[0]

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        """The video itself, then those that may take its place: the same in every run."""
        yield index
        if self.data.ON_ERROR == "replace" and self.split == "train":
            rng = sample_rng(self.seed, epoch, index, "replacement")
            yield from rng.integers(len(self.items), size=_REPLACEMENTS).tolist()

    def open(self, item: Item) -> Source:
        """The source of an item: a frame folder or a video file."""
        template = self.data.IMAGE_TEMPLATE
        return open_source(item.path, template, item.num_frames, self.backend, self._decode_threads)

    def _build(self, item: Item, epoch: int, index: int) -> Sample:
        source = self.open(item)
        if source.num_frames < self.data.MIN_FRAMES:
            raise VideoError(
                item.path,
                f"has {source.num_frames} frames, DATA.MIN_FRAMES is {self.data.MIN_FRAMES}",
            )
        make: dict[str, Callable[[], Sample]] = {
            "train": lambda: self._train_sample(source, item.label, epoch, index),
            "val": lambda: self._val_sample(source, epoch, index),
            "test": lambda: self._test_sample(source, epoch, index),
        }
        return make[self.split]()

    def _train_sample(self, source: Source, label: int, epoch: int, index: int) -> Sample:
        rng = sample_rng(self.seed, epoch, index)
        indices = self.sampler.train_indices(source.num_frames, source.fps, rng)
        (clip,) = source.clips([indices])
        other = self.mirrored_labels.get(label, label)
        own = self.transforms.for_sample(self.seed, epoch, index)
        copies = [self._train(own.before(clip), rng, other is not None) for _ in range(self.copies)]
        videos, boxes, mirrored = zip(*copies)
        videos = [own.after(video) for video in videos]
        if self.copies == 1:
            sample = {"video": videos[0], "boxes": boxes[0][None]}
            return sample | {"label": other} if mirrored[0] else sample
        return {"video": _stack_channels_last(videos), "boxes": torch.stack(boxes)}

    def _val_sample(self, source: Source, epoch: int, index: int) -> Sample:
        indices = self.sampler.val_indices(source.num_frames, source.fps)
        own = self.transforms.for_sample(self.seed, epoch, index)
        clips = [own.before(clip) for clip in source.clips([indices])]
        return {"video": own.after(self._val(clips)[0])}

    def _test_sample(self, source: Source, epoch: int, index: int) -> Sample:
        """All views from one decode, in the reference's order: crops within clips."""
        index_lists = self.sampler.test_indices(source.num_frames, source.fps, self.views)
        own = self.transforms.for_sample(self.seed, epoch, index)
        clips = [own.before(clip) for clip in source.clips(index_lists)]
        return {"video": own.after(self._test(clips))}


def _stack_channels_last(videos: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack ``C T H W`` tensors in channels-last memory without reordering them."""
    return torch.stack([v.movedim(-4, -1) for v in videos]).movedim(-1, -4)


class ListDataset(VideoDataset):
    """A data set whose splits are ``<PATH_TO_DATA_DIR>/{train,val,test}.csv`` (Kinetics form)."""

    def list_file(self, cfg: CfgNode) -> Path:
        """The list file of the split: the one that DATA names, else the set's own."""
        named = cfg.DATA[f"{self.split.upper()}_LIST"]
        return Path(cfg.DATA.PATH_TO_DATA_DIR) / (named or self.list_name(cfg))

    def list_name(self, cfg: CfgNode) -> str:
        """Name of the list of the split in this set."""
        return f"{self.split}.csv"

    def read_list(self, cfg: CfgNode) -> ItemList:
        if not cfg.DATA.PATH_TO_DATA_DIR:
            raise UserError(
                "is not set",
                f"name the folder that holds {self.list_file(cfg).name}",
                "DATA.PATH_TO_DATA_DIR",
            )
        file = self.list_file(cfg)
        items = lists.read_path_list(
            file, cfg.DATA.PATH_LABEL_SEPARATOR, cfg.DATA.PATH_PREFIX, "DATA.PATH_TO_DATA_DIR"
        )
        return ItemList(items, str(file))
