"""Record of a forward pass: attention weights, chosen indices and shapes, by module name.

The record watches PyTorch's functions while it is entered. The network runs the same kernels in the
same order as always, and nothing of it has to know that it is watched.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode


def attention_weights(
    q: torch.Tensor,
    k: torch.Tensor,
    *,
    attn_mask: torch.Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The weights inside scaled dot-product attention: queries ``… N c``, keys ``… M c`` ->
    ``… N M`` in float32, whose rows sum to one. Arguments as PyTorch's function has them."""
    scores = q.float() @ k.float().mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~seen, float("-inf"))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask.float()
    return scores.softmax(-1)


class ForwardRecord(TorchFunctionMode):
    """What a forward pass of ``model`` computed inside; a name stands for a module.

    ``attention[name]``: for each call of attention in that module the weights ``B N M``, mean over
    the heads. ``choices[name]``: results of ``argmax`` in it. ``shapes[name]``: shape of its last
    output, where that is a tensor.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.attention: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.choices: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._names = [""]  # of the modules that are running, the innermost last

    @classmethod
    def of(cls, model: nn.Module, video: torch.Tensor) -> tuple[ForwardRecord, torch.Tensor]:
        """(record, logits) of a forward pass over ``B 3 T H W``."""
        record = cls(model)
        with record.watching(), torch.no_grad():
            return record, model(video)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """A context whose forward passes are recorded."""
        handles = []
        for name, module in self.model.named_modules():
            handles.append(module.register_forward_pre_hook(self._enter(name)))
            handles.append(module.register_forward_hook(self._leave(name), always_call=True))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, inputs: Any) -> None:
            self._names.append(name)

        return enter

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            self._names.pop()
            if isinstance(output, torch.Tensor):
                self.shapes.pop(name, None)  # the order is that of the last calls
                self.shapes[name] = tuple(output.shape)

        return leave

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = self._names[-1]
        if func is F.multi_head_attention_forward:
            wanted = kwargs.get("need_weights", True)
            averaged = {"need_weights": True, "average_attn_weights": True}
            output, weights = func(*args, **kwargs | averaged)
            self.attention[name].append(weights)
            return output, weights if wanted else None
        output = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.attention[name].append(_mean_weights(*args, **kwargs))
        elif func in (torch.argmax, torch.Tensor.argmax):
            self.choices[name].append(output)
        return output


def _mean_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Weights ``B N M``, mean over the heads of ``B heads N c``, one head after the other."""
    if query.ndim == 3:
        query, key = query.unsqueeze(1), key.unsqueeze(1)
    heads = query.shape[1]
    if key.shape[1] != heads:  # groups of queries that share keys
        key = key.repeat_interleave(heads // key.shape[1], dim=1)
    total = 0
    for head in range(heads):
        mask = attn_mask
        if mask is not None and mask.ndim == 4:
            mask = mask[:, head if mask.shape[1] > 1 else 0]
        total = total + attention_weights(
            query[:, head], key[:, head], attn_mask=mask, is_causal=is_causal, scale=scale
        )
    return total / heads
