"""Lists by template: Something-Something (``sth``) and videos (``hmdb``) of UniFormer and STFM."""

from __future__ import annotations

from slowfast.config.node import CfgNode
from slowfast.datasets.base import DATASET_REGISTRY, ListDataset


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
