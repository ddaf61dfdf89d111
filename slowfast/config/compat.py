"""Old files: keys under former names, and keys of the source projects that are missing here."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import resources
from typing import Any

from slowfast.config.yaml_file import Entry
from slowfast.utils.errors import Problem
from slowfast.utils.logging import get_logger
from slowfast.utils.registry import Registry

logger = get_logger(__name__)

ACCEPTED = object()

_RENAMED = {
    "FEWSHOT.TRAIN_TASKS": "FEWSHOT.TRAIN_EPISODES",
    "FEWSHOT.VAL_TASKS": "FEWSHOT.VAL_EPISODES",
    "FEWSHOT.TEST_TASKS": "FEWSHOT.TEST_EPISODES",
    "MODEL.FINETUNING": "MODEL.FINETUNNING",
    "SOLVER.CLIP_GRADIENT": "SOLVER.CLIP_GRAD_L2NORM",
    "TRAIN_FILE": "DATA.TRAIN_LIST",
    "VAL_FILE": "DATA.VAL_LIST",
    "TEST_FILE": "DATA.TEST_LIST",
}

# Former names of values: (key, old value) -> new value, and why.
_REPLACED = {
    ("SOLVER.OPTIMIZING_METHOD", "mt_adamw"): ("adamw", "torch.optim.AdamW is multi-tensor itself"),
    ("MODEL.MODEL_NAME", "vit_base_patch16_224"): (
        "TimeSformer",
        "its sizes are keys of TIMESFORMER",
    ),
    ("MODEL.MODEL_NAME", "BasicClipVideo"): (
        "TemporalClipVideo",
        "without MODEL.TEMPORAL_MODELING_TYPE it is the same network",
    ),
    ("MODEL.TEMPORAL_MODELING_TYPE", "stcross_attn"): (
        "stcross_attend",
        "the old name was a spelling mistake",
    ),
    ("DATA.DECODING_BACKEND", "torchvision"): ("pyav", "torchvision no longer decodes videos"),
}

# Values that nothing here can do: (key, value) -> what is wrong, and what to do.
_REFUSED = {
    ("MODEL.LOSS_FUNC", "bce"): (
        "bce expects probabilities, and every network gives logits in training",
        "use bce_logit, which is the same loss of logits",
    )
}

_TABLE = "docs/migration.md lists what of PySlowFast is here and what is not"
_PTV = "a network of PyTorchVideo; {} is the same network under PySlowFast's names"
_PTV_SET = "a loader of PyTorchVideo; {} reads the same lists"

# Names of PySlowFast that stand for something that is missing here: (key, value) -> what it is. No
# other network is proposed in its place; the names of PyTorchVideo's builders have a counterpart.
_ABSENT = {
    ("MODEL.MODEL_NAME", "ContrastiveModel"): "contrastive pre-training, which is not here",
    ("MODEL.MODEL_NAME", "MaskMViT"): "masked pre-training, which is not here",
    ("MODEL.MODEL_NAME", "ResNet_nopool"): "no network of PySlowFast: it refuses this file itself",
    ("MODEL.MODEL_NAME", "PTVCSN"): "a network of PyTorchVideo (CSN), which is not here",
    ("MODEL.MODEL_NAME", "PTVR2plus1D"): "a network of PyTorchVideo (R(2+1)D), which is not here",
    ("MODEL.MODEL_NAME", "PTVMViT"): _PTV.format("MViT"),
    ("MODEL.MODEL_NAME", "PTVResNet"): _PTV.format("ResNet"),
    ("MODEL.MODEL_NAME", "PTVSlowFast"): _PTV.format("SlowFast"),
    ("MODEL.MODEL_NAME", "PTVX3D"): _PTV.format("X3D"),
    ("MODEL.LOSS_FUNC", "contrastive_loss"): "contrastive pre-training, which is not here",
    ("MODEL.LOSS_FUNC", "multi_mse"): "masked pre-training, which is not here",
    ("TASK", "ssl"): "self-supervised pre-training, which is not here",
    ("TASK", "ssl_eval_ava"): "AVA detection, which is not here",
    **{
        (f"{part}.DATASET", name): text
        for part in ("TRAIN", "TEST")
        for name, text in {
            "ava": "AVA detection, which is not here",
            "imagenetprefetch": "a loader of its authors' storage; imagenet reads folders",
            "ptvkinetics": _PTV_SET.format("kinetics"),
            "ptvcharades": _PTV_SET.format("charades"),
            "ptvssv2": _PTV_SET.format("ssv2"),
        }.items()
    },
}

# Tasks that fine-tune or evaluate pre-trained weights, which every training does here.
_EVALUATIONS = {"ssl_eval", "ssl_eval_k400", "ssl_eval_ssv2", "ssl_eval_ucf"}

# Keys that start what is missing here; they must be off.
_SWITCHES = {
    "MASK.ENABLE": "masked pre-training is not part of this framework",
    "VIS_MASK.ENABLE": "masked pre-training is not part of this framework",
    "DETECTION.ENABLE": "AVA detection is not part of this framework",
}


Translation = Callable[[Entry], "Entry | Problem"]


def current_name(key: str) -> str:
    """The present name of a key that was renamed, or the name itself."""
    return _RENAMED.get(key, key)


def translate(entries: Iterable[Entry]) -> Iterator[Entry | Problem]:
    """Entries under today's names and values; a Problem in place of one that is refused."""
    for entry in _name_network(list(_load_custom_files(list(entries)))):
        result: Entry | Problem = entry
        for translation in _TRANSLATIONS:
            result = translation(result)
            if isinstance(result, Problem):
                break
        yield result


