"""Pickles of PyTorch: plain values and dense tensors are built, code is never run.

``torch.load`` refuses code as well, but not what costs too much: a few bytes of a pickle make it
allocate any amount of memory, and tensors may reach beyond the memory they are given. Here nothing
is built that the file does not hold.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from slowfast.models.weights.archive import DamagedError

_MAX_OPERATIONS = 2_000_000  # 1000 tensors and their optimizer need 100 000
_MAX_DIMENSIONS = 32
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
# What torch.save writes for tensors that are more, or less, than an array of numbers.
_OTHER_TENSORS = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without content (device meta)",
    "_rebuild_wrapper_subclass": "a tensor of another class",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}
_OTHER_STORAGES = ("QInt8Storage", "QUInt8Storage", "QInt32Storage")
_SCALARS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


class UnsupportedError(ValueError):
    """A file describes something that is readable, but is no dense tensor and no plain value."""


class Storage(NamedTuple):
    """The memory of tensors; ``values`` is one-dimensional, None where only sizes are known."""

    key: str
    dtype: torch.dtype
    count: int
    values: torch.Tensor | None


Load = Callable[[str, torch.dtype, int], torch.Tensor | None]


def unpickle(file: BinaryIO, load: Load, modules: bool = False) -> Any:
    """One pickle from the present position of ``file``.

    Args:
        load: gives ``count`` values of a type from the storage called ``key``; it raises an error
            if the file does not hold them. None: tensors become None, too.
        modules: classes of TorchScript become a :class:`Node`.

    pickle.UnpicklingError for anything but data, UnsupportedError for tensors that are not dense,
    DamagedError for tensors beyond their storage; other exceptions if the pickle is damaged.
    """
    return Unpickler(file, load, modules).load()


class Node:
    """Replaces modules of any class: has their attributes and no behaviour."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}


# -- what a pickle may call ------------------------------------------------------------------------


def _whole(value: Any, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise DamagedError("a size is no whole number")
    return value


def _rebuild(storage: Storage, offset: int, size: tuple, stride: tuple, *_: Any) -> Any:
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without memory")
    return _view(storage, storage.dtype, offset, size, stride)


def _rebuild_3(
    storage: Storage,
    offset: int,
    size: tuple,
    stride: tuple,
    _: Any,
    __: Any,
    dtype: Any,
    *___: Any,
) -> Any:
    """Types that have no storage class of their own: ``storage`` counts bytes."""
    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor has no type")
    count = storage.count * storage.dtype.itemsize // dtype.itemsize
    values = storage.values
    if values is not None:
        values = values.view(torch.uint8)[: count * dtype.itemsize].view(dtype)
    return _view(Storage(storage.key, dtype, count, values), dtype, offset, size, stride)


def _view(
    storage: Storage, dtype: torch.dtype, offset: int, size: tuple, stride: tuple
) -> torch.Tensor | None:
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
        raise DamagedError("a tensor has no shape")
    offset, size = _whole(offset), tuple(map(_whole, size))
    stride = tuple(map(_whole, stride))
    if math.prod(size):
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        if last >= storage.count:
            raise DamagedError(f"a tensor reaches number {last} of a storage of {storage.count}")
    elif max((offset, *size, *stride)) >= 2**31:
        raise DamagedError("an empty tensor has a size that nothing has")
    if storage.values is None:
        return None
    if not math.prod(size):
        return torch.empty(size, dtype=dtype)
    return storage.values.as_strided(size, stride, offset)


def _first(value: Any, *_: Any) -> Any:
    return value


def _from_type(function: Any, _: Any, arguments: tuple, *__: Any) -> Any:
    """A tensor that had attributes, or was of a subclass: the tensor alone."""
    if function not in (_rebuild, _rebuild_3, _first):
        raise pickle.UnpicklingError("a tensor is built in an unknown way")
    return function(*arguments)


def _dictionary(items: Iterable = ()) -> dict:
    pairs = items.items() if isinstance(items, dict) else items
    return {checked_key(key): value for key, value in pairs}


def _set(items: list | tuple = ()) -> set:
    return {checked_key(item) for item in items}


def _size(items: list | tuple = ()) -> tuple:
    return tuple(_whole(item) for item in items)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode({"latin1": "latin1", "latin-1": "latin1"}.get(encoding, "utf-8"))


def _device(kind: str, index: int = 0) -> torch.device:
    return torch.device(str(kind)[:32], _whole(index))


class Stateful:
    """What a pickle builds first and describes then."""

    def set_state(self, state: Any) -> None:
        """Take over the description."""
        raise NotImplementedError


class ScalarType(Stateful):
    """NumPy's description of a number, with which old checkpoints store losses and accuracies."""

    def __init__(self, name: str = "", *_: Any):
        if name not in _SCALARS:
            raise pickle.UnpicklingError(f"{name!a} is not a type of numbers")
        self.dtype = np.dtype(name)

    def set_state(self, state: Any) -> None:
        if len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(kind: ScalarType, data: bytes | str) -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data  # bytes of Python 2
    return np.frombuffer(data, kind.dtype, 1)[0].item()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_3,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch", "Tensor"): None,
    ("torch.nn.parameter", "Parameter"): None,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("collections", "OrderedDict"): _dictionary,
    ("collections", "Counter"): _dictionary,
    ("builtins", "set"): _set,
    ("builtins", "complex"): complex,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): ScalarType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}
