"""Several processes: meeting, agreeing, gathering. One process needs none of it.

Numbers travel on the CPU (gloo) also where the network's gradients travel between GPUs (nccl).
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

_ROLL_CALL_S = 10.0
_stores: list[dist.Store] = []  # where this process has met the others
# What gloo and nccl say when a process is gone or does not answer.
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
class Place:
    """A process among all (``rank`` of ``world``) and on its machine (``local_…``)."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    init_method: str = "env://"


def is_active() -> bool:
    """True inside a process group."""
    return dist.is_available() and dist.is_initialized()


def start_process(num_gpus: int, backend: str, place: Place, timeout_s: float) -> Runtime:
    """Choose the device of this process and join the group when there are several.

    UserError naming the ranks that did not come within ``timeout_s`` seconds.
    """
    device = choose_device(num_gpus, place.local_rank)
    if place.world > 1:
        store = _meet(place, timeout_s)
        _stores[:] = [store]
        dist.init_process_group(
            f"cpu:gloo,cuda:{backend}" if device.type == "cuda" else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.world,
            timeout=datetime.timedelta(seconds=timeout_s),
        )
    return Runtime(device, place.rank, place.world, place.local_rank, place.local_world)


def stop_process() -> None:
    """Leave the process group, if there is one."""
    if is_active():
        dist.destroy_process_group()
    _stores.clear()


# -- meeting -------------------------------------------------------------------------------------


def _meet(place: Place, timeout_s: float) -> dist.Store:
    """The store through which all ranks have found each other."""
    host, port, host_here = _address(place)
    limit = datetime.timedelta(seconds=timeout_s)
    try:
        store = dist.TCPStore(
            host, port, place.world, is_master=host_here, timeout=limit, wait_for_workers=False
        )
    except (dist.DistError, RuntimeError, ValueError) as error:
        doing = "listen on" if host_here else "reach rank 0 at"
        raise RunFailure(
            f"rank {place.rank} cannot {doing} {host}:{port} within {timeout_s:g} s: "
            f"{str(error).splitlines()[0]}",
            "start all processes; use an address of the first machine and a free port",
            "--init_method",
        ) from error
    store.set(_present(place.rank), socket.gethostname())
    missing = _absent([_present(rank) for rank in range(place.world)], store, timeout_s)
    if missing:
        raise RunFailure(
            f"rank {', '.join(map(str, missing))} of {place.world} did not come within "
            f"{timeout_s:g} s (rank {place.rank} waited at {host}:{port})",
            "start every machine with its own --shard_id; DIST.TIMEOUT sets how long to wait",
            "DIST.TIMEOUT",
        )
    return store


def _address(place: Place) -> tuple[str, int, bool]:
    """(host, port, whether this process opens the meeting point)."""
    method = place.init_method
    if method == "env://":
        address = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
        # torchrun keeps the meeting point itself.
        elsewhere = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    else:
        address, elsewhere = method.removeprefix("tcp://"), False
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f"{method!r} is no place to meet",
            "write tcp://<address of the first machine>:<port>, or set MASTER_ADDR and MASTER_PORT",
            "--init_method",
        )
    return host, int(port), place.rank == 0 and not elsewhere


def _present(rank: int) -> str:
    return f"slowfast/present/{rank}"


def _absent(keys: Sequence[str], store: dist.Store, timeout_s: float) -> list[int]:
    """Places of the keys that nobody has set within the time."""
    end = time.monotonic() + timeout_s
    missing = []
    for place, key in enumerate(keys):
        left = max(end - time.monotonic(), 0.01)
        try:
            store.wait([key], datetime.timedelta(seconds=left))
        except (dist.DistError, RuntimeError):
            missing.append(place)
    return missing


# -- agreeing and gathering ----------------------------------------------------------------------


def gather_numbers(values: Sequence[float]) -> list[list[float]]:
    """``values`` of every rank, in rank order; all ranks give equally many."""
    if not is_active():
        return [list(values)]
    mine = torch.tensor(values, dtype=torch.float64)
    rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, mine)
    return [row.tolist() for row in rows]


def sum_numbers(values: Sequence[float]) -> list[float]:
    """Sum over ranks of each of ``values`` (in rank order: the same everywhere)."""
    return [sum(column) for column in zip(*gather_numbers(values))]


def gather_objects(value: Any) -> list[Any]:
    """``value`` of every rank, in rank order."""
    if not is_active():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def barrier() -> None:
    """Wait for all ranks."""
    gather_numbers([0])


# -- when somebody is gone -----------------------------------------------------------------------


def lost_process(error: RuntimeError) -> RunFailure | None:
    """Who does not answer any more, if that is what ``error`` comes from; else None."""
    text = str(error)
    known = isinstance(error, dist.DistError) or any(
        part in text.lower() for part in _CONNECTION_TEXTS
    )
    if not is_active() or not known:
        return None
    rank, world = dist.get_rank(), dist.get_world_size()
    missing = _roll_call(rank, world)
    who = ", ".join(map(str, missing)) if missing else "a"
    return RunFailure(
        f"rank {who} of {world} stopped answering (noticed by rank {rank}: "
        f"{text.strip().splitlines()[-1][-160:]})",
        "look at its own messages (stdout_rank<n>.log) and at the memory of its machine; "
        "the same command goes on from the last checkpoint",
    )


def _roll_call(rank: int, world: int) -> list[int]:
    """Ranks that do not say within some seconds that they are alive."""
    try:
        (store,) = _stores
        store.set(f"slowfast/alive/{rank}", "1")
        return _absent([f"slowfast/alive/{r}" for r in range(world)], store, _ROLL_CALL_S)
    except (dist.DistError, RuntimeError):
        return [0]  # it holds the meeting point
