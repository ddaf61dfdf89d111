"""Damaged files of weights, in the short form of the campaign of docs/reliability.md."""

from __future__ import annotations

import pytest
import torch

from slowfast.analysis import flips


@pytest.mark.parametrize("title", flips.FILES)
def test_no_damage_is_read_as_other_content(title):
    name, write = flips.FILES[title]
    counts = flips.damage_file(name, write, tries=40, seed=1)
    assert counts["lost"] == 0, counts["cases"]
    assert counts["tried"] == 40 * len(flips.DAMAGE) and counts["refused"] > 0.8 * counts["tried"]


def test_what_pytorch_reads_would_be_noticed(monkeypatch):
    """The campaign finds what a reader without checksums gives."""
    monkeypatch.setattr(flips, "read_checkpoint", lambda path: torch.load(path, weights_only=True))
    counts = flips.damage_file("a.pyth", flips.FILES["checkpoint of a run"][1], 5, 1)
    assert counts["lost"] > 5 and counts["cases"]
