"""Composes the page of a run, or of several, and writes it: one file without references."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.io.json import to_json_plotly

from slowfast.analysis.report import figures
from slowfast.analysis.report.comparison import entries_of, open_summary, pairings, run_names
from slowfast.analysis.report.details import MOST_PAIRS, fill_gallery, test_details
from slowfast.analysis.report.pictures import Budget, Picture, VideoPictures
from slowfast.analysis.report.runs import RunRecord, TestRecord, read_run
from slowfast.analysis.report.samples import MOST_CLIPS, mirror_pairs, mirror_verdict, sample_clips
from slowfast.analysis.report.settings import different_values, run_settings, test_differences
from slowfast.config.node import CfgNode
from slowfast.config.schema import all_keys
from slowfast.engine.checkpoint import FOLDER as CHECKPOINTS
from slowfast.engine.results import FOLDER
from slowfast.utils.errors import UserError
from slowfast.utils.files import write_text_atomic
from slowfast.utils.paths import prepare_outputs
from slowfast.version import __version__

FILE_NAME = "report.html"
_MOST_TESTS = 6  # with all their details; of the others the figures alone
_GALLERIES = 3  # tests that share the videos of the gallery
_MOST_UNREADABLE = 500  # lines of the table
_SAMPLES_SHARE = 0.2  # of the size of all pictures, for what the network sees


@dataclass(frozen=True)
class Limits:
    """What the pictures of a page may take: videos, bytes, and seconds of reading videos."""

    videos: int
    size: int
    seconds: float

    @classmethod
    def of_run(cls, run: RunRecord, given: Mapping[str, float]) -> Limits:
        """``given``, else what the section REPORT of the run says, else its defaults."""
        keys = {name: f"REPORT.{name}" for name in ("VIDEOS", "MEGABYTES", "SECONDS")}
        configured = {n: run.values.get(k, all_keys()[k].default) for n, k in keys.items()}
        values = configured | dict(given)
        return cls(
            int(values["VIDEOS"]), int(values["MEGABYTES"] * 2**20), float(values["SECONDS"])
        )


def write_page(
    folders: Sequence[str | Path], out: str | Path, given: Mapping[str, float] | None = None
) -> None:
    """Write the page of one run, or the comparison of several, to ``out``.

    ``given``: limits by the name of their key in the section REPORT, instead of those of the run.
    UserError if a folder holds no run, or if ``out`` is one of the files that are read.
    """
    runs = [read_run(folder) for folder in folders]
    prepare_outputs([out], _sources(runs, Path(out)), "--out")
    with _quiet():
        if len(runs) == 1:
            text = run_page(runs[0], Limits.of_run(runs[0], given or {}))
        else:
            text = comparison_page(runs, folders)
    write_text_atomic(out, text)


def _sources(runs: Sequence[RunRecord], out: Path) -> Iterator[Path]:
    """What is read, and what else belongs to the runs; the page that is written anew is not."""
    for run in runs:
        for pattern in ("*", f"{FOLDER}/*/*", f"{CHECKPOINTS}/*"):
            yield from (file for file in run.folder.glob(pattern) if file.name != FILE_NAME)
        for test in run.tests if out.exists() else ():
            yield from (run.directory / path for path in test.paths)


def run_page(run: RunRecord, limits: Limits) -> str:
    """The page of a run."""
    tests = [test_details(test, f"test{n}") for n, test in enumerate(run.tests[:_MOST_TESTS])]
    problems: list[str] = []
    cfg = _config_of(run, problems)
    samples_size = int(limits.size * _SAMPLES_SHARE)
    budget = Budget(limits.videos, limits.size - samples_size, limits.seconds)
    pictures = VideoPictures(cfg, run.directory, budget)
    for test in tests[:_GALLERIES]:
        fill_gallery(test, pictures, limits.videos // min(len(tests), _GALLERIES))
    most = 2 * MOST_CLIPS if limits.videos else 0
    samples = _samples(cfg, Budget(most, samples_size, limits.seconds), problems)
    plots: dict[str, Any] = {}
    if len(run.history.loss):
        named = [(run.name, run.history)]
        plots["loss"] = figures.loss_figure(named)
        plots["accuracy"] = figures.accuracy_figure(named)
        plots["rate"] = figures.rate_figure(named)
    for test in tests:
        plots |= {f"{test.key}-{name}": figure for name, figure in test.plots.items()}
    names = tests[0].record.classes if tests else []
    shown = [item.picture for test in tests for item in (*test.wrong, *test.uncertain)]
    shown += [picture for clips in samples.values() for picture, _ in clips]
    return render(
        "run.html",
        title=run.name,
        run=run,
        tests=tests,
        older_tests=run.tests[_MOST_TESTS:],
        most_pairs=MOST_PAIRS,
        most_unreadable=_MOST_UNREADABLE,
        samples=samples,
        mirrors=mirror_pairs(names, tests[0].record.matrix if tests else None),
        mirror_verdict=mirror_verdict(cfg) if cfg else "",
        settings=run_settings(run),
        test_differences={t.key: test_differences(run, t.record.path) for t in tests},
        failures=pictures.failures,
        spent=budget.spent,
        problems=problems,
        pictures=distinct(shown),
        plots=plots,
        data={test.key: test.data for test in tests if test.data},
    )


def _config_of(run: RunRecord, problems: list[str]) -> CfgNode | None:
    try:
        return run.load_config()
    except UserError as error:
        problems.append(f"The configuration cannot be read, so that no clips are shown: {error}")
        return None


def _samples(
    cfg: CfgNode | None, budget: Budget, problems: list[str]
) -> dict[str, list[tuple[Picture, str]]]:
    """What the network is given in training and in the test."""
    samples: dict[str, list[tuple[Picture, str]]] = {}
    if cfg is None:
        return samples
    splits = [s for s, on in (("train", cfg.TRAIN.ENABLE), ("test", cfg.TEST.ENABLE)) if on]
    for split in splits:
        try:
            samples[split] = sample_clips(cfg, split, budget)
        except Exception as error:  # noqa: BLE001 - data sets and transforms may be anybody's
            problems.append(f"What the network sees of the {split} list cannot be shown: {error}")
    return samples


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's warnings about configuration and data: the run has given them."""
    package = logging.getLogger("slowfast")
    level = package.level
    package.setLevel(logging.ERROR)
    try:
        yield
    finally:
        package.setLevel(level)


