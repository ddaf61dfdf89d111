"""From a configuration to one or several processes that run a job."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import torch
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException

from slowfast.config.effect import describe_idle_keys
from slowfast.config.node import DEFAULT_ORIGIN, CfgNode
from slowfast.config.plugins import import_plugins
from slowfast.engine.failures import explain_failure
from slowfast.engine.launches import recorded_launch
from slowfast.engine.mirror import mirrored
from slowfast.utils import distributed
from slowfast.utils.cli import run_command
from slowfast.utils.distributed import ProcessInfo
from slowfast.utils.errors import Interrupted, RunFailure, UserError
from slowfast.utils.files import make_dirs
from slowfast.utils.locks import SILENT_S, folder_lock
from slowfast.utils.logging import close_logging, get_logger, setup_logging
from slowfast.utils.processes import free_port, stop_this_process, watch_parent
from slowfast.utils.runtime import Runtime, check_gpu_count, gpu_count
from slowfast.utils.signals import StopRequest

logger = get_logger(__name__)
Job = Callable[[CfgNode, Runtime], None]
# After the failure of a process the others get this long to notice, and again to obey SIGTERM.
_GRACE_S = 4.0


def launch(cfg: CfgNode, job: Job, init_method: str | None = None) -> None:
    """Run ``job(cfg, runtime)`` in this process, or in one new process per GPU.

    ``init_method`` is the address where the processes of several machines find each other.
    """
    info = process_from_launcher(cfg.NUM_GPUS, os.environ)
    if info is not None:
        _run(cfg, job, info)
        return
    machine, machines, address = _machine(cfg, os.environ)
    per_machine = max(cfg.NUM_GPUS, 1)
    world = per_machine * machines
    if world == 1:
        _run(cfg, job, ProcessInfo())
        return
    check_gpu_count(cfg.NUM_GPUS)  # fails here, once, rather than in every process
    method = init_method or address or _local_address(machines)
    if per_machine == 1:
        _run(cfg, job, ProcessInfo(machine, world, init_method=method))
        return
    run_processes(
        lambda local: ProcessInfo(machine * per_machine + local, world, local, per_machine, method),
        cfg,
        job,
        per_machine,
    )


def is_first_process(cfg: CfgNode) -> bool:
    """Whether this process, of those that the user or a launcher has started, is the first of the
    run on all machines."""
    info = process_from_launcher(cfg.NUM_GPUS, os.environ)
    return (_machine(cfg, os.environ)[0] if info is None else info.rank) == 0


# -- processes of a launcher ---------------------------------------------------------------------


def process_from_launcher(num_gpus: int, env: dict[str, str] | os._Environ) -> ProcessInfo | None:
    """This process among those that torchrun, or srun with one task per process, has started;
    None otherwise."""
    if "RANK" in env and "WORLD_SIZE" in env:
        return ProcessInfo(
            int(env["RANK"]),
            int(env["WORLD_SIZE"]),
            int(env.get("LOCAL_RANK", 0)),
            int(env.get("LOCAL_WORLD_SIZE", 1)),
        )
    counts = slurm_processes(env)
    if not counts or (num_gpus > 1 and set(counts) == {1}):
        return None  # not srun, or one task per machine, which starts a process per GPU itself
    local_world = counts[int(env.get("SLURM_NODEID", 0))]
    rank, local = int(env["SLURM_PROCID"]), int(env.get("SLURM_LOCALID", 0))
    return ProcessInfo(rank, sum(counts), local, local_world, slurm_address(env))


def slurm_processes(env: dict[str, str] | os._Environ) -> list[int]:
    """Processes (SLURM tasks) on each machine of a step of several; empty outside of one.

    ``SLURM_STEP_TASKS_PER_NODE`` is ``2(x3),1``; only srun sets it, not sbatch or salloc.
    """
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) < 2 or "SLURM_PROCID" not in env:
        return []
    counts: list[int] = []
    for part in env["SLURM_STEP_TASKS_PER_NODE"].split(","):
        processes, _, machines = part.rstrip(")").partition("(x")
        counts += [int(processes)] * int(machines or 1)
    return counts


def slurm_address(env: dict[str, str] | os._Environ) -> str:
    """Address of the step's first machine and a port that belongs to the step."""
    nodes = env.get("SLURM_STEP_NODELIST", "localhost")
    first = re.match(r"([^\[,]+)(?:\[(\w+))?([^,\]]*\](\S*?)(?:,|$))?", nodes)
    host = first[1] + (first[2] or "") + (first[4] or "")
    number = int(env.get("SLURM_JOB_ID", 0)) * 7 + int(env.get("SLURM_STEP_ID", 0))
    return f"tcp://{host}:{20000 + number % 20000}"


def _machine(cfg: CfgNode, env: dict[str, str] | os._Environ) -> tuple[int, int, str]:
    """(number of this machine, number of machines, address of the first one if known)."""
    counts = slurm_processes(env)
    if counts and cfg.NUM_SHARDS == 1:
        return int(env["SLURM_PROCID"]), len(counts), slurm_address(env)
    return cfg.SHARD_ID, cfg.NUM_SHARDS, ""


