"""States of optimizers that had more parameters."""

from __future__ import annotations

import torch

from slowfast.engine.old_states import without_frozen
from slowfast.layers.stfm import Stfm, StfmOptions, StfmShape


def optimizer_of(module, frozen):
    """AdamW with two groups, over all parameters or over those that learn."""
    parameters = [p for p in module.parameters() if p.requires_grad or not frozen]
    groups = [{"params": [p for p in parameters if (p.ndim > 1) == wide]} for wide in (True, False)]
    return torch.optim.AdamW(groups, lr=0.1)


def test_an_old_run_with_hard_selection_goes_on():
    """Its state counts the selectors, which never had an entry; the rest stays where it was."""
    torch.manual_seed(0)
    module = Stfm(StfmOptions(num_tokens=3), StfmShape(channels=6, dim=8, crop_size=32))
    old, new = optimizer_of(module, frozen=False), optimizer_of(module, frozen=True)
    tokens, positions = module(torch.randn(2, 6, 2, 2, 2), torch.randn(2, 3, 4, 32, 32))
    (tokens.square().sum() + positions.square().sum()).backward()
    old.step()
    new.load_state_dict(without_frozen(old.state_dict(), new))
    assert len(new.state) < sum(len(g["params"]) for g in old.param_groups)
    for parameter, entry in new.state.items():
        assert torch.equal(entry["exp_avg"], old.state[parameter]["exp_avg"])
    same = new.state_dict()
    assert without_frozen(same, new) == same


def test_a_state_without_steps():
    module = Stfm(StfmOptions(num_tokens=3), StfmShape(channels=6, dim=8, crop_size=32))
    old, new = optimizer_of(module, frozen=False), optimizer_of(module, frozen=True)
    new.load_state_dict(without_frozen(old.state_dict(), new))
    assert not new.state
