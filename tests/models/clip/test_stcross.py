"""Space-time cross attention: patches left out, channels exchanged, random draws."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from slowfast.models.clip.stcross import CrossBlock, CrossOptions, mix_channels
from tests.models.clip.helpers import NAME
from tests.models.helpers import build, clips, to_eval

STDD = {"MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend"}


def test_pattern_of_patches():
    """Side 4, cells of 2 x 2: frame 0 leaves out the upper row of each cell, frame 1 the places 1
    and 2, frame 2 the lower row."""
    block = CrossBlock(64, CrossOptions()).eval()
    (kept,) = block.kept_patches(1, 3, 4, torch.device("cpu"))
    assert kept[0].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert kept[1].tolist() == [0, 5, 2, 7, 8, 13, 10, 15]
    assert kept[2].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


@pytest.mark.parametrize("rate, left", [(0.25, 12), (0.5, 8), (0.75, 4)])
def test_random_patterns_keep_their_share(rate, left):
    torch.manual_seed(0)
    options = CrossOptions(mask_rate=rate, shuffle=True, spatial_repeat=False)
    kept = CrossBlock(64, options).kept_patches(5, 4, 4, torch.device("cpu"))
    assert kept.shape == (5, 4, left)
    cells = kept // 8 * 2 + kept % 4 // 2
    assert (F.one_hot(cells, 4).sum(2) == left // 4).all()  # as many of each cell
    assert all(len(set(frame)) == left for clip in kept.tolist() for frame in clip)
    assert len({str(clip) for clip in kept.tolist()}) == 5  # every clip draws its own


def test_channels_by_hand():
    x = torch.arange(1.0, 4.0)[None, :, None, None].expand(1, 3, 1, 16)  # frame t holds t + 1
    mixed = mix_channels(x, 4, 2)[0, :, 0]
    # c = 4: channels 0 to 3 from before (0 and 1 from two before), 4 to 7 from after (6, 7).
    assert mixed[0].tolist() == [0, 0, 0, 0, 2, 2, 3, 3] + [1] * 8
    assert mixed[1].tolist() == [1, 1, 1, 1, 3, 3, 3, 3] + [2] * 8
    assert mixed[2].tolist() == [1, 1, 2, 2, 0, 0, 0, 0] + [3] * 8


def slow_cross(block, x, frames):
    """STDD's block with loops and masks, after the specification."""
    options, (high, wide) = block.options, block.options.cell
    clips, side = len(x) // frames, int((x.shape[1] - 1) ** 0.5)
    places = high * wide
    dropped = int(options.mask_rate * frames * side * side) // (frames * side * side // places)
    cells = [
        [(r + a) * side + c + b for a in range(high) for b in range(wide)]
        for r in range(0, side, high)
        for c in range(0, side, wide)
    ]
    plain = x + block.attn(block.ln_1(x))
    out = plain.clone()
    for clip in range(clips):
        rows = slice(clip * frames, (clip + 1) * frames)
        kept = [
            [cell[p] for cell in cells for p in range(places) if (p - t) % places >= dropped]
            for t in range(frames)
        ]
        patches = torch.stack([x[rows][t, 1:][kept[t]] for t in range(frames)])
        total = 0
        for scale in options.scales:
            c = d = x.shape[-1] // options.channel_fold
            mixed = patches.clone()
            mixed[..., : 2 * c] = 0
            for i in range(scale):
                for t in range(frames):
                    if t + i + 1 < frames:
                        mixed[t + i + 1, :, :d] = patches[t, :, :d]
                    if t - i - 1 >= 0:
                        mixed[t - i - 1, :, 2 * c - d : 2 * c] = patches[t, :, 2 * c - d : 2 * c]
                d //= 2
            tokens = torch.cat([x[rows][:, :1], mixed], 1)
            total = total + tokens + block.attn(block.ln_1(tokens))
        crossed = total / len(options.scales)
        for t in range(frames):
            out[clip * frames + t, 0] = crossed[t, 0]
            for place, token in zip(kept[t], crossed[t, 1:]):
                out[clip * frames + t, 1 + place] = token
    return out + block.mlp(block.ln_2(plain))


@pytest.mark.parametrize(
    "options, frames, side",
    [
        (CrossOptions(channel_fold=8, scales=(1, 2)), 5, 6),
        (CrossOptions(mask_rate=0.75, channel_fold=16, scales=(3,)), 2, 4),
        (CrossOptions(mask_rate=0.25, cell=(1, 4), channel_fold=4, scales=(1, 2, 3)), 8, 4),
    ],
)
def test_block_is_that_of_the_specification(options, frames, side):
    torch.manual_seed(0)
    block = CrossBlock(64, options).eval()
    x = torch.randn(2 * frames, 1 + side * side, 64)
    with torch.no_grad():
        assert torch.allclose(block(x, frames), slow_cross(block, x, frames), atol=1e-5)


def test_evaluation_repeats_itself_unless_asked_not_to():
    for released in (False, True):
        cfg, model = build(NAME, STDD | {"CLIP.SHUFFLE_IN_EVAL": released})
        to_eval(model)
        with torch.no_grad():
            runs = [model(clips(cfg)) for _ in range(4)]
        assert all(torch.equal(runs[0], run) for run in runs) != released


def test_training_draws_from_the_generator():
    cfg, model = build(NAME, STDD)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(clips(cfg)).detach())
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


def test_recomputed_blocks_repeat_their_draws():
    gradients = []
    for recompute in (False, True):
        cfg, model = build(NAME, STDD | {"MODEL.ACT_CHECKPOINT": recompute})
        torch.manual_seed(3)
        model(clips(cfg)).square().mean().backward()
        gradients.append(model.model.visual.conv1.weight.grad)
    assert torch.allclose(*gradients, atol=1e-7)
