"""A Ray cluster whose machines are processes of this one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from slowfast.utils.processes import free_port

ROOT = Path(__file__).resolve().parent.parent
_STORE = 80 << 20  # bytes: the least that Ray takes
_PORTS = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")


@contextlib.contextmanager
def started() -> Iterator[Any]:
    """``ray.cluster_utils.Cluster`` with a first machine that has no cores."""
    from ray._private import services
    from ray.cluster_utils import Cluster

    class Small(Cluster):
        def add_node(self, *args: Any, **kwargs: Any) -> Any:
            ports = {f"{name}_port": free_port() for name in _PORTS}
            return super().add_node(*args, **ports, object_store_memory=_STORE, **kwargs)

    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # Its workers step back behind everything else that a computer does, for minutes if it does much.
    env |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with (
        mock.patch.dict(os.environ, env),
        mock.patch.object(services, "start_raylet", _patient(services.start_raylet)),
    ):
        head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
        cluster = Small(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            cluster.shutdown()


def _patient(start_raylet: Any) -> Any:
    """``start_raylet`` for a computer that does other things too: Ray gives up if processes that
    the machine needs do not write within 15 s which ports they have; they are told them anyway."""

    def start(*args: Any, **kwargs: Any) -> Any:
        node, session = args[2], args[11]
        for name in _PORTS:
            Path(session, f"{name}_port_{node}").write_text(str(kwargs[f"{name}_port"]))
        return start_raylet(*args, **kwargs)

    return start


def is_working(machine: Any) -> bool:
    """Whether an actor of the map runs on a machine, by the names of its processes."""
    raylet = machine.all_processes["raylet"][0].process.pid
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            name = (process / "cmdline").read_bytes()
            if int(parent) == raylet and name.startswith(b"ray::_Actor.results"):
                return True
    return False
