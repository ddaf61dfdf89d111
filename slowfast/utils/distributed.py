"""Several processes: joining the group and gathering results. One process needs none of it."""

from __future__ import annotations

import datetime
import os
from typing import Any

import torch.distributed as dist

from slowfast.utils.runtime import Runtime, choose_device


def is_active() -> bool:
    """True inside a process group."""
    return dist.is_available() and dist.is_initialized()


def launched_by_torchrun() -> bool:
    """True when torchrun (or a launcher like it) has set rank and world size."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def start_process(
    num_gpus: int,
    backend: str,
    *,
    rank: int = 0,
    world: int = 1,
    local_rank: int = 0,
    local_world: int = 1,
    init_method: str = "env://",
    timeout_s: float = 1800,
) -> Runtime:
    """Choose the device of this process and join the group when there are several."""
    device = choose_device(num_gpus, local_rank)
    if world > 1:
        dist.init_process_group(
            backend if device.type == "cuda" else "gloo",
            init_method=init_method,
            rank=rank,
            world_size=world,
            timeout=datetime.timedelta(seconds=timeout_s),
        )
    return Runtime(device, rank, world, local_rank, local_world)


def stop_process() -> None:
    """Leave the process group, if there is one."""
    if is_active():
        dist.destroy_process_group()


def gather_objects(value: Any) -> list[Any]:
    """``value`` of every rank, in rank order."""
    if not is_active():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def barrier() -> None:
    """Wait for all ranks."""
    if is_active():
        dist.barrier()
