"""``exp/README.md``: what each folder under ``exp/`` is, read from its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowfast.config.defaults import get_cfg
from slowfast.config.node import CfgNode
from slowfast.datasets.base import DATASET_REGISTRY
from slowfast.models.base import MODEL_REGISTRY
from slowfast.utils.errors import UserError

_HEAD = """# Experiments

Written by `python tools/make_experiments.py` from the `config.yaml` of each folder,
[recipes.yaml](recipes.yaml) and [pretrained/index.yaml](../pretrained/index.yaml).

```
DATA_DIR=lists DATA_PREFIX=videos bash exp/<folder>/run.sh [KEY VALUE ...]
CHECKPOINT=weights.pth DATA_DIR=lists DATA_PREFIX=videos bash exp/<folder>/test.sh [KEY VALUE ...]
```

`run.sh` trains and tests, `test.sh` tests; `--help` explains both, `--print-config` shows the
values without running. *Clip*: frames × the distance between two of them, and the size of the crop.
*Test*: crops × clips per test video, or classes and labelled clips per episode. *Starts from*: the
weights that training starts from. *Published top-1*: what the authors publish, with their crops ×
clips, for the released weights named beside it; not measured here.
"""

_COLUMNS = ("folder", "network", "data", "clip", "test", "starts from", "published top-1")

# As pretrained/index.yaml abbreviates them.
_DATA_SETS = {
    "Kinetics-400": "K400",
    "Kinetics-600": "K600",
    "Something-Something v2": "SSv2",
    "Charades": "Charades",
}


@dataclass(frozen=True)
class Experiment:
    """One folder: its name, and the first sentence of its configuration in parts."""

    folder: str
    network: str
    data: str
    cfg: CfgNode
    test_cfg: CfgNode  # of test.yaml, where there is one
    base: str  # the file it inherits without any change, relative to the root; else empty


def index_page(root: Path, recipes: dict[str, Any]) -> str:
    """The page as Markdown; ``recipes`` is the content of ``exp/recipes.yaml``."""
    index = yaml.safe_load((root / "pretrained" / "index.yaml").read_text(encoding="utf-8"))
    weights = {name: entry for name, entry in index.items() if not name.startswith("_")}
    starts = dict(recipes["starts"])
    parts = [_HEAD, "## Names that mislead", "", *_misleading(recipes["misleading"])]
    remaining = sorted(p for p in (root / "exp").iterdir() if p.is_dir() and any(p.iterdir()))
    for group in recipes["groups"]:
        prefixes = tuple(group["prefixes"])
        folders = [folder for folder in remaining if folder.name.startswith(prefixes)]
        remaining = [folder for folder in remaining if folder not in folders]
        parts += ["", f"## {group['title']}", "", group["text"], ""]
        experiments = [f for f in folders if (f / "config.yaml").exists()]
        scripts = [f for f in folders if f not in experiments]
        rows = [
            _row(read_experiment(f, root), weights, starts.pop(f.name, "")) for f in experiments
        ]
        parts += _table(_COLUMNS, rows)
        parts += _table(("folder", "what it does"), [_script_row(f) for f in scripts])
    if remaining:
        raise UserError(
            f"no group for the folder {remaining[0].name}",
            "add its prefix to a group, or a group",
            "exp/recipes.yaml",
        )
    unknown = sorted(starts.keys() | set(recipes["starts"].values()) - weights.keys())
    if unknown:
        raise UserError(
            f"starts names {unknown[0]}, which is no experiment or no weights",
            "write <folder of exp>: <name of pretrained/index.yaml>",
            "exp/recipes.yaml",
        )
    return "\n".join(parts) + "\n"


def read_experiment(folder: Path, root: Path) -> Experiment:
    """The experiment of a folder with ``config.yaml``, whose first line is
    ``# <network>, <data>[, <remark>].``"""
    file = folder / "config.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    network, data = first_sentence(file).split(": ")[0].split(", ")[:2]
    base = content.pop("_BASE_")
    unchanged = isinstance(base, str) and not content
    name = str((folder / base).resolve().relative_to(root.resolve())) if unchanged else ""
    test = folder / "test.yaml"
    test_cfg = _read(test if test.exists() else file)
    return Experiment(folder.name, network, data, _read(file), test_cfg, name)


def _read(file: Path) -> CfgNode:
    """The values of a file over the defaults, without checks: they ask for files of a machine."""
    cfg = get_cfg()
    cfg.merge_from_file(file)
    return cfg


def first_sentence(file: Path) -> str:
    """The first sentence of the comment at the head of a YAML file or a script."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#!"):
            continue
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return f"{' '.join(lines)} ".split(". ")[0].strip()


def _row(experiment: Experiment, weights: dict[str, dict[str, Any]], zoo_start: str) -> list[str]:
    """``zoo_start``: weights that the recipe starts from though no key names them, or empty."""
    cfg = experiment.cfg
    initial = zoo_start or MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.initial_weights(cfg)
    return [
        f"[{experiment.folder}]({experiment.folder}/config.yaml)",
        experiment.network,
        experiment.data,
        _clip(cfg),
        _test(experiment.test_cfg),
        f"`{Path(initial).stem}`" if initial else "random weights",
        _accuracy(experiment, weights),
    ]


def _clip(cfg: CfgNode) -> str:
    data = cfg.DATA
    size = f"{data.TRAIN_CROP_SIZE}²"
    rule = data.SAMPLING
    if rule == "auto":
        rule = DATASET_REGISTRY.get(cfg.TRAIN.DATASET).sampling
    spacing = f"× {data.SAMPLING_RATE}" if rule == "clip" else "over the video"
    return f"{data.NUM_FRAMES} {spacing}, {size}"


def _test(cfg: CfgNode) -> str:
    if cfg.TASK == "fewshot":
        return f"{cfg.FEWSHOT.WAY}-way {cfg.FEWSHOT.SHOT}-shot"
    return f"{cfg.TEST.NUM_SPATIAL_CROPS} × {cfg.TEST.NUM_ENSEMBLE_VIEWS}"


def _accuracy(experiment: Experiment, weights: dict[str, dict[str, Any]]) -> str:
    """Of released weights of the same, unchanged configuration and data set."""
    label = _DATA_SETS.get(experiment.data)
    for name, entry in weights.items():
        data, _, value = entry.get("accuracy", "").partition(" ")
        if entry.get("config") == experiment.base and experiment.base and data == label:
            return f"{value.replace('x', ' × ')} `{name}`"
    return ""


def _script_row(folder: Path) -> list[str]:
    return [f"[{folder.name}]({folder.name}/run.sh)", first_sentence(folder / "run.sh") + "."]


def _misleading(remarks: dict[str, str]) -> list[str]:
    return _table(("name", "what it is"), [[name, text] for name, text in remarks.items()])


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]
