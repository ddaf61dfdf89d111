"""One optimizer step: accumulation, clipping, mixed precision, numbers that are not finite."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils._pytree import tree_leaves

from slowfast.datasets.batch import Batch
from slowfast.engine import optim
from slowfast.engine.nonfinite import describe_norms, gradient_norms
from slowfast.engine.optim import build_optimizer
from slowfast.engine.step import OptimizerStep
from slowfast.engine.tasks.base import LossOutput
from slowfast.models.spec import ModelSpec
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime

CPU = Runtime(torch.device("cpu"))


class Line(nn.Module):
    spec = ModelSpec()

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(6, 3)

    def forward(self, x):
        return self.body(x)


def make_step(cfg, model, ema=None):
    return OptimizerStep(cfg, model, Classify(), build_optimizer(cfg, model), CPU, ema)


class Classify:
    """The part of a task that a step uses."""

    def prepare(self, batch, split, step=0):
        assert not torch.is_autocast_enabled("cpu")
        return batch

    def loss(self, model, batch):
        value = nn.functional.cross_entropy(model(batch.video), batch.label)
        return LossOutput(value, batch.size, {"err": float(value.detach())})


def batches(sizes, seed=0):
    torch.manual_seed(seed)
    x, y = torch.randn(sum(sizes), 6), torch.randint(0, 3, (sum(sizes),))
    parts = zip(x.split(sizes), y.split(sizes))
    return [Batch(video=a, label=b, path=[f"v{i}" for i in range(len(b))]) for a, b in parts]


@pytest.mark.parametrize("sizes", [[4, 4, 4], [4, 4, 1]])
def test_accumulated_step_is_the_large_batch(make_cfg, sizes):
    cfg = make_cfg({"SOLVER.CLIP_GRAD_L2NORM": 0.5, "SOLVER.OPTIMIZING_METHOD": "sgd"})
    results = []
    for parts in (sizes, [sum(sizes)]):
        model = Line()
        output = make_step(cfg, model)(batches(sizes) if parts is sizes else _joined(sizes), 0.1, 0)
        results.append((output, copy.deepcopy(model.state_dict())))
    (a, weights_a), (b, weights_b) = results
    assert a.loss == pytest.approx(b.loss, rel=1e-6) and a.size == b.size == sum(sizes)
    assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-5)
    assert a.stats["err"] == pytest.approx(b.stats["err"], rel=1e-6)
    for name in weights_a:
        assert torch.allclose(weights_a[name], weights_b[name], atol=1e-7)


def _joined(sizes):
    parts = batches(sizes)
    return [
        Batch(
            video=torch.cat([p.video for p in parts]),
            label=torch.cat([p.label for p in parts]),
            path=["x"] * sum(sizes),
        )
    ]


def test_norm_is_measured_before_clipping(make_cfg):
    free, tight = Line(), Line()
    out = make_step(make_cfg(), free)(batches([8]), 0.1, 0)
    cfg = make_cfg({"SOLVER.CLIP_GRAD_L2NORM": out.grad_norm / 10})
    clipped = make_step(cfg, tight)(batches([8]), 0.1, 0)
    assert clipped.grad_norm == pytest.approx(out.grad_norm)
    left = math.sqrt(sum(p.grad.square().sum() for p in tight.parameters()))
    assert left == pytest.approx(out.grad_norm / 10, rel=1e-3)


def test_clipping_by_value(make_cfg):
    model = Line()
    make_step(make_cfg({"SOLVER.CLIP_GRAD_VAL": 0.001}), model)(batches([8]), 0.1, 0)
    assert max(p.grad.abs().max() for p in model.parameters()) <= 0.001


def test_not_finite_stops_and_names_the_videos(make_cfg):
    model = Line()
    before = copy.deepcopy(model.state_dict())
    bad = batches([4])
    bad[0].video[2, 0] = float("inf")
    with pytest.raises(UserError) as caught:
        make_step(make_cfg(), model)(bad, 0.1, 17)
    text = str(caught.value)
    assert "step 17" in text and "lr 0.1" in text and "loss scale 1" in text
    assert "videos, loss not finite: v0, v1, v2, v3" in text
    assert "gradient norm by layer: 2 of 2 are not finite" in text and "nan  body.weight" in text
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_gradients_are_described_largest_first():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    model[0].weight.grad = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    model[0].bias.grad = torch.tensor([float("inf"), 0.0])
    model[1].weight.grad = torch.full((2, 2), 6.0)
    lines = describe_norms(gradient_norms(model)).splitlines()
    assert "1 of 3 are not finite" in lines[0]
    assert [line.split() for line in lines[1:]] == [
        ["inf", "0.bias"],
        ["12", "1.weight"],
        ["5", "0.weight"],
    ]


def test_not_finite_can_be_skipped_a_few_times(make_cfg):
    model = Line()
    cfg = make_cfg({"TRAIN.NAN_POLICY": "skip", "TRAIN.NAN_SKIP_LIMIT": 2})
    step = make_step(cfg, model)
    before = copy.deepcopy(model.state_dict())
    bad = batches([4])
    bad[0].video[:] = float("nan")
    for _ in range(2):
        assert step(bad, 0.1, 0).skipped
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not step(batches([4]), 0.1, 0).skipped  # a good one starts anew
    for _ in range(2):
        step(bad, 0.1, 0)
    with pytest.raises(UserError, match="non-finite"):
        step(bad, 0.1, 0)


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("first", [False, True])
def test_a_step_is_skipped_on_the_device(make_cfg, monkeypatch, kind, first):
    """As on a GPU: the optimizer learns from a tensor that it must not step, the host later."""
    monkeypatch.setattr(optim, "_fused", lambda groups: True)
    cfg = make_cfg({"TRAIN.NAN_POLICY": "skip", "SOLVER.OPTIMIZING_METHOD": kind})
    bad = batches([4])
    bad[0].video[1] = float("inf")

    def run(orders):
        model = Line()
        ema = ModelEmaV3(model, decay=0.5)
        step = make_step(cfg, model, ema)
        assert optim.skips_on_device(step.optimizer)
        skipped = [step(group, 0.1, 5).skipped for group in orders]
        states = [dict(state) for state in step.optimizer.state.values()]
        return skipped, model.state_dict(), ema.module.state_dict(), states

    good = [batches([4], seed) for seed in (1, 2)]
    orders = [bad, *good] if first else [good[0], bad, good[1]]
    skipped, *found = run(orders)
    assert skipped == ([True, False, False] if first else [False, True, False])
    _, *expected = run(good)
    for left, right in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        assert torch.equal(left, right)  # to the bit: weights, average, counts and momenta


def test_an_infinite_loss_skips_although_gradients_are_finite(make_cfg):
    class Constant(Classify):
        def loss(self, model, batch):
            output = super().loss(model, batch)
            output.loss = output.loss + float("inf")
            return output

    model = Line()
    cfg = make_cfg({"TRAIN.NAN_POLICY": "skip"})
    step = OptimizerStep(cfg, model, Constant(), build_optimizer(cfg, model), CPU)
    before = copy.deepcopy(model.state_dict())
    assert step(batches([4]), 0.1, 0).skipped
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_figures_are_those_of_their_step(make_cfg):
    """Steps that are launched before the figures of earlier ones are read change none of them."""
    at_once, late = (make_step(make_cfg(), Line()) for _ in range(2))
    data = [batches([4, 2], seed) for seed in range(3)]
    expected = [at_once(group, 0.1, number) for number, group in enumerate(data)]
    pending = [late.launch(group, 0.1, number) for number, group in enumerate(data)]
    assert [late.finish(step, [step.message()]) for step in pending] == expected


def test_a_late_error_names_its_own_step(make_cfg):
    step = make_step(make_cfg(), Line())
    bad = batches([2])
    bad[0].video[0, 0], bad[0].path = float("nan"), ["broken.mp4", "other.mp4"]
    first = step.launch(bad, 0.1, 7)
    second = step.launch(batches([2]), 0.1, 8)
    with pytest.raises(UserError) as caught:
        step.finish(first, [first.message()])
    text = str(caught.value)
    assert "step 7" in text and "loss not finite: broken.mp4, other.mp4" in text
    assert "gradient norm by layer: 2 of 2 are not finite" in text
    assert not step.finish(second, [second.message()]).skipped


def test_bfloat16_is_close_to_float32(make_cfg):
    outputs = []
    for amp in (False, True):
        model = Line()
        seen = []
        handle = model.body.register_forward_hook(lambda m, i, o, seen=seen: seen.append(o.dtype))
        step = make_step(make_cfg({"TRAIN.MIXED_PRECISION": amp}), model)
        outputs.append(step(batches([8]), 0.1, 0).loss)
        handle.remove()
        assert seen == [torch.bfloat16 if amp else torch.float32]
    assert outputs[0] == pytest.approx(outputs[1], rel=0.02) and outputs[0] != outputs[1]


def test_ema_follows(make_cfg):
    model = Line()
    ema = ModelEmaV3(model, decay=0.5)
    start = model.body.weight.detach().clone()
    make_step(make_cfg(), model, ema)(batches([8]), 0.1, 5)
    expected = 0.5 * start + 0.5 * model.body.weight
    assert torch.allclose(ema.module.body.weight, expected, atol=1e-6)