def distinct(pictures: Sequence[Picture]) -> list[Picture]:
    """Each picture once, however often it is shown."""
    return list({picture.name: picture for picture in pictures}.values())


def comparison_page(runs: Sequence[RunRecord], folders: Sequence[str | Path]) -> str:
    """The page that compares runs."""
    names = run_names(folders)
    entries = entries_of(runs, names)
    histories = [(n, run.history) for n, run in zip(names, runs) if len(run.history.loss)]
    plots: dict[str, Any] = {}
    if histories:
        plots["loss"] = figures.loss_figure(histories)
        plots["accuracy"] = figures.accuracy_figure(histories)
        plots["rate"] = figures.rate_figure(histories)
    episodes = [(e.name, list(e.test.episodes.values())) for e in entries if e.test.episodes]
    if episodes:
        plots["episodes"] = figures.episodes_figure(episodes)
    changed = [different_values(runs[0].values, run.values) for run in runs[1:]]
    keys = sorted({key for rows in changed for key, _, _ in rows})
    table = [(key, [repr(run.values.get(key, "")) for run in runs]) for key in keys]
    return render(
        "comparison.html",
        title="Comparison of " + ", ".join(names),
        runs=list(zip(names, runs)),
        entries=entries,
        pairings=pairings(entries),
        open_summary=open_summary(entries),
        settings=table,
        pictures=[],
        plots=plots,
        data={},
    )


# -- rendering ---------------------------------------------------------------------------------


def render(template: str, plots: dict[str, Any], data: dict[str, Any], **context: Any) -> str:
    """A page of this room as text: a template with figures, what the script reads, and more."""
    content = {"plots": {name: figure.to_dict() for name, figure in plots.items()}, "tests": data}
    page = (
        _environment()
        .get_template(template)
        .render(
            version=__version__,
            plot_names=list(plots),
            data=_packed(to_json_plotly(content).encode()),
            library=_plotly_source() if plots else "",
            **context,
        )
    )
    return page.encode(errors="backslashreplace").decode()  # folders whose names are not UTF-8


@functools.cache
def _plotly_source() -> str:
    """Plotly's script, packed; it is the same for every page of a process."""
    file = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return _packed(file.read_bytes())


def _packed(data: bytes) -> str:
    """gzip in base64: a third of the size, and nothing in it can end a script or a tag."""
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("slowfast.analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": _seconds, "number": _number}
    source = environment.loader.get_source
    environment.globals["source"] = lambda name: Markup(source(environment, name)[0])
    environment.globals["weights"] = _weights
    return environment


def _weights(test: TestRecord) -> str:
    """Which weights a test used, for people."""
    facts = test.facts.get("checkpoint") or {}
    epoch = f", epoch {facts['epoch']}" if facts.get("epoch") is not None else ""
    return f"{facts.get('path', '')}{epoch}"


def _seconds(value: float | None) -> str:
    """Seconds for people."""
    if value is None:
        return ""
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{value:.1f} s"


def _number(value: Any) -> str:
    """A figure with two digits, or whatever else it is; empty for None."""
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
