"""Size of the page of a large test, and the time to write it."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from slowfast.analysis.report.page import write_page
from slowfast.engine.result_files import ScoreTable, write_recognition

CLASSES, PER_CLASS = 400, 50
_GROUP = 4  # classes that are taken for each other
_SKILL = 2.5  # raises the score of the true class: about 80 % are right
_DATA_URI = re.compile(r"data:image/webp;base64,[^)]*")


def benchmark_report(files: Sequence[str], rounds: int) -> dict[str, Any]:
    """Write the page of a made-up test of 20 000 videos in 400 classes ``rounds`` times.

    ``files``: videos that stand, in turn, for all of them; without any the page has no pictures.
    Sizes are in MB (of the file, and of its pictures), times in seconds of each round.
    """
    with tempfile.TemporaryDirectory() as folder:
        run, page = Path(folder, "run"), Path(folder, "page.html")
        figures = _write_test(run / "tests" / "set-test-10x3", files, Path(folder, "videos"))
        seconds, cpu_seconds = [], []
        for _ in range(rounds):
            start, cpu_start = time.perf_counter(), time.process_time()
            write_page([run], page, {} if files else {"VIDEOS": 0})
            seconds.append(round(time.perf_counter() - start, 2))
            cpu_seconds.append(round(time.process_time() - cpu_start, 2))
        text = page.read_text(encoding="utf-8")
    pictures = _DATA_URI.findall(text)
    return figures | {
        "pictures": len(pictures),
        "megabytes": round(len(text.encode()) / 2**20, 2),
        "megabytes_of_pictures": round(sum(map(len, pictures)) / 2**20, 2),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }


def _write_test(folder: Path, files: Sequence[str], links: Path) -> dict[str, Any]:
    """A test whose scores are random, with groups of classes that are confused."""
    names = [f"class number {number}" for number in range(CLASSES)]
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    group = torch.randperm(CLASSES, generator=rng) // _GROUP
    scores = torch.randn(len(labels), CLASSES, generator=rng)
    scores += 1.5 * (group[labels][:, None] == group)
    scores[torch.arange(len(labels)), labels] += _SKILL
    paths = [str(links / f"{number:05d}{_suffix(files, number)}") for number in range(len(labels))]
    links.mkdir()
    for number, path in enumerate(paths if files else []):
        Path(path).symlink_to(Path(files[number % len(files)]).absolute())
    table = ScoreTable(
        paths, labels, scores.softmax(1), torch.ones_like(labels), names, "sum", "softmax"
    )
    folder.mkdir(parents=True)
    write_recognition(table, folder)
    top1 = 100 * float((scores.argmax(1) == labels).float().mean())
    facts = {"name": folder.name, "classes": names, "figures": {"top1_acc": top1}}
    facts |= {"videos": len(labels), "unreadable": 0, "started": "2000-01-01", "seconds": 0.0}
    (folder / "test.json").write_text(json.dumps(facts))
    return {"videos": len(labels), "classes": CLASSES, "top1_acc": round(top1, 2)}


def _suffix(files: Sequence[str], number: int) -> str:
    return Path(files[number % len(files)]).suffix if files else ".mp4"
