"""ImageNet, and any set of images in folders of classes: clips of one frame."""

from __future__ import annotations

from pathlib import Path

from slowfast.config.load import register_derivation
from slowfast.config.node import CfgNode
from slowfast.datasets import lists
from slowfast.datasets.base import DATASET_REGISTRY, VideoDataset
from slowfast.datasets.lists import ItemList
from slowfast.video.source import IMAGE_SUFFIXES


@DATASET_REGISTRY.register("imagenet")
class ImageNet(VideoDataset):
    """``<PATH_TO_DATA_DIR>/{train,val}/<class>/<image>``; the test reads ``test``, else ``val``.

    For the 2-D networks that videos start from. With DATA.NUM_FRAMES above 1 the frames of a clip
    are the same image.
    """

    @classmethod
    def read_list(cls, cfg: CfgNode, split: str) -> ItemList:
        root = Path(cfg.DATA.PATH_TO_DATA_DIR or cfg.DATA.PATH_PREFIX)
        names = {"train": ["train"], "val": ["val", "test"], "test": ["test", "val"]}[split]
        folder = next((root / name for name in names if (root / name).is_dir()), root / names[0])
        items, class_names = lists.read_class_folders(
            folder, "DATA.PATH_TO_DATA_DIR", cfg.DATA.FOLLOW_LINKS, IMAGE_SUFFIXES
        )
        return ItemList(items, str(folder), class_names)


@register_derivation
def _random_resized_crops(cfg: CfgNode) -> None:
    """The published loader crops a random share of the image, whatever its files say."""
    of_images = cfg.TRAIN.DATASET.lower() == "imagenet"
    if of_images and not cfg.DATA.TRAIN_JITTER_SCALES_RELATIVE:
        cfg.assign("DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.08, 1.0], "TRAIN.DATASET imagenet")
