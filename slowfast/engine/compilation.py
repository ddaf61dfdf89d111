"""torch.compile in place: the forward passes of modules, for batches of any size.

Modules keep their names, hooks and parameters, so that DDP and FSDP2 wrap them and checkpoints hold
them as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

REDUCE_OVERHEAD = "reduce-overhead"
_GRAPHS_PER_MODULE = 4  # training, evaluation, and of each one for batches of one clip


def compile_forward(
    modules: Sequence[nn.Module], kind: bool | str, backend: str | Callable = "inductor"
) -> None:
    """Compile the forward pass of each of ``modules`` at its first call; the rest of a module is
    left as it is.

    ``kind`` is a value of TRAIN.COMPILE: ``reduce-overhead`` records CUDA graphs.
    """
    import torch._dynamo  # takes a second, and few runs need it

    # Modules of one class share their code, and the limit is one of graphs per code.
    limit = max(torch._dynamo.config.recompile_limit, _GRAPHS_PER_MODULE * len(modules))
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.config.allow_rnn = True  # else PyTorch breaks the graph at its recurrent layers
    for module in modules:
        module.forward = CompiledForward(module, kind == REDUCE_OVERHEAD, backend)
        if kind == REDUCE_OVERHEAD:
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(_own_gradient)


def _own_gradient(parameter: torch.Tensor) -> None:
    """Move a gradient out of the memory of a CUDA graph, which the next batch overwrites; DDP keeps
    gradients in memory of its own."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        parameter.grad = parameter.grad.clone()


class CompiledForward:
    """The compiled forward pass of a module; the first dimension of all tensors is a batch's.

    One graph serves batches of all sizes. PyTorch makes another one for a batch of a single clip,
    which is not worth its time where other batches have come before, as in the last batch of an
    evaluation: such a batch is computed without compilation.
    """

    def __init__(self, module: nn.Module, cuda_graphs: bool, backend: str | Callable):
        self.module, self.cuda_graphs, self.backend = module, cuda_graphs, backend
        self.plain = type(module).forward.__get__(module)
        options = {"mode": REDUCE_OVERHEAD} if cuda_graphs else {}
        self.compiled = torch.compile(self.plain, backend=backend, **options)
        self._batches_seen = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # what is around it is compiled, too
            return self.plain(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.ndim]
        if any(len(tensor) > 1 for tensor in tensors[:1]):
            self._batches_seen = True
        elif self._batches_seen:
            return self.plain(*args, **kwargs)
        for tensor in tensors:
            if len(tensor) > 1:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        if not self.cuda_graphs:
            return self.compiled(*args, **kwargs)
        torch.compiler.cudagraph_mark_step_begin()
        # The next batch overwrites the memory of a graph.
        return tree_map_only(torch.Tensor, torch.clone, self.compiled(*args, **kwargs))

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledForward:
        module = memo.get(id(self.module), self.module)
        return CompiledForward(module, self.cuda_graphs, self.backend)
