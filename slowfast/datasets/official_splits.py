"""Data sets that are read from their official files (UCF101, HMDB51, Jester, SSv2), and folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from slowfast.config.node import CfgNode
from slowfast.datasets import lists
from slowfast.datasets.base import DATASET_REGISTRY, VideoDataset
from slowfast.datasets.class_folders import part_folders, read_class_folders
from slowfast.datasets.lists import Item, ItemList
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

Reader = Callable[[Path, str, int, str], tuple[list[Item], list[str]]]


class OfficialSplits(VideoDataset):
    """A set read by ``reader(folder, split, split number, prefix)``; validation uses the test
    part."""

    reader: ClassVar[Reader]

    @classmethod
    def read_list(cls, cfg: CfgNode, split: str) -> ItemList:
        data = cfg.DATA
        folder = Path(data.PATH_TO_DATA_DIR)
        trn_list = folder / f"{'train' if split == 'train' else 'val'}_videofolder.txt"
        if trn_list.is_file():  # output of TRN's process_dataset.py
            separator, key = data.PATH_LABEL_SEPARATOR, "DATA.PATH_TO_DATA_DIR"
            items = lists.read_path_list(trn_list, separator, data.PATH_PREFIX, key)
            return ItemList(items, str(trn_list), lists.read_categories(folder))
        read = cls.reader
        items, names = read(folder, split, data.SPLIT_NUMBER, data.PATH_PREFIX)
        return ItemList(items, str(folder), names)


@DATASET_REGISTRY.register("ucf101")
class Ucf101(OfficialSplits):
    """``classInd.txt``, ``trainlist01.txt``, ``testlist01.txt``."""

    reader = staticmethod(lists.read_ucf101)


@DATASET_REGISTRY.register("hmdb51")
class Hmdb51(OfficialSplits):
    """``<class>_test_split1.txt`` files."""

    reader = staticmethod(lists.read_hmdb51)


@DATASET_REGISTRY.register("jester")
class Jester(OfficialSplits):
    """``jester-v1-{labels,train,validation}.csv`` over frame folders."""

    sampling = "segment"
    reader = staticmethod(lists.read_jester)


@DATASET_REGISTRY.register("ssv2")
class Ssv2(OfficialSplits):
    """Something-Something v2: official json lists over frame folders or videos (PySlowFast)."""

    sampling = "segment"
    published_bgr = True
    test_short_side_is_crop = True
    reader = staticmethod(lists.read_ssv2)


@DATASET_REGISTRY.register("folder")
class FolderDataset(VideoDataset):
    """``<PATH_TO_DATA_DIR>/{train,val,test}/<class>/<video>``, or without the split folders.

    There are no lists, so ``DATA.PATH_PREFIX`` may name the folder instead of PATH_TO_DATA_DIR.
    """

    @classmethod
    def read_list(cls, cfg: CfgNode, split: str) -> ItemList:
        root = Path(cfg.DATA.PATH_TO_DATA_DIR or cfg.DATA.PATH_PREFIX)
        parts = part_folders(root)
        other = {"train": "train", "val": "test", "test": "val"}[split]
        folder = parts.get(split) or parts.get(other) or root
        found = read_class_folders(folder, "DATA.PATH_TO_DATA_DIR", cfg.DATA.FOLLOW_LINKS)
        if found.left_out:
            logger.info("%s", found.describe_left_out())
        return ItemList(found.items, str(folder), found.class_names)
