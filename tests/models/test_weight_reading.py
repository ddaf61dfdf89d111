"""Files of tensors: what is read is what was written, and costs no more than the file holds."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from slowfast.analysis.flips import content_digest
from slowfast.models.spec import ModelSpec
from slowfast.models.weights.archive import TABLE, Archive
from slowfast.models.weights.loader import load_state
from slowfast.models.weights.read import Checkpoint, read_checkpoint, read_content, state_dict_of
from slowfast.models.weights.safetensors import digest_of, write_safetensors
from slowfast.models.weights.write import write_archive
from slowfast.utils.errors import UserError
from tests.scripts import CONTEXT


def content() -> dict:
    """Every kind of value that a checkpoint may hold."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    return {
        "model_state": network.state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "tied": network[0].weight.detach(),
        "strided": torch.randn(4, 6).t(),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(1.5),
        "small": torch.ones(3).to(torch.float8_e4m3fn).float(),
        "unsigned": torch.tensor([1, 2], dtype=torch.int16),
        "half": torch.randn(5).bfloat16(),
        "values": [1, 10**30, -1.5, None, True, "text", b"bytes", (2, 3), 1j],
        "shape": torch.Size([1, 2]),
        "kind": torch.float16,
        "device": torch.device("cuda", 1),
    }


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_everything_is_read_as_pytorch_does(tmp_path, mapped, protocol):
    saved, path = content(), tmp_path / "a.pyth"
    torch.save(saved, path, pickle_protocol=protocol)
    found = read_content(path, mapped=mapped)
    assert content_digest(torch.load(path, weights_only=False)) == content_digest(found)
    assert found["tied"].data_ptr() == found["model_state"]["0.weight"].data_ptr()
    found["number"].fill_(3)  # a copy, or private pages: the file stays as it is
    assert read_content(path)["number"] == 1.5


def test_old_formats_are_read(tmp_path):
    saved = content()
    del saved["shape"], saved["kind"], saved["device"]
    torch.save(saved, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = read_content(tmp_path / "old.pth", mapped=True)
    assert content_digest(torch.load(tmp_path / "old.pth", weights_only=True)) == content_digest(
        found
    )
    torch.save({"loss": np.float64(3.5), "n": np.int64(7)}, tmp_path / "numpy.pth")
    assert read_content(tmp_path / "numpy.pth") == {"loss": 3.5, "n": 7}


def test_a_written_file_is_an_ordinary_one(tmp_path):
    """PyTorch and PySlowFast read it, mapped or not; equal contents give equal files."""
    saved, path = content(), tmp_path / "a.pyth"
    write_archive(saved, path)
    for mapped in (False, True):
        found = torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
        assert content_digest(saved) == content_digest(found)
    write_archive(saved, tmp_path / "b.pyth")
    assert path.read_bytes() == (tmp_path / "b.pyth").read_bytes()


# -- damage ----------------------------------------------------------------------------------------


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the records of an archive and write it with the right CRC-32 of each."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, data)


def changed_tensor(records: dict[str, bytes]) -> None:
    name = "archive/data/0"
    records[name] = bytes([records[name][0] ^ 1]) + records[name][1:]


def changed_name(records: dict[str, bytes]) -> None:
    pickled = records["archive/data.pkl"]
    assert pickled.count(b"0.weight") == 1
    records["archive/data.pkl"] = pickled.replace(b"0.weight", b"9.weight")


def changed_shape(records: dict[str, bytes]) -> None:
    pickled = records["archive/data.pkl"]
    wide, tall = b"K\x04K\x03\x86", b"K\x03K\x04\x86"
    assert wide in pickled
    records["archive/data.pkl"] = pickled.replace(wide, tall, 1)


def missing_record(records: dict[str, bytes]) -> None:
    del records["archive/version"]


def added_record(records: dict[str, bytes]) -> None:
    records["archive/data/99"] = b"1234"


@pytest.mark.parametrize(
    "change", [changed_tensor, changed_name, changed_shape, missing_record, added_record]
)
def test_a_change_is_noticed_even_with_the_right_crc(tmp_path, change):
    path = tmp_path / "a.pyth"
    write_archive(content(), path)
    rewrite(path, lambda records: None)  # another zip program changes nothing
    assert content_digest(torch.load(path, weights_only=True)) == content_digest(read_content(path))
    rewrite(path, change)
    with pytest.raises(UserError, match="a.pyth cannot be read.*table of checksums"):
        read_content(path, "KEY")


def test_every_record_is_in_the_table(tmp_path):
    write_archive(content(), tmp_path / "a.pyth")
    with open(tmp_path / "a.pyth", "rb") as file:
        archive = Archive(file)
        assert archive.verify() and list(archive.records)[-1] == archive.root + TABLE
        table = json.loads(archive.read(TABLE, 1 << 20))["sha256"]
        assert table.keys() == {n.removeprefix(archive.root) for n in archive.records} - {TABLE}
    torch.save(content(), tmp_path / "b.pyth")
    with open(tmp_path / "b.pyth", "rb") as file:
        assert not Archive(file).verify()


def test_crc_of_foreign_archives(tmp_path):
    path = tmp_path / "foreign.pth"
    torch.save({"w": torch.zeros(1000)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(bytes(4000)) + 1234] = 7
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["w"].sum() != 0  # PyTorch does not notice
    with pytest.raises(UserError, match="foreign.pth cannot be read.*CRC-32"):
        read_checkpoint(path, "KEY")


def test_safetensors_carry_a_checksum(tmp_path):
    path = tmp_path / "w.safetensors"
    state = {"a": torch.zeros(1000), "b": torch.ones(2, 2)}
    write_safetensors(state, path)
    found = read_checkpoint(path)["model_state"]
    assert content_digest(state) == content_digest(found)
    data = bytearray(path.read_bytes())
    data[-2000] = 1
    path.write_bytes(data)
    with safe_open(path, "pt") as file:
        assert file.get_tensor("a").sum() != 0
    with pytest.raises(UserError, match="w.safetensors cannot be read.*SHA-256"):
        read_checkpoint(path)


def test_safetensors_of_earlier_versions(tmp_path):
    """Their checksum, of the tensors alone, is the only entry of the metadata."""
    path = tmp_path / "w.safetensors"
    state = {"a": torch.arange(9.0)}
    save_file(state, path, metadata={"sha256": digest_of(state)})
    assert set(read_checkpoint(path)) == {"model_state"}
    save_file({"a": torch.zeros(9)}, path, metadata={"sha256": digest_of(state)})
    with pytest.raises(UserError, match="SHA-256"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"(", b"\x80", b"\x80\x02", b"PK", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), bytes(5000)],
    ids=ascii,
)
@pytest.mark.parametrize("name", ["a.pyth", "a.safetensors"])
def test_rests_of_files(tmp_path, data, name):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name} cannot be read") as caught:
        read_checkpoint(tmp_path / name, "KEY")
    assert str(caught.value).startswith("KEY: ") and "->" in str(caught.value)


