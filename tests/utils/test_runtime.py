"""Device, precision, random state and memory on the CPU."""

from __future__ import annotations

import os

import pytest
import torch

from slowfast.utils import runtime as runtime_module
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import (
    Runtime,
    check_gpu_count,
    choose_device,
    cpu_count,
    describe_devices,
    gpu_count,
    gpus_to_use,
    ram_usage_gb,
    seed_process,
)

CPU = Runtime(torch.device("cpu"))


def test_the_main_process_is_rank_0():
    assert CPU.is_main and not Runtime(torch.device("cpu"), rank=1, world=2).is_main
    assert not CPU.on_gpu and Runtime(torch.device("cuda", 0)).on_gpu


@pytest.mark.parametrize(
    "name, dtype",
    [("auto", torch.bfloat16), ("float16", torch.float16), ("bfloat16", torch.bfloat16)],
)
def test_precision_on_the_cpu(name, dtype):
    assert CPU.amp_dtype(name) is dtype


def test_the_random_state_is_restored():
    seed_process(3)
    state = CPU.rng_state()
    first = torch.rand(4)
    torch.rand(7)
    CPU.set_rng_state(state)
    assert torch.equal(torch.rand(4), first)
    seed_process(3)
    assert torch.equal(torch.rand(4), first)


def test_a_state_of_a_gpu_can_be_restored_on_the_cpu():
    """A run that began on a GPU goes on here."""
    state = CPU.rng_state() | {"device": torch.zeros(16, dtype=torch.uint8)}
    CPU.set_rng_state(state)
    assert torch.equal(torch.get_rng_state(), state["torch"])


def test_memory_of_the_cpu():
    CPU.synchronize()
    CPU.reset_peak_memory()
    assert CPU.gpu_memory_gb() == 0.0
    before = CPU.peak_memory_gb()
    assert 0.01 < before < 1000
    block = torch.ones(2**26)  # a quarter of a GiB, touched
    after = CPU.peak_memory_gb()
    assert after >= before and block[-1] == 1
    used, total = ram_usage_gb()
    assert 0 < used <= total


def test_memory_of_a_system_that_does_not_tell(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert ram_usage_gb() == (0.0, 0.0)


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)})
        try:
            assert cpu_count() == 1
        finally:
            os.sched_setaffinity(0, allowed)


def test_no_gpus_is_the_cpu():
    assert choose_device(0) == torch.device("cpu")


def test_too_few_gpus_are_an_error(monkeypatch):
    monkeypatch.setattr(runtime_module, "gpu_count", lambda: 1)
    with pytest.raises(UserError, match=r"NUM_GPUS: 2 GPU\(s\) asked for, 1 found"):
        choose_device(2)


def test_every_visible_gpu_is_described():
    assert len(describe_devices()) == gpu_count()


@pytest.fixture
def gpus(monkeypatch):
    """``gpus(visible)`` -> the list of those that were made the current one."""
    chosen = []

    def pretend(visible: int) -> list:
        monkeypatch.setattr(runtime_module, "gpu_count", lambda: visible)
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        return chosen

    return pretend


@pytest.mark.parametrize(
    "visible, num_gpus, local_rank, local_world, number",
    [
        (8, 8, 5, 8, 5),  # all are visible to each process
        (1, 8, 5, 8, 0),  # srun --gpus-per-task 1: each process sees its own
        (1, 1, 3, 4, 0),
        (4, 1, 3, 4, 3),  # torchrun --nproc-per-node 4, NUM_GPUS as in the file
        (1, 1, 0, 1, 0),
        (8, 1, 0, 1, 0),
    ],
)
def test_every_process_has_a_gpu(gpus, visible, num_gpus, local_rank, local_world, number):
    chosen = gpus(visible)
    device = choose_device(num_gpus, local_rank, local_world)
    assert device == torch.device("cuda", number) and chosen == [number]


@pytest.mark.parametrize("visible, num_gpus, local_world", [(1, 2, 1), (2, 4, 4), (0, 1, 2)])
def test_too_few_gpus(gpus, visible, num_gpus, local_world):
    chosen = gpus(visible)
    with pytest.raises(UserError, match=f"{visible} found on this machine"):
        choose_device(num_gpus, local_world - 1, local_world)
    assert chosen == []


@pytest.mark.parametrize(
    "visible, sizes, env, number",
    [
        (0, [16, 24], {}, 0),
        (1, [16, 24], {}, 1),
        (4, [16, 24], {}, 4),
        (3, [16, 24], {}, 2),  # 16 videos cannot be divided by three
        (8, [7, 8], {}, 1),
        (8, [16, 24], {"LOCAL_WORLD_SIZE": "4"}, 4),  # torchrun has decided
        (0, [16, 24], {"LOCAL_WORLD_SIZE": "4"}, 0),
    ],
)
def test_gpus_that_are_there(gpus, visible, sizes, env, number):
    chosen = gpus(visible)
    assert gpus_to_use(sizes, env) == number and chosen == []


def test_gpus_are_counted_without_a_context(gpus):
    chosen = gpus(2)
    check_gpu_count(2)
    with pytest.raises(UserError, match="3 GPU.s. asked for, 2 found"):
        check_gpu_count(3)
    assert chosen == []
