"""Charades (arXiv 1604.01753): folders of frames, several labels a video."""

from __future__ import annotations

from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.datasets.base import DATASET_REGISTRY, ListDataset
from slowfast.datasets.lists import Item
from slowfast.datasets.multi_label import read_frame_list


@DATASET_REGISTRY.register("charades")
class Charades(ListDataset):
    """``train.csv`` and ``val.csv`` (which is the test's, too) with a row a frame.

    A training clip has the labels of the frames that it spans, a validation or test video those of
    all its frames.
    """

    sampling = "strided"
    published_bgr = True
    test_short_side_is_crop = True
    must_be_multi_label = True
    reads_remote_lists = False

    @classmethod
    def list_name(cls, cfg: CfgNode, split: str) -> str:
        return "train.csv" if split == "train" else "val.csv"

    @classmethod
    def read_items(cls, cfg: CfgNode, file: Path) -> list[Item]:
        return read_frame_list(file, cfg.DATA.PATH_PREFIX, "DATA.PATH_TO_DATA_DIR")
