"""From a configuration to one or several processes that run a job."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException

from slowfast.config.node import CfgNode
from slowfast.config.plugins import import_plugins
from slowfast.engine.failures import explain_failure
from slowfast.utils import distributed
from slowfast.utils.cli import run_command
from slowfast.utils.distributed import Place
from slowfast.utils.errors import Interrupted, RunFailure, UserError
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.logging import close_logging, get_logger, setup_logging
from slowfast.utils.runtime import Runtime, choose_device
from slowfast.utils.signals import StopRequest

logger = get_logger(__name__)
Job = Callable[[CfgNode, Runtime], None]


def launch(cfg: CfgNode, job: Job, init_method: str | None = None) -> None:
    """Run ``job(cfg, runtime)`` here, in a launcher's process, or in a process a GPU."""
    place = place_from_launcher(cfg.NUM_GPUS, os.environ)
    if place is not None:
        _run(cfg, job, place)
        return
    machine, machines, found = _machine(cfg, os.environ)
    per_machine = max(cfg.NUM_GPUS, 1)
    world = per_machine * machines
    if world == 1:
        _run(cfg, job, Place())
        return
    choose_device(cfg.NUM_GPUS)  # before any process starts: one clear message
    method = init_method or found or _free_port(machines)
    if per_machine == 1:
        _run(cfg, job, Place(machine, world, init_method=method))
        return
    _run_children(
        lambda local: Place(machine * per_machine + local, world, local, per_machine, method),
        cfg,
        job,
        per_machine,
    )


# -- who has started us --------------------------------------------------------------------------


def place_from_launcher(num_gpus: int, env: dict[str, str] | os._Environ) -> Place | None:
    """Our place if torchrun, or srun with a task a process, has started us; else None."""
    if "RANK" in env and "WORLD_SIZE" in env:
        return Place(
            int(env["RANK"]),
            int(env["WORLD_SIZE"]),
            int(env.get("LOCAL_RANK", 0)),
            int(env.get("LOCAL_WORLD_SIZE", 1)),
        )
    tasks = slurm_tasks(env)
    if len(tasks) == 0 or (num_gpus > 1 and set(tasks) == {1}):
        return None  # not srun, or one task a machine that starts its GPUs' processes itself
    local_world = tasks[int(env.get("SLURM_NODEID", 0))]
    rank, local = int(env["SLURM_PROCID"]), int(env.get("SLURM_LOCALID", 0))
    return Place(rank, sum(tasks), local, local_world, slurm_meeting_point(env))


def slurm_tasks(env: dict[str, str] | os._Environ) -> list[int]:
    """Tasks on each machine of a SLURM step of several tasks; empty outside of one.

    ``SLURM_STEP_TASKS_PER_NODE`` is ``2(x3),1``; only srun sets it, not sbatch or salloc.
    """
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) < 2 or "SLURM_PROCID" not in env:
        return []
    counts: list[int] = []
    for part in env["SLURM_STEP_TASKS_PER_NODE"].split(","):
        tasks, _, times = part.rstrip(")").partition("(x")
        counts += [int(tasks)] * int(times or 1)
    return counts


def slurm_meeting_point(env: dict[str, str] | os._Environ) -> str:
    """Address of the step's first machine and a port that belongs to the step."""
    nodes = env.get("SLURM_STEP_NODELIST", "localhost")
    first = re.match(r"([^\[,]+)(?:\[(\w+))?([^,\]]*\](\S*?)(?:,|$))?", nodes)
    host = first[1] + (first[2] or "") + (first[4] or "")
    number = int(env.get("SLURM_JOB_ID", 0)) * 7 + int(env.get("SLURM_STEP_ID", 0))
    return f"tcp://{host}:{20000 + number % 20000}"


def _machine(cfg: CfgNode, env: dict[str, str] | os._Environ) -> tuple[int, int, str]:
    """(number of this machine, machines, meeting point if known)."""
    tasks = slurm_tasks(env)
    if tasks and cfg.NUM_SHARDS == 1:
        return int(env["SLURM_PROCID"]), len(tasks), slurm_meeting_point(env)
    return cfg.SHARD_ID, cfg.NUM_SHARDS, ""


def _free_port(machines: int) -> str:
    if machines > 1:
        raise UserError(
            f"NUM_SHARDS is {machines}, but the machines do not know where to meet",
            "give all of them --init_method tcp://<address of shard 0>:<port>",
            "--init_method",
        )
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return f"tcp://localhost:{listener.getsockname()[1]}"


# -- processes of our own ------------------------------------------------------------------------


def _run_children(place_of: Callable[[int], Place], cfg: CfgNode, job: Job, count: int) -> None:
    """A process a GPU; a signal to us reaches them, their exit code becomes ours."""
    places = [place_of(local) for local in range(count)]
    with StopRequest() as stop:
        context = torch.multiprocessing.spawn(
            _run_child, args=(cfg, job, places), nprocs=count, join=False
        )
        try:
            _wait_for(context, stop)
        except ProcessExitedException as failure:
            raise _failure_of(failure, stop.number) from failure


def _wait_for(context: ProcessContext, stop: StopRequest) -> None:
    told = False
    while not context.join(timeout=0.5):
        if stop.number and not told:
            told = True
            for process in context.processes:
                if process.is_alive():
                    os.kill(process.pid, stop.number)
            while any(process.is_alive() for process in context.processes):
                time.sleep(0.2)  # they save their state; join() would end the slower ones


def _failure_of(failure: ProcessExitedException, asked: int) -> Exception:
    code = failure.exit_code
    if code in (128 + signal.SIGTERM, 128 + signal.SIGINT):
        return Interrupted(code - 128)
    if asked:
        return Interrupted(asked)
    name = failure.signal_name
    how = f"was killed by {name}" if name else f"ended with code {code}"
    if code == UserError.exit_code:
        return UserError(f"process {failure.error_index} has said what is wrong, see above")
    return RunFailure(
        f"process {failure.error_index} of this machine {how}",
        "its own messages stand above or in stdout_rank<n>.log; SIGKILL often means that memory "
        "ran out; the same command goes on from the last checkpoint",
    )


def _run_child(local: int, cfg: CfgNode, job: Job, places: list[Place]) -> None:
    run_command(lambda: _run(cfg, job, places[local]))


def _run(cfg: CfgNode, job: Job, place: Place) -> None:
    make_dirs(cfg.OUTPUT_DIR, "OUTPUT_DIR")
    setup_logging(cfg.OUTPUT_DIR, is_main=place.rank == 0, rank=place.rank)
    try:
        import_plugins(cfg.IMPORTS)  # a process that was spawned knows nothing of them yet
        runtime = distributed.start_process(cfg.NUM_GPUS, cfg.DIST_BACKEND, place, cfg.DIST.TIMEOUT)
        if runtime.is_main:
            write_text_atomic(Path(cfg.OUTPUT_DIR) / "config.yaml", cfg.dump())
        job(cfg, runtime)
    except (RuntimeError, OSError) as error:
        failure = explain_failure(error)
        if failure is None:
            raise
        raise failure from error
    finally:
        distributed.stop_process()
        close_logging()
