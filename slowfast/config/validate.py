"""Rules over a merged configuration; every violated one is reported, not just the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slowfast.config.compat import is_refusal
from slowfast.config.node import CfgNode
from slowfast.config.schema import all_keys
from slowfast.utils.errors import Problem

Rule = Callable[[CfgNode], Iterable[Problem]]
_RULES: list[Rule] = []


def register_rule(rule: Rule) -> Rule:
    """Decorator: add a check ``cfg -> problems``; rooms above add theirs where they live."""
    _RULES.append(rule)
    return rule


def find_problems(cfg: CfgNode, merging: Iterable[Problem] = ()) -> list[Problem]:
    """All problems of a configuration: ``merging`` (values that could not be put into the tree),
    limits of single keys, and combinations, if every value that they read is known.
    """
    problems = list(merging)
    refused = {problem.key for problem in problems}
    for dotted, key in all_keys().items():
        value = cfg.lookup(dotted)
        text = key.limits(dotted, value) if dotted not in refused else ""
        if text:
            remedy, origin = key.remedy(dotted, value), cfg.origins.get(dotted, "")
            problems.append(Problem(text, remedy, dotted, origin))
    if all(is_refusal(problem) and problem.key not in all_keys() for problem in problems):
        problems += [problem for rule in _RULES for problem in rule(cfg)]
    return problems


@register_rule
def _processes(cfg: CfgNode) -> Iterable[Problem]:
    if cfg.SHARD_ID >= cfg.NUM_SHARDS:
        yield Problem(
            f"is {cfg.SHARD_ID} with NUM_SHARDS {cfg.NUM_SHARDS}",
            "number machines from 0",
            "SHARD_ID",
        )


@register_rule
def _learning_rate(cfg: CfgNode) -> Iterable[Problem]:
    solver = cfg.SOLVER
    if solver.LR_POLICY == "cosine" and solver.COSINE_END_LR >= solver.BASE_LR:
        yield Problem(
            f"{solver.COSINE_END_LR:g} is not below SOLVER.BASE_LR {solver.BASE_LR:g}",
            "the cosine must fall",
            "SOLVER.COSINE_END_LR",
        )
    # Further LRS are left over, as in files that PySlowFast ships.
    fitting = solver.STEPS and solver.STEPS[0] == 0 and len(solver.STEPS) <= len(solver.LRS)
    if solver.LR_BATCH_SIZE and solver.BASE_LR_SCALE_NUM_SHARDS:
        yield Problem(
            "both this and SOLVER.BASE_LR_SCALE_NUM_SHARDS scale the learning rate",
            "set one of them",
            "SOLVER.LR_BATCH_SIZE",
        )
    if solver.LR_POLICY == "steps_with_relative_lrs" and not fitting:
        yield Problem(
            f"STEPS {solver.STEPS} and LRS {solver.LRS} do not fit together",
            "give at least as many LRS as STEPS; the first step is 0",
            "SOLVER.STEPS",
        )


@register_rule
def _ranges(cfg: CfgNode) -> Iterable[Problem]:
    for name in (
        "TRAIN_JITTER_SCALES_RELATIVE",
        "TRAIN_JITTER_ASPECT_RELATIVE",
        "TRAIN_JITTER_SCALES",
    ):
        pair = cfg.DATA[name]
        if pair and (len(pair) != 2 or pair[0] > pair[1] or pair[0] <= 0):
            yield Problem(f"{pair} is not a range", "give [lowest, highest]", f"DATA.{name}")
    data = cfg.DATA
    resized = data.TRAIN_JITTER_SCALES_RELATIVE or data.TRAIN_JITTER_ASPECT_RELATIVE
    if cfg.TRAIN.ENABLE and not resized and data.TRAIN_JITTER_SCALES[0] < data.TRAIN_CROP_SIZE:
        yield Problem(
            f"{data.TRAIN_JITTER_SCALES} reaches below DATA.TRAIN_CROP_SIZE {data.TRAIN_CROP_SIZE}",
            "a frame must be at least as large as its crop",
            "DATA.TRAIN_JITTER_SCALES",
        )
    for name in ("MEAN", "STD"):
        if len(data[name]) != 3:
            yield Problem(
                f"{data[name]} must have three numbers", "one per channel", f"DATA.{name}"
            )


@register_rule
def _mixing(cfg: CfgNode) -> Iterable[Problem]:
    if not (cfg.TRAIN.ENABLE and cfg.MIXUP.ENABLE):
        return
    per_process = cfg.TRAIN.BATCH_SIZE // max(cfg.NUM_GPUS, 1) * cfg.AUG.NUM_SAMPLE
    if per_process < 2 and cfg.MIXUP.PROB > 0:  # with PROB 0 it only smooths the labels
        yield Problem(
            "mixup needs at least two clips in the batch of each process",
            "raise TRAIN.BATCH_SIZE or AUG.NUM_SAMPLE, or set MIXUP.ENABLE False",
            "MIXUP.ENABLE",
        )
    if cfg.MIXUP.ALPHA == 0 and cfg.MIXUP.CUTMIX_ALPHA == 0:
        yield Problem("both MIXUP.ALPHA and MIXUP.CUTMIX_ALPHA are 0", "set one", "MIXUP.ENABLE")
