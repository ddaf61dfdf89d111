"""Whole states of a sharded network: what is stored is what one process would store."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from slowfast.engine import sharding
from slowfast.models.spec import ModelSpec
from tests.scripts import CONTEXT

FSDP = SimpleNamespace(
    DIST=SimpleNamespace(STRATEGY="fsdp"), TRAIN=SimpleNamespace(MIXED_PRECISION=False)
)
OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-2),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9),
    "plain": lambda groups: torch.optim.SGD(groups, lr=1e-2),  # has no state
}


class Net(nn.Module):
    """Blocks that are sequences themselves, buffers, a single number, and a layer that is never
    used."""

    spec = ModelSpec()

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)) for _ in range(2)
        )
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x).relu()
        return self.head(x) * self.scale


def build(world: int, kind: str):
    runtime = SimpleNamespace(world=world, device=torch.device("cpu"), on_gpu=False)
    network = sharding.shard(FSDP, runtime, Net())
    parameters = list(network.parameters())
    groups = [
        {"params": parameters[::2], "lr_scale": 1.0},
        {"params": parameters[1::2], "lr_scale": 2.0, "weight_decay": 0.0},
    ]
    return network, OPTIMIZERS[kind](groups)


def train(network, optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        network(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def states(network, optimizer):
    """A copy: the tensors of a state are those that training goes on to change."""
    model_state = sharding.full_model_state(network)
    return copy.deepcopy((model_state, sharding.full_optimizer_state(network, optimizer)))


def load(network, optimizer, stored) -> None:
    sharding.load_model_state(network, stored[0])
    sharding.load_optimizer_state(network, optimizer, stored[1])


def leaves(value, path=""):
    """Dotted path -> leaf of nested dicts, lists and tuples."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {path: value}
    return {k: v for name, part in items for k, v in leaves(part, f"{path}.{name}").items()}


def assert_equal(a, b) -> None:
    a, b = leaves(a), leaves(b)
    assert a.keys() == b.keys()
    for path, value in a.items():
        same = torch.equal(value, b[path]) if torch.is_tensor(value) else value == b[path]
        assert same, path


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    for kind in OPTIMIZERS:
        _train_save_resume(rank, folder, kind)
    dist.destroy_process_group()


def on_two_processes(worker: Callable[[int, str], None], folder: Path) -> None:
    """Run ``worker(rank, folder)`` in two processes."""
    processes = [CONTEXT.Process(target=worker, args=(rank, str(folder))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]


def _train_save_resume(rank: int, folder: str, kind: str) -> None:
    """Train, save, go on; load what was saved into another network and go on as well."""
    network, optimizer = build(2, kind)
    assert all(isinstance(block, FSDPModule) for block in network.blocks)
    train(network, optimizer, range(2))
    with sharding.gathered(network):  # as after an interrupted validation
        assert sharding.is_sharded(network)
        middle = states(network, optimizer)
    path = f"{folder}/{kind}_middle.pth"
    if rank:
        assert middle[0] == {} and (middle[1] == {} or kind == "plain")
    else:
        assert all(type(value) is torch.Tensor for value in middle[0].values())
        torch.save(middle, path)
    dist.barrier()
    train(network, optimizer, range(2, 4))
    other, its_optimizer = build(2, kind)
    load(other, its_optimizer, torch.load(path, weights_only=True))
    train(other, its_optimizer, range(2, 4))
    whole, resumed = states(network, optimizer), states(other, its_optimizer)
    if rank == 0:
        assert_equal(whole, resumed)
        torch.save(whole, f"{folder}/{kind}.pth")


def test_sharded_states_are_those_of_one_process(tmp_path):
    """Resumed to the bit, and stored as one process stores them, numbers of parameters too."""
    on_two_processes(_worker, tmp_path)
    for kind in OPTIMIZERS:
        stored = torch.load(tmp_path / f"{kind}.pth", weights_only=True)
        network, optimizer = build(1, kind)
        train(network, optimizer, range(4))
        one, sharded = leaves(states(network, optimizer)), leaves(stored)
        assert one.keys() == sharded.keys()
        for path, value in one.items():
            if torch.is_tensor(value):
                assert torch.allclose(value, sharded[path], atol=1e-6), path
            else:
                assert value == sharded[path], path
        again, its_optimizer = build(1, kind)  # one process goes on from what two have stored
        load(again, its_optimizer, stored)
        train(again, its_optimizer, range(4, 5))


def test_one_process_copies_nothing():
    network, optimizer = build(1, "momentum")
    assert not sharding.is_sharded(network)
    train(network, optimizer, range(1))
    state = sharding.full_model_state(network)
    assert state["head.weight"].data_ptr() == network.head.weight.data_ptr()
    moments = sharding.full_optimizer_state(network, optimizer)["state"]
    first = optimizer.state[optimizer.param_groups[0]["params"][0]]["momentum_buffer"]
    assert moments[0]["momentum_buffer"] is first


def test_another_number_of_parameters_is_refused():
    network, optimizer = build(1, "momentum")
    state = optimizer.state_dict()
    state["param_groups"][0]["params"] = [0]
    with pytest.raises(ValueError, match="doesn't match the size"):
        sharding.load_optimizer_state(network, optimizer, state)
