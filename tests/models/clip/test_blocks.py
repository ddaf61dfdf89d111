"""CLIP's block, its attention, and the registry of blocks with temporal modelling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.load import explain_key
from slowfast.models.clip.blocks import (
    CLIP_BLOCK_REGISTRY,
    ClipAttention,
    ClipBlock,
    LayerNormFp32,
    TokenCount,
)
from slowfast.models.clip.towers import block_builder
from tests.models.clip.helpers import NAME
from tests.models.helpers import build, clips, to_eval


def test_attention_is_that_of_torch():
    """The same parameters, drawn in the same order, and the same outputs."""
    torch.manual_seed(0)
    ours = ClipAttention(64, 4)
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(64, 4, batch_first=True)
    names = [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in ours.named_parameters()] == names
    assert all(torch.equal(v, theirs.state_dict()[n]) for n, v in ours.state_dict().items())
    x = torch.randn(3, 5, 64)
    assert torch.allclose(ours(x), theirs(x, x, x, need_weights=False)[0], atol=1e-6)
    mask = torch.full((5, 5), -torch.inf).triu(1)
    expected = theirs(x, x, x, attn_mask=mask, need_weights=False)[0]
    assert torch.allclose(ours(x, causal=True), expected, atol=1e-6)


def test_keys_and_values_can_be_transformed():
    """Attention to a copy of all tokens changes nothing; to the first token alone gives its value."""
    torch.manual_seed(0)
    attention, x = ClipAttention(64, 2), torch.randn(2, 3, 64)
    doubled = attention(x, kv_transform=lambda y: torch.cat([y, y], dim=1))
    assert torch.allclose(doubled, attention(x), atol=1e-6)
    first = attention(x, kv_transform=lambda y: y[:, :1])
    value = F.linear(x[:, :1], attention.in_proj_weight[128:], attention.in_proj_bias[128:])
    assert torch.allclose(first, attention.out_proj(value).expand_as(x), atol=1e-6)


def test_norm_is_computed_in_float32():
    x = (1000 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))).bfloat16()
    y = LayerNormFp32(64)(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, F.layer_norm(x.float(), (64,)).bfloat16())


@pytest.mark.parametrize("kind", CLIP_BLOCK_REGISTRY)
def test_tokens_are_those_of_the_attention(kind, monkeypatch):
    """Counted per frame in the calls of a block's own attention."""
    clips, frames, patches = 2, 4, 16
    block, inside, counts = block_builder(kind)(64), [], []
    attend = F.scaled_dot_product_attention

    def counting(q, k, v, **kwargs):
        if inside:
            counts.append((len(q) * q.shape[2], len(k) * k.shape[2]))
        return attend(q, k, v, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counting)
    block.attn.register_forward_pre_hook(lambda *_: inside.append(1))
    block.attn.register_forward_hook(lambda *_: inside.pop() and None)
    x = torch.randn(clips * frames, 1 + patches, 64)
    assert block(x, frames).shape == x.shape
    queries, keys = (sum(count) / (clips * frames) for count in zip(*counts))
    assert CLIP_BLOCK_REGISTRY.get(kind).tokens(patches) == (queries, keys)


@pytest.fixture
def mean_block():
    """A kind of temporal modelling of another project, with an option read from a key."""

    class MeanBlock(ClipBlock):
        def __init__(self, dim, options=None):
            super().__init__(dim)
            self.share = options or 0.5

        @classmethod
        def options_from_cfg(cls, cfg):
            return cfg.MODEL.MASK_RATE

        @classmethod
        def tokens(cls, patches, options=None):
            return TokenCount(patches + 1, 7)

        def attend(self, x, frames):
            y = x.unflatten(0, (-1, frames))
            mean = y.mean(1, keepdim=True)
            return super().attend(torch.lerp(y, mean, self.share).flatten(0, 1), frames)

    CLIP_BLOCK_REGISTRY.register("mean_of_frames")(MeanBlock)
    yield MeanBlock
    del CLIP_BLOCK_REGISTRY._objects["mean_of_frames"]


def test_a_registered_block_works_by_its_key(mean_block):
    key = {"MODEL.TEMPORAL_MODELING_TYPE": "mean_of_frames", "MODEL.MASK_RATE": 0.25}
    cfg, model = build(NAME, key)
    blocks = model.model.visual.transformer.resblocks
    assert all(type(block) is mean_block and block.share == 0.25 for block in blocks)
    video = clips(cfg)
    forwards, backwards = to_eval(model)(video), model(video.flip(2))
    assert torch.allclose(forwards, backwards, atol=1e-5)
    _, plain = build(NAME, key | {"MODEL.TEMPORAL_MODELING_TYPE": ""})
    assert not torch.allclose(forwards, to_eval(plain)(video), atol=1e-3)
    assert "'mean_of_frames'" in explain_key("MODEL.TEMPORAL_MODELING_TYPE")
