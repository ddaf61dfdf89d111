"""Process groups: rendezvous, gathering, lost processes. A single process uses none of it.

Numbers are exchanged on the CPU (gloo), even when gradients are exchanged between GPUs (nccl).
"""

from __future__ import annotations

import datetime
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.runtime import Runtime, choose_device

_ALIVE_TIMEOUT_S = 10.0
_stores: list[dist.Store] = []  # the store of this process's group, while there is one
# Parts of the messages of gloo and nccl when a process has ended or does not answer.
_CONNECTION_TEXTS = (
    "closed by peer",
    "reset by peer",
    "timed out",
    "broken pipe",
    "timeout",
    "refused",
    "connection lost",
)


@dataclass(frozen=True)
class ProcessInfo:
    """Rank of a process among all ``world`` processes and among those of its machine, and the
    address where they find each other."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    init_method: str = "env://"


def is_active() -> bool:
    """True inside a process group."""
    return dist.is_available() and dist.is_initialized()


def start_process(num_gpus: int, backend: str, info: ProcessInfo, timeout_s: float) -> Runtime:
    """Choose the device of this process and join the group when there are several.

    RunFailure naming the ranks that did not join within ``timeout_s`` seconds.
    """
    device = choose_device(num_gpus, info.local_rank)
    if info.world > 1:
        store = _rendezvous(info, timeout_s)
        _stores[:] = [store]
        dist.init_process_group(
            f"cpu:gloo,cuda:{backend}" if device.type == "cuda" else "gloo",
            store=store,
            rank=info.rank,
            world_size=info.world,
            timeout=datetime.timedelta(seconds=timeout_s),
        )
    return Runtime(device, info.rank, info.world, info.local_rank, info.local_world)


def stop_process() -> None:
    """Leave the process group, if there is one."""
    if is_active():
        dist.destroy_process_group()
    _stores.clear()


# -- rendezvous ----------------------------------------------------------------------------------


def _rendezvous(info: ProcessInfo, timeout_s: float) -> dist.Store:
    """The store through which all ranks have found each other."""
    host, port, is_host = _address(info)
    limit = datetime.timedelta(seconds=timeout_s)
    try:
        store = dist.TCPStore(
            host, port, info.world, is_master=is_host, timeout=limit, wait_for_workers=False
        )
    except (dist.DistError, RuntimeError, ValueError) as error:
        action = "listen on" if is_host else "reach rank 0 at"
        raise RunFailure(
            f"rank {info.rank} cannot {action} {host}:{port} within {timeout_s:g} s: "
            f"{str(error).splitlines()[0]}",
            "start all processes; use an address of the first machine and a free port",
            "--init_method",
        ) from error
    store.set(_present_key(info.rank), socket.gethostname())
    missing = _unset_keys([_present_key(rank) for rank in range(info.world)], store, timeout_s)
    if missing:
        raise RunFailure(
            f"rank {', '.join(map(str, missing))} of {info.world} did not come within "
            f"{timeout_s:g} s (rank {info.rank} waited at {host}:{port})",
            "start every machine with its own --shard_id; DIST.TIMEOUT sets how long to wait",
            "DIST.TIMEOUT",
        )
    return store


def _address(info: ProcessInfo) -> tuple[str, int, bool]:
    """(host, port, whether this process serves the store)."""
    method = info.init_method
    if method == "env://":
        address = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
        # torchrun serves the store itself.
        elsewhere = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    else:
        address, elsewhere = method.removeprefix("tcp://"), False
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f"{method!r} is not an address",
            "write tcp://<address of the first machine>:<port>, or set MASTER_ADDR and MASTER_PORT",
            "--init_method",
        )
    return host, int(port), info.rank == 0 and not elsewhere


def _present_key(rank: int) -> str:
    return f"slowfast/present/{rank}"


def _unset_keys(keys: Sequence[str], store: dist.Store, timeout_s: float) -> list[int]:
    """Indices of the keys that are not set within the time."""
    end = time.monotonic() + timeout_s
    missing = []
    for index, key in enumerate(keys):
        remaining = max(end - time.monotonic(), 0.01)
        try:
            store.wait([key], datetime.timedelta(seconds=remaining))
        except (dist.DistError, RuntimeError):
            missing.append(index)
    return missing


# -- gathering -----------------------------------------------------------------------------------


def gather_numbers(values: Sequence[float]) -> list[list[float]]:
    """``values`` of every rank, in rank order; all ranks pass equally many."""
    if not is_active():
        return [list(values)]
    mine = torch.tensor(values, dtype=torch.float64)
    rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, mine)
    return [row.tolist() for row in rows]


def sum_numbers(values: Sequence[float]) -> list[float]:
    """Sum over ranks of each of ``values``, in rank order, so that all ranks get the same bits."""
    return [sum(column) for column in zip(*gather_numbers(values))]


def gather_objects(value: Any) -> list[Any]:
    """``value`` of every rank, in rank order."""
    if not is_active():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that is divided among processes; all of them must call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


# -- lost processes ------------------------------------------------------------------------------


def lost_process(error: RuntimeError) -> RunFailure | None:
    """The failure that names the silent ranks; None if ``error`` has another cause."""
    text = str(error)
    known = isinstance(error, dist.DistError) or any(
        part in text.lower() for part in _CONNECTION_TEXTS
    )
    if not is_active() or not known:
        return None
    rank, world = dist.get_rank(), dist.get_world_size()
    missing = _silent_ranks(rank, world)
    names = ", ".join(map(str, missing)) if missing else "a"
    return RunFailure(
        f"rank {names} of {world} stopped answering (noticed by rank {rank}: "
        f"{text.strip().splitlines()[-1][-160:]})",
        "look at its own messages (stdout_rank<n>.log) and at the memory of its machine; "
        "the same command goes on from the last checkpoint",
    )


def _silent_ranks(rank: int, world: int) -> list[int]:
    """Ranks that do not report within some seconds that they are alive."""
    try:
        (store,) = _stores
        store.set(f"slowfast/alive/{rank}", "1")
        return _unset_keys([f"slowfast/alive/{r}" for r in range(world)], store, _ALIVE_TIMEOUT_S)
    except (dist.DistError, RuntimeError):
        return [0]  # it serves the store