# -- odd and hostile contents ----------------------------------------------------------------------


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def repeated(levels: int) -> list:
    value: list = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


def cyclic() -> list:
    value: list = []
    value.append(value)
    return value


ODD = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.empty(3, device="meta"),
    "stride of 0": lambda: torch.zeros(1).expand(10**6, 10**6),
    "many views": lambda: list(torch.zeros(10**5).unfold(0, 5 * 10**4, 500)),
    "huge number": lambda: 10**5000,
    "cyclic": cyclic,
    "deep": lambda: nested(100),
    "repeated": lambda: repeated(50),
    "tuple in a key": lambda: {(1, (2,)): 3},
    "half a character": lambda: "\ud800",
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("write", [write_archive, torch.save])
def test_odd_contents_are_one_clear_error(tmp_path, name, write):
    write({"model_state": {"w": torch.ones(2)}, "x": ODD[name]()}, tmp_path / "odd.pyth")
    with pytest.raises(UserError, match=r"odd.pyth cannot be (used|read)") as caught:
        read_checkpoint(tmp_path / "odd.pyth", "KEY")
    assert len(str(caught.value)) < 500


def test_names_that_are_no_texts(tmp_path):
    for key in (5, None, True, (1, 2), b"w"):
        torch.save({"model_state": {key: torch.ones(2)}}, tmp_path / "odd.pth")
        found = read_checkpoint(tmp_path / "odd.pth")
        with pytest.raises(UserError, match="odd.pth names a tensor by a"):
            state_dict_of(found, tmp_path / "odd.pth")


def archive_of(path: Path, pickled: bytes, data: bytes = bytes(16), method: int = 0) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", pickled, zipfile.ZIP_STORED)
        archive.writestr("a/data/0", data)


class Call:
    """Something that a pickle calls."""

    def __init__(self, function, *arguments):
        self._called = function, arguments

    def __reduce__(self):
        return self._called


def storage_pickle(value, count: int, protocol: int = 2) -> bytes:
    class Writer(pickle.Pickler):
        def persistent_id(self, given):
            kind = torch.FloatStorage
            return ("storage", kind, "0", "cpu", count) if given == "memory" else None

    file = io.BytesIO()
    Writer(file, protocol).dump(value)
    return file.getvalue()


def view(*size: int, stride: tuple[int, ...] = (1,), offset: int = 0) -> Call:
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, "memory", offset, size, stride, False, None)


