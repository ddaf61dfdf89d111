"""Rules and derived values of a configuration that need networks, data sets or optimizers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slowfast.config.load import register_derivation
from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.datasets.classnames import configured_names
from slowfast.engine.callbacks import CALLBACK_REGISTRY
from slowfast.engine.compilation import REDUCE_OVERHEAD
from slowfast.engine.loggers import LOGGER_REGISTRY
from slowfast.engine.losses import LOSS_REGISTRY
from slowfast.engine.result_files import SUFFIXES
from slowfast.engine.tasks import takes_several_labels, task_class
from slowfast.metrics.evaluators import METRIC_REGISTRY
from slowfast.models.base import MODEL_REGISTRY
from slowfast.utils.addresses import PACKAGES, WRITABLE, is_address, problem_of, secret_in
from slowfast.utils.errors import Problem

_MULTI_LABEL = "DATA.MULTI_LABEL"
# Keys whose value may be an address; others hold addresses of their own kinds.
_ADDRESS_KEYS = (
    "DATA.PATH_PREFIX",
    "DATA.PATH_TO_DATA_DIR",
    "OUTPUT_MIRROR",
    "TRAIN.CHECKPOINT_FILE_PATH",
    "TEST.CHECKPOINT_FILE_PATH",
)


@register_rule
def _class_names(cfg: CfgNode) -> Iterable[Problem]:
    open_vocabulary = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.open_vocabulary
    if open_vocabulary and not configured_names(cfg.DATA):
        yield Problem(
            "this network reads the names of classes, and there are none",
            'name a JSON file {"0": "first class", "1": …}, or list them in DATA.CLASS_NAMES',
            "DATA.INDEX_LABEL_MAPPING_FILE",
        )


@register_derivation
def _num_classes_of_names(cfg: CfgNode) -> None:
    """A network that reads class names has as many outputs as there are names."""
    open_vocabulary = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.open_vocabulary
    names = configured_names(cfg.DATA) if open_vocabulary else []
    if names and len(names) != cfg.MODEL.NUM_CLASSES:
        cfg.assign("MODEL.NUM_CLASSES", len(names), "the class names")


@register_rule
def _several_labels(cfg: CfgNode) -> Iterable[Problem]:
    """What cannot be computed for videos with any number of labels."""
    if not cfg.DATA.MULTI_LABEL:
        return
    if not takes_several_labels(cfg):
        yield Problem(f"TASK {cfg.TASK} takes one label a video", "set it False", _MULTI_LABEL)
    loss, trains = cfg.MODEL.LOSS_FUNC, cfg.TRAIN.ENABLE
    several = loss in LOSS_REGISTRY and LOSS_REGISTRY.get(loss).takes_several_labels
    if trains and not several:
        yield Problem(
            f"{loss} takes one label a clip", "set MODEL.LOSS_FUNC bce_logit", "MODEL.LOSS_FUNC"
        )
    if cfg.MODEL.HEAD_ACT == "softmax":
        yield Problem(
            "classes that are present together compete in a softmax",
            "set MODEL.HEAD_ACT sigmoid",
            "MODEL.HEAD_ACT",
        )
    if "mean_class_accuracy" in cfg.TEST.METRICS:
        yield Problem(
            "mean_class_accuracy is defined for one label a video", "leave it out", "TEST.METRICS"
        )
    for key, switch in (("MIXUP.ENABLE", cfg.MIXUP.ENABLE), ("SOLVER.KD", cfg.SOLVER.KD)):
        if trains and switch:
            yield Problem("is defined for one label a clip", "set it False", key)
    if trains and cfg.DATA.BATCH_SAMPLER == "class_balanced":
        yield Problem(
            "class_balanced needs one label a video",
            "set DATA.BATCH_SAMPLER shuffle",
            "DATA.BATCH_SAMPLER",
        )


@register_rule
def _model_rules(cfg: CfgNode) -> Iterable[Problem]:
    """What the selected network says about the configuration."""
    yield from MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.check(cfg)


@register_rule
def _optimizer_rules(cfg: CfgNode) -> Iterable[Problem]:
    if not cfg.TRAIN.ENABLE or cfg.SOLVER.LAYER_DECAY == 1.0:
        return
    name = cfg.MODEL.MODEL_NAME
    if MODEL_REGISTRY.get(name).spec.layer_of is None:
        yield Problem(
            f"{name} has no layers for layer decay",
            "set SOLVER.LAYER_DECAY 1.0",
            "SOLVER.LAYER_DECAY",
        )


@register_rule
def _known_parts(cfg: CfgNode) -> Iterable[Problem]:
    for key, registry in (
        ("CALLBACKS", CALLBACK_REGISTRY),
        ("LOGGERS", LOGGER_REGISTRY),
        ("TEST.METRICS", METRIC_REGISTRY),
    ):
        for name in cfg.lookup(key):
            yield from registry.problems(name)


@register_rule
def _addresses_where_they_can_be(cfg: CfgNode) -> Iterable[Problem]:
    if is_address(cfg.OUTPUT_DIR):
        yield Problem(
            "is an address; a run writes to a folder of this machine",
            "name a folder, and the address as OUTPUT_MIRROR, to which it is copied",
            "OUTPUT_DIR",
        )
    mirror = cfg.OUTPUT_MIRROR
    if mirror and not is_address(mirror):
        yield Problem("is no address (s3://bucket/folder)", "", "OUTPUT_MIRROR")
    elif mirror and mirror.partition("://")[0] in PACKAGES.keys() - set(WRITABLE):
        schemes = ", ".join(f"{name}://" for name in WRITABLE)
        yield Problem("cannot be written to", f"name an address of {schemes}", "OUTPUT_MIRROR")
    for key, value in cfg.flat().items():
        is_read = key in _ADDRESS_KEYS or key == "DATA.ADDRESSES"
        for text in value if isinstance(value, (list, tuple)) else [value]:
            problem = is_address(text) and (problem_of if is_read else secret_in)(text)
            if problem:
                yield Problem(f"the address {problem}", "", key)


@register_rule
def _shown_videos_have_classes(cfg: CfgNode) -> Iterable[Problem]:
    """Said before a training, after which the videos are shown."""
    if not cfg.TENSORBOARD.ENABLE or not task_class(cfg).inference_class.takes_support:
        return
    for part in ("MODEL_VIS", "WRONG_PRED_VIS"):
        if cfg.TENSORBOARD[part].ENABLE:
            yield Problem(
                f"the network of TASK {cfg.TASK} has no classes of its own to be shown",
                "set it False",
                f"TENSORBOARD.{part}.ENABLE",
            )


@register_rule
def _known_file_of_scores(cfg: CfgNode) -> Iterable[Problem]:
    path = cfg.TEST.SAVE_RESULTS_PATH
    if path and Path(path).suffix not in SUFFIXES:
        yield Problem(
            f"the form of the file {path!r} follows from its ending, which is not known",
            f"choose one of {', '.join(SUFFIXES)}",
            "TEST.SAVE_RESULTS_PATH",
        )


@register_rule
def _cuda_graphs_need_weights_in_place(cfg: CfgNode) -> Iterable[Problem]:
    if cfg.TRAIN.COMPILE == REDUCE_OVERHEAD and cfg.DIST.STRATEGY == "fsdp":
        yield Problem(
            f"{REDUCE_OVERHEAD} needs weights that stay in place, and fsdp gathers them anew",
            "set TRAIN.COMPILE True, or DIST.STRATEGY ddp",
            "TRAIN.COMPILE",
        )


@register_rule
def _batches_divide(cfg: CfgNode) -> Iterable[Problem]:
    if not task_class(cfg).divides_batches:
        return
    for part in ("TRAIN", "TEST"):
        size = cfg[part].BATCH_SIZE
        if cfg.NUM_GPUS > 1 and size % cfg.NUM_GPUS:
            below = max(size // cfg.NUM_GPUS, 1) * cfg.NUM_GPUS
            yield Problem(
                f"{size} cannot be divided among NUM_GPUS {cfg.NUM_GPUS}",
                f"use {below} or {below + cfg.NUM_GPUS}",
                f"{part}.BATCH_SIZE",
            )
