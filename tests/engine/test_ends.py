"""Runs that cannot go on end with their code, leave nothing behind, and share no folder."""

from __future__ import annotations

import shutil
import signal

import pytest

from tests.engine.processes import stats
from tests.engine.test_stops import start  # noqa: F401
from tests.utils.test_processes import is_running, wait_until

LONG = {"SOLVER.MAX_EPOCH": 1000}
SHORT = {"SOLVER.MAX_EPOCH": 1}
WORKERS = {"DATA_LOADER.NUM_WORKERS": 2}


def begun(run, count: int = 2) -> bool:
    """Wait until the run has done some steps."""
    return run.wait_for(lambda: len(stats(run.out, "train_iter")) >= count)


def assert_clear(run, code: int, *texts: str) -> None:
    assert run.wait(30) == code, run.console
    assert "Traceback" not in run.console
    for text in texts:
        assert text in run.console


def test_a_folder_has_one_run(start):  # noqa: F811
    """The second is refused, the first goes on; when it is killed the next one resumes at once."""
    first = start("shared", LONG | WORKERS)
    assert begun(first)
    lines = (first.out / "stdout.log").read_text()
    for extra in ({}, {"TRAIN.ENABLE": False, "TEST.ENABLE": True}):
        second = start("shared", LONG | extra, tag="second")
        assert_clear(second, 2, f"is in use by process {first.process.pid} on ", "(since 20")
    assert (first.out / "stdout.log").read_text().startswith(lines)
    assert "in use" not in (first.out / "stdout.log").read_text()
    workers = first.children()
    assert workers
    first.signal(signal.SIGKILL)
    first.process.join()
    third = start("shared", LONG)
    assert begun(third, len(stats(third.out, "train_iter")) + 2)
    assert "resuming from" in third.console
    wait_until(lambda: not any(map(is_running, workers)))
    third.signal(signal.SIGTERM)
    assert third.wait() == 143
    assert not (third.out / "run.lock").exists()


def test_of_two_starts_at_once_one_runs(start):  # noqa: F811
    runs = [start("both", LONG, tag=str(number)) for number in range(2)]
    wait_until(lambda: any(not run.process.is_alive() for run in runs), 60)
    (loser,) = [run for run in runs if not run.process.is_alive()]
    (winner,) = [run for run in runs if run is not loser]
    assert_clear(loser, 2, f"is in use by process {winner.process.pid} on ")
    assert begun(winner)
    winner.signal(signal.SIGTERM)
    assert winner.wait() == 143


def test_a_deleted_folder_is_said(start):  # noqa: F811
    run = start("deleted", LONG | WORKERS)
    assert begun(run)
    console = run.log.open()
    shutil.rmtree(run.out)
    assert run.wait(30) == 1
    text = console.read()
    assert "error: " in text and "Traceback" not in text
    assert "deleted" in text


@pytest.mark.parametrize("output", ["closed", "full", "pipe", "ascii"])
def test_a_run_goes_on_without_its_console(start, output):  # noqa: F811
    run = start("silent", SHORT | WORKERS, output=output)
    assert run.wait() == 0, run.console
    assert "Traceback" not in run.console
    log = (run.out / "stdout.log").read_text()
    assert "saved " in log and "val_epoch" in log
    assert ("standard output cannot be written" in log) == (output != "ascii")


@pytest.mark.parametrize("limit", [40, 64])
def test_too_few_descriptors_end_a_run(start, limit):  # noqa: F811
    run = start("few", LONG | {"DATA_LOADER.NUM_WORKERS": 16}, descriptors=limit)
    assert_clear(run, 1, "Too many open files", "ulimit -n")


def test_a_full_disk_ends_a_run_with_workers(start):  # noqa: F811
    run = start("full", LONG | WORKERS, largest_file=200_000)
    assert_clear(run, 1, "error: cannot write", "File too large")


def test_a_log_that_cannot_be_opened(start):  # noqa: F811
    run = start("log")
    run.process.kill()
    run.process.join()
    (run.out / "stdout.log").unlink(missing_ok=True)
    (run.out / "stdout.log").mkdir()
    assert_clear(start("log"), 1, "error: cannot read or write", "stdout.log: Is a directory")
