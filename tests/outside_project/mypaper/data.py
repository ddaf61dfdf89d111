"""A data set with lists of its own and a further field, and a clip transform."""

import json
from pathlib import Path

import numpy as np

from slowfast.datasets import DATASET_REGISTRY, Item, ItemList, VideoDataset
from slowfast.video.transforms import TRANSFORM_REGISTRY


@DATASET_REGISTRY.register("annotated_json")
class AnnotatedJson(VideoDataset):
    """``{train,val,test}.json``: a list of ``{"video": path, "class": name, "quality": number}``."""

    @classmethod
    def read_list(cls, cfg, split):
        file = Path(cfg.DATA.PATH_TO_DATA_DIR) / f"{split}.json"
        rows = json.loads(file.read_text())
        names = sorted({row["class"] for row in rows})
        root = Path(cfg.DATA.PATH_PREFIX)
        items = [Item(str(root / row["video"]), names.index(row["class"])) for row in rows]
        return ItemList(items, str(file), names)

    def describe_item(self, item, index):
        """Further fields arrive in ``batch.extra``."""
        return super().describe_item(item, index) | {"name": Path(item.path).stem}


@TRANSFORM_REGISTRY.register("drop_colour")
def drop_colour(frames, rng, split, prob=0.2):
    """Decoded frames uint8 ``T H W 3``: grey with probability ``prob`` in training."""
    if split != "train" or rng.random() >= prob:
        return frames
    return np.repeat(frames.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)
