"""Lists of a folder of classes: divided at random, or as its train, val and test parts are."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from slowfast.datasets.class_folders import ClassFolders, part_folders, read_class_folders
from slowfast.datasets.lists import Item
from slowfast.utils.errors import Problem, UserError, VideoError
from slowfast.utils.registry import did_you_mean
from slowfast.utils.seeding import sample_rng
from slowfast.video.backends.frames import FrameFolder

_KEY = "FOLDER"
DEFAULT_TEMPLATE = "{:05d}.jpg"
_MAX_NAMES = 5  # in a message
# What a list of a split stands in for if the split has no videos of its own.
_SUBSTITUTES = {"val": ("test", "train"), "test": ("val", "train")}


@dataclass
class SplitLists:
    """``splits``: the items of each split; ``missing``: videos of the annotations that do not
    exist; ``notes``: what was left out or decided, for people; ``image_template`` of folders of
    frames, if it is not the usual one.

    ``dataset``: the registered data set that reads the lists; ``motions``: the classes are motions,
    which a mirrored clip changes and which take the whole video; ``multi_label``: the items are
    :class:`~slowfast.datasets.multi_label.MultiLabelItem`."""

    splits: dict[str, list[Item]]
    class_names: list[str]
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    image_template: str = ""
    dataset: str = "kinetics"
    motions: bool = False
    multi_label: bool = False

    def fill_empty_splits(self) -> None:
        """Let validation and test use the videos of each other, else those of training."""
        empty = [name for name in _SUBSTITUTES if not self.splits.get(name)]
        for name in empty:
            others = [other for other in _SUBSTITUTES[name] if other not in empty]
            source = next((other for other in others if self.splits.get(other)), "")
            self.splits[name] = list(self.splits.get(source, []))
            if not source:
                continue
            warning = ": its accuracy says nothing about other videos" if source == "train" else ""
            self.notes.append(f"{name}.csv holds the videos of {source}.csv{warning}")


def from_folder(
    root: str | Path,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    follow_links: bool = False,
    classes: Sequence[str] = (),
    template: str = DEFAULT_TEMPLATE,
    required: Collection[str] = (),
) -> SplitLists:
    """Lists of ``root/<class>/<video>``, divided at random class by class; or of
    ``root/train/<class>/<video>`` (and ``val``, ``test``), as they are.

    ``val`` and ``test`` are shares of each class. Links that lead out of the folder are left out
    unless ``follow_links``. ``classes``: names in the order of their labels, of which the folders
    may be a part; without them, labels number the folders that have videos. ``template``: names of
    the images of a folder of frames. ``required``: parts without which the caller has no use for
    the rest, so that no message proposes a share of 0. UserError if a class has too few videos to
    leave at least one for training.
    """
    root = Path(root)
    if not (0 <= val < 1 and 0 <= test < 1):
        raise UserError(f"{val} and {test} are no shares", "from 0 to below 1", "--val / --test")
    parts = part_folders(root)
    if "train" in parts and len(parts) > 1:
        return _from_parts(root, parts, follow_links, classes, template)
    read = _read(parts.get("train", root), follow_links, template)
    made = SplitLists({}, _labels(read, classes), notes=_notes(read, classes))
    if "train" in parts:
        made.notes.append(f"{root} has no val or test folder: {parts['train']} is divided")
    items = _relabelled(read, made.class_names)
    made.splits = _divide(items, made.class_names, {"val": val, "test": test}, seed, required)
    made.fill_empty_splits()
    return made


def _from_parts(
    root: Path, parts: dict[str, Path], follow_links: bool, classes: Sequence[str], template: str
) -> SplitLists:
    read = {part: _read(folder, follow_links, template) for part, folder in parts.items()}
    names = _labels(read["train"], classes)
    made = SplitLists({}, names)
    for part, found in read.items():
        unknown = sorted(set(found.class_names) - set(found.without_videos()) - set(names))
        if unknown:
            raise UserError(
                f"{found.root} and {read['train'].root} have different classes: {_some(unknown)}",
                "give the training videos of them, or remove their folders",
                _KEY,
            )
        made.splits[part] = _relabelled(found, names)
        made.notes += _notes(found, classes)
        absent = [name for name in names if name not in found.class_names]
        if absent and not classes:
            made.notes.append(f"{found.root} has no folder of {_some(absent)}")
    beside = {path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."}
    beside -= {path.name for path in parts.values()}
    if beside:
        made.notes.append(f"folders beside train are left out: {_some(sorted(beside))}")
    made.fill_empty_splits()
    return made


def _read(folder: Path, follow_links: bool, template: str) -> ClassFolders:
    """The class folders, with numbers of frames; folders of images with other names than the
    template's are left out."""
    read = read_class_folders(folder, _KEY, follow_links)
    present = [(item, present_item(item, template)) for item in read.items]
    misnamed = [item.path for item, found in present if found is None]
    if len(misnamed) == len(present):
        raise UserError(
            f"none of {len(present)} folders of images holds {template}, e.g. {misnamed[0]}",
            "name the first image of a folder by --template, numbered from 1: 'img_{:05d}.jpg'",
            "--template",
        )
    kept = [found for _, found in present if found is not None]
    relative = [os.path.relpath(path, read.root) for path in misnamed]
    return replace(read, items=kept, left_out=read.left_out + relative)


