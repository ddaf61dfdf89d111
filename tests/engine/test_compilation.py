"""torch.compile: one graph for training and one for evaluation, under all wrappers."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch._dynamo
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from slowfast.config.load import load_config
from slowfast.engine import sharding
from slowfast.engine.compilation import REDUCE_OVERHEAD, CompiledForward, compile_forward
from slowfast.engine.tasks import build_task
from slowfast.engine.train import Trainer
from slowfast.models.spec import ModelSpec
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.distributed import whole
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime
from tests.conftest import words
from tests.models.helpers import build, clips, to_eval

CPU = Runtime(torch.device("cpu"))
TEXTS = {"CLIP.TRAINED": ["visual", "text_projection", "text", "logit_scale"]}


@pytest.fixture
def graphs():
    """The graphs that were made, by a backend that runs them as they are."""
    made = []

    def backend(graph, inputs, **_):
        made.append(graph)
        return graph.forward

    torch.compiler.reset()
    made.append(backend)
    yield made
    torch.compiler.reset()


@pytest.mark.parametrize(
    "name, extra", [("ResNet3D", {}), ("STAM", {}), ("TemporalClipVideo", TEXTS)]
)
def test_two_graphs_serve_all_batches(graphs, name, extra):
    backend = graphs.pop()
    cfg, network = build(name, extra)
    plain = copy.deepcopy(network)
    compile_forward([network], True, backend)
    for _ in range(2):
        network.train().begin("train")
        for size in (4, 3, 2):
            scores, _ = network(clips(cfg, size), with_losses=True)
            scores.square().mean().backward()
        to_eval(network)
        for size in (4, 3, 2, 1):
            with torch.inference_mode():
                scores = network(clips(cfg, size))
            assert scores.shape == (size, 5)
        assert len(graphs) == 2
    plain.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert torch.allclose(scores, to_eval(plain)(clips(cfg, 1)), atol=1e-5)


def test_batches_of_one_clip_have_a_graph_where_they_come_first(graphs):
    backend = graphs.pop()
    cfg, network = build("FrameAverage")
    compile_forward([network], True, backend)
    for size in (1, 1, 4, 2, 1):
        network(clips(cfg, size))
    assert len(graphs) == 2


def test_a_copy_is_compiled_for_itself(graphs):
    """As averages of weights are made of a network."""
    backend = graphs.pop()
    cfg, network = build("FrameAverage")
    names = list(network.state_dict())
    compile_forward([network], True, backend)
    other = copy.deepcopy(network)
    nn.init.zeros_(other.head.weight)
    nn.init.zeros_(other.head.bias)
    assert isinstance(other.forward, CompiledForward) and other.forward.module is other
    assert other(clips(cfg)).abs().max() == 0 < network(clips(cfg)).abs().max()
    assert list(network.state_dict()) == names


class Chain(nn.Module):
    """Blocks of one shape."""

    spec = ModelSpec()

    def __init__(self, depth: int):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.01 * n)) for n in range(depth)
        )
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x).tanh()
        return x * self.scale


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def configured(kind, backend, monkeypatch):
    compiled = functools.partial(compile_forward, backend=backend)
    monkeypatch.setattr(sharding, "compile_forward", compiled)
    words = ["NUM_GPUS", "0", "MODEL.MODEL_NAME", "FrameAverage", "TRAIN.COMPILE", str(kind)]
    return load_config(overrides=words)


def test_divided_networks_are_compiled_by_blocks(graphs, group, monkeypatch):
    cfg = configured(True, graphs.pop(), monkeypatch)
    plain, network = Chain(12).eval(), Chain(12).eval()
    network = sharding.divide(network, init_device_mesh("cpu", (1,)))
    model = sharding.wrap_model(cfg, CPU, network)
    assert isinstance(model, FSDPModule)
    assert not isinstance(model.forward, CompiledForward)
    assert all(isinstance(block.forward, CompiledForward) for block in model.blocks)
    for size in (3, 5):
        x = torch.randn(size, 4)
        assert torch.allclose(model(x), plain(x), atol=1e-6)
    assert len(graphs) <= 12
    assert list(sharding.full_model_state(model)) == list(plain.state_dict())


def accumulated(model: nn.Module) -> list[torch.Tensor]:
    """Gradients of two batches, the first of them without exchange."""
    x = torch.linspace(-1, 1, 24).view(6, 4)
    with sharding.without_sync(model):
        model(x[:3]).square().sum().backward()
    model(x[3:]).square().sum().backward()
    return [whole(p.grad) for p in model.parameters()]


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp", "compiled outside"])
def test_accumulation_exchanges_once_when_compiled(graphs, group, monkeypatch, wrapper):
    backend = graphs.pop()
    cfg = configured(True, backend, monkeypatch)
    wanted = accumulated(Chain(2).eval())
    network = Chain(2).eval()
    if wrapper == "fsdp":
        network = sharding.divide(network, init_device_mesh("cpu", (1,)))
        model = sharding.wrap_model(cfg, CPU, network)
    else:
        model = sharding.wrap_model(cfg, Runtime(CPU.device, world=2), network)
        assert isinstance(model, DistributedDataParallel)
        assert isinstance(model.module.forward, CompiledForward)
        exchanged = []
        model.register_comm_hook(exchanged, _count_and_exchange)
    if wrapper == "compiled outside":
        model = torch.compile(model, backend=backend)
        assert sharding.unwrap(model) is network
    for mine, gradient in zip(accumulated(model), wanted, strict=True):
        assert torch.allclose(mine, gradient, atol=1e-5)
    if wrapper != "fsdp":
        assert len(exchanged) == 1


def _count_and_exchange(exchanged, bucket):
    exchanged.append(bucket.index())
    return allreduce_hook(None, bucket)


def test_an_error_inside_does_not_leave_the_exchange_off(group):
    network = sharding.divide(Chain(2), init_device_mesh("cpu", (1,)))
    calls = []
    network.set_requires_gradient_sync = calls.append
    with pytest.raises(ZeroDivisionError), sharding.without_sync(network):
        assert not network.averages_scalars
        raise ZeroDivisionError
    assert calls == [False, True] and network.averages_scalars


def test_a_compiled_run(graphs, make_cfg, tmp_path, monkeypatch):
    """Training, validation of the average, checkpoints under plain names, resumed without
    compilation."""
    configured(True, graphs.pop(), monkeypatch)
    values = {"TRAIN.COMPILE": True, "EMA.ENABLE": True, "MODEL.MODEL_NAME": "FrameAverage"}
    (tmp_path / "out").mkdir()
    cfg = make_cfg(values | {"SOLVER.MAX_EPOCH": 1, "TRAIN.BATCH_SIZE": 6, "TEST.BATCH_SIZE": 6})
    trainer = Trainer(cfg, CPU, build_task(cfg, CPU))
    trainer.run()
    assert isinstance(trainer.ema.module.forward, CompiledForward)
    assert 2 <= len(graphs) <= 3  # training, evaluation, and perhaps that of the average
    path = tmp_path / "out" / "checkpoints" / "checkpoint_epoch_00001.pyth"
    saved = read_checkpoint(path)
    for part in ("model_state", "ema_state"):
        assert not any("_orig_mod" in name or "module." in name for name in saved[part])
        assert "head.weight" in saved[part]
    cfg = make_cfg(values | {"SOLVER.MAX_EPOCH": 2, "TRAIN.COMPILE": False, "TRAIN.BATCH_SIZE": 6})
    with pytest.raises(UserError, match="TRAIN.COMPILE"):
        Trainer(cfg, CPU, build_task(cfg, CPU))


@pytest.mark.parametrize("kind", [True, False, "reduce-overhead"])
def test_values_of_the_key(kind):
    cfg = load_config(
        overrides=words({"NUM_GPUS": 0, "MODEL.MODEL_NAME": "FrameAverage", "TRAIN.COMPILE": kind})
    )
    assert kind == cfg.TRAIN.COMPILE and type(cfg.TRAIN.COMPILE) is type(kind)


@pytest.mark.parametrize(
    "extra, text",
    [
        ({"TRAIN.COMPILE": "fast"}, "must be True or False or 'reduce-overhead', is 'fast'"),
        ({"TRAIN.COMPILE": "reduce-overhead", "DIST.STRATEGY": "fsdp"}, "weights that stay in"),
    ],
)
def test_other_values_are_refused(extra, text):
    plain = {"NUM_GPUS": 0, "MODEL.MODEL_NAME": "FrameAverage"}
    with pytest.raises(UserError, match=text):
        load_config(overrides=words(plain | extra))


@pytest.mark.parametrize("kind, mode", [(True, None), (REDUCE_OVERHEAD, REDUCE_OVERHEAD)])
def test_cuda_graphs_are_recorded_where_they_are_asked_for(monkeypatch, kind, mode):
    given = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: given.append(options))
    compile_forward([nn.Linear(2, 2)], kind)
    assert [options.get("mode") for options in given] == [mode]
