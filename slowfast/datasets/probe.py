"""Opening every video of some lists before training: figures, unreadable videos, duplicates."""

from __future__ import annotations

import functools
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slowfast.datasets.items import Item, ItemList, locate
from slowfast.datasets.lists import format_path_list
from slowfast.datasets.multi_label import MultiLabelItem, format_items
from slowfast.utils.addresses import is_address
from slowfast.utils.errors import VideoError
from slowfast.utils.files import make_dirs, remove_leftovers, short_hash, write_text_atomic
from slowfast.utils.json_text import json_text
from slowfast.utils.map import CRASHED, HERE, Where, file_stamp, map_items
from slowfast.utils.remote_file import Extent
from slowfast.video.source import Source, open_source

_HASHED = 1 << 20  # bytes at both ends of a file that identify its content


def probe_video(
    path: str,
    template: str = "{:05d}.jpg",
    whole: bool = False,
    images: Mapping[str, str] | None = None,
    extents: Mapping[str, Extent] | None = None,
) -> dict[str, Any]:
    """Facts about a video file or frame folder, from its first, middle and last frame (``whole``:
    from all frames). ``images``: the names of the images of folders, one a line, where a list gives
    them; ``extents``: the parts of files that videos are.

    ``cause`` (why it cannot be read, empty otherwise), ``frames``, ``fps``, ``width``, ``height``,
    and ``content``, a hash of the file (empty for one at an address or in a shard).
    """
    facts: dict[str, Any] = {"cause": "", "frames": 0, "fps": 0.0, "width": 0, "height": 0}
    try:
        names = (images or {}).get(path, "")
        extent = (extents or {}).get(path)
        names = names.split("\n") if names else ()
        source = open_source(path, template, names=names, extent=extent)
        facts |= {"frames": source.num_frames, "fps": round(source.fps, 3)}
        last = source.num_frames - 1
        indices = range(last + 1) if whole else sorted({0, last // 2, last})
        facts["height"], facts["width"] = _decode(source, indices)
        hashed = not os.path.isdir(path) and not is_address(path) and extent is None
        facts["content"] = _content(path) if hashed else ""
    except VideoError as error:
        facts["cause"] = " ".join(error.cause.split())
    return facts


def _decode(source: Source, indices: Sequence[int], chunk: int = 64) -> tuple[int, int]:
    """Decode frames, ``chunk`` in memory at a time; (height, width) of the last one."""
    shape = (0, 0)
    for start in range(0, len(indices), chunk):
        (frames,) = source.clips([indices[start : start + chunk]])
        shape = frames[-1].shape[:2]
    return shape


def _content(path: str) -> str:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(_HASHED)
        file.seek(max(size - _HASHED, 0))
        return short_hash(str(size), head, file.read())


@dataclass
class Report:
    """Result of a check.

    ``facts``: of each video, by path. ``shared``: videos in two lists, by the lists' names;
    ``twice``: videos that occur twice in one list.
    """

    lists: dict[str, ItemList]
    facts: dict[str, dict[str, Any]]
    shared: dict[str, list[str]] = field(default_factory=dict)
    twice: dict[str, list[str]] = field(default_factory=dict)

    def bad(self, name: str) -> list[tuple[Item, str]]:
        """(item, cause) of the unreadable videos of a list."""
        causes = ((item, self.facts[item.path]["cause"]) for item in self.lists[name].items)
        return [(item, cause) for item, cause in causes if cause]

    @property
    def is_clean(self) -> bool:
        """True if every video can be read and no list shares videos with another."""
        return not any(self.bad(name) for name in self.lists) and not self.shared

    def summary(self) -> dict[str, Any]:
        """Figures of each list, and the duplicates, as written to ``summary.json``."""
        figures = {name: self._figures(name) for name in self.lists}
        return {"lists": figures, "shared": self.shared, "twice": self.twice}

    def _figures(self, name: str) -> dict[str, Any]:
        items = self.lists[name].items
        good = [f for item in items if not (f := self.facts[item.path])["cause"]]
        classes = Counter(label for item in items for label in item.labels)
        return {
            "source": self.lists[name].source,
            "videos": len(items),
            "bad": len(items) - len(good),
            "classes": len(classes),
            "videos_per_class": _spread(list(classes.values())),
            "frames": _spread([f["frames"] for f in good]),
            "fps": _spread([f["fps"] for f in good]),
            "seconds": _spread([f["frames"] / f["fps"] for f in good if f["fps"]]),
            "short_side": _spread([min(f["width"], f["height"]) for f in good]),
        }


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    median = statistics.median(values)
    return {"min": round(min(values), 2), "median": round(median, 2), "max": round(max(values), 2)}


def check_lists(
    lists: dict[str, ItemList],
    journal: str | Path | None = None,
    *,
    template: str = "{:05d}.jpg",
    whole: bool = False,
    where: Where = HERE,
) -> Report:
    """Probe each video of the lists once; of the share of videos in ``where``, if it has one.

    ``journal``: file of the results so far, see :func:`slowfast.utils.map.map_items`.
    """
    paths = list(dict.fromkeys(i.path for item_list in lists.values() for i in item_list.items))
    lists = _parts(lists, set(where.part(paths)))
    items = [item for item_list in lists.values() for item in item_list.items]
    work = functools.partial(
        probe_video,
        template=template,
        whole=whole,
        images={i.path: "\n".join(i.image_names) for i in items if i.image_names},
        extents={i.path: i.extent for i in items if i.extent},
    )
    depth = "whole" if whole else "ends"
    facts = map_items(
        work,
        paths,
        journal,
        where=where,
        options={"template": template, "whole": whole},
        title="checking",
        stamp=lambda path: f"{depth} {file_stamp(path)}",
    )
    for path, result in facts.items():
        if result == CRASHED:
            facts[path] = {"cause": "crashes the decoder", "frames": 0, "fps": 0.0}
    report = Report(lists, facts)
    _find_duplicates(report)
    return report


def _parts(lists: dict[str, ItemList], paths: set[str]) -> dict[str, ItemList]:
    """The lists with the items of these paths."""
    return {
        name: replace(item_list, items=[i for i in item_list.items if i.path in paths])
        for name, item_list in lists.items()
    }


def _find_duplicates(report: Report) -> None:
    """Fill ``shared`` and ``twice`` of the report: items with the same content or path."""
    occurrences: dict[str, list[tuple[str, Item]]] = defaultdict(list)
    for name, item_list in report.lists.items():
        for item in item_list.items:
            content = report.facts[item.path].get("content") or os.path.normpath(item.path)
            occurrences[content].append((name, item))
    for equal_items in occurrences.values():
        if len(equal_items) < 2:
            continue
        names = list(dict.fromkeys(name for name, _ in equal_items))
        texts = [locate(name, item) for name, item in equal_items]
        if len(names) > 1:
            report.shared.setdefault(" and ".join(names), []).append(" = ".join(texts))
        else:
            report.twice.setdefault(names[0], []).append(" = ".join(texts))


def report_files(lists: dict[str, ItemList], folder: str | Path) -> list[Path]:
    """What a check of the lists writes to ``folder``."""
    names = ["summary.json", "journal.jsonl"]
    names += [name for stem in lists for name in (f"bad_{stem}.tsv", f"good_{stem}.csv")]
    return [Path(folder, name) for name in names]


def write_report(report: Report, folder: str | Path) -> None:
    """Write ``summary.json``, and for each list ``good_<name>.csv`` and ``bad_<name>.tsv``."""
    folder = make_dirs(folder)
    remove_leftovers(report_files(report.lists, folder))
    write_text_atomic(folder / "summary.json", json_text(report.summary(), indent=1) + "\n")
    for name, item_list in report.lists.items():
        bad = report.bad(name)
        bad_paths = {item.path for item, _ in bad}
        rows = [f"{i.line}\t{i.path}\t{cause}" for i, cause in bad]
        write_text_atomic(folder / f"bad_{name}.tsv", "".join(f"{row}\n" for row in rows))
        good = [i for i in item_list.items if i.path not in bad_paths]
        counted = all(item.num_frames for item in good)
        several = any(isinstance(item, MultiLabelItem) for item in good)
        text = (format_items if several else format_path_list)(good, counted)
        write_text_atomic(folder / f"good_{name}.csv", text)
