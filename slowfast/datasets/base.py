"""VideoDataset: item -> sample, for every data set of the framework.

A data set differs from others only in how its list is read and in a few facts about its
published loader; both are what a subclass states.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch.utils.data import Dataset

from slowfast.config.node import CfgNode
from slowfast.datasets import lists
from slowfast.datasets.batch import BadItem
from slowfast.datasets.checks import check_addresses, check_list
from slowfast.datasets.classnames import configured_names, match_classes
from slowfast.datasets.clip_reader import ClipReader, ClipSize, Sample, Views
from slowfast.datasets.lists import Item, ItemList
from slowfast.datasets.mirror import mirrored_labels
from slowfast.datasets.multi_label import MULTI_LABEL_FORM, binary_vector
from slowfast.utils.addresses import in_folder, is_address
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.registry import Registry
from slowfast.utils.seeding import sample_rng

DATASET_REGISTRY: Registry[type[VideoDataset]] = Registry(
    "data set", "TRAIN.DATASET / TEST.DATASET", ignore_case=True
)

_REPLACEMENTS = 5  # videos that are tried in place of an unreadable one


class SampleKey(NamedTuple):
    """What fixes a sample besides the seed; ``size``: of a training clip, where it is not that of
    the configuration."""

    epoch: int
    index: int
    size: ClipSize | None = None


# The system has no more descriptors or memory: nothing that a video could be blamed for.
_STARVED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
Reading = Generator[list[Any], list[Any], Any]


def complete(reading: Reading, load: Callable[[list[Any]], list[Any]]) -> Any:
    """What ``reading`` returns when ``load`` gives it the parts that it asks for."""
    try:
        parts = next(reading)
        while True:
            parts = reading.send(load(parts))
    except StopIteration as done:
        return done.value


def raise_if_starved(error: VideoError) -> None:
    """OSError if a video could not be opened because descriptors or memory have run out."""
    cause: BaseException | None = error
    while cause := cause.__cause__:
        if getattr(cause, "errno", None) in _STARVED:
            raise OSError(cause.errno, os.strerror(cause.errno), error.path) from error


class SampleSource(Dataset):
    """What a loader reads: samples by key, in parts that its workers read independently."""

    def assemble(self, key: Any) -> Reading:
        """A generator that asks for lists of parts, gets their samples (:meth:`load`), and returns
        the sample of ``key``. It runs in the main process."""
        (sample,) = yield [key]
        return sample

    def load(self, parts: Sequence[Any]) -> list[Any]:
        """The samples of ``parts``; in workers, where there are any."""
        return [self[part] for part in parts]


class VideoDataset(SampleSource):
    """A split (``train``, ``val`` or ``test``) of a data set.

    ``dataset[SampleKey(epoch, index)]`` gives a sample: what :meth:`ClipReader.read` gives, and
    ``label``, ``index`` (int) and ``path``. A subclass may add fields by extending
    :meth:`describe_item`; they arrive in ``Batch.extra``.

    An unreadable video gives a :class:`BadItem` (``DATA.ON_ERROR skip``), a VideoError
    (``raise``), or in training another video's sample with the BadItems in ``replaced``.
    """

    sampling: ClassVar[str] = "clip"  # how the published loader chooses frames
    published_bgr: ClassVar[bool] = False  # the published loader reads images through OpenCV
    test_short_side_is_crop: ClassVar[bool] = False  # also for a test with one crop
    may_be_multi_label: ClassVar[bool] = False  # its lists can be read with DATA.MULTI_LABEL
    must_be_multi_label: ClassVar[bool] = False
    reads_remote_lists: ClassVar[bool] = False  # DATA.PATH_TO_DATA_DIR may be an address
    videos_below: ClassVar[str] = "PATH_PREFIX"  # the key of DATA that says where videos are

    def __init__(
        self,
        cfg: CfgNode,
        split: str,
        views: Views | None = None,
        item_list: ItemList | None = None,
    ):
        self.split, self.seed, self.on_error = split, cfg.RNG_SEED, cfg.DATA.ON_ERROR
        self._multi_label, self._classes = cfg.DATA.MULTI_LABEL, cfg.MODEL.NUM_CLASSES
        self.item_list = item_list or self.load_list(cfg, split)
        mirrored = mirrored_labels(cfg, self.class_names) if split == "train" else {}
        self.reader = ClipReader(
            cfg,
            split,
            sampling=self.sampling,
            views=views,
            short_side_is_crop=self.test_short_side_is_crop,
            mirrored_labels=mirrored,
        )

    # -- what subclasses state -----------------------------------------------------------------

    @classmethod
    def read_list(cls, cfg: CfgNode, split: str) -> ItemList:
        """The items of ``split`` as they stand; UserError if the list cannot be read."""
        raise NotImplementedError

    def describe_item(self, item: Item, index: int) -> Sample:
        """Fields of a sample that follow from the list alone."""
        return {"label": self.target(item.labels), "index": index, "path": item.path}

    def target(self, labels: Sequence[int]) -> int | torch.Tensor:
        """The labels of a clip as a batch takes them: the number of its class; with
        DATA.MULTI_LABEL a float vector ``classes`` of ones and zeros."""
        return binary_vector(labels, self._classes) if self._multi_label else labels[0]

    # ------------------------------------------------------------------------------------------

    @classmethod
    def load_list(cls, cfg: CfgNode, split: str, known: Sequence[str] = ()) -> ItemList:
        """The list of ``split`` with its class names, checked; UserError with all problems.

        ``known``: classes of the weights that are tested, whose labels the list then has.
        """
        if is_address(cfg.DATA.PATH_TO_DATA_DIR) and not cls.reads_remote_lists:
            raise UserError(
                "is an address, but this data set reads its lists from a folder of this machine",
                "copy the lists here; DATA.PATH_PREFIX may be an address",
                "DATA.PATH_TO_DATA_DIR",
            )
        raw = cls.read_list(cfg, split)
        mapped = cfg.DATA.INDEX_LABEL_MAPPING_FILE or cfg.DATA.CLASS_NAMES
        names = (not mapped and raw.class_names) or configured_names(cfg.DATA)
        item_list = ItemList(raw.items, raw.source, names)
        classes = len(names) if known and names else cfg.MODEL.NUM_CLASSES
        problems = check_addresses(item_list, cfg.DATA[cls.videos_below], cfg.DATA.ADDRESSES)
        problems += check_list(item_list, split, classes, cfg.DATA.ALLOW_SINGLE_LABEL, not problems)
        if problems:
            raise UserError(problems)
        return match_classes(item_list, known, cfg.DATA.CLASS_ORDER)

    @property
    def items(self) -> list[Item]:
        return self.item_list.items

    @property
    def labels(self) -> list[int]:
        """Labels in list order, for samplers that balance classes (-1 with DATA.MULTI_LABEL)."""
        return [item.label for item in self.items]

    @property
    def class_names(self) -> list[str]:
        """Names in label order, empty if unknown."""
        return self.item_list.class_names

    @property
    def views_per_video(self) -> int:
        """Views of a test video (1 in other splits)."""
        return self.reader.views.count if self.split == "test" else 1

    @property
    def videos_per_pass(self) -> int:
        """Videos that a pass over the data set reads."""
        return len(self)

    def describe(self) -> str:
        """The list, its fingerprint and the decoder, for the log."""
        items = self.item_list
        return f"{items.source} ({items.fingerprint}), decoded by {self.reader.backend}"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: SampleKey | int) -> Sample | BadItem:
        epoch, index, size = SampleKey(*key) if isinstance(key, tuple) else SampleKey(0, key)
        bad: list[BadItem] = []
        for candidate in self._candidates(epoch, index):
            item = self.items[candidate]
            try:
                clips = self.reader.read(item, epoch, candidate, size)
            except VideoError as error:
                if self.on_error == "raise":
                    raise
                raise_if_starved(error)
                bad.append(BadItem(candidate, item.path, item.line, error.cause))
                continue
            sample = self.describe_item(item, candidate)
            if "labels" in clips:
                sample["label"] = self.target(clips.pop("labels"))
            sample |= clips
            return sample | {"replaced": bad} if bad else sample
        return bad[0]

    def _candidates(self, epoch: int, index: int) -> Iterator[int]:
        """The video itself, then those that may take its place: the same in every run."""
        yield index
        if self.on_error == "replace" and self.split == "train":
            rng = sample_rng(self.seed, epoch, index, "replacement")
            yield from rng.integers(len(self.items), size=_REPLACEMENTS).tolist()


class ListDataset(VideoDataset):
    """A data set whose splits are ``<PATH_TO_DATA_DIR>/{train,val,test}.csv`` (Kinetics form)."""

    may_be_multi_label = True
    reads_remote_lists = True

    @classmethod
    def list_file(cls, cfg: CfgNode, split: str) -> str | Path:
        """The list file of a split: the one that DATA names, else the set's own."""
        configured = cfg.DATA[f"{split.upper()}_LIST"]
        return in_folder(cfg.DATA.PATH_TO_DATA_DIR, configured or cls.list_name(cfg, split))

    @classmethod
    def list_name(cls, cfg: CfgNode, split: str) -> str:
        """Name of the list of a split in this set."""
        return f"{split}.csv"

    @classmethod
    def read_list(cls, cfg: CfgNode, split: str) -> ItemList:
        file = cls.list_file(cfg, split)
        if not cfg.DATA.PATH_TO_DATA_DIR:
            raise UserError(
                "is not set", f"name the folder that holds {file}", "DATA.PATH_TO_DATA_DIR"
            )
        return ItemList(cls.read_items(cfg, file), str(file))

    @classmethod
    def read_items(cls, cfg: CfgNode, file: str | Path) -> list[Item]:
        """The items of a list file."""
        data, form = cfg.DATA, MULTI_LABEL_FORM if cfg.DATA.MULTI_LABEL else lists.ONE_LABEL
        return lists.read_path_list(
            file, data.PATH_LABEL_SEPARATOR, data.PATH_PREFIX, "DATA.PATH_TO_DATA_DIR", form
        )
