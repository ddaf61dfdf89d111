"""Copies between the host and a device for which neither of them waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


class HostCopy:
    """A tensor on its way to the host, which goes on in the meantime.

    On the CPU it is the tensor itself, which must not be changed before it is read.
    """

    def __init__(self, tensor: torch.Tensor):
        # From a GPU into page-locked memory: PyTorch allocates it for such a copy.
        self._host = tensor.detach().to("cpu", non_blocking=True)
        self._arrival = None
        if tensor.device.type != "cpu":
            module = torch.get_device_module(tensor.device)
            self._arrival = module.Event()
            self._arrival.record(module.current_stream(tensor.device))

    def read(self) -> torch.Tensor:
        """The tensor on the host; waits until it is there, not for what the device does after."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._host


def copied_ahead(
    items: Iterable[T],
    device: torch.device,
    move: Callable[[T], T],
    tensors: Callable[[T], Iterable[torch.Tensor]],
) -> Iterator[T]:
    """``items`` moved to ``device`` by ``move``, on a stream of its own, while the device computes.

    ``tensors`` names what was moved of an item: its memory is kept until the device has used it.
    On the CPU the items pass as they are.
    """
    if device.type == "cpu":
        yield from items
        return
    module = torch.get_device_module(device)
    stream = module.Stream(device)
    for item in items:
        with module.stream(stream):
            moved = move(item)
        computing = module.current_stream(device)
        computing.wait_stream(stream)  # the device waits, the host does not
        for tensor in tensors(moved):
            tensor.record_stream(computing)
        yield moved
