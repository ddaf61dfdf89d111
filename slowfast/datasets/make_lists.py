"""From a folder of videos, or from official annotations, to lists, class names and a YAML file."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from slowfast.datasets import lists
from slowfast.datasets.classnames import DEFAULT_NAME
from slowfast.datasets.lists import Item
from slowfast.utils.errors import Problem, UserError, VideoError
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.seeding import sample_rng
from slowfast.video.backends.frames import FrameFolder

# Sets of motions: mirrored ones may be of another class, and frames come from the whole video.
_MOTIONS = {"ssv2", "jester"}


@dataclass
class MadeLists:
    """``splits``: the items of each split; ``missing``: what the annotations name and is absent."""

    kind: str
    splits: dict[str, list[Item]]
    class_names: list[str]
    missing: list[str] = field(default_factory=list)


# -- a folder a class ----------------------------------------------------------------------------


def from_folder(root: str | Path, val: float = 0.1, test: float = 0.1, seed: int = 0) -> MadeLists:
    """``root/<class>/<video>``, divided at random class by class; or ``root/train/<class>/…``.

    At least one video a class stays for training; UserError if a class has fewer than are needed.
    """
    root = Path(root)
    parts = [name for name in ("train", "val", "test") if (root / name).is_dir()]
    if "train" in parts:
        read = {name: lists.read_class_folders(root / name, "FOLDER") for name in parts}
        names = read["train"][1]
        for part, (_, found) in read.items():
            if found != names:
                odd = sorted(set(found) ^ set(names))
                raise UserError(
                    f"{root / part} and {root / 'train'} have other classes: {', '.join(odd[:5])}",
                    "give both the same folders",
                    "FOLDER",
                )
        splits = {name: items for name, (items, _) in read.items()}
        other = "test" if "test" in splits else "val"
        for name in ("val", "test"):
            splits.setdefault(name, splits.get(other, []))
        return MadeLists("folder", splits, names)
    items, names = lists.read_class_folders(root, "FOLDER")
    return MadeLists("folder", _divide(items, names, {"val": val, "test": test}, seed), names)


def _divide(
    items: Sequence[Item], names: Sequence[str], shares: dict[str, float], seed: int
) -> dict[str, list[Item]]:
    splits: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(names):
        own = [item for item in items if item.label == label]
        order = sample_rng(seed, 0, label, "split").permutation(len(own))
        counts = {
            part: max(round(share * len(own)), 1) if share else 0 for part, share in shares.items()
        }
        if sum(counts.values()) >= len(own):
            raise UserError(
                f"class {name!r} has {len(own)} videos, too few for "
                f"{' and '.join(f'{count} of {part}' for part, count in counts.items())}",
                "add videos, or set --val 0 or --test 0",
                name,
            )
        start = 0
        for part in ("val", "test"):
            splits[part] += [own[i] for i in sorted(order[start : start + counts[part]])]
            start += counts[part]
        splits["train"] += [own[i] for i in sorted(order[start:])]
    # Without a part of its own, validation and test see the other's videos.
    splits["val"] = splits["val"] or splits["test"]
    splits["test"] = splits["test"] or splits["val"]
    return splits


# -- official annotations ------------------------------------------------------------------------


def from_kinetics(annotations: Iterable[str | Path], videos: str | Path) -> MadeLists:
    """Official csv files (``label,youtube_id,time_start,time_end,split``) and a tree of videos.

    A video is ``<id>_<start>_<end>.*`` with six digits, or ``<id>.*``, in any folder.
    """
    stems = _index(videos)
    rows = [row for file in annotations for row in _read_kinetics(Path(file))]
    names = sorted({row["label"] for row in rows})
    labels = {name: number for number, name in enumerate(names)}
    made = MadeLists("kinetics", {"train": [], "val": [], "test": []}, names)
    for row in rows:
        part = {"validate": "val", "validation": "val"}.get(row["split"], row["split"])
        start, end = (int(float(row[key] or 0)) for key in ("time_start", "time_end"))
        wanted = [f"{row['youtube_id']}_{start:06d}_{end:06d}", row["youtube_id"]]
        path = next((stems[stem] for stem in wanted if stem in stems), "")
        if path and part in made.splits:
            made.splits[part].append(Item(path, labels[row["label"]]))
        elif not path:
            made.missing.append(f"{part} {wanted[0]}")
    made.splits["test"] = made.splits["test"] or made.splits["val"]
    return made


def _read_kinetics(file: Path) -> list[dict[str, str]]:
    lines = [line for _, line in lists.read_lines(file, "--annotations")]
    reader = csv.DictReader(lines)
    needed = {"label", "youtube_id", "time_start", "time_end", "split"}
    absent = needed - set(reader.fieldnames or ())
    if absent:
        raise UserError(
            Problem(
                f"has no column {', '.join(sorted(absent))}",
                "give the official csv files with labels (train, val; the test set's if published)",
                str(file),
            )
        )
    return list(reader)


def _index(videos: str | Path) -> dict[str, str]:
    """Video files below a folder by stem."""
    return {
        Path(name).stem: str(Path(videos, name)) for name in lists.find_videos(videos, "--videos")
    }


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
) -> MadeLists:
    """UCF101, HMDB51, Jester and SSv2 from their official files; frames of folders are counted."""
    folder = Path(annotations)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "it holds the annotations", "--annotations")
    made = MadeLists(kind, {}, [])
    for part in ("train", "val"):
        items, made.class_names = _READERS[kind](folder, part, number, str(videos))
        made.splits[part] = []
        for item in items:
            present = _present(item, template)
            if present:
                made.splits[part].append(present)
            else:
                made.missing.append(f"{part} {item.path}")
    made.splits["test"] = made.splits["val"]
    return made


def _present(item: Item, template: str) -> Item | None:
    """The item if its video is there, with the number of images of a frame folder."""
    if os.path.isfile(item.path):
        return Item(item.path, item.label)
    try:
        return Item(item.path, item.label, FrameFolder(item.path, template).num_frames)
    except VideoError:
        return None


def rewrite_for_frames(
    source: str | Path, target: str | Path, folders: dict[str, str], frames: dict[str, int]
) -> None:
    """A list of videos -> a list of their folders of frames; ``folders`` and ``frames`` by video.

    Videos without frames are left out. UserError for a path that is none of the videos.
    """
    items = lists.read_path_list(source, " ", "", "--lists")
    unknown = [item.path for item in items if item.path not in folders]
    if unknown:
        raise UserError(
            f"{source} names {unknown[0]!r}, no video of the folder ({len(unknown)} such lines)",
            "paths begin in the folder of videos",
            "--lists",
        )
    made = [Item(folders[i.path], i.label, frames[i.path]) for i in items if i.path in frames]
    write_text_atomic(target, lists.format_path_list(made, counted=True))


# -- writing -------------------------------------------------------------------------------------


def write_lists(made: MadeLists, folder: str | Path, base: str | Path = "") -> Path:
    """``train.csv val.csv test.csv classes.txt config.yaml`` (and ``missing.txt``).

    Gives the YAML file, which trains on the lists with the network and recipe of ``base``.
    """
    folder = make_dirs(folder)
    if not made.splits.get("train"):
        raise UserError(
            f"none of the training videos is there ({len(made.missing)} are missing, e.g. "
            f"{made.missing[0] if made.missing else 'none'})",
            "check the folder of the videos",
            "--videos",
        )
    counted = all(item.num_frames for items in made.splits.values() for item in items)
    for part, items in made.splits.items():
        write_text_atomic(folder / f"{part}.csv", lists.format_path_list(items, counted))
    write_text_atomic(folder / DEFAULT_NAME, "".join(f"{name}\n" for name in made.class_names))
    missing = folder / "missing.txt"
    missing.unlink(missing_ok=True)
    if made.missing:
        write_text_atomic(missing, "".join(f"{line}\n" for line in made.missing))
    config = folder / "config.yaml"
    write_text_atomic(config, _yaml(made, folder, base))
    return config


def _yaml(made: MadeLists, folder: Path, base: str | Path) -> str:
    data = {
        "PATH_TO_DATA_DIR": str(folder),
        "PATH_PREFIX": "",
        "RANDOM_FLIP": made.kind not in _MOTIONS,
    }
    if made.kind in _MOTIONS:
        data["SAMPLING"] = "segment"
    tree = {
        "TRAIN": {"DATASET": "kinetics"},
        "TEST": {"DATASET": "kinetics"},
        "DATA": data,
        "MODEL": {"NUM_CLASSES": len(made.class_names)},
    }
    if base:
        tree = {"_BASE_": os.path.relpath(base, folder)} | tree
    return yaml.safe_dump(tree, sort_keys=False)