_ALLOWED_IN_MODULES: dict[tuple[str, str], Any] = {
    ("torch.jit._pickle", "restore_type_tag"): _first,
    ("torch.jit._pickle", "build_intlist"): list,
    ("torch.jit._pickle", "build_doublelist"): list,
    ("torch.jit._pickle", "build_boollist"): list,
    ("torch.jit._pickle", "build_tensorlist"): list,
    ("torch.jit._pickle", "build_list"): list,
}
_CALLABLE = {id(f) for f in (*_ALLOWED.values(), *_ALLOWED_IN_MODULES.values()) if f is not None}


def checked_key(key: Any) -> Any:
    """A key of a dict; UnsupportedError if it is no plain value, or a tuple of others than those:
    nested ones would be hashed by a recursion in C without an end."""
    parts = key if type(key) is tuple else (key,)
    if not all(part is None or type(part) in (str, int, float, bool, bytes) for part in parts):
        raise UnsupportedError(f"a key of a dict is a {type(key).__name__}")
    return key


# -- the machine -----------------------------------------------------------------------------------

_OPERATIONS = """PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1
BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
BYTEARRAY8 BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET GLOBAL
STACK_GLOBAL REDUCE NEWOBJ BUILD GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
BINPERSID"""


class _Operations(dict):
    """Operation code -> function; counts how often one is asked for."""

    left = _MAX_OPERATIONS

    def __getitem__(self, code: int) -> Callable:
        self.left -= 1
        if self.left < 0:
            raise UnsupportedError("it describes more objects than any network has")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Callable:
        raise pickle.UnpicklingError(f"the operation {chr(code)!a} is not allowed")


class _Bounded:
    """A file that never reserves memory for more bytes than it has left."""

    def __init__(self, file: BinaryIO):
        self._file, self.readline = file, file.readline
        start = file.tell()
        self._end = file.seek(0, 2)
        file.seek(start)

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._end - self._file.tell()))


