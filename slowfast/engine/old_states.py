"""Optimizer states of checkpoints that were written when more parameters were trained."""

from __future__ import annotations

from typing import Any

import torch


def without_frozen(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """``state`` without the parameters that ``optimizer`` no longer has.

    Networks freeze today what never got a gradient (the selectors of STFM with SELECTION hard).
    An older state counts such parameters in its groups, without an entry of their own. Any other
    difference is left as it is, and loading says so.
    """
    groups = []
    for group, present in zip(state["param_groups"], optimizer.param_groups):
        numbers, size = group["params"], len(present["params"])
        kept = [number for number in numbers if number in state["state"]]
        if len(numbers) > size and len(kept) in (size, 0):
            group = group | {"params": kept or numbers[:size]}
        groups.append(group)
    if len(groups) != len(state["param_groups"]):
        return state
    return state | {"param_groups": groups}
