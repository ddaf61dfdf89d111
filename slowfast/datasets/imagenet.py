"""ImageNet, and any set of images in folders of classes: clips of one frame."""

from __future__ import annotations

import os
from pathlib import Path

from slowfast.config.load import register_derivation
from slowfast.config.node import CfgNode
from slowfast.datasets.base import DATASET_REGISTRY, VideoDataset
from slowfast.datasets.items import Item, ItemList
from slowfast.datasets.lists import check_class_names, check_names
from slowfast.utils.errors import UserError
from slowfast.utils.paths import Tree
from slowfast.video.source import IMAGE_SUFFIXES

_KEY = "DATA.PATH_TO_DATA_DIR"


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
        return read_image_folders(folder, cfg.DATA.FOLLOW_LINKS)


def read_image_folders(folder: Path, follow_links: bool = False) -> ItemList:
    """``folder/<class>/<image>``; classes in alphabetical order. UserError if there is none."""
    tree = Tree(folder, follow_links)
    if not tree.root.is_dir():
        raise UserError(f"there is no folder {folder}", "it should hold one folder per class", _KEY)
    classes = [entry.name for entry in tree.entries() if entry.is_dir() and entry.name[0] != "."]
    items = [
        Item(entry.path, label, 1)
        for label, name in enumerate(classes)
        for entry in tree.entries(name)
        if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
    ]
    tree.warn()
    if not items:
        shown = " ".join(IMAGE_SUFFIXES)
        raise UserError(
            f"{folder} holds no <class>/<image> files ({shown})", "see DATASET.md", _KEY
        )
    check_class_names(classes, _KEY)
    check_names((item.path for item in items), _KEY)
    return ItemList(items, str(folder), classes)


@register_derivation
def _random_resized_crops(cfg: CfgNode) -> None:
    """The published loader crops a random share of the image, whatever its files say."""
    of_images = cfg.TRAIN.DATASET.lower() == "imagenet"
    if of_images and not cfg.DATA.TRAIN_JITTER_SCALES_RELATIVE:
        cfg.assign("DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.08, 1.0], "TRAIN.DATASET imagenet")