def _load_custom_files(entries: list[Entry]) -> Iterator[Entry]:
    """UniFormer: CUSTOM_LOAD_FILE names initial weights if CUSTOM_LOAD is on, else nothing."""
    loaded = {e.key.split(".")[0]: e.value for e in entries if e.key.endswith(".CUSTOM_LOAD")}
    for entry in entries:
        part, _, name = entry.key.partition(".")
        if name == "CUSTOM_LOAD_FILE":
            if loaded.get(part) and entry.value:
                yield replace(entry, key=f"{part}.CHECKPOINT_FILE_PATH")
        elif name != "CUSTOM_LOAD":
            yield entry


def _name_network(entries: list[Entry]) -> Iterator[Entry]:
    """PySlowFast: a file of ARCH slowfast may leave out the name of the network, its default."""
    yield from entries
    arch = next((entry for entry in reversed(entries) if entry.key == "MODEL.ARCH"), None)
    named = any(entry.key == "MODEL.MODEL_NAME" for entry in entries)
    if arch is not None and arch.value == "slowfast" and not named:
        yield replace(arch, key="MODEL.MODEL_NAME", value="SlowFast")


def _rename(entry: Entry) -> Entry:
    return replace(entry, key=current_name(entry.key))


def _replace_value(entry: Entry) -> Entry:
    if not isinstance(entry.value, str) or (entry.key, entry.value) not in _REPLACED:
        return entry
    new, why = _REPLACED[entry.key, entry.value]
    logger.warning("%s: %r now means %r: %s (%s)", entry.key, entry.value, new, why, entry.origin)
    return replace(entry, value=new)


def _five_tests(entry: Entry) -> Entry:
    """PySlowFast: -1 views are five tests in a row."""
    if entry.key == "TEST.NUM_ENSEMBLE_VIEWS" and entry.value == -1:
        return replace(entry, key="TEST.NUM_TEMPORAL_CLIPS", value=[1, 3, 5, 7, 10])
    return entry


def _one_scale(entry: Entry) -> Entry:
    """STDD: a single temporal scale is a number."""
    if entry.key == "MODEL.TEMPORAL_SCALE" and isinstance(entry.value, int):
        return replace(entry, value=[entry.value])
    return entry


