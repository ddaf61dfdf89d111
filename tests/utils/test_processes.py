"""Workers end with their parent, however it ends, and by the first SIGTERM."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slowfast.utils import processes
from slowfast.utils.processes import end_children, ending_with_parent
from tests.scripts import CONTEXT, enter_process
from tests.utils.workers import parent, start_worker

SCRIPT = "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(600)"


def is_running(pid: int) -> bool:
    """Neither gone nor dead and not yet waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_end_with_a_killed_parent(method):
    mine, its = CONTEXT.Pipe()
    process = CONTEXT.Process(target=parent, args=(method, its))
    process.start()
    assert mine.poll(60)
    workers = mine.recv()
    assert all(map(is_running, workers))
    process.kill()
    process.join()
    wait_until(lambda: not any(map(is_running, workers)))


@pytest.mark.parametrize("outlast_s, signals", [(0.0, 1), (0.5, 1), (600.0, 2)])
def test_sigterm_ends_a_worker_and_sigint_does_not(outlast_s, signals):
    """At once, after its time, or when it comes a second time."""
    process, pid = start_worker(outlast_s, "forkserver")
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    for _ in range(signals - 1):
        process.join(0.2)
        assert process.is_alive()
        os.kill(pid, signal.SIGTERM)
    process.join(15)
    assert process.exitcode == -signal.SIGTERM


def test_children_end_at_once_whatever_they_outlast():
    process, _ = start_worker(600.0, "forkserver")
    end_children()
    assert process.exitcode == -signal.SIGKILL and not multiprocessing.active_children()


def launcher(folder: str) -> None:
    """A process that starts a command of its own."""
    enter_process(dict(os.environ), os.devnull, os.devnull)
    code = "from slowfast.utils.processes import follow_launcher; follow_launcher(); " + SCRIPT
    env = ending_with_parent(os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    pid = os.spawnve(
        os.P_NOWAIT, sys.executable, [sys.executable, "-c", code, f"{folder}/ready"], env
    )
    Path(folder, "pid").write_text(str(pid))
    time.sleep(600)


def test_a_command_ends_with_the_command_that_started_it(tmp_path):
    process = CONTEXT.Process(target=launcher, args=(str(tmp_path),))
    process.start()
    wait_until((tmp_path / "ready").exists, 60)
    pid = int((tmp_path / "pid").read_text())
    process.kill()
    wait_until(lambda: not is_running(pid))


def test_a_shell_is_no_launcher(monkeypatch):
    monkeypatch.setattr(processes, "watch_parent", lambda on_end: None)
    assert not processes.follow_launcher({})
    assert not processes.follow_launcher({"SLOWFAST_PARENT": "1"})  # of a parent's parent
    assert processes.follow_launcher({"SLOWFAST_PARENT": str(os.getppid())})
    assert processes.follow_launcher({"TORCHELASTIC_RUN_ID": "none"})
