"""Scores of frames for texts."""

from __future__ import annotations

import torch

from slowfast.models.clip.scores import prompt_scores


def test_several_texts_by_hand():
    """Frames (1, 0) and (0, 1). Texts (1, 0) and (0.6, 0.8): their best frames give (1 + 0.8) / 2,
    the frames' best texts (1 + 0.8) / 2. Texts (-1, 0) twice: 0 and (-1 + 0) / 2."""
    frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    prompts = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[-1.0, 0.0], [-1.0, 0.0]]])
    scores = prompt_scores(frames, prompts, torch.tensor(10.0))
    assert torch.allclose(scores, torch.tensor([[9.0, -2.5]]))
