"""Patch embeddings against single patches computed by hand."""

from __future__ import annotations

import torch

from slowfast.layers.patch_embed import ConvPatchEmbed, ConvStem, FramePatchEmbed, prime_factors


def test_patches_of_frames():
    torch.manual_seed(0)
    layer = FramePatchEmbed(dim=5, patch_size=4)
    video = torch.randn(2, 3, 3, 8, 12)
    tokens = layer(video)
    assert tokens.shape == (2, 3, 2, 3, 5)
    patch = video[1, :, 2, 4:8, 8:12]  # frame 2, second row, third column
    expected = (layer.proj.weight * patch).sum((1, 2, 3)) + layer.proj.bias
    assert torch.allclose(tokens[1, 2, 1, 2], expected, atol=1e-5)


def test_patches_of_clips_are_normalised_over_channels():
    torch.manual_seed(0)
    layer = ConvPatchEmbed(3, 6, (2, 4, 4), (2, 4, 4))
    x = torch.randn(2, 3, 4, 8, 8)
    y = layer(x)
    assert y.shape == (2, 6, 2, 2, 2)
    patch = x[0, :, 2:4, 4:8, 0:4]
    raw = (layer.proj.weight * patch).sum((1, 2, 3, 4)) + layer.proj.bias
    expected = (raw - raw.mean()) / (raw.var(unbiased=False) + layer.norm.eps).sqrt()
    assert torch.allclose(y[0, :, 1, 1, 0], expected, atol=1e-5)


def test_convolutional_stem():
    """One token per patch; a pixel reaches its own patch."""
    assert [prime_factors(n) for n in (1, 8, 12, 14)] == [[], [2, 2, 2], [2, 2, 3], [2, 7]]
    for patch in (4, 12, 16):
        stem = ConvStem(patch, 64).eval()
        image = torch.zeros(1, 3, 4 * patch, 4 * patch)
        before = stem(image)
        assert before.shape == (1, 64, 4, 4)
        image[..., patch + patch // 2, 2 * patch + patch // 2] = 1
        changed = (stem(image) - before).abs().sum(1)[0]
        assert changed[1, 2] > 0 and changed[3, 0] == 0


def test_frames_by_a_convolutional_stem():
    layer = FramePatchEmbed(dim=6, patch_size=4, stem="conv").eval()
    video = torch.randn(2, 3, 3, 8, 12)
    tokens = layer(video)
    assert tokens.shape == (2, 3, 2, 3, 6)
    assert torch.allclose(tokens[1, 2], layer.proj(video[1:, :, 2])[0].movedim(0, -1), atol=1e-5)


def test_frames_by_a_stem_over_time():
    """Each of three convolutions sees the frames before and after; sizes in time are kept."""
    layer = FramePatchEmbed(dim=32, patch_size=8, stem="conv3d").eval()
    video = torch.zeros(1, 3, 9, 16, 24)
    before = layer(video)
    assert before.shape == (1, 9, 2, 3, 32)
    video[:, :, 4] = 1
    changed = (layer(video) - before).abs().amax((0, 2, 3, 4)) > 1e-6
    assert changed.tolist() == [False, *[True] * 7, False]
