"""Process groups: rendezvous, gathering, lost processes. A single process uses none of it.

Numbers are exchanged on the CPU (gloo), even when gradients are exchanged between GPUs (nccl).
"""

from __future__ import annotations

import datetime
import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.rank_watch import RankWatch, lost_ranks_failure
from slowfast.utils.runtime import Runtime, choose_device, device_identity

_ALIVE_TIMEOUT_S = 10.0
_MEETING_POLL_S = 0.05
# The store of this process's group and the watch over the others, while there is a group.
_stores: list[dist.Store] = []
_watches: list[RankWatch] = []
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
    device = choose_device(num_gpus, info.local_rank, info.local_world)
    if info.world > 1:
        store = _rendezvous(info, timeout_s, device_identity(device))
        _stores[:] = [store]
        hosts = [_address(info)[0], store.get(_present_key(0)).decode().split("\t")[0]]
        _watches[:] = [RankWatch(info.rank, info.world, store, hosts)]
        dist.init_process_group(
            f"cpu:gloo,cuda:{backend}" if device.type == "cuda" else "gloo",
            store=store,
            rank=info.rank,
            world_size=info.world,
            timeout=datetime.timedelta(seconds=timeout_s),
        )
    return Runtime(device, info.rank, info.world, info.local_rank, info.local_world)


def stop_process(error: BaseException | None = None) -> None:
    """Leave the process group, if there is one; because of an ``error``, which the other processes
    are told: they are not to wait for this one."""
    for watch in _watches:
        watch.leaving(error)
    if is_active():
        dist.destroy_process_group()
    for watch in _watches:
        watch.close()
    _watches.clear()
    _stores.clear()


# -- rendezvous ----------------------------------------------------------------------------------


def _rendezvous(info: ProcessInfo, timeout_s: float, gpu: str) -> dist.Store:
    """The store through which all ranks have found each other; ``gpu`` identifies that of this
    process."""
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
    if _store_of_launcher():
        store = dist.PrefixStore(_meeting(info, store, timeout_s), store)
    store.set(_present_key(info.rank), f"{socket.gethostname()}\t{gpu}")
    missing = _unset_keys([_present_key(rank) for rank in range(info.world)], store, timeout_s)
    if missing:
        raise RunFailure(
            f"rank {', '.join(map(str, missing))} of {info.world} did not come within "
            f"{timeout_s:g} s (rank {info.rank} waited at {host}:{port})",
            "start every machine with its own --shard_id; DIST.TIMEOUT sets how long to wait",
            "DIST.TIMEOUT",
        )
    if gpu:
        _check_own_gpus(store, info.world)
    return store


def _store_of_launcher() -> bool:
    """Whether torchrun serves the store itself, also for the processes that it starts later."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _meeting(info: ProcessInfo, store: dist.Store, timeout_s: float) -> str:
    """A name, the same on all ranks, that no earlier meeting at the same store had: else what
    processes that are gone have written would be read. torchrun's count of restarts is none: it
    leaves out those because of machines that come and go, and each machine has its own.

    Rank 0 answers the question of each rank, which is new for every process. Empty if the ranks do
    not find each other in time.
    """
    end = time.monotonic() + timeout_s
    if info.rank:
        question = secrets.token_hex(8)
        store.set(f"question/{info.rank}", question)
        if _unset_keys([f"answer/{question}"], store, timeout_s):
            return ""
        name = store.get(f"answer/{question}").decode()
        store.set(f"heard/{name}/{info.rank}", "1")
        return name
    name, answered = secrets.token_hex(8), set()
    missing = set(range(1, info.world))
    while missing and time.monotonic() < end:
        for rank in sorted(missing):
            if store.check([f"heard/{name}/{rank}"]):
                missing.discard(rank)
            elif store.check([f"question/{rank}"]):
                question = store.get(f"question/{rank}").decode()
                if question not in answered:
                    answered.add(question)
                    store.set(f"answer/{question}", name)
        time.sleep(_MEETING_POLL_S if missing else 0)
    return name


def _check_own_gpus(store: dist.Store, world: int) -> None:
    """UserError if two processes use the same GPU."""
    first: dict[bytes, int] = {}
    for rank, gpu in enumerate(store.multi_get([_present_key(rank) for rank in range(world)])):
        if first.setdefault(gpu, rank) != rank:
            raise UserError(
                f"ranks {first[gpu]} and {rank} use the same GPU of {gpu.decode().split()[0]}",
                "start as many processes per machine as it has GPUs, and let the scheduler show "
                "each process its own GPU or all of them",
                "NUM_GPUS",
            )


def _address(info: ProcessInfo) -> tuple[str, int, bool]:
    """(host, port, whether this process serves the store)."""
    method = info.init_method
    if method == "env://":
        address = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
        elsewhere = _store_of_launcher()
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


def own_rank() -> int:
    """The number of this process among all."""
    return dist.get_rank() if is_active() else 0


def group_ranks(group: dist.ProcessGroup | None) -> list[int]:
    """The numbers of the processes of a group; None: of all processes."""
    return dist.get_process_group_ranks(group or dist.group.WORLD) if is_active() else [0]


# -- gathering -----------------------------------------------------------------------------------


def gather_numbers(values: Sequence[float]) -> list[list[float]]:
    """``values`` of every rank, in rank order; all ranks pass equally many."""
    if not is_active():
        return [list(values)]
    mine = torch.tensor(values, dtype=torch.float64)
    rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, mine)
    return [row.tolist() for row in rows]


def gather_objects(value: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """``value`` of every rank, in rank order; over a ``group`` of all of them, where a thread needs
    one of its own."""
    if not is_active():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value, group)
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
    reasons = [reason for watch in _watches for reason in watch.reasons]
    if reasons:
        return RunFailure(
            "; ".join(reasons),
            "look at its own messages; the same command goes on from the last checkpoint",
        )
    missing = next((watch.lost for watch in _watches if watch.lost), None)
    how = f"noticed by rank {rank}: {text.strip().splitlines()[-1][-160:]}"
    return lost_ranks_failure(missing or _silent_ranks(rank, world), world, how)


def _silent_ranks(rank: int, world: int) -> list[int]:
    """Ranks that do not report within some seconds that they are alive."""
    try:
        (store,) = _stores
        store.set(f"slowfast/alive/{rank}", "1")
        return _unset_keys([f"slowfast/alive/{r}" for r in range(world)], store, _ALIVE_TIMEOUT_S)
    except (dist.DistError, RuntimeError):
        return [0]  # it serves the store
