"""Data sets: lists, items, samples, batches, loaders."""

from slowfast.datasets.base import DATASET_REGISTRY, VideoDataset
from slowfast.datasets.batch import Batch
from slowfast.datasets.lists import Item, ItemList

__all__ = ["Batch", "DATASET_REGISTRY", "Item", "ItemList", "VideoDataset"]
