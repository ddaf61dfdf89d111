"""Versions with known faults are reported."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import torch

from slowfast.analysis import environment
from slowfast.utils import runtime

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "version, fits",
    [("2.6.0", False), ("2.7.0", True), ("2.8.0+cu129", True), ("2.9.0", False), ("2.9.1+cu130", False),
     ("2.10.0", True), ("2.11.0", True), ("2.15.0+cu132", True)],
)  # fmt: skip
def test_pytorch_2_9_is_left_out(monkeypatch, version, fits):
    """Its half-precision conv3d is wrong or slow."""
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: version if name == "torch" else real(name)
    )
    (needed,) = [
        r for r, _ in environment._requirements(ROOT / "pyproject.toml") if r.startswith("torch>")
    ]
    finding = environment._package(needed, "")
    assert bool(finding.remedy) != fits and environment.is_ready([finding]) == fits
    if not fits:
        assert "!=2.9.*" in finding.state


@pytest.mark.parametrize(
    "number, version, text",
    [
        (8902, "8.9.2", "older than PyTorch"),
        (90100, "9.1.0", ""),
        (90701, "9.7.1", ""),
        (90800, "9.8.0", "conv3d"),
        (91002, "9.10.2", "conv3d"),
        (91400, "9.14.0", "conv3d"),
        (91500, "9.15.0", ""),
        (92600, "9.26.0", ""),
    ],
)
def test_versions_of_cudnn(monkeypatch, number, version, text):
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: number)
    (finding,) = [f for f in environment._devices() if f.name == "cuDNN"]
    assert finding.state == version
    assert text in finding.remedy and bool(finding.remedy) == bool(text)
    assert environment.is_ready([finding])


def test_pytorch_without_cudnn(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: None)
    assert runtime.cudnn_version() is None
    assert not [f for f in environment._devices() if f.name == "cuDNN"]
