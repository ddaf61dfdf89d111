"""Batches in shared memory."""

from __future__ import annotations

import torch

from slowfast.datasets.shared import join_clips


def test_neighbours_in_memory_are_not_copied():
    batch = torch.arange(2 * 3 * 4 * 5 * 3, dtype=torch.uint8).view(2, 3, 4, 5, 3)
    clips = [clip.movedim(-1, -4) for clip in batch]  # 3 T H W, channels last in memory
    joined = join_clips(clips)
    assert joined.data_ptr() == batch.data_ptr() and torch.equal(joined, torch.stack(clips))
    apart = join_clips([clips[0], clips[1].clone(memory_format=torch.preserve_format)])
    assert apart.data_ptr() != batch.data_ptr() and torch.equal(apart, joined)
    assert torch.equal(join_clips(clips[::-1]), torch.stack(clips[::-1]))
