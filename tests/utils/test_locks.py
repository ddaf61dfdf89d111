"""The lock on a folder: one owner, taken over when it has gone, whatever the moment."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from slowfast.utils import locks
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.locks import FolderLock, Owner, check_lock, folder_lock
from tests.scripts import CONTEXT


def write_lock(folder: Path, age: float = 0.0, **facts: object) -> None:
    """The lock of another owner, whose last sign is ``age`` seconds old."""
    path = folder / locks.NAME
    owner = dataclasses.replace(Owner.this_process(), **facts)
    path.write_text(json.dumps(dataclasses.asdict(owner)))
    os.utime(path, (time.time() - age, time.time() - age))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_owner_is_refused_with_the_first_named(tmp_path):
    with FolderLock(tmp_path) as lock, pytest.raises(UserError) as refused:
        FolderLock(tmp_path, "OUTPUT_DIR").acquire()
    assert refused.value.exit_code == 2
    text = f"OUTPUT_DIR: {tmp_path} is in use by process {os.getpid()} on {lock.owner.host} (since "
    assert str(refused.value).startswith(text)
    assert files(tmp_path) == []  # given back, nothing left behind
    with pytest.raises(ValueError), FolderLock(tmp_path):
        raise ValueError
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "age, facts, is_taken",
    [
        (0, {"started": "1"}, True),  # a later process has the number
        (0, {"pid": 2**22 + 1}, True),
        (1e6, {}, False),  # a process that lives, whatever its heartbeat
        (0, {"machine": "another"}, False),
        (locks.SILENT_S - 20, {"machine": "another"}, False),
        (locks.SILENT_S + 1, {"machine": "another"}, True),
        (locks.SILENT_S + 1, {"machine": "", "host": "another"}, True),
    ],
)
def test_an_owner_that_has_gone_is_replaced(tmp_path, age, facts, is_taken):
    write_lock(tmp_path, age, **facts)
    lock = FolderLock(tmp_path)
    if not is_taken:
        with pytest.raises(UserError, match="is in use by process"):
            lock.acquire()
        return
    with lock:
        assert files(tmp_path) == [locks.NAME]
        lock.check()
    assert files(tmp_path) == []


def test_a_process_that_is_dead_but_not_waited_for_has_gone(tmp_path):
    child = os.fork()
    if child == 0:
        FolderLock(tmp_path).acquire()
        os._exit(0)
    while locks._start(child):
        time.sleep(0.01)
    with FolderLock(tmp_path):
        pass
    os.waitpid(child, 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid": 1, "what": 2}', b"\xff\xfe"])
def test_a_lock_that_cannot_be_read_is_replaced_when_it_is_old(tmp_path, content):
    path = tmp_path / locks.NAME
    path.write_bytes(content)
    with pytest.raises(UserError, match="is in use by"):
        FolderLock(tmp_path).acquire()
    os.utime(path, (time.time() - 1000, time.time() - 1000))
    with FolderLock(tmp_path) as lock:
        lock.check()


def test_a_right_to_replace_whose_owner_has_gone_is_replaced_too(tmp_path):
    """A process was killed between winning the right and replacing the lock."""
    write_lock(tmp_path, pid=2**22 + 1, token="a")
    (tmp_path / locks.NAME).rename(tmp_path / ".run.lock.b.taken")
    write_lock(tmp_path, pid=2**22 + 1, token="b")
    with FolderLock(tmp_path):
        assert files(tmp_path) == [locks.NAME]


def test_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with FolderLock(tmp_path), pytest.raises(UserError, match="is in use by"):
        FolderLock(tmp_path).acquire()
    write_lock(tmp_path, started="1")
    with FolderLock(tmp_path):
        assert files(tmp_path) == [locks.NAME]


def test_a_lock_that_was_lost_is_noticed(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with folder_lock(folder):
        check_lock(folder)
        check_lock(tmp_path)  # not ours, not asked for
        (folder / locks.NAME).unlink()
        with pytest.raises(RunFailure, match="run.lock has gone"):
            check_lock(folder)
        write_lock(folder, host="gpu7", pid=7)
        with pytest.raises(RunFailure, match="taken over by process 7 on gpu7"):
            check_lock(folder)
    assert files(folder) == [locks.NAME]  # the other's stays
    check_lock(folder)


def test_the_heartbeat_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.01)
    path = tmp_path / locks.NAME
    with FolderLock(tmp_path):
        os.utime(path, (0, 0))
        while path.stat().st_mtime < 1e9:
            time.sleep(0.01)


@pytest.mark.parametrize("place", ["file", "missing/folder"])
def test_a_folder_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"cannot write to .*{place}"):
        FolderLock(tmp_path / place).acquire()


def contend(folder: str, number: int, rounds: int, barrier) -> None:
    """Take the lock as often as all others do; only who has it writes into the folder."""
    wins = 0
    for _ in range(rounds):
        barrier.wait()
        lock = FolderLock(folder)
        try:
            lock.acquire()
        except UserError:
            barrier.wait()
        else:
            wins += 1
            barrier.wait()  # all have tried, this one still has the lock
            lock.check()
            if number % 2:
                lock.release()
            else:
                write_lock(Path(folder), started="1", token=lock.owner.token)  # as if it had died
        barrier.wait()
    Path(folder, f"wins{number}").write_text(str(wins))


def test_of_many_one_wins(tmp_path):
    """Four processes at once, round after round, with a free lock or one whose owner has gone."""
    rounds, barrier = 60, CONTEXT.Barrier(4)
    processes = [
        CONTEXT.Process(target=contend, args=(str(tmp_path), n, rounds, barrier)) for n in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    assert sum(int((tmp_path / f"wins{n}").read_text()) for n in range(4)) == rounds


def test_waiting_for_the_lock_of_a_lost_machine(tmp_path):
    write_lock(tmp_path, locks.SILENT_S - 1, machine="another")
    with FolderLock(tmp_path, wait_s=60):
        assert files(tmp_path) == [locks.NAME]
    write_lock(tmp_path, machine="another")
    with pytest.raises(UserError, match="is in use by"):
        FolderLock(tmp_path, wait_s=0.1).acquire()
    write_lock(tmp_path, locks.SILENT_S + 9)  # of this machine, alive: nothing to wait for
    with pytest.raises(UserError, match="is in use by"):
        FolderLock(tmp_path, wait_s=1e6).acquire()
