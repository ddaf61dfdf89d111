"""Lists from official annotations, and writing of lists, class names and a YAML file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from slowfast.config.sections.train import TRAIN
from slowfast.config.yaml_file import published_folder, read_yaml
from slowfast.datasets import lists
from slowfast.datasets.classnames import DEFAULT_NAME
from slowfast.datasets.fields import split_fields
from slowfast.datasets.folder_lists import DEFAULT_TEMPLATE, SplitLists, present_item
from slowfast.datasets.lists import Item
from slowfast.datasets.multi_label import format_items
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.paths import is_within, prepare_outputs
from slowfast.utils.runtime import ALL_GPUS
from slowfast.utils.text import shorten

_MOTIONS = {"ssv2", "jester"}
_MISSING = "missing.txt"
_SEVERAL = {"LOSS_FUNC": "bce_logit", "HEAD_ACT": "sigmoid"}  # labels a video


# -- official annotations ------------------------------------------------------------------------


def from_kinetics(
    annotations: Iterable[str | Path], videos: str | Path, follow_links: bool = False
) -> SplitLists:
    """Lists from official csv files (``label,youtube_id,time_start,time_end,split``) and a tree of
    videos.

    The files of a video are ``<id>_<start>_<end>.*`` with six digits, or ``<id>.*``, in any folder
    of the tree.
    """
    stems = _index(videos, follow_links)
    rows = [row for file in annotations for row in _read_kinetics(Path(file))]
    names = sorted({row["label"] for row in rows})
    labels = {name: number for number, name in enumerate(names)}
    result = SplitLists({"train": [], "val": [], "test": []}, names)
    for row in rows:
        part = {"validate": "val", "validation": "val"}.get(row["split"], row["split"])
        name = f"{row['youtube_id']}_{row['time_start']}_{row['time_end']}"
        path = next((stems[n] for n in (name, row["youtube_id"]) if n in stems), "")
        if path and part in result.splits:
            result.splits[part].append(Item(path, labels[row["label"]]))
        elif not path:
            result.missing.append(f"{part} {name}")
    result.fill_empty_splits()
    return result


_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


def _read_kinetics(file: Path) -> list[dict[str, str]]:
    """The rows of an official file; times as six digits, as in the names of videos."""
    (_, first), *lines = lists.read_lines(file, "--annotations")
    columns: list[str] = []
    rows, problems = [], []
    try:
        columns = split_fields(first, ",")
    except ValueError as error:
        problems.append(Problem(str(error), "", f"{file}:1"))
    missing = sorted(set(_COLUMNS) - set(columns))
    if missing:
        raise UserError(
            Problem(
                f"has no column {', '.join(missing)}",
                "give the official csv files with labels (train, val; the test set's if published)",
                str(file),
            )
        )
    for number, line in lines:
        try:
            row = dict(zip(columns, split_fields(line, ",")))
            row |= {key: f"{_second(row[key]):06d}" for key in ("time_start", "time_end")}
            rows.append({key: row[key] for key in _COLUMNS})
        except KeyError as error:
            problems.append(Problem(f"has no field {error.args[0]}", "", f"{file}:{number}"))
        except ValueError as error:
            problems.append(Problem(str(error), "", f"{file}:{number}"))
    lists.raise_line_problems(file, problems)
    return rows


def _second(text: str) -> int:
    """A time in whole seconds; 0 for an empty one. ValueError."""
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", text):
        raise ValueError(f"{shorten(text)!r} is not a time in seconds")
    return int(float(text))


def _index(videos: str | Path, follow_links: bool) -> dict[str, str]:
    """Stem -> path of the video files below a folder."""
    names = lists.find_videos(videos, "--videos", follow_links)
    return {Path(name).stem: str(Path(videos, name)) for name in names}


_READERS: dict[str, Callable] = {
    "ssv2": lists.read_ssv2,
    "jester": lists.read_jester,
    "ucf101": lists.read_ucf101,
    "hmdb51": lists.read_hmdb51,
}


def from_official(
    kind: str,
    annotations: str | Path,
    videos: str | Path,
    number: int = 1,
    template: str = DEFAULT_TEMPLATE,
) -> SplitLists:
    """Lists of UCF101, HMDB51, Jester and SSv2 from their official files, with numbers of frames
    for frame folders."""
    folder = Path(annotations)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "it holds the annotations", "--annotations")
    result = SplitLists({}, [], motions=kind in _MOTIONS)
    for part in ("train", "val"):
        items, result.class_names = _READERS[kind](folder, part, number, str(videos))
        result.splits[part] = []
        for item in items:
            present = present_item(item, template)
            if present:
                result.splits[part].append(present)
            else:
                result.missing.append(f"{part} {item.path}")
    result.fill_empty_splits()
    return result


def rewrite_for_frames(
    source: str | Path, target: str | Path, folders: dict[str, str], frames: dict[str, int]
) -> None:
    """Write a list of videos as a list of their frame folders.

    ``folders`` and ``frames`` give the folder and the number of images per video; videos without
    frames are left out. UserError if a path of the list is not one of the videos.
    """
    items = lists.read_path_list(source, " ", "", "--lists")
    unknown = [item.path for item in items if item.path not in folders]
    if unknown:
        raise UserError(
            f"{source} names {unknown[0]!r}, which is not a video of the folder "
            f"({len(unknown)} such lines)",
            "paths are relative to the folder of videos",
            "--lists",
        )
    rewritten = [Item(folders[i.path], i.label, frames[i.path]) for i in items if i.path in frames]
    write_text_atomic(target, lists.format_path_list(rewritten, counted=True))


# -- writing -------------------------------------------------------------------------------------


def write_lists(
    split_lists: SplitLists,
    folder: str | Path,
    base: str | Path = "",
    read: Iterable[str | Path] = (),
    weights: str | Path = "",
) -> Path:
    """Write ``train.csv val.csv test.csv classes.txt config.yaml`` (and ``missing.txt``).

    Paths are absolute, so that they hold in every folder. Returns the path of the YAML file, which
    trains on the lists with the network and recipe of the configuration ``base``, from the file
    ``weights`` if it is given. UserError if there are no training videos, names cannot stand in
    lists, or a file would be overwritten that is among ``read``, the annotations.
    """
    if not split_lists.splits.get("train"):
        raise UserError(
            f"none of the training videos exists ({len(split_lists.missing)} are missing, e.g. "
            f"{split_lists.missing[0] if split_lists.missing else 'none'})",
            "check the folder of the videos",
            "--videos",
        )
    lists.check_class_names(split_lists.class_names, DEFAULT_NAME)
    counted = all(item.num_frames for items in split_lists.splits.values() for item in items)
    format_list = format_items if split_lists.multi_label else lists.format_path_list
    texts = {
        f"{part}.csv": format_list(_absolute(items), counted)
        for part, items in split_lists.splits.items()
    }
    texts |= {
        DEFAULT_NAME: "".join(f"{name}\n" for name in split_lists.class_names),
        _MISSING: "".join(f"{line}\n" for line in split_lists.missing),
        "config.yaml": _yaml(split_lists, Path(folder), base, weights),  # last: it needs the others
    }
    targets = {Path(folder, name): text for name, text in texts.items()}
    prepare_outputs(targets, [*read, *filter(None, (base, weights))], "--out")
    make_dirs(folder)
    for target, text in targets.items():
        if text or target.name != _MISSING:
            write_text_atomic(target, text)
        else:
            target.unlink(missing_ok=True)
    return Path(folder, "config.yaml")


def _absolute(items: Iterable[Item]) -> list[Item]:
    return [replace(item, path=os.path.abspath(item.path)) for item in items]


def _yaml(split_lists: SplitLists, folder: Path, base: str | Path, weights: str | Path = "") -> str:
    data = {
        "PATH_TO_DATA_DIR": os.path.abspath(folder),
        "PATH_PREFIX": "",
        "PATH_LABEL_SEPARATOR": " ",
        "RANDOM_FLIP": not split_lists.motions,
    }
    if split_lists.motions:
        data["SAMPLING"] = "segment"
    if split_lists.image_template not in ("", DEFAULT_TEMPLATE):
        data["IMAGE_TEMPLATE"] = split_lists.image_template
    several = split_lists.multi_label
    if several:
        data |= {"MULTI_LABEL": True, "ENSEMBLE_METHOD": "max", "SAMPLING": "auto"}
    train: dict[str, Any] = {"DATASET": split_lists.dataset}
    videos = len(split_lists.splits["train"])
    if videos < _batch_size(base):
        train["BATCH_SIZE"] = 1 << (videos.bit_length() - 1)
        split_lists.notes.append(
            f"TRAIN.BATCH_SIZE is {train['BATCH_SIZE']}, since there are {videos} training videos"
        )
    if weights:
        train["CHECKPOINT_FILE_PATH"] = os.path.abspath(weights)
    tree = {
        "NUM_GPUS": ALL_GPUS,
        "TRAIN": train,
        "TEST": {"DATASET": split_lists.dataset},
        "DATA": data,
        "DATA_LOADER": {"NUM_WORKERS": -1},
        "MODEL": {"NUM_CLASSES": len(split_lists.class_names)} | (_SEVERAL if several else {}),
    }
    if base:
        tree = {"_BASE_": _name_of_base(Path(base), folder)} | tree
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=1000)


def _batch_size(base: str | Path) -> int:
    entries = read_yaml(base) if base else []
    given = [entry.value for entry in entries if entry.key == "TRAIN.BATCH_SIZE"]
    is_number = bool(given) and isinstance(given[-1], int)
    return given[-1] if is_number else TRAIN.keys["BATCH_SIZE"].default


def _name_of_base(base: Path, folder: Path) -> str:
    """A published configuration by its name, which works wherever the package is; another one by
    its path from the folder of the lists."""
    published = published_folder()
    if published and is_within(base, published):
        return os.path.relpath(os.path.realpath(base), os.path.realpath(published))
    return os.path.relpath(base, folder)
