"""Sets read from their official files: UCF101, HMDB51, Jester, and class-per-folder trees."""

from __future__ import annotations

from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.datasets import lists
from slowfast.datasets.base import DATASET_REGISTRY, VideoDataset
from slowfast.datasets.lists import ItemList


@DATASET_REGISTRY.register("ucf101")
class Ucf101(VideoDataset):
    """``classInd.txt``, ``trainlist01.txt``, ``testlist01.txt``; the test list validates too."""

    def read_list(self, cfg: CfgNode) -> ItemList:
        data = cfg.DATA
        folder = Path(data.PATH_TO_DATA_DIR)
        items, names = lists.read_ucf101(folder, self.split, data.SPLIT_NUMBER, data.PATH_PREFIX)
        return ItemList(items, str(folder), names)


@DATASET_REGISTRY.register("hmdb51")
class Hmdb51(VideoDataset):
    """``<class>_test_split1.txt`` files; the test part validates too."""

    def read_list(self, cfg: CfgNode) -> ItemList:
        data = cfg.DATA
        folder = Path(data.PATH_TO_DATA_DIR)
        items, names = lists.read_hmdb51(folder, self.split, data.SPLIT_NUMBER, data.PATH_PREFIX)
        return ItemList(items, str(folder), names)


@DATASET_REGISTRY.register("jester")
class Jester(VideoDataset):
    """``jester-v1-{labels,train,validation}.csv`` over frame folders."""

    sampling = "segment"

    def read_list(self, cfg: CfgNode) -> ItemList:
        folder = Path(cfg.DATA.PATH_TO_DATA_DIR)
        items, names = lists.read_jester(folder, self.split, cfg.DATA.PATH_PREFIX)
        return ItemList(items, str(folder), names)


@DATASET_REGISTRY.register("folder")
class ClassFolders(VideoDataset):
    """``<PATH_TO_DATA_DIR>/{train,val,test}/<class>/<video>``, or without the split folders."""

    def read_list(self, cfg: CfgNode) -> ItemList:
        root = Path(cfg.DATA.PATH_TO_DATA_DIR)
        wanted = {"train": ["train"], "val": ["val", "test"], "test": ["test", "val"]}[self.split]
        present = [root / name for name in wanted if (root / name).is_dir()]
        folder = present[0] if present else root
        items, names = lists.read_class_folders(folder, "DATA.PATH_TO_DATA_DIR")
        return ItemList(items, str(folder), names)
