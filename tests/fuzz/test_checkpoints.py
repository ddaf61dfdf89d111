"""Damaged checkpoints: the content that was written, or one :class:`UserError`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save_file

from slowfast.models.weights.read import Checkpoint
from slowfast.models.weights.write import write_archive
from slowfast.utils.errors import UserError
from tests.fuzz.conftest import bounded, found_cases
from tests.fuzz.damage import damaged, damages

TENSORS = {
    "head.weight": torch.arange(12.0).reshape(3, 4),
    "head.bias": torch.ones(3, dtype=torch.float64),
    "steps": torch.tensor(7),
}
CONTENT = {
    "model_state": TENSORS,
    "optimizer_state": {"state": {0: {"exp_avg": torch.full((3,), 0.5)}}, "param_groups": [{"lr": 1e-3}]},
    "epoch": 3,
    "cfg": "MODEL:\n  NUM_CLASSES: 3\n",
}  # fmt: skip


def save_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_script(content: Any, path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(4, 3)), str(path))


# Name -> (how it is written, content, whether the file holds checksums of all that is in it).
FILES: dict[str, tuple[Callable[[Any, Path], None], Any, bool]] = {
    "own.pyth": (write_archive, CONTENT, True),
    "foreign.pth": (torch.save, TENSORS, True),
    "legacy.pth": (save_legacy, TENSORS, False),
    "script.pt": (save_script, None, False),
    "a.safetensors": (save_file, TENSORS, False),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def read(path: Path) -> dict[str, Any] | None:
    """The content; None if the file is refused as a user should see it."""
    try:
        checkpoint = Checkpoint.read(path)
        assert isinstance(checkpoint.content, dict)
        state = checkpoint.state
    except UserError as error:
        assert str(path) in str(error), error
        return None
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    return checkpoint.content


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, (save, content, _) in FILES.items():
        save(content, folder / name)
        assert read(folder / name) is not None
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_damaged_checkpoints(tmp_path, originals, name):
    _, content, verified = FILES[name]

    @bounded(60)
    @given(damages())
    @example([("cut", 0.0, 0.0, 0)])
    @example([("zero", 0.0, 0.5, 0)])
    def check(listed):
        path = tmp_path / name
        path.write_bytes(damaged(originals[name], listed))
        found = read(path)
        assert found is None or not verified or same(content, found)

    check()


@pytest.mark.parametrize("name", FILES)
def test_any_bytes(tmp_path, originals, name):
    """Not damage of a file, but what merely begins as one."""

    @bounded(30)
    @given(st.integers(0, 64), st.binary(max_size=200))
    def check(kept, others):
        path = tmp_path / name
        path.write_bytes(originals[name][:kept] + others)
        assert read(path) is None

    check()


@pytest.mark.parametrize("path", found_cases("checkpoints"), ids=lambda path: path.name)
def test_found_cases(path):
    assert read(path) is None
