"""Making lists, class names and a YAML file from a folder of videos or official annotations."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from slowfast.datasets import lists
from slowfast.datasets.classnames import DEFAULT_NAME
from slowfast.datasets.fields import split_fields
from slowfast.datasets.lists import Item
from slowfast.utils.errors import Problem, UserError, VideoError
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.paths import prepare_outputs
from slowfast.utils.seeding import sample_rng
from slowfast.utils.text import shorten
from slowfast.video.backends.frames import FrameFolder

# Sets of motions: a mirrored clip may belong to another class, and frames cover the whole video.
_MOTIONS = {"ssv2", "jester"}
_MISSING = "missing.txt"


@dataclass
class SplitLists:
    """``splits``: the items of each split; ``missing``: videos of the annotations that do not
    exist."""

    kind: str
    splits: dict[str, list[Item]]
    class_names: list[str]
    missing: list[str] = field(default_factory=list)


# -- one folder per class ------------------------------------------------------------------------


def from_folder(
    root: str | Path, val: float = 0.1, test: float = 0.1, seed: int = 0, follow_links: bool = False
) -> SplitLists:
    """Lists of ``root/<class>/<video>``, divided at random class by class; or of
    ``root/train/<class>/<video>`` (and ``val``, ``test``), as they are.

    ``val`` and ``test`` are shares of each class. Links that lead out of the folder are left out
    unless ``follow_links``. UserError if a class has too few videos to leave at least one for
    training.
    """
    root = Path(root)
    if not (0 <= val < 1 and 0 <= test < 1):
        raise UserError(f"{val} and {test} are no shares", "from 0 to below 1", "--val / --test")
    parts = [name for name in ("train", "val", "test") if (root / name).is_dir()]
    if "train" in parts:
        read = {
            name: lists.read_class_folders(root / name, "FOLDER", follow_links) for name in parts
        }
        names = read["train"][1]
        for part, (_, part_names) in read.items():
            if part_names != names:
                differing = sorted(set(part_names) ^ set(names))
                raise UserError(
                    f"{root / part} and {root / 'train'} have different classes: "
                    f"{', '.join(differing[:5])}",
                    "give both the same folders",
                    "FOLDER",
                )
        splits = {name: items for name, (items, _) in read.items()}
        other = "test" if "test" in splits else "val"
        for name in ("val", "test"):
            splits.setdefault(name, splits.get(other, []))
        return SplitLists("folder", splits, names)
    items, names = lists.read_class_folders(root, "FOLDER", follow_links)
    return SplitLists("folder", _divide(items, names, {"val": val, "test": test}, seed), names)


def _divide(
    items: Sequence[Item], names: Sequence[str], shares: dict[str, float], seed: int
) -> dict[str, list[Item]]:
    splits: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(names):
        of_class = [item for item in items if item.label == label]
        total = len(of_class)
        order = sample_rng(seed, 0, label, "split").permutation(total)
        counts = {
            part: max(round(share * total), 1) if share else 0 for part, share in shares.items()
        }
        if sum(counts.values()) >= total:
            raise UserError(
                f"class {name!r} has {total} videos, too few for "
                f"{' and '.join(f'{count} of {part}' for part, count in counts.items())}",
                "add videos, or set --val 0 or --test 0",
                name,
            )
        start = 0
        for part in ("val", "test"):
            splits[part] += [of_class[i] for i in sorted(order[start : start + counts[part]])]
            start += counts[part]
        splits["train"] += [of_class[i] for i in sorted(order[start:])]
    # If only one of validation and test has videos, both use them.
    splits["val"] = splits["val"] or splits["test"]
    splits["test"] = splits["test"] or splits["val"]
    return splits


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
    result = SplitLists("kinetics", {"train": [], "val": [], "test": []}, names)
    for row in rows:
        part = {"validate": "val", "validation": "val"}.get(row["split"], row["split"])
        name = f"{row['youtube_id']}_{row['time_start']}_{row['time_end']}"
        path = next((stems[n] for n in (name, row["youtube_id"]) if n in stems), "")
        if path and part in result.splits:
            result.splits[part].append(Item(path, labels[row["label"]]))
        elif not path:
            result.missing.append(f"{part} {name}")
    result.splits["test"] = result.splits["test"] or result.splits["val"]
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
    template: str = "{:05d}.jpg",
) -> SplitLists:
    """Lists of UCF101, HMDB51, Jester and SSv2 from their official files, with numbers of frames
    for frame folders."""
    folder = Path(annotations)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "it holds the annotations", "--annotations")
    result = SplitLists(kind, {}, [])
    for part in ("train", "val"):
        items, result.class_names = _READERS[kind](folder, part, number, str(videos))
        result.splits[part] = []
        for item in items:
            present = _present(item, template)
            if present:
                result.splits[part].append(present)
            else:
                result.missing.append(f"{part} {item.path}")
    result.splits["test"] = result.splits["val"]
    return result


def _present(item: Item, template: str) -> Item | None:
    """The item if its video exists, with the number of images of a frame folder; else None."""
    if os.path.isfile(item.path):
        return Item(item.path, item.label)
    try:
        return Item(item.path, item.label, FrameFolder(item.path, template).num_frames)
    except VideoError:
        return None


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
) -> Path:
    """Write ``train.csv val.csv test.csv classes.txt config.yaml`` (and ``missing.txt``).

    Returns the path of the YAML file, which trains on the lists with the network and recipe of the
    configuration ``base``. UserError if there are no training videos, names cannot stand in lists,
    or a file would be overwritten that is among ``read``, the annotations.
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
    texts = {
        f"{part}.csv": lists.format_path_list(items, counted)
        for part, items in split_lists.splits.items()
    }
    texts |= {
        DEFAULT_NAME: "".join(f"{name}\n" for name in split_lists.class_names),
        _MISSING: "".join(f"{line}\n" for line in split_lists.missing),
        "config.yaml": _yaml(split_lists, Path(folder), base),  # last: it needs the others
    }
    targets = {Path(folder, name): text for name, text in texts.items()}
    prepare_outputs(targets, [*read, *([base] if base else [])], "--out")
    make_dirs(folder)
    for target, text in targets.items():
        if text or target.name != _MISSING:
            write_text_atomic(target, text)
        else:
            target.unlink(missing_ok=True)
    return Path(folder, "config.yaml")


def _yaml(split_lists: SplitLists, folder: Path, base: str | Path) -> str:
    data = {
        "PATH_TO_DATA_DIR": str(folder),
        "PATH_PREFIX": "",
        "RANDOM_FLIP": split_lists.kind not in _MOTIONS,
    }
    if split_lists.kind in _MOTIONS:
        data["SAMPLING"] = "segment"
    tree = {
        "TRAIN": {"DATASET": "kinetics"},
        "TEST": {"DATASET": "kinetics"},
        "DATA": data,
        "MODEL": {"NUM_CLASSES": len(split_lists.class_names)},
    }
    if base:
        tree = {"_BASE_": os.path.relpath(base, folder)} | tree
    return yaml.safe_dump(tree, sort_keys=False)
