"""A process that ends before its time is noticed by the others, whatever they are doing."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from slowfast.utils import distributed, rank_watch
from slowfast.utils.distributed import ProcessInfo
from slowfast.utils.logging import setup_logging
from tests.scripts import CONTEXT, enter_process


def _idle() -> None:
    time.sleep(60)


def _take_part(rank: int, world: int, port: int, folder: str, ending: str, workers: int) -> None:
    """Join, and end as told; else block the main thread in a C function, as a GPU does."""
    log = f"{folder}/console{rank}"
    enter_process(dict(os.environ), log, log)
    setup_logging(folder, is_main=rank == 0, rank=rank)
    rank_watch._GRACE_KILLED_S, rank_watch._GRACE_FAILED_S = 0.5, 1.0
    info = ProcessInfo(rank, world, rank, world, f"tcp://localhost:{port}")
    distributed.start_process(0, "nccl", info, timeout_s=30)
    for _ in range(workers):  # as loader workers: they have copies of all connections
        multiprocessing.get_context("fork").Process(target=_idle, daemon=True).start()
    Path(folder, f"ready{rank}").touch()
    if ending == "late":
        time.sleep(1.5)
    if ending in ("error", "late"):
        distributed.stop_process(None if ending == "late" else ValueError("is 3"))
        os._exit(2 if ending == "error" else 0)
    ctypes.CDLL(None).sleep(60 if ending == "block" else 1)
    distributed.stop_process()


@pytest.fixture
def start(tmp_path):
    """``start(ending of each rank)`` -> their processes, all of which have joined."""
    processes = []

    def begin(*endings: str, workers: int = 0):
        with socket.socket() as listener:
            listener.bind(("localhost", 0))
            port = listener.getsockname()[1]
        for rank, ending in enumerate(endings):
            args = (rank, len(endings), port, str(tmp_path), ending, workers)
            processes.append(CONTEXT.Process(target=_take_part, args=args))
            processes[-1].start()
        end = time.monotonic() + 60
        while len(list(tmp_path.glob("ready*"))) < len(endings) and time.monotonic() < end:
            time.sleep(0.05)
        return processes

    yield begin
    for process in processes:
        process.kill()


def text(folder: Path, rank: int) -> str:
    log = folder / ("stdout.log" if rank == 0 else f"stdout_rank{rank}.log")
    console = (folder / f"console{rank}").read_text()
    assert "Traceback" not in console
    return console + (log.read_text() if log.exists() else "")


@pytest.mark.parametrize("lost", [1, 0])
def test_a_killed_rank_is_named_by_all(start, tmp_path, lost):
    """Their main threads never return; the workers of the killed process live on for a while."""
    processes = start("block", "block", "block", workers=1)
    os.kill(processes[lost].pid, signal.SIGKILL)
    for rank in {0, 1, 2} - {lost}:
        processes[rank].join(15)
        assert processes[rank].exitcode == 1
        assert f"rank {lost} of 3 stopped answering" in text(tmp_path, rank)
        assert "goes on from the last checkpoint" in text(tmp_path, rank)


def test_an_error_of_one_ends_the_others(start, tmp_path):
    processes = start("block", "error", "block")
    for rank, code in enumerate((1, 2, 1)):
        processes[rank].join(15)
        assert processes[rank].exitcode == code
    assert "rank 1 of 3 stopped answering" in text(tmp_path, 2)


@pytest.mark.parametrize("endings", [("late", "end"), ("end", "late"), ("end", "late", "end")])
def test_who_leaves_in_order_is_not_missed(start, tmp_path, endings):
    processes = start(*endings)
    for rank, process in enumerate(processes):
        process.join(15)
        assert process.exitcode == 0 and "stopped" not in text(tmp_path, rank)


def test_strangers_are_sent_away():
    store = distributed.dist.HashStore()
    watch = rank_watch.RankWatch(0, 2, store, [])
    port = int(store.get("slowfast/watch").split()[0])
    with socket.create_connection(("localhost", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stranger.settimeout(5)
        assert stranger.recv(10) == b""
    assert watch.lost == [] and len(watch.sockets()) == 1
    watch.leaving()
    watch.close()


def test_without_a_way_to_rank_0_there_is_a_warning(caplog):
    store = distributed.dist.HashStore()
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        store.set("slowfast/watch", f"{listener.getsockname()[1]} token")
        watch = rank_watch.RankWatch(1, 2, store, ["localhost"])
    assert "rank 0 cannot be watched" in caplog.text
    watch.leaving(ValueError("is 3"))
    watch.close()