class Unpickler(pickle._Unpickler):
    """Python's own implementation in Python: the one in C allocates memory for any number of an
    object, and does not let operations be replaced."""

    def __init__(self, file: BinaryIO, load: Load, modules: bool):
        super().__init__(_Bounded(file), encoding="latin1")
        self._load, self._modules = load, modules
        self._tensors: dict[tuple, Any] = {}
        self._storages: dict[tuple, Storage] = {}
        own = {
            name: getattr(type(self), f"_do_{name.lower()}", None) for name in _OPERATIONS.split()
        }
        base = pickle._Unpickler.dispatch
        self.dispatch = _Operations(
            {code[0]: own[name] or base[code[0]] for name in own for code in [_code(name)]}
        )

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in the pickle; UnpicklingError if it is not data."""
        parent, _, last = module.rpartition(".")
        if parent == "torch" and last in ("cuda", "storage"):  # storages of other places
            module = parent
        if module == "__builtin__":  # of protocol 2
            module = "builtins"
        if self._modules:
            if module.startswith("__torch__"):
                return Node
            if (module, name) in _ALLOWED_IN_MODULES:
                return _ALLOWED_IN_MODULES[module, name]
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module == "torch._utils" and name in _OTHER_TENSORS:
            raise UnsupportedError(f"it holds {_OTHER_TENSORS[name]}")
        if module == "torch" and name in _OTHER_STORAGES:
            raise UnsupportedError("it holds a quantized tensor")
        if module == "numpy.dtypes":
            return None
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def may_call(self, function: Any) -> bool:
        """Whether a pickle may call ``function``, which :meth:`find_class` gave or it built."""
        return id(function) in _CALLABLE

    def persistent_load(self, pid: Any) -> Storage:
        """The memory of a tensor: ``pid`` is ``("storage", type, key, device, count, …)``."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("no memory for a tensor")
        _, dtype, key, _, count, *view = pid
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or any(view):
            raise pickle.UnpicklingError("no memory for a tensor")
        known = key, dtype, _whole(count)
        if known not in self._storages:
            self._storages[known] = Storage(*known, self._load(*known))
        return self._storages[known]

    # -- operations that differ from pickle's ------------------------------------------------------

    def _do_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        self.stack[-1] = self._call(function, arguments)

    def _do_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack[-1]
        self.stack[-1] = self._call(kind, arguments)

    def _call(self, function: Any, arguments: Any) -> Any:
        if function is Node:
            return Node()
        if not self.may_call(function) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError(f"a call of a {type(function).__name__}")
        if function is not _rebuild or not isinstance(arguments[0], Storage):
            return function(*arguments)
        # Tied weights are one tensor under several names.
        known = (id(arguments[0]), *arguments[1:4])
        if known not in self._tensors:
            self._tensors[known] = function(*arguments)
        return self._tensors[known]

    def _do_build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if isinstance(built, Node):
            built.attributes = state if isinstance(state, dict) else {}
        elif isinstance(built, Stateful):
            built.set_state(state)
        # Attributes of other objects, such as the versions of a state dict, are not kept.

    def _do_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._dict_on_top()[checked_key(key)] = value

    def _do_setitems(self) -> None:
        items = self.pop_mark()
        target = self._dict_on_top()
        for key, value in zip(items[::2], items[1::2]):
            target[checked_key(key)] = value

    def _dict_on_top(self) -> dict:
        if type(self.stack[-1]) is not dict:
            raise pickle.UnpicklingError("entries for something that is no dict")
        return self.stack[-1]

    def _do_dict(self) -> None:
        items = self.pop_mark()
        self.append(_dictionary(zip(items[::2], items[1::2])))

    def _do_append(self) -> None:
        value = self.stack.pop()
        self._list_on_top().append(value)

    def _do_appends(self) -> None:
        items = self.pop_mark()
        self._list_on_top().extend(items)

    def _list_on_top(self) -> list:
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError("items for something that is no list")
        return self.stack[-1]

    def _do_additems(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(_set(items))

    def _do_frozenset(self) -> None:
        self.append(frozenset(_set(self.pop_mark())))

    def _do_bytearray8(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def _do_binunicode(self) -> None:
        self._text(4)

    def _do_short_binunicode(self) -> None:
        self._text(1)

    def _do_binunicode8(self) -> None:
        self._text(8)

    def _text(self, width: int) -> None:
        """A text; unlike pickle's, it has no halves of characters, which nothing can print."""
        count = int.from_bytes(self.read(width), "little")
        data = self.read(count)
        if len(data) != count:
            raise EOFError("a text ends too early")
        self.append(str(data, "utf-8"))


def _code(name: str) -> bytes:
    return getattr(pickle, name)
