"""A Ray cluster whose machines are processes of this one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
_STORE = 80 << 20  # bytes: the least that Ray takes


@contextlib.contextmanager
def started() -> Iterator[Any]:
    """``ray.cluster_utils.Cluster`` with a first machine that has no cores."""
    from ray.cluster_utils import Cluster

    class Small(Cluster):
        def add_node(self, *args: Any, **kwargs: Any) -> Any:
            return super().add_node(*args, **{"object_store_memory": _STORE} | kwargs)

    env = {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    with mock.patch.dict(os.environ, env):
        head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
        cluster = Small(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            cluster.shutdown()
