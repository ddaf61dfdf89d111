"""Sets of UniFormer and STFM whose list names follow a template: Something-Something (``sth``)
and video files (``hmdb``)."""

from __future__ import annotations

from slowfast.config.node import CfgNode
from slowfast.datasets.base import DATASET_REGISTRY, ListDataset


class TemplateList(ListDataset):
    """``<PATH_TO_DATA_DIR>/<LABEL_PATH_TEMPLATE>``; validation and test read the same list."""

    sampling = "segment"
    test_short_side_is_crop = True
    evaluation_part = "val"

    @classmethod
    def list_name(cls, cfg: CfgNode, split: str) -> str:
        part = "train" if split == "train" else cls.evaluation_part
        return cfg.DATA.LABEL_PATH_TEMPLATE.format(part)


@DATASET_REGISTRY.register("sth")
class Something(TemplateList):
    """Frame folders, ``folder frames label`` lists; the published weights expect BGR."""

    published_bgr = True
    evaluation_part = "validation"


@DATASET_REGISTRY.register("hmdb")
class SparseVideoList(TemplateList):
    """Video files, ``path frames label`` lists (UniFormer's HMDB51 and UCF101 loader)."""
