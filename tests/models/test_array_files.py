"""Pickles of NumPy arrays (Caffe2): what is read, and what is refused."""

from __future__ import annotations

import io
import os
import pickle
import pickletools

import numpy as np
import pytest
import torch

from slowfast.models.weights.read import Checkpoint, read_checkpoint, read_content
from slowfast.utils.errors import UserError

BLOBS = {
    "conv1_w": np.arange(12, dtype=np.float32).reshape(2, 3, 2),
    "columns_first": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "big_endian": np.arange(4, dtype=">f4"),
    "model_iter": np.array([7], dtype=np.int64),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "scalar": np.float32(0.5),
}


def write(tmp_path, content, protocol=2):
    file = tmp_path / "w.pkl"
    file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return file


def as_python2(content: dict) -> bytes:
    """The pickle that Python 2 writes: the bytes of arrays as byte strings (SHORT_BINSTRING and
    BINSTRING) instead of a call of ``_codecs.encode``."""

    class Writer(pickle._Pickler):
        dispatch = dict(pickle._Pickler.dispatch)

        def save_bytes(self, data):
            self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
            self.memoize(data)

        dispatch[bytes] = save_bytes

    file = io.BytesIO()
    Writer(file, 2).dump(content)
    return file.getvalue()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_become_tensors(tmp_path, protocol):
    read = Checkpoint.read(write(tmp_path, {"blobs": BLOBS, "cfg": "text"}, protocol)).content
    assert read["cfg"] == "text" and read["blobs"]["scalar"] == 0.5
    for name, array in BLOBS.items():
        if isinstance(array, np.ndarray):
            tensor = read["blobs"][name]
            assert tensor.shape == array.shape and tensor.tolist() == array.tolist(), name


def test_files_of_python_2(tmp_path):
    data = as_python2({"blobs": BLOBS})
    codes = {code.name for code, _, _ in pickletools.genops(data)}
    assert "BINSTRING" in codes and b"_codecs" not in data
    state = Checkpoint.read(write(tmp_path, data)).state
    assert set(state) == set(BLOBS) - {"scalar"}
    assert torch.equal(state["conv1_w"], torch.arange(12.0).reshape(2, 3, 2))


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def shape_of(data: bytes, old: tuple, new: tuple) -> bytes:
    """The pickle with other small numbers in a shape."""
    words = [b"".join(pickle.BININT1 + bytes([n]) for n in shape) for shape in (old, new)]
    assert words[0] in data
    return data.replace(words[0], words[1], 1)


ARRAY = {"blobs": {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}}
HOSTILE = {
    "code": {"blobs": {"a": Call(os.system, "touch /tmp/never")}},
    "eval": {"blobs": {"a": Call(eval, "1+1")}},
    "objects": {"blobs": {"a": np.array([{}, None], dtype=object)}},
    "a class of numpy": {"blobs": {"a": Call(np.matrix, "1 2")}},
    "a file in memory": {"blobs": {"a": Call(np.memmap, "/etc/passwd")}},
    "a huge array": shape_of(pickle.dumps(ARRAY, 2), (2, 3), (255, 255)),
    "too small an array": shape_of(pickle.dumps(ARRAY, 2), (2, 3), (2, 2)),
    "texts": {"blobs": {"a": np.array(["a", "b"])}},
    "records": {"blobs": {"a": np.zeros(2, dtype=[("x", "f4")])}},
    "no dict": [1, 2],
    "nothing": b"",
    "half of it": pickle.dumps(ARRAY, 2)[:-30],
    "tensors": {"blobs": {"a": torch.zeros(2)}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_is_one_clear_error(tmp_path, name):
    with pytest.raises(UserError, match=r"w\.pkl (holds|cannot|contains)"):
        read_checkpoint(write(tmp_path, HOSTILE[name]), "FILE")


def test_numbers_are_not_shared(tmp_path):
    """A few bytes that a thousand arrays refer to would become a thousand times as much memory."""
    shared = bytearray(4000)
    arrays = {f"a{i}": Call(np.core.numeric._frombuffer, shared, np.dtype("f4"), (1000,), "C")
              for i in range(1000)}  # fmt: skip
    file = write(tmp_path, {"blobs": arrays}, 5)
    with pytest.raises(UserError, match="share their numbers"):
        read_checkpoint(file, "FILE")


def test_one_array_under_two_names_is_one_tensor(tmp_path):
    array = np.ones(3, dtype=np.float32)
    state = Checkpoint.read(write(tmp_path, {"blobs": {"a": array, "b": array}})).state
    assert state["a"].data_ptr() == state["b"].data_ptr()


@pytest.mark.parametrize("group", [list, tuple])
def test_a_list_of_arrays(tmp_path, group):
    arrays = group([np.ones((2, 3), dtype=np.float32), np.arange(2)])
    scores, labels = read_content(write(tmp_path, arrays), "FILE")
    assert torch.equal(scores, torch.ones(2, 3)) and labels.tolist() == [0, 1]
