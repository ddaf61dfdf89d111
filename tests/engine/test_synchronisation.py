"""What a GPU would have to wait for: a step of every family on fake CUDA tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from slowfast.config.load import load_config
from slowfast.datasets.batch import Batch
from slowfast.engine.network import arrange
from slowfast.engine.optim import build_optimizer, skips_on_device
from slowfast.engine.prefetch import on_device
from slowfast.models import MODEL_REGISTRY
from slowfast.models.fewshot import build_fewshot
from slowfast.models.fewshot_heads import FEWSHOT_REGISTRY
from tests.conftest import words
from tests.fake_cuda import (
    GPU,
    Spy,
    fake_batch,
    fake_gpu,
    record_prediction,
    record_step,
    to_fake_gpu,
)
from tests.fewshot import TINY_FEWSHOT
from tests.models.helpers import NAMES, VARIANTS, build

# What a host may wait for in a step: (network, operator). Nothing so far.
ALLOWED_WAITS: set[tuple[str, str]] = set()
# Convolutions that do not compute channels-last: STFM's of single frames; the FCN head's, which
# begin with one channel, so that their layout is ambiguous.
OTHER_LAYOUTS = ("layers/consensus.py",)
# Attention that misses the fast kernels: PyTorch's own encoder, here with heads of width 4.
SLOW_ATTENTION = ("layers/consensus.py",)
HALF = {"TRAIN.MIXED_PRECISION": True, "SOLVER.OPTIMIZING_METHOD": "adamw"}
TSN = {"MODEL.MODEL_NAME": "TSN"} | MODEL_REGISTRY.get("TSN").spec.test_overrides


def check(record, name):
    waits = [wait for wait in record.waits if (name, wait.operator) not in ALLOWED_WAITS]
    assert not waits, f"{name}: the host waits for the device: {waits}"
    assert not record.blocking_copies(), f"{name}: {record.blocking_copies()}"
    to_host = [copy for copy in record.copies if copy.detail == "cuda->cpu"]
    assert len(to_host) == 1, f"{name}: figures and scores come in one piece, not {to_host}"


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_a_step_waits_for_nothing(name, extra):
    # float16: the loss is scaled as well, and layouts are as with a driver.
    cfg, network = build(name, extra | HALF | {"TRAIN.AMP_DTYPE": "float16"})
    record = record_step(cfg, network)
    assert record.operators > 100
    check(record, name)
    wrong = [c for c in record.convolutions if c.detail != "channels last"]
    wrong = [call for call in wrong if not call.where.startswith(OTHER_LAYOUTS)]
    assert not wrong, f"{name}: the layout of clips is lost: {wrong}"
    slow = [a for a in record.attention if a.detail and not a.where.startswith(SLOW_ATTENTION)]
    assert not slow, f"{name}: no fast attention kernel takes {slow}"


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_waits_for_nothing(name):
    cfg, network = build(name, HALF)
    network.eval().begin("test")
    check(record_prediction(cfg, network), name)


@pytest.mark.parametrize("method", sorted(FEWSHOT_REGISTRY))
def test_an_episode_waits_for_nothing(method):
    values = TINY_FEWSHOT | HALF | {"FEWSHOT.METHOD": method}
    if FEWSHOT_REGISTRY.get(method).embedding_type == "frames":
        values |= TSN
    cfg = load_config(overrides=words(values))
    check(record_step(cfg, build_fewshot(cfg, 6, "cpu")), method)
    check(record_prediction(cfg, build_fewshot(cfg, 6, "cpu")), method)


@pytest.mark.parametrize(
    "extra",
    [
        {"SOLVER.OPTIMIZING_METHOD": "sgd", "SOLVER.CLIP_GRAD_L2NORM": 1.0},
        {"SOLVER.OPTIMIZING_METHOD": "adam", "SOLVER.CLIP_GRAD_VAL": 1.0},
        {"TRAIN.NAN_POLICY": "skip", "MIXUP.ENABLE": True, "AUG.ENABLE": True},
        {"TRAIN.MIXED_PRECISION": False, "MODEL.LOSS_FUNC": "focal"},
    ],
)
def test_no_option_makes_a_step_wait(extra):
    cfg, network = build("FrameAverage", HALF | extra)
    record = record_step(cfg, network, batch=4, accumulated=2)
    check(record, "FrameAverage")
    assert sum(copy.detail == "cpu->cuda" for copy in record.copies) == 4  # clips and labels, twice


def test_an_optimizer_of_another_project_waits_once():
    """It cannot skip a step on the device: whether it is taken is asked for, nothing else."""
    cfg, network = build("FrameAverage", HALF | {"SOLVER.OPTIMIZING_METHOD": "lion"})
    (wait,) = record_step(cfg, network).waits
    assert wait.operator == "_local_scalar_dense" and "_step_if" in wait.where


def test_what_waits_is_found():
    with fake_gpu():
        spy = Spy()
        video = torch.empty(2, 3, device=GPU)
        with spy:
            float(video.sum() + torch.tensor([1.0, 2.0]).to(GPU).sum())
            with pytest.raises(DynamicOutputShapeException):
                video[video > 0]
    assert [wait.operator for wait in spy.record.waits] == [
        "_local_scalar_dense",
        "index by a mask",
    ]
    assert [copy.detail for copy in spy.record.copies] == ["cpu->cuda blocking"]


def test_convolutions_of_a_gpu_lie_channels_last():
    cfg, network = build("Uniformer")
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv3d)]
    before = {name: network.get_submodule(name).weight for name in names}
    assert arrange(cfg, network) is network
    layout = torch.channels_last_3d
    assert not all(w.is_contiguous(memory_format=layout) for w in before.values())  # on the CPU
    with fake_gpu():
        arrange(cfg, to_fake_gpu(network))
    weights = [network.get_submodule(name).weight for name in names]
    assert all(weight.is_contiguous(memory_format=layout) for weight in weights)
    cfg, network = build("Uniformer", {"DIST.STRATEGY": "fsdp"})
    with fake_gpu():  # which shards contiguous weights only
        arrange(cfg, to_fake_gpu(network))
    assert all(parameter.is_contiguous() for parameter in network.parameters())


def test_optimizers_are_fused_on_a_gpu():
    for method, fused in (("adamw", True), ("adam", True), ("sgd", True), ("lion", False)):
        cfg, network = build("FrameAverage", {"SOLVER.OPTIMIZING_METHOD": method})
        assert not skips_on_device(build_optimizer(cfg, network))  # bits of the CPU stay
        with fake_gpu():
            assert skips_on_device(build_optimizer(cfg, to_fake_gpu(network))) is fused


def test_a_batch_on_the_way_keeps_small_things_on_the_host():
    batch = Batch(
        video=torch.zeros(2, 3, 4, 8, 8, dtype=torch.uint8),
        label=torch.tensor([1, 2]),
        index=torch.tensor([5, 6]),
        path=["a", "b"],
    )
    (same,) = on_device([batch], torch.device("cpu"))
    assert same is batch
    cfg, _ = build("FrameAverage")
    with fake_gpu():
        batch = fake_batch(cfg, 2)
        empty, moved = on_device([Batch(), batch], GPU)
    assert empty.video is None and moved.video.device == GPU
    assert moved.label is batch.label and moved.index is batch.index
