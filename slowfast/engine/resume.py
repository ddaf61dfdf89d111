"""Comparison of a run with its checkpoint: may it be resumed with this configuration?"""

from __future__ import annotations

from typing import Any

from slowfast.config.compat import current_name
from slowfast.config.node import CfgNode
from slowfast.config.schema import keys_without_effect
from slowfast.engine.content import KEY, REMEDY, check_content
from slowfast.engine.elastic import KEY as ELASTIC
from slowfast.engine.elastic import is_elastic
from slowfast.engine.state import RunFingerprint
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.text import shown
from slowfast.utils.yaml_text import BadYaml, load_yaml

logger = get_logger(__name__)


def check_resumable(
    cfg: CfgNode, fingerprint: RunFingerprint, content: dict[str, Any], path: object
) -> None:
    """Log what has changed since the checkpoint ``content`` was written.

    UserError if it changes the result, unless TRAIN.ALLOW_CHANGED_RESUME is set, and if a run
    cannot continue from the checkpoint at all.
    """
    if "rng_state" not in content or "inside_epoch" not in content:
        raise UserError(
            f"{path} was not written by this framework: it contains weights, but no state of a run",
            "name it as TRAIN.CHECKPOINT_FILE_PATH and use another OUTPUT_DIR",
            KEY,
        )
    check_content(content, path)
    try:
        changes = changed_keys(cfg, content["cfg"])
    except BadYaml as error:
        raise UserError(f"the configuration in {path} {error}", REMEDY, KEY) from error
    elastic = is_elastic(cfg, content)
    # torchrun decides how many GPUs a machine uses.
    harmless = keys_without_effect() | ({"NUM_GPUS"} if elastic else set())
    for key, (old, new) in changes.items():
        if key in harmless:
            logger.info("resuming with another %s: %s was %s", key, shown(new), shown(old))
    problems = [
        Problem(f"is {shown(new)}, was {shown(old)} in {path}", "", key)
        for key, (old, new) in changes.items()
        if key not in harmless
    ]
    if fingerprint.world != content["world"] and not elastic:
        text = f"{fingerprint.world} processes, the run had {content['world']} (see {ELASTIC})"
        problems.append(Problem(text, "", "number of processes"))
    if fingerprint.data != content["data"]:
        text = f"{fingerprint.data} now, {content['data'][:80]} when the run started"
        problems.append(Problem(text, "", "training list"))
    if not problems:
        return
    if cfg.TRAIN.ALLOW_CHANGED_RESUME:
        for problem in problems:
            logger.warning("resuming although the result changes: %s", problem)
        return
    remedy = (
        "restore the old values, choose another OUTPUT_DIR, or set TRAIN.ALLOW_CHANGED_RESUME True"
    )
    first, *rest = problems
    raise UserError([Problem(first.message, remedy, first.key), *rest])


def changed_keys(cfg: CfgNode, saved: str) -> dict[str, tuple[Any, Any]]:
    """Keys whose value differs from that of the saved YAML text: (old, new).

    Renamed keys are compared under their present names. Keys that occur in only one of the two are
    ignored: they belong to another version of the framework. BadYaml if the text is none.
    """
    tree = load_yaml(saved) or {}
    if not isinstance(tree, dict):
        raise BadYaml("holds no keys")
    flat = _flat(tree)
    old = {current_name(key): value for key, value in flat.items()}
    new = cfg.flat()
    return {
        key: (old[key], value)
        for key, value in new.items()
        if key in old and _plain(old[key]) != _plain(value)
    }


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _plain(value: Any) -> Any:
    # YAML reads 1e-6 as text and returns tuples as lists.
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return value
