"""Properties of the learning rate beyond the parity tables."""

from __future__ import annotations

import pytest

from slowfast.config.load import load_config
from slowfast.engine.schedule import LR_POLICY_REGISTRY, is_due, learning_rate


def solver(*words):
    return load_config(overrides=["NUM_GPUS", "0", *words]).SOLVER


def test_warm_up_meets_the_cosine():
    s = solver("SOLVER.WARMUP_EPOCHS", "5", "SOLVER.MAX_EPOCH", "20", "SOLVER.BASE_LR", "0.2")
    assert learning_rate(s, 0) == s.WARMUP_START_LR
    assert learning_rate(s, 5 - 1e-9) == pytest.approx(learning_rate(s, 5), rel=1e-6)
    values = [learning_rate(s, 5 + i / 10) for i in range(150)]
    assert values == sorted(values, reverse=True)
    assert learning_rate(s, 20) == pytest.approx(0, abs=1e-12)


def test_steps():
    s = solver(
        "SOLVER.LR_POLICY",
        "steps_with_relative_lrs",
        "SOLVER.STEPS",
        "[0, 4, 8]",
        "SOLVER.LRS",
        "[1, 0.1, 0.01]",
        "SOLVER.MAX_EPOCH",
        "10",
    )
    rates = [learning_rate(s, e) for e in (0, 3.99, 4, 8, 9.9, 11)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001, 0.001])


def test_last_epoch_is_always_due():
    assert [e for e in range(7) if is_due(e, 3, 7)] == [2, 5, 6]


def test_a_trial_shorter_than_the_warm_up():
    s = solver(
        "SOLVER.WARMUP_EPOCHS",
        "5",
        "SOLVER.MAX_EPOCH",
        "2",
        "SOLVER.BASE_LR",
        "0.2",
        "SOLVER.COSINE_AFTER_WARMUP",
        "True",
    )
    assert learning_rate(s, 1) == pytest.approx(s.WARMUP_START_LR + (0.2 - s.WARMUP_START_LR) / 5)


def test_own_policy_by_name_gets_the_warm_up(monkeypatch):
    def linear(solver, epoch):
        return solver.BASE_LR * (1 - epoch / solver.MAX_EPOCH)

    monkeypatch.setitem(LR_POLICY_REGISTRY._objects, "linear", linear)
    words = ["SOLVER.LR_POLICY", "linear", "SOLVER.MAX_EPOCH", "10", "SOLVER.BASE_LR", "0.2"]
    s = solver(*words, "SOLVER.WARMUP_EPOCHS", "2", "SOLVER.WARMUP_START_LR", "0.04")
    rates = [learning_rate(s, epoch) for epoch in (0, 1, 2, 5, 10)]
    assert rates == pytest.approx([0.04, 0.1, 0.16, 0.1, 0.0])
