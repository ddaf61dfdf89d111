"""From a configuration to one or several processes that run a job."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
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


def launch(cfg: CfgNode, job: Job, init_method: str | None = None) -> None:
    """Run ``job(cfg, runtime)`` here, in torchrun's process, or in a process a GPU."""
    if distributed.launched_by_torchrun():
        env = {name: int(os.environ[name]) for name in ("RANK", "WORLD_SIZE")}
        local = int(os.environ.get("LOCAL_RANK", 0))
        _run(cfg, job, env["RANK"], env["WORLD_SIZE"], local, "env://")
        return
    per_machine = max(cfg.NUM_GPUS, 1)
    world = per_machine * cfg.NUM_SHARDS
    if world == 1:
        _run(cfg, job, 0, 1, 0, "")
        return
    choose_device(cfg.NUM_GPUS)  # before any process starts: one clear message
    method = init_method or _free_port(cfg)
    if per_machine == 1:
        _run(cfg, job, cfg.SHARD_ID, world, 0, method)
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
    rank = cfg.SHARD_ID * max(cfg.NUM_GPUS, 1) + local
    _run(cfg, job, rank, world, local, init_method)


def _run(cfg: CfgNode, job: Job, rank: int, world: int, local: int, init_method: str) -> None:
    make_dirs(cfg.OUTPUT_DIR, "OUTPUT_DIR")
    setup_logging(cfg.OUTPUT_DIR, is_main=rank == 0, rank=rank)
    try:
        runtime = distributed.start_process(
            cfg.NUM_GPUS, cfg.DIST_BACKEND, rank=rank, world=world, local_rank=local,
            init_method=init_method,
        )  # fmt: skip
        if runtime.is_main:
            write_text_atomic(Path(cfg.OUTPUT_DIR) / "config.yaml", cfg.dump())
        job(cfg, runtime)
    finally:
        distributed.stop_process()
        close_logging()