def _local_address(machines: int) -> str:
    if machines > 1:
        raise UserError(
            f"NUM_SHARDS is {machines}, but the machines do not know where to meet",
            "give all of them --init_method tcp://<address of shard 0>:<port>",
            "--init_method",
        )
    return f"tcp://localhost:{free_port()}"


# -- one process per GPU -------------------------------------------------------------------------


def run_processes(
    info_of: Callable[[int], ProcessInfo], cfg: CfgNode, job: Job, count: int
) -> None:
    """Run ``count`` processes; they get our signals, and a failure of one is raised here."""
    infos = [info_of(local) for local in range(count)]
    # The processes end with this one: PyTorch sends them SIGINT on Linux, they watch it elsewhere.
    with StopRequest() as stop:
        context = torch.multiprocessing.spawn(
            _run_child, args=(cfg, job, infos), nprocs=count, join=False
        )
        try:
            _wait_for(context, stop)
        except ProcessExitedException as failure:
            raise _failure_of(failure, stop.number) from failure


def _wait_for(context: ProcessContext, stop: StopRequest) -> None:
    signalled = False
    while not context.join(timeout=0.5, grace_period=_GRACE_S):
        if stop.number and not signalled:
            signalled = True
            for process in context.processes:
                if process.is_alive():
                    os.kill(process.pid, stop.number)
            while any(process.is_alive() for process in context.processes):
                time.sleep(0.2)  # they save their state; join() would kill the slower ones


def _failure_of(failure: ProcessExitedException, signal_number: int) -> Exception:
    code = failure.exit_code
    if code in (128 + signal.SIGTERM, 128 + signal.SIGINT):
        return Interrupted(code - 128)
    if signal_number:
        return Interrupted(signal_number)
    name = failure.signal_name
    how = f"was killed by {name}" if name else f"ended with code {code}"
    if code == UserError.exit_code:
        return UserError(f"process {failure.error_index} reported an error, see above")
    return RunFailure(
        f"process {failure.error_index} of this machine {how}",
        "its own messages stand above or in stdout_rank<n>.log; SIGKILL often means that memory "
        "ran out; the same command goes on from the last checkpoint",
    )


def _run_child(local: int, cfg: CfgNode, job: Job, infos: list[ProcessInfo]) -> None:
    watch_parent(stop_this_process)
    run_command(lambda: _run(cfg, job, infos[local]))


def _run(cfg: CfgNode, job: Job, info: ProcessInfo) -> None:
    reason: BaseException | None = None  # why the other processes are not to wait for this one
    try:
        import_plugins(cfg.IMPORTS)  # a process that was spawned knows nothing of them yet
        runtime = distributed.start_process(cfg.NUM_GPUS, cfg.DIST_BACKEND, info, cfg.DIST.TIMEOUT)
        with _output_folder(cfg, runtime):
            if runtime.is_main:
                _log_device(cfg, runtime)
                _warn_of_idle_keys(cfg)
            job(cfg, runtime)
    except Interrupted:  # all processes have agreed to it
        raise
    except (RuntimeError, OSError, MemoryError) as error:
        reason = explain_failure(error) or error
        if reason is error:
            raise
        raise reason from error
    except BaseException as error:
        reason = error
        raise
    finally:
        distributed.stop_process(reason)


def _log_device(cfg: CfgNode, runtime: Runtime) -> None:
    """What the run computes on, why, and what it leaves idle."""
    device = runtime.device_name() + (f", {runtime.world} processes" if runtime.world > 1 else "")
    used = runtime.local_world if runtime.on_gpu else 0
    idle = max(gpu_count() - used, 0)
    logger.info(
        "device: %s (NUM_GPUS %d, %s)%s",
        device,
        cfg.NUM_GPUS,
        cfg.origins.get("NUM_GPUS", DEFAULT_ORIGIN),
        f"; GPUs of this machine that are not used: {idle}" if idle else "",
    )


def _warn_of_idle_keys(cfg: CfgNode) -> None:
    text = describe_idle_keys(cfg)
    if text:
        logger.warning("%s", text)


@contextlib.contextmanager
def _output_folder(cfg: CfgNode, runtime: Runtime) -> Iterator[None]:
    """OUTPUT_DIR with its lock, which rank 0 takes for all, and its log.

    UserError on all ranks if another run uses it, one of them cannot create it, or OUTPUT_MIRROR
    cannot be read.
    """
    with contextlib.ExitStack() as stack:
        failure = None
        try:
            make_dirs(cfg.OUTPUT_DIR, "OUTPUT_DIR")
            if runtime.is_main:
                # The machine of the process that had it before may be lost.
                patience = 2 * SILENT_S if cfg.DIST.ELASTIC != "refuse" else 0.0
                stack.enter_context(folder_lock(cfg.OUTPUT_DIR, "OUTPUT_DIR", patience))
                stack.enter_context(mirrored(cfg))  # before there is a log, until after its end
        except UserError as error:
            failure = error
        failures = [error for error in distributed.gather_objects(failure) if error]
        if failures:
            raise failures[0]
        stack.callback(close_logging)
        setup_logging(cfg.OUTPUT_DIR, is_main=runtime.is_main, rank=runtime.rank)
        if runtime.is_main:
            stack.enter_context(recorded_launch(cfg, runtime))
        yield
