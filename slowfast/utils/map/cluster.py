"""Workers that are actors of a Ray cluster (extra ``[ray]``): its machines may come and go."""

from __future__ import annotations

import importlib
import os
import socket
import time
from typing import Any

from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.map.crew import Crew, Report, Worker
from slowfast.utils.map.work import Result, Work

logger = get_logger(__name__)

_KEY = "--ray"
_LOOK_S = 2.0  # between two looks at the machines of the cluster
_SAY_S = 30.0  # between two messages that nothing happens
_KNOCK_S = 20.0
_MOST_CORES = 8  # of a worker with a GPU, which decodes for it


def require_ray() -> Any:
    """Ray; UserError that names the extra if it is not installed."""
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise UserError("Ray is not installed", 'pip install -e ".[ray]"', _KEY) from error


def connect(address: str) -> bool:
    """Connect this process to the cluster at ``address`` (``auto``: the one of this machine).
    False if it is connected. UserError if there is no such cluster."""
    ray = require_ray()
    if ray.is_initialized():
        return False
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        remedy = "start one (ray start --head), and name its address, or auto on its machines"
        what = f"there is no Ray cluster at {address}: {str(error).splitlines()[0]}"
        raise UserError(what, remedy, _KEY) from error
    return True


def _knock(address: str) -> None:
    """OSError if ``host:port`` refuses connections; Ray itself would retry for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), _KNOCK_S).close()


class _Actor:
    """What runs on a machine of the cluster."""

    def __init__(self, work: Work, folder: str):
        self._work = work
        if os.path.isdir(folder):  # relative paths are those of the command
            os.chdir(folder)

    def node(self) -> str:
        """The machine it is on; the answer says that it has started and is prepared."""
        self._work.prepare()
        return require_ray().get_runtime_context().get_node_id()

    def results(self, keys: list[str]) -> list[Result]:
        """The results of a parcel."""
        return list(self._work.results(keys))


class _Member(Worker):
    """A handle of an actor; ``node`` is empty until it has started."""

    def __init__(self, actor: Any):
        super().__init__()
        self.actor, self.node = actor, ""
        self.answers = [actor.node.remote()]

    def send(self, keys: list[str]) -> None:
        self.answers.append(self.actor.results.remote(keys))


class RayCrew(Crew):
    """An actor for each core of the cluster (for each GPU, if the work has a network and the
    cluster has GPUs), or ``count`` actors. Machines that come get actors; those of machines that go
    are forgotten."""

    crashes_needed = 2  # the first may be the loss of a machine that Ray has not reported yet

    def __init__(self, work: Work, address: str, count: int | None):
        super().__init__()
        self._ray = require_ray()
        self._has_connected = connect(address)
        self._count, self._has_network = count, work.has_network
        self._work = self._ray.put(work)
        self._type = self._ray.remote(_Actor)
        self._looked = self._heard = time.monotonic() - _LOOK_S

    def fill(self, most: int) -> None:
        now = time.monotonic()
        if self.workers and now - self._looked < _LOOK_S:
            return
        self._looked = now
        cores, gpus, room = self._room()
        while len(self.workers) < min(self._count or room, most):
            # What has died is reported and replaced by the crew, which knows what it had in hand.
            options = {"num_cpus": cores, "num_gpus": gpus, "max_restarts": 0}
            self.workers.append(
                _Member(self._type.options(**options).remote(self._work, os.getcwd()))
            )

    def ready(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.node]

    def reports(self) -> list[Report]:
        owners = {worker.answers[0]: worker for worker in self.workers if worker.answers}
        found, _ = self._ray.wait(list(owners), timeout=_LOOK_S)
        if not found:
            self._say_waiting()
        reports = [self._read(owners[answer]) for answer in found]
        return [report for report in reports if report is not None]

    def close(self) -> None:
        for worker in self.workers:
            self._ray.kill(worker.actor)
        self.workers = []
        if self._has_connected:
            self._ray.shutdown()

    # -- one worker ------------------------------------------------------------------------------

    def _read(self, worker: _Member) -> Report | None:
        """What a worker answers; None for the first answer, by which it has started."""
        errors = self._ray.exceptions
        self._heard = time.monotonic()
        try:
            content = self._ray.get(worker.answers[0])
        except errors.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from error
        except errors.RayActorError as error:
            if error.actor_init_failed:
                remedy = "is the package installed on every machine of the cluster?"
                raise RunFailure(f"workers cannot be started: {error}", remedy, _KEY) from error
            return self._lost(worker)
        except errors.RayError:  # the machine went before the answer was fetched
            self._ray.kill(worker.actor)
            return Report(worker, with_machine=True)
        worker.answers.pop(0)
        if not worker.node:
            worker.node = content
            return None
        return Report(worker, content)

    def _lost(self, worker: _Member) -> Report:
        living = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        with_machine = bool(worker.node) and worker.node not in living
        if with_machine:
            logger.warning("a machine of the cluster has gone: its work is done again elsewhere")
        return Report(worker, with_machine=with_machine)

    # -- the cluster -----------------------------------------------------------------------------

    def _room(self) -> tuple[float, float, int]:
        """Cores and GPUs of a worker, and how many workers the cluster has room for; one at least:
        it makes a cluster that grows grow."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        cores, gpus = 1, 0
        with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
        if self._has_network and with_gpu:
            nodes, gpus = with_gpu, 1
            least = min(node.get("CPU", 0) // node["GPU"] for node in nodes)
            cores = min(_MOST_CORES, least)
        places = (
            int(min(node.get(kind, 0) // size for kind, size in needed.items()))
            for needed in [{k: v for k, v in (("CPU", cores), ("GPU", gpus)) if v}]
            for node in nodes
        )
        return cores, gpus, max(1, sum(places))

    def _say_waiting(self) -> None:
        if not self.ready() and time.monotonic() - self._heard > _SAY_S:
            self._heard = time.monotonic()
            logger.warning("waiting for the cluster: no worker has started yet")
