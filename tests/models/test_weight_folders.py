"""Folders of torch.distributed.checkpoint: read as single files are, and as safely."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING, ChunkStorageMetadata

from slowfast.engine.folder_writer import repack
from slowfast.models.weights.archive import DamagedError
from slowfast.models.weights.folder import folder_hash
from slowfast.models.weights.read import read_checkpoint, state_dict_of
from slowfast.models.weights.write import write_archive
from slowfast.utils.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def content() -> dict:
    generator = torch.Generator().manual_seed(1)
    weights = {"a.weight": torch.randn(3, 4, generator=generator), "scale": torch.tensor(2.0)}
    moments = {name: torch.rand(3, 4, generator=generator) for name in ("exp_avg", "exp_avg_sq")}
    return {
        "epoch": 3,
        "model_state": weights,
        "ema_state": None,
        "optimizer_state": {
            "state": {0: {"step": torch.tensor(7.0), **moments}, 1: {"momentum_buffer": None}},
            "param_groups": [{"params": [0, 1], "betas": (0.9, 0.99), "maximize": False}],
        },
        "sampler_state": {"epoch": 4},
        "rng_state": {"ranks": [{"torch": torch.arange(9, dtype=torch.uint8)}]},
        "class_names": ["one", "two"],
    }


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.fixture
def folder(tmp_path) -> Path:
    write_archive(content(), tmp_path / "one.pyth")
    repack(tmp_path / "one.pyth", tmp_path / "one.dcp")
    return tmp_path / "one.dcp"


def test_there_and_back(folder, tmp_path):
    assert equal(read_checkpoint(folder), content())
    without = read_checkpoint(folder, mapped=True)
    state = without.pop("optimizer_state")
    assert state["param_groups"] and state["state"][0] == {}
    assert equal(without, {k: v for k, v in content().items() if k != "optimizer_state"})
    repack(folder, tmp_path / "back.pyth")
    assert equal(read_checkpoint(tmp_path / "back.pyth"), content())
    # PyTorch reads it as any other.
    state = {"model_state": {"a.weight": torch.zeros(3, 4)}}
    dcp.load(state, checkpoint_id=folder)
    assert torch.equal(state["model_state"]["a.weight"], content()["model_state"]["a.weight"])


def test_members_as_early_python_3_11_writes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(
        _MEM_FORMAT_ENCODING, "__reduce_ex__", lambda one, _: (getattr, (type(one), one.name))
    )
    dcp.save({"model": {"a": torch.ones(4, 2)}}, checkpoint_id=tmp_path / "other")
    assert b"getattr" in (tmp_path / "other/.metadata").read_bytes()
    (content,) = read_checkpoint(tmp_path / "other").values()
    assert torch.equal(content["a"], torch.ones(4, 2))


def test_what_cannot_be_repacked(folder, tmp_path):
    for source, target, text in (
        (folder, "two.dcp", "as a file"),
        (tmp_path / "one.pyth", "two.pt", "as a folder"),
        (tmp_path / "one.pyth", "one.dcp", "exists"),
    ):
        with pytest.raises(UserError, match=text):
            repack(source, tmp_path / target)
    write_archive({"model_state": content()["model_state"]}, tmp_path / "weights.pyth")
    with pytest.raises(UserError, match="no state of a run"):
        repack(tmp_path / "weights.pyth", tmp_path / "weights.dcp")


def test_folders_of_others(tmp_path):
    """The weights of another project, in a folder without our head."""
    state = {"model": {"a.weight": torch.rand(4, 2)}, "steps": 5, "notes": ["text"]}
    dcp.save(state, checkpoint_id=tmp_path / "other")
    read = read_checkpoint(tmp_path / "other")
    assert equal(read, state)
    assert state_dict_of(read).keys() == {"a.weight"}
    data = tmp_path / "other" / "__0_0.distcp"
    data.write_bytes(
        data.read_bytes().replace(state["model"]["a.weight"].numpy().tobytes(), bytes(32))
    )
    with pytest.raises(UserError, match="CRC-32"):
        read_checkpoint(tmp_path / "other")


def drop(name: str):
    return lambda folder: (folder / name).unlink()


def cut(name: str):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def flip(name: str):
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 4
        (folder / name).write_bytes(data)

    return change


@pytest.mark.parametrize(
    "change, text",
    [
        (drop("run.pyth"), "incomplete: there is no run.pyth"),
        (drop(".metadata"), "its file .metadata is missing"),
        (drop("__0_0.distcp"), "its file __0_0.distcp is missing"),
        (cut("__0_0.distcp"), "__0_0.distcp is not the one that was written"),
        (flip("__0_0.distcp"), "__0_0.distcp is not the one that was written"),
        (flip(".metadata"), ".metadata is not the one that was written"),
        (cut("run.pyth"), "damaged"),
    ],
)
def test_damage_is_said(folder, change, text):
    change(folder)
    with pytest.raises(UserError, match=text) as error:
        read_checkpoint(folder)
    assert str(folder) in str(error.value)


# -- hostile folders ------------------------------------------------------------------------------


class Runs:
    def __reduce__(self):
        return os.mkdir, ("hostile",)


def with_index(folder: Path, change) -> None:
    """Change the index of a folder without our head, whose files nothing compares."""
    index = pickle.loads((folder / ".metadata").read_bytes())
    change(index)
    (folder / ".metadata").write_bytes(pickle.dumps(index))


@pytest.fixture
def foreign(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    dcp.save({"model": {"a": torch.rand(4, 2)}}, checkpoint_id=tmp_path / "other")
    return tmp_path / "other"


def test_a_pipe_in_a_folder_is_refused(foreign):
    """Its reading would never end; a filler makes up for the size that it lacks."""
    (foreign / "__0_0.distcp").rename(foreign / "filler")
    os.mkfifo(foreign / "__0_0.distcp")
    with pytest.raises(UserError, match="'__0_0.distcp' is no file"):
        read_checkpoint(foreign)
    with pytest.raises(DamagedError, match="is no file"):
        folder_hash(foreign)


def test_no_code_is_run(foreign, tmp_path):
    (foreign / ".metadata").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(UserError, match="holds more than tensors: posix.mkdir is not allowed"):
        read_checkpoint(foreign)
    shutil.rmtree(foreign)
    dcp.save({"model": {"a": torch.rand(4, 2)}, "x": Runs()}, checkpoint_id=foreign)
    with pytest.raises(UserError, match=r"more than tensors: .*(Runs|mkdir) is not allowed"):
        read_checkpoint(foreign)
    assert not (tmp_path / "hostile").exists()


def set_size(index, size: tuple, sizes: tuple) -> None:
    entry = index.state_dict_metadata["model.a"]
    entry.size = torch.Size(size)
    entry.chunks = [ChunkStorageMetadata(torch.Size([0] * len(sizes)), torch.Size(sizes))]


def set_file(index, name: str) -> None:
    for info in index.storage_data.values():
        info.relative_path = name


def set_place(index, offset: int, length: int) -> None:
    for info in index.storage_data.values():
        info.offset, info.length = offset, length


def repeat(index, times: int) -> None:
    """More tensors in the bytes of one, which would take that much memory."""
    ((place, info),) = index.storage_data.items()
    for number in range(times):
        name = f"model.b{number}"
        index.state_dict_metadata[name] = index.state_dict_metadata["model.a"]
        index.storage_data[replace(place, fqn=name)] = info


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda i: set_size(i, (2**40, 2), (2**40, 2)), "claims more bytes"),
        (lambda i: set_size(i, (2**40, 2), (4, 2)), "parts of 'model.a' are missing"),
        (lambda i: set_size(i, (4, 4), (4, 2)), "more than its first dimension"),
        (lambda i: set_size(i, (2, 2), (2, 2)), "not what its index says"),
        (lambda i: set_file(i, "../../etc/passwd"), "lies elsewhere"),
        (lambda i: set_place(i, 0, 2**50), "claims more bytes"),
        (lambda i: set_place(i, 99, next(iter(i.storage_data.values())).length), "ends too early"),
        (lambda i: repeat(i, 50), "claims more bytes than its files have"),
        (lambda i: i.storage_data.clear(), "has no place"),
        (lambda i: setattr(i, "storage_data", 5), "has no storage_data"),
        (lambda i: i.planner_data.update({"model.a": ("model",)}), "'model' stands in it"),
    ],
)
def test_hostile_indices_are_refused(foreign, change, text):
    if "stands" in text:
        dcp.save({"model": {"a": torch.rand(4, 2), "b": torch.rand(1)}}, checkpoint_id=foreign)
        text = "leads into a value|stands in it"
    with_index(foreign, change)
    with pytest.raises(UserError, match=text):
        read_checkpoint(foreign)
