"""Kinetics, and every other data set with lists in the same format."""

from __future__ import annotations

from slowfast.datasets.base import DATASET_REGISTRY, ListDataset


@DATASET_REGISTRY.register("kinetics")
class Kinetics(ListDataset):
    """``{train,val,test}.csv``; one clip of NUM_FRAMES x SAMPLING_RATE frames."""


@DATASET_REGISTRY.register("kinetics_sparse")
class KineticsSparse(ListDataset):
    """The same lists with segment sampling over the whole video (UniFormer)."""

    sampling = "segment"
    test_short_side_is_crop = True
