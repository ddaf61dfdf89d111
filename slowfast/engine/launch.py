"""From a configuration to one or several processes that run a job."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from slowfast.config.node import CfgNode
from slowfast.utils import distributed
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.logging import close_logging, get_logger, setup_logging
from slowfast.utils.runtime import Runtime, choose_device

logger = get_logger(__name__)
Job = Callable[[CfgNode, Runtime], None]


@dataclass(frozen=True)
class Place:
    """A process among all (``rank`` of ``world``) and on its machine (``local_…``)."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    init_method: str = "env://"


def launch(cfg: CfgNode, job: Job, init_method: str | None = None) -> None:
    """Run ``job(cfg, runtime)`` here, in torchrun's process, or in a process a GPU."""
    if distributed.launched_by_torchrun():
        env = {name: int(os.environ[name]) for name in ("RANK", "WORLD_SIZE")}
        place = Place(
            env["RANK"],
            env["WORLD_SIZE"],
            int(os.environ.get("LOCAL_RANK", 0)),
            int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        )
        _run(cfg, job, place)
        return
    per_machine = max(cfg.NUM_GPUS, 1)
    world = per_machine * cfg.NUM_SHARDS
    if world == 1:
        _run(cfg, job, Place())
        return
    choose_device(cfg.NUM_GPUS)  # before any process starts: one clear message
    method = init_method or _free_port(cfg)
    if per_machine == 1:
        _run(cfg, job, Place(cfg.SHARD_ID, world, init_method=method))
        return
    torch.multiprocessing.spawn(
        _run_spawned, args=(cfg, job, world, method), nprocs=per_machine, join=True
    )


def _free_port(cfg: CfgNode) -> str:
    if cfg.NUM_SHARDS > 1:
        raise UserError(
            f"NUM_SHARDS is {cfg.NUM_SHARDS}, but the machines do not know where to meet",
            "give all of them --init_method tcp://<address of shard 0>:<port>",
            "--init_method",
        )
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return f"tcp://localhost:{listener.getsockname()[1]}"


def _run_spawned(local: int, cfg: CfgNode, job: Job, world: int, init_method: str) -> None:
    rank = cfg.SHARD_ID * cfg.NUM_GPUS + local
    _run(cfg, job, Place(rank, world, local, cfg.NUM_GPUS, init_method))


def _run(cfg: CfgNode, job: Job, place: Place) -> None:
    make_dirs(cfg.OUTPUT_DIR, "OUTPUT_DIR")
    setup_logging(cfg.OUTPUT_DIR, is_main=place.rank == 0, rank=place.rank)
    try:
        runtime = distributed.start_process(
            cfg.NUM_GPUS,
            cfg.DIST_BACKEND,
            rank=place.rank,
            world=place.world,
            local_rank=place.local_rank,
            local_world=place.local_world,
            init_method=place.init_method,
        )
        if runtime.is_main:
            write_text_atomic(Path(cfg.OUTPUT_DIR) / "config.yaml", cfg.dump())
        job(cfg, runtime)
    finally:
        distributed.stop_process()
        close_logging()