MIB = 1 << 20
HOSTILE: dict[str, Callable[[Path], None]] = {
    "more numbers than bytes": lambda p: archive_of(p, storage_pickle(view(10**9), 10**9)),
    "beyond its storage": lambda p: archive_of(p, storage_pickle(view(10**9), 4)),
    "offset beyond": lambda p: archive_of(p, storage_pickle(view(2, offset=3), 4)),
    "negative": lambda p: archive_of(p, storage_pickle(view(2, stride=(-1,), offset=1), 4)),
    "stride of 0": lambda p: archive_of(p, storage_pickle(view(10**12, stride=(0,)), 4)),
    "600 views": lambda p: archive_of(
        p, storage_pickle([view(MIB, offset=n) for n in range(600)], 2 * MIB), bytes(8 * MIB)
    ),
    "compressed": lambda p: archive_of(
        p, storage_pickle(view(20 * MIB), 20 * MIB), bytes(80 * MIB), zipfile.ZIP_DEFLATED
    ),
    "bytearray": lambda p: archive_of(p, pickle.dumps(Call(bytearray, 10**12), 2)),
    "long bytearray": lambda p: archive_of(p, b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."),
    "number of an object": lambda p: archive_of(p, b"\x80\x02cos\nsystem\nr\xff\xff\xff\x7f."),
    "type of NumPy": lambda p: archive_of(p, pickle.dumps(Call(np.dtype, "V2000000000"), 2)),
    "millions of objects": lambda p: archive_of(p, b"\x80\x02(" + b"]" * 8 * MIB + b"l."),
    "old, more numbers than bytes": lambda p: _old(p, 10**10),
}


def _old(path: Path, count: int) -> None:
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    kind = ("storage", torch.FloatStorage, "0", "cpu", count, None)

    class Writer(pickle.Pickler):
        def persistent_id(self, given):
            return kind if given == "memory" else None

    with open(path, "wb") as file:
        for part in parts:
            pickle.dump(part, file, 2)
        Writer(file, 2).dump({"w": view(4)})
        pickle.dump(["0"], file, 2)
        file.write(struct.pack("<q", count) + bytes(16))


def _peak(read: Callable, arguments: tuple, result) -> None:
    """Send how many bytes of memory a call needs at its peak, and what it says."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is used now
    before = _memory("VmHWM")
    try:
        read(*arguments)
        said = ""
    except UserError as error:
        said = str(error)
    except BaseException as error:  # noqa: BLE001  (the other process looks at it)
        said = f"{type(error).__name__}: {error}"
    result.send((_memory("VmHWM") - before, said))


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def peak_of(read: Callable, *arguments) -> tuple[int, str]:
    """(bytes at the peak, error text) of a call in a process of its own."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_peak, args=(read, arguments, sender))
    process.start()
    found = receiver.recv()
    process.join()
    return found


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure memory"
)


def _read_all(paths: list[Path]) -> None:
    """Read all files; UserError with what each says, other errors as they are."""
    said = []
    for path in paths:
        try:
            read_checkpoint(path, "KEY")
            said.append(f"{path.stem} was read")
        except UserError as error:
            said.append(str(error))
    raise UserError("\n".join(said))


@needs_proc
def test_hostile_files_cost_nothing(tmp_path):
    """None of them is read, and all of them need less memory than 256 MiB."""
    paths = []
    for name, write in HOSTILE.items():
        paths.append(tmp_path / f"{name.replace(' ', '_')}.pth")
        write(paths[-1])
    needed, said = peak_of(_read_all, paths)
    assert "was read" not in said and "Error:" not in said, said
    assert said.count("cannot be") + said.count("holds more than") == len(HOSTILE), said
    assert needed < 256 * MIB, needed


def _load_into_network(path: Path) -> None:
    model = _Wide()
    load_state(model, Checkpoint.read(path, mapped=True).state)


class _Wide(torch.nn.Module):
    """32 MiB of weights."""

    def __init__(self):
        super().__init__()
        self.spec = ModelSpec()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(512, 512) for _ in range(32))


@needs_proc
def test_weights_cost_twice_the_network(tmp_path):
    """A checkpoint with an average and an optimizer is four times as large as the network."""
    state = _Wide().state_dict()
    content = {"model_state": state, "ema_state": {k: v + 1 for k, v in state.items()}}
    content["optimizer_state"] = {
        "m": content["ema_state"],
        "v": {k: v + 2 for k, v in state.items()},
    }
    write_archive(content, tmp_path / "run.pyth")
    size = sum(value.numel() * 4 for value in state.values())
    needed, said = peak_of(_load_into_network, tmp_path / "run.pyth")
    assert not said, said
    assert needed < 2 * size + 24 * MIB, needed / size


def test_a_full_copy_is_not_needed_for_a_folder(tmp_path):
    """A file that is replaced while its tensors are mapped stays what it was."""
    path = tmp_path / "a.pyth"
    write_archive({"w": torch.ones(10**5)}, path)
    found = read_checkpoint(path, mapped=True)
    write_archive({"w": torch.zeros(10**5)}, tmp_path / "b.pyth")
    shutil.move(tmp_path / "b.pyth", path)
    assert found["w"].sum() == 10**5
