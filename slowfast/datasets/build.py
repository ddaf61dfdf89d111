"""Data set by name; importing this module registers all of them."""

from __future__ import annotations

from collections.abc import Iterable

from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.datasets import (  # noqa: F401
    charades,
    imagenet,
    kinetics,
    moving_shapes,
    official_splits,
    shards,
    something,
)
from slowfast.datasets.base import DATASET_REGISTRY, VideoDataset
from slowfast.datasets.clip_reader import Views
from slowfast.datasets.lists import ItemList
from slowfast.utils.errors import Problem, UserError
from slowfast.video.randaugment import parse_randaugment


def build_dataset(
    cfg: CfgNode, split: str, views: Views | None = None, item_list: ItemList | None = None
) -> VideoDataset:
    """The data set of ``train``, ``val`` or ``test``; UserError for an unknown name.

    ``views``: of a test video, where they are not those of the configuration; ``item_list``: the
    list of the split, where it has been read already.
    """
    return dataset_class(cfg, split)(cfg, split, views, item_list)


def dataset_class(cfg: CfgNode, split: str) -> type[VideoDataset]:
    """The class that TRAIN.DATASET (``train``, ``val``) or TEST.DATASET names."""
    return DATASET_REGISTRY.get(cfg.TEST.DATASET if split == "test" else cfg.TRAIN.DATASET)


@register_rule
def _known_names(cfg: CfgNode) -> Iterable[Problem]:
    for part in ("TRAIN", "TEST"):
        if cfg[part].ENABLE:
            for problem in DATASET_REGISTRY.problems(cfg[part].DATASET):
                yield Problem(problem.message, problem.remedy, f"{part}.DATASET")


@register_rule
def _labels(cfg: CfgNode) -> Iterable[Problem]:
    for part in ("TRAIN", "TEST"):
        name = cfg[part].DATASET
        if not cfg[part].ENABLE or name not in DATASET_REGISTRY:
            continue
        dataset, several = DATASET_REGISTRY.get(name), cfg.DATA.MULTI_LABEL
        if several and not dataset.may_be_multi_label:
            yield Problem(
                f"videos of {name} have one label each",
                "set it False, or use charades, or kinetics with lines 'path 3,7,12'",
                "DATA.MULTI_LABEL",
            )
        elif dataset.must_be_multi_label and not several:
            yield Problem(
                f"videos of {name} have several labels",
                "set it True, MODEL.LOSS_FUNC bce_logit, MODEL.HEAD_ACT sigmoid and "
                "DATA.ENSEMBLE_METHOD max",
                "DATA.MULTI_LABEL",
            )


@register_rule
def _known_policy(cfg: CfgNode) -> Iterable[Problem]:
    if cfg.TRAIN.ENABLE and cfg.AUG.ENABLE and cfg.AUG.AA_TYPE:
        try:
            parse_randaugment(cfg.AUG.AA_TYPE)
        except UserError as error:
            yield from error.problems


@register_rule
def _known_decoder(cfg: CfgNode) -> Iterable[Problem]:
    if cfg.DATA.DECODING_DEVICE != "cpu" and cfg.DATA.DECODING_BACKEND != "torchcodec":
        yield Problem(
            f"{cfg.DATA.DECODING_DEVICE} needs DATA.DECODING_BACKEND torchcodec",
            "set DATA.DECODING_BACKEND torchcodec, or DATA.DECODING_DEVICE cpu",
            "DATA.DECODING_DEVICE",
        )
