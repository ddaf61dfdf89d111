"""Runs that cannot go on end with their code, leave nothing behind, and share no folder."""

from __future__ import annotations

import shutil
import signal

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
    second = start("shared", {"TRAIN.ENABLE": False, "TEST.ENABLE": True}, tag="second")
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


def test_a_deleted_folder_is_said(start):  # noqa: F811
    run = start("deleted", LONG | WORKERS)
    assert begun(run)
    console = run.log.open()
    shutil.rmtree(run.out)
    assert run.wait(30) == 1
    text = console.read()
    assert "error: " in text and "Traceback" not in text
    assert "deleted" in text


def test_a_name_that_is_no_text(start):  # noqa: F811
    """As a path with an umlaut is under LC_ALL=C."""
    assert_clear(start("gr\udcf6", SHORT), 2, "error: OUTPUT_DIR: must be a text", "gr\\udcf6")


def test_a_log_that_cannot_be_opened(start):  # noqa: F811
    run = start("log")
    run.process.kill()
    run.process.join()
    (run.out / "stdout.log").unlink(missing_ok=True)
    (run.out / "stdout.log").mkdir()
    assert_clear(start("log"), 1, "error: cannot read or write", "stdout.log: Is a directory")


def test_a_run_on_a_console_of_ascii(start, tmp_path):  # noqa: F811
    """LC_ALL=C: characters that the console does not know are written as escapes."""
    run = start("größe", SHORT, output="ascii")
    assert run.wait() == 0, run.console
    assert "saved " in run.console and "gr\\xf6\\xdfe" in run.console
    log = (run.out / "stdout.log").read_text(encoding="utf-8")
    assert "größe" in log and "cannot be written" not in log
