"""Work on a Ray cluster of two machines, which are processes of this one, and may go."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from slowfast.utils.errors import UserError
from slowfast.utils.map import CRASHED, Where, cluster, map_items
from slowfast.utils.map.crew import work_off
from tests.utils.map.work import Slow

pytest.importorskip("ray", reason="Ray (extra ray) is not installed")


@pytest.fixture(scope="module")
def machines():
    """A cluster whose first machine has no cores: work is done on those that tests add."""
    from tests.ray_cluster import started

    with started() as found:
        yield found


@pytest.fixture
def keys(tmp_path):
    return [str(tmp_path / f"{n}") for n in range(40)]


def calls(key: str) -> list[str]:
    return Path(f"{key}.calls").read_text().split()


def test_a_machine_that_goes_and_one_that_comes(machines, keys, tmp_path):
    first, second = machines.add_node(num_cpus=1), machines.add_node(num_cpus=1)
    work, done = Slow(0.5), {}
    with contextlib.closing(cluster.RayCrew(work, machines.address, None)) as crew:
        crew.fill(len(keys))
        while len(crew.ready()) < 2:  # a busy computer starts them minutes apart
            assert crew.reports() == []
        for key, result in work_off(crew, keys, work.parcel):
            assert key not in done
            done[key] = result
            if second is not None and {worker.node for worker in crew.ready()} > {first.node_id}:
                machines.remove_node(second, allow_graceful=False)
                machines.add_node(num_cpus=1)
                second = None
    assert second is None
    assert {key: result["name"] for key, result in done.items()} == {k: Path(k).name for k in keys}
    assert sorted(p.name for p in tmp_path.glob("*.out")) == sorted(f"{n}.out" for n in range(40))
    # what was under way on the lost machine was done again, and nothing else
    repeated = [key for key in keys if len(calls(key)) > 1]
    assert len(repeated) <= 2 * Slow.parcel and all(len(calls(key)) == 2 for key in repeated)
    # the third comes in time where a computer is not too busy to start it
    assert len({line for key in keys for line in calls(key)}) in (2, 3)


def test_crashes_and_errors(machines, keys, tmp_path):
    node = machines.add_node(num_cpus=2, num_gpus=1)
    place = Where(ray=machines.address)
    try:
        mixed = [*keys[:3], str(tmp_path / "crash"), *keys[3:5]]
        results = map_items(Slow(), mixed, where=place)
        assert [key for key in mixed if results[key] == CRASHED] == [str(tmp_path / "crash")]
        with pytest.raises(IsADirectoryError):
            map_items(Slow(), [str(tmp_path / "wrong")], where=place)
        on_gpu = map_items(Slow(has_network=True), keys[5:9], where=place)
        assert {result["gpus"] for result in on_gpu.values()} == {"0"}
        assert len({line for key in keys[5:9] for line in calls(key)}) == 1  # one network
    finally:
        machines.remove_node(node)


def test_what_is_no_cluster(monkeypatch):
    with pytest.raises(UserError, match="no Ray cluster at 127.0.0.1:1"):
        map_items(Slow(), ["a"], where=Where(ray="127.0.0.1:1"))
    monkeypatch.setattr(cluster.importlib, "import_module", _missing)
    with pytest.raises(UserError, match=r"\.\[ray\]"):
        map_items(Slow(), ["a"], where=Where(ray="auto"))


def _missing(name):
    raise ModuleNotFoundError(name)
