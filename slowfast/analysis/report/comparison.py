"""Several runs side by side: their tests, and paired comparisons on the same list."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slowfast.analysis.protocol import ProtocolRow
from slowfast.analysis.report.runs import RunRecord, TestRecord
from slowfast.analysis.report.statistics import PairedTest, paired_test
from slowfast.metrics.intervals import Estimate, paired_difference
from slowfast.models import MODEL_REGISTRY

_MOST_CLASSES = 40  # of a table of differences


@dataclass(frozen=True)
class Entry:
    """A test of one of the runs, under a name that is unique on the page."""

    name: str
    run: RunRecord
    test: TestRecord


@dataclass(frozen=True)
class ClassDifference:
    """Accuracies of a class in percent, by two tests."""

    name: str
    count: int
    a: float
    b: float

    @property
    def difference(self) -> float:
        return self.b - self.a


@dataclass(frozen=True)
class Pairing:
    """Two tests on the same videos or episodes: ``videos`` or ``episodes`` is their comparison."""

    a: str
    b: str
    videos: PairedTest | None
    episodes: Estimate | None
    count: int
    classes: list[ClassDifference]


def entries_of(runs: Sequence[RunRecord], names: Sequence[str]) -> list[Entry]:
    """All tests of the runs; the newest alone of several of one run that are of the same list."""
    found = []
    for run, name in zip(runs, names):
        latest: dict[str, TestRecord] = {}
        for test in run.tests:  # the newest first
            latest.setdefault(f"{test.fingerprint} {test.facts.get('views')}", test)
        several = len(latest) > 1
        found += [
            Entry(f"{name}: {test.name}" if several else name, run, test)
            for test in latest.values()
        ]
    return found


def run_names(folders: Sequence[str | Path]) -> list[str]:
    """The shortest ends of paths that tell the folders apart."""
    parts = [Path(folder).resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{Path(folder).name} ({number})" for number, folder in enumerate(folders, 1)]


def pairings(entries: Sequence[Entry]) -> list[Pairing]:
    """Comparisons of all pairs of tests on the same list."""
    found = (_pairing(a, b) for a, b in itertools.combinations(entries, 2))
    return [pairing for pairing in found if pairing]


def _pairing(a: Entry, b: Entry) -> Pairing | None:
    if not a.test.fingerprint or a.test.fingerprint != b.test.fingerprint:
        return None
    one, other = a.test.episodes, b.test.episodes
    if one and one.keys() == other.keys():
        numbers = sorted(one)
        values = [one[n] for n in numbers], [other[n] for n in numbers]
        return Pairing(a.name, b.name, None, paired_difference(*values), len(numbers), [])
    return _pairing_of_videos(a, b)


def _pairing_of_videos(a: Entry, b: Entry) -> Pairing | None:
    """Over the videos that both could read."""
    one, other = a.test.predictions, b.test.predictions
    if one is None or other is None:
        return None
    rows = {path: row for row, path in enumerate(other.paths)}
    shared = [(row, rows[path]) for row, path in enumerate(one.paths) if path in rows]
    if not shared:
        return None
    first, second = np.array(shared).T
    right_a, right_b = one.correct[first], other.correct[second]
    labels = one.labels[first]
    differences = []
    for label in np.unique(labels):
        chosen = labels == label
        accuracies = (100 * float(right[chosen].mean()) for right in (right_a, right_b))
        name = a.test.class_name(int(label))
        differences.append(ClassDifference(name, int(chosen.sum()), *accuracies))
    differences.sort(key=lambda row: (-abs(row.difference), row.name))
    kept = [row for row in differences if row.difference][:_MOST_CLASSES]
    result = paired_test(right_a, right_b)
    return Pairing(a.name, b.name, result, None, len(shared), kept)


# -- zero-shot ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenTest:
    """A test of a network that recognises classes by their names. ``seen``: how many of its
    ``classes`` the weights were trained on, None if they do not say."""

    name: str
    classes: int
    seen: int | None
    top1: float

    @property
    def kind(self) -> str:
        """``seen``, ``unseen``, ``mixed`` or ``unknown``."""
        if self.seen is None:
            return "unknown"
        return {0: "unseen", self.classes: "seen"}.get(self.seen, "mixed")


@dataclass(frozen=True)
class OpenSummary:
    """Tests of such networks, their harmonic mean over seen and unseen classes (None without both),
    and means over the splits of a set."""

    tests: list[OpenTest]
    harmonic: float | None
    splits: list[ProtocolRow]


def open_summary(entries: Sequence[Entry]) -> OpenSummary | None:
    """The zero-shot figures of the tests; None if there is no such test."""
    tests, groups = [], {}
    for entry in entries:
        if not _is_open(entry.run) or entry.test.intervals is None:
            continue
        top1 = entry.test.intervals[0].value
        trained = _trained_classes(entry)
        seen = len(trained & {n.lower() for n in entry.test.classes}) if trained else None
        tests.append(OpenTest(entry.name, len(entry.test.classes), seen, top1))
        source = str(entry.test.facts.get("list", ""))
        group = re.sub(r"[\s_-]*\d+$", "", Path(source).parent.name) or source
        groups.setdefault(group, ProtocolRow(group)).top1.append(top1)
    if not tests:
        return None
    kinds = {kind: [t.top1 for t in tests if t.kind == kind] for kind in ("seen", "unseen")}
    harmonic = None
    if all(kinds.values()):
        harmonic = statistics.harmonic_mean([statistics.mean(v) for v in kinds.values()])
    splits = [row for row in groups.values() if len(row.top1) > 1]
    return OpenSummary(tests, harmonic, [] if harmonic is not None else splits)


def _is_open(run: RunRecord) -> bool:
    name = run.values.get("MODEL.MODEL_NAME", "")
    return name in MODEL_REGISTRY and MODEL_REGISTRY.get(name).spec.open_vocabulary


def _trained_classes(entry: Entry) -> set[str]:
    """Names of the classes that the weights were trained on; empty if they do not say."""
    facts = entry.test.facts.get("checkpoint") or {}
    return {str(name).lower() for name in facts.get("classes") or []}