def present_item(item: Item, template: str) -> Item | None:
    """The item if its video exists, with the number of images of a folder of frames; else None."""
    if os.path.isfile(item.path):
        return replace(item, num_frames=0)
    try:
        return replace(item, num_frames=FrameFolder(item.path, template).num_frames)
    except VideoError:
        return None


def _labels(read: ClassFolders, classes: Sequence[str]) -> list[str]:
    """Class names in label order: ``classes``, which must include every folder with videos."""
    present = [name for name in read.class_names if name not in read.without_videos()]
    problems = [
        Problem(
            f"{read.root / name}: no class is called {name!r}",
            did_you_mean(name, classes) or f"the classes are {_some(list(classes))}",
            "--classes",
        )
        for name in present
        if classes and name not in classes
    ]
    if problems:
        raise UserError(problems[:_MAX_NAMES])
    return list(classes) or present


def _relabelled(read: ClassFolders, names: Sequence[str]) -> list[Item]:
    """The items with the labels that ``names`` gives to their classes."""
    labels = {name: label for label, name in enumerate(names)}
    return [replace(item, label=labels[read.class_names[item.label]]) for item in read.items]


def _notes(read: ClassFolders, classes: Sequence[str]) -> list[str]:
    empty = read.without_videos()
    absent = [name for name in classes if name not in read.class_names]
    notes = [
        f"class folders without videos are left out: {_some(empty)}" if empty else "",
        f"{read.root} has no videos of {len(absent)} of {len(classes)} classes: {_some(absent)}"
        if absent
        else "",
        read.describe_left_out(),
    ]
    return [note for note in notes if note]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _divide(
    items: Sequence[Item],
    names: Sequence[str],
    shares: dict[str, float],
    seed: int,
    required: Collection[str],
) -> dict[str, list[Item]]:
    splits: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    problems = []
    for label, name in enumerate(names):
        of_class = [item for item in items if item.label == label]
        if not of_class:
            continue
        total = len(of_class)
        order = sample_rng(seed, 0, label, "split").permutation(total)
        counts = {part: max(round(share * total), 1) for part, share in shares.items() if share}
        if sum(counts.values()) >= total:
            options = " or ".join(f"--{part} 0" for part in counts if part not in required)
            remedy = "add videos, remove the folder, or set " + options
            problems.append(
                Problem(
                    f"class {name!r} has {total} videos, too few for one of training and "
                    f"{' and '.join(f'{count} of {part}' for part, count in counts.items())}",
                    remedy if options else "add videos, or remove the folder",
                    name,
                )
            )
            continue
        start = 0
        for part, count in counts.items():
            splits[part] += [of_class[i] for i in sorted(order[start : start + count])]
            start += count
        splits["train"] += [of_class[i] for i in sorted(order[start:])]
    if problems:
        more = len(problems) - _MAX_NAMES
        tail = [Problem(f"and {more} more classes with too few videos")] if more > 0 else []
        raise UserError(problems[:_MAX_NAMES] + tail)
    return splits
