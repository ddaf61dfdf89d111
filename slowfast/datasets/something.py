"""Something-Something: the lists of UniFormer and STFM (``sth``), the official json (``ssv2``)."""

from __future__ import annotations

from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.datasets import lists
from slowfast.datasets.base import DATASET_REGISTRY, ListDataset, VideoDataset
from slowfast.datasets.lists import ItemList


class TemplateList(ListDataset):
    """``<PATH_TO_DATA_DIR>/<LABEL_PATH_TEMPLATE>``; validation and test read the same list."""

    sampling = "segment"
    crops_fill_frame = True
    held_out = "val"

    def list_name(self, cfg: CfgNode) -> str:
        part = "train" if self.split == "train" else self.held_out
        return cfg.DATA.LABEL_PATH_TEMPLATE.format(part)


@DATASET_REGISTRY.register("sth")
class Something(TemplateList):
    """Frame folders, ``folder frames label`` lists; the published weights expect BGR."""

    reads_bgr = True
    held_out = "validation"


@DATASET_REGISTRY.register("hmdb")
class SparseVideoList(TemplateList):
    """Video files, ``path frames label`` lists (UniFormer's HMDB51 and UCF101 loader)."""


@DATASET_REGISTRY.register("ssv2")
class Ssv2(VideoDataset):
    """Official json lists over frame folders or videos (PySlowFast's set)."""

    sampling = "segment"
    reads_bgr = True
    crops_fill_frame = True

    def read_list(self, cfg: CfgNode) -> ItemList:
        folder = Path(cfg.DATA.PATH_TO_DATA_DIR)
        items, names = lists.read_ssv2(folder, self.split, cfg.DATA.PATH_PREFIX)
        return ItemList(items, str(folder), names)
