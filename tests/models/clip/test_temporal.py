"""Blocks with temporal modelling, compared with loops written out."""

from __future__ import annotations

import pytest
import torch

from slowfast.models.clip.temporal import (
    AdapterBlock,
    ChannelShiftBlock,
    ExpandedViewBlock,
    ExpandedViewBlock2,
    MessageBlock,
    shift_frames,
)


@pytest.mark.parametrize("offset", [-3, -1, 1, 2, 5])
def test_shifted_frames(offset):
    x = torch.arange(1.0, 9.0)[:, None]  # two clips of four frames
    shifted = shift_frames(x, 4, offset)
    for clip in range(2):
        for frame in range(4):
            source = frame + offset
            expected = x[4 * clip + source] if 0 <= source < 4 else 0
            assert shifted[4 * clip + frame] == expected


@pytest.mark.parametrize("kind, neighbors", [(ExpandedViewBlock, 1), (ExpandedViewBlock2, 2)])
def test_expanded_view_by_frame(kind, neighbors):
    """Each frame by itself: its queries, and the keys and values of the frames around it."""
    torch.manual_seed(0)
    block, frames = kind(64), 4
    x = torch.randn(frames, 3, 64)
    normed = block.ln_1(x)
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    q, k, v = (normed @ weight.t() + bias).chunk(3, dim=-1)
    with torch.no_grad():
        result = block.attend(x, frames)
        for t in range(frames):
            around = [s for s in range(t - neighbors, t + neighbors + 1)]
            keys = torch.cat([k[s] if 0 <= s < frames else 0 * k[0] for s in around])
            values = torch.cat([v[s] if 0 <= s < frames else 0 * v[0] for s in around])
            scores = (q[t] @ keys.t() / 64**0.5).softmax(-1)
            expected = x[t] + block.attn.out_proj(scores @ values)
            assert torch.allclose(result[t], expected, atol=1e-5)


@pytest.mark.parametrize(
    "kind, tells", [(ExpandedViewBlock, False), (MessageBlock, False), (ChannelShiftBlock, True)]
)
def test_what_tells_a_clip_from_its_reverse(kind, tells):
    """Attention over neighbours, or over all frames, knows no before and after: with features
    averaged over frames such a network never tells left from right."""
    torch.manual_seed(0)
    block, x = kind(64).eval(), torch.randn(4, 3, 64)
    with torch.no_grad():
        forward, backward = block(x, 4), block(x.flip(0), 4).flip(0)
    assert torch.allclose(forward, backward, atol=1e-5) is not tells


def test_adapter_is_a_convolution_over_time():
    torch.manual_seed(0)
    block, x = AdapterBlock(64), torch.randn(6, 5, 64)  # two clips of three frames of 2 x 2
    seen = []
    block.attn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block.attend(x, 3)
    assert torch.allclose(seen[0], block.ln_1(x))  # initially the identity
    torch.nn.init.normal_(block.stadapt_up_1.weight, std=0.1)
    block.attend(x, 3)
    video = x[:, 1:].unflatten(0, (2, 3)).unflatten(2, (2, 2)).permute(0, 4, 1, 2, 3)
    y = block.stadapt_up_1(block.stadapt_conv3d_1(block.stadapt_down_1(video)))
    patches = (video + y).permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1)
    expected = block.ln_1(torch.cat([x[:, :1], patches], dim=1))
    assert torch.allclose(seen[1], expected, atol=1e-5)


def test_messages_reach_all_frames_of_their_clip():
    torch.manual_seed(0)
    block, x = MessageBlock(64), torch.randn(8, 3, 64)
    with torch.no_grad():
        before = block.attend(x, 4)
        x[1, 0] += 1
        changed = (block.attend(x, 4) - before).abs().amax((1, 2)) > 1e-6
    assert changed.tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("group, reached", [(0, [1, 1, 1, 0, 0, 0]), (2, [1, 1, 0, 0, 0, 0])])
def test_channel_shift_stays_inside_its_group(group, reached):
    """Two clips of three frames; the release takes every ``group`` frames for a clip."""
    torch.manual_seed(0)
    block, x = ChannelShiftBlock(64, group), torch.randn(6, 3, 64)
    with torch.no_grad():
        before = block.attend(x, 3)
        x[1] += torch.randn(3, 64)
        changed = (block.attend(x, 3) - before).abs().amax((1, 2)) > 1e-6
    assert changed.tolist() == [bool(value) for value in reached]