def _refuse_value(entry: Entry) -> Entry | Problem:
    if not isinstance(entry.value, str) or (entry.key, entry.value) not in _REFUSED:
        return entry
    message, remedy = _REFUSED[entry.key, entry.value]
    return Problem(message, remedy, entry.key, entry.origin)


def _refuse_absent(entry: Entry) -> Entry | Problem:
    """A name of PySlowFast that is not registered here."""
    if not isinstance(entry.value, str) or (entry.key, entry.value) not in _ABSENT:
        return entry
    if entry.value in Registry.by_key.get(entry.key, ()):
        return entry
    what = _ABSENT[entry.key, entry.value]
    return Problem(f"{entry.value} is {what}", _TABLE, entry.key, entry.origin)


def _evaluation(entry: Entry) -> Entry:
    """PySlowFast: fine-tuning and linear evaluation of pre-trained weights are tasks."""
    if entry.key != "TASK" or entry.value not in _EVALUATIONS:
        return entry
    return replace(entry, value="recognition")


# Applied in this order, each to the result of the previous one.
_TRANSLATIONS: tuple[Translation, ...] = (
    _rename,
    _replace_value,
    _five_tests,
    _one_scale,
    _refuse_value,
    _evaluation,
    _refuse_absent,
)


@functools.cache
def _upstream() -> dict[str, dict[str, list[Any]]]:
    text = resources.files("slowfast.config").joinpath("upstream_keys.json").read_text()
    return json.loads(text)


def upstream_defaults() -> dict[str, list[Any]]:
    """Keys of PySlowFast and its forks that this version lacks -> their defaults."""
    return _upstream()["keys"]


def foreign_keys() -> dict[str, list[Any]]:
    """Keys of PySlowFast's sections for models and tasks that are missing here -> their defaults
    (none where the default was a folder of its authors)."""
    return _upstream()["foreign"]


def is_refusal(problem: Problem) -> bool:
    """Whether a key or value of PySlowFast is refused that would not be part of the tree, so that
    all other values can be judged nevertheless."""
    return problem.key in _SWITCHES or problem.key in upstream_defaults()


def is_foreign(entry: Entry) -> bool:
    """Whether the entry is a key of a missing model or task and has no effect here."""
    if entry.key in _SWITCHES:
        return False
    return entry.key in foreign_keys()


def warn_unread(entries: Iterable[Entry], model: str) -> None:
    """One warning of all foreign keys whose values are not PySlowFast's defaults."""
    changed = [
        entry
        for entry in entries
        if foreign_keys()[entry.key]
        and not any(_same(entry.value, default) for default in foreign_keys()[entry.key])
    ]
    if changed:
        logger.warning(
            "%s: set without effect: neither MODEL.MODEL_NAME %s nor any other part of this "
            "framework reads these keys of PySlowFast",
            ", ".join(f"{entry.key} ({entry.origin})" for entry in changed),
            model,
        )


def judge_upstream(entry: Entry) -> object | Problem | None:
    """ACCEPTED, a Problem with the explanation, or None for a key of no project."""
    if entry.key in _SWITCHES:
        if not entry.value:
            return ACCEPTED
        return Problem(_SWITCHES[entry.key], f"set {entry.key} False", entry.key, entry.origin)
    defaults = upstream_defaults().get(entry.key)
    if defaults is None:
        return None
    if any(_same(entry.value, default) for default in defaults):
        return ACCEPTED
    shown = " or ".join(repr(d) for d in defaults)
    return Problem(
        f"this key of PySlowFast has no counterpart here; only its default ({shown}) is accepted",
        "remove the line",
        entry.key,
        entry.origin,
    )


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return len(value) == len(default) and all(_same(v, d) for v, d in zip(value, default))
    if value in (None, "") and default in (None, ""):
        return True
    return value == default
