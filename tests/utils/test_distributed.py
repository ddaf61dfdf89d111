"""Without a process group every collective is the identity; processes that do not meet.

Runs of several processes: tests/engine/test_processes.py.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from slowfast.utils import distributed
from slowfast.utils.distributed import ProcessInfo
from slowfast.utils.errors import RunFailure, UserError


def test_without_a_group():
    assert not distributed.is_active()
    assert distributed.gather_numbers([1, 2.5]) == [[1, 2.5]]
    assert distributed.gather_objects({"a": 1}) == [{"a": 1}]
    distributed.gather_numbers([0])
    distributed.stop_process()
    assert distributed.lost_process(RuntimeError("Connection closed by peer")) is None


def test_one_process_joins_no_group():
    runtime = distributed.start_process(0, "nccl", ProcessInfo(), timeout_s=1)
    assert (runtime.rank, runtime.world, runtime.device) == (0, 1, torch.device("cpu"))
    assert runtime.is_main and not distributed.is_active()


@pytest.mark.parametrize("method", ["tcp://host", "host:", "tcp://:29500", "file:///tmp/x"])
def test_an_address_needs_host_and_port(method):
    with pytest.raises(UserError, match="--init_method: .* is not an address"):
        distributed.start_process(0, "nccl", ProcessInfo(1, 2, init_method=method), timeout_s=1)


def test_the_environment_may_lack_the_address(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(UserError, match="set MASTER_ADDR and MASTER_PORT"):
        distributed.start_process(0, "nccl", ProcessInfo(0, 2), timeout_s=1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def test_absent_ranks_are_named():
    method = f"tcp://localhost:{free_port()}"
    with pytest.raises(RunFailure, match="rank 1, 2 of 3 did not come within 0.2 s"):
        distributed.start_process(0, "nccl", ProcessInfo(0, 3, init_method=method), timeout_s=0.2)
    assert not distributed.is_active()


def test_a_port_in_use_is_named():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        listener.listen()
        method = f"tcp://localhost:{listener.getsockname()[1]}"
        info = ProcessInfo(0, 2, init_method=method)
        with pytest.raises(RunFailure, match="rank 0 cannot listen on localhost:"):
            distributed.start_process(0, "nccl", info, timeout_s=0.2)


def test_two_processes_on_one_gpu_are_named():
    store = distributed.dist.HashStore()
    for rank, gpu in enumerate(("a\t1", "b\t1", "a\t2")):
        store.set(f"slowfast/present/{rank}", gpu)
    distributed._check_own_gpus(store, 3)
    store.set("slowfast/present/2", "b\t1")
    with pytest.raises(UserError, match="NUM_GPUS: ranks 1 and 2 use the same GPU of b"):
        distributed._check_own_gpus(store, 3)


def test_every_meeting_at_a_kept_store_has_a_name_of_its_own():
    """The store of torchrun keeps what processes that are gone have written."""
    store = torch.distributed.HashStore()
    names = []
    for _ in range(3):
        with ThreadPoolExecutor(3) as threads:
            ranks = [
                threads.submit(distributed._meeting, ProcessInfo(rank, 3), store, 20.0)
                for rank in (2, 1, 0)
            ]
            found = {rank.result() for rank in ranks}
        assert len(found) == 1
        names += found
    assert len(set(names)) == 3 and "" not in names
    assert distributed._meeting(ProcessInfo(1, 2), store, 0.1) == ""  # rank 0 does not come
