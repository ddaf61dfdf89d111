"""Sentences, tokens and features of texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from slowfast.models.clip import texts
from slowfast.models.clip.sizes import ClipSizes
from slowfast.models.clip.towers import CLIP


def test_published_templates():
    assert len(texts.TEMPLATES) == len(set(texts.TEMPLATES)) == 28
    for known in (
        "a photo of {}.",
        "a video of a person doing {}.",
        "a example of a person {}.",
        "a demonstration of a person practicing {}.",
    ):
        assert known in texts.TEMPLATES


def test_tokens_of_openai():
    """Start 49406, "a photo of" 320 1125 539, "." 269, end 49407; no longer than needed."""
    tokens = texts.fill_templates(["a photo of {}."], ["cats", "cats and dogs"], 77)[0]
    assert tokens[0, :4].tolist() == [49406, 320, 1125, 539]
    assert tokens[0, 5:7].tolist() == [269, 49407] and tokens.shape == (2, 9)


def test_long_texts_lose_their_end(caplog):
    tokens = texts.tokenize(["one two three four five six seven"], 5)
    assert tokens.shape == (1, 5) and tokens[0, -1] == 49407
    assert "1 of 1 texts are longer than 5 tokens" in caplog.text


def test_padding_does_not_matter():
    torch.manual_seed(0)
    network = CLIP(ClipSizes(8, 64, 1, 16, 32, 12, text_width=64, text_layers=2))
    tokens = texts.tokenize(["a cat"], 12)
    padded = F.pad(tokens, (0, 5))
    with torch.no_grad():
        assert torch.allclose(network.encode_text(tokens), network.encode_text(padded), atol=1e-6)


def test_mean_over_templates():
    states = torch.tensor([[[3.0, 0.0]], [[0.0, 0.5]]])  # two templates, one class
    mean = texts.mean_features(states, torch.eye(2))
    assert torch.allclose(mean, torch.tensor([[0.5**0.5, 0.5**0.5]]))
