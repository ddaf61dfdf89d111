"""STFM's parts: selection by hand, gradients, rebuilding of frames."""

from __future__ import annotations

import pytest
import torch

from slowfast.layers.stfm import (
    Adapt,
    Stfm,
    StfmBlock,
    StfmOptions,
    StfmPatchEmbed,
    StfmShape,
    TokenChain,
    TokenSelector,
    patches_per_side,
    select_tokens,
    token_distance_loss,
)

SHAPE = StfmShape(channels=6, dim=8, crop_size=32)


def test_selection_by_hand():
    scores = torch.tensor([[[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]]])
    values = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]])
    for temperature in (None, 1.0, 0.01):
        picked = select_tokens(scores.requires_grad_(), values, temperature)
        assert picked.tolist() == [[[2.0, 20.0], [1.0, 10.0]]]


def test_straight_through_gradient_is_that_of_the_softmax():
    scores = torch.tensor([[[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]]], requires_grad=True)
    values = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]], requires_grad=True)
    for temperature in (1.0, 2.0):
        scores.grad = values.grad = None
        select_tokens(scores, values, temperature)[0, 0, 0].backward()
        soft = (scores.detach()[0, 0] / temperature).softmax(0)
        column = values.detach()[0, :, 0]
        expected = soft * (column - (soft * column).sum()) / temperature
        assert torch.allclose(scores.grad[0, 0], expected, atol=1e-6)
        assert not scores.grad[0, 1].any()
        # The values get the gradient of the selection alone.
        assert torch.allclose(values.grad[0], torch.tensor([[0.0, 0], [1, 0], [0, 0]]), atol=1e-6)


def test_hard_selection_trains_the_values_only():
    scores = torch.tensor([[[0.0, 2.0]]], requires_grad=True)
    values = torch.tensor([[[1.0], [2.0]]], requires_grad=True)
    select_tokens(scores, values, None).sum().backward()
    assert scores.grad is None and values.grad.flatten().tolist() == [0, 1]


@pytest.mark.parametrize("stride_t", [1, 2])
def test_adapt_is_the_transposed_convolution(stride_t):
    torch.manual_seed(0)
    adapt = Adapt(StfmShape(channels=6, dim=8, crop_size=32, stride_t=stride_t)).eval()
    x = torch.randn(2, 6, 2, 2, 2)
    with torch.no_grad():
        expected = adapt.act(adapt.transconv(adapt.norm(x)))
        assert torch.allclose(adapt(x), expected, atol=1e-5)
        assert expected.shape == (2, 3, 2 * stride_t, 32, 32)


@pytest.mark.parametrize("dense, side", [(True, 5), (False, 2)])
def test_patches(dense, side):
    assert patches_per_side(32, dense) == side
    embed = StfmPatchEmbed(SHAPE, dense, pos_kernel=3)
    patches, positions = embed(torch.randn(2, 3, 4, 32, 32))
    assert patches.shape == positions.shape == (2, 8, 2, side, side)


def test_selector_picks_patches_of_the_first_frame():
    torch.manual_seed(0)
    selector = TokenSelector(8, 3, None).eval()
    first, positions = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    tokens, token_positions = selector(first, positions)
    normed = selector.norm(first)
    best = selector.select(normed).flatten(2).argmax(-1)
    for b in range(2):
        for n in range(3):
            y, x = divmod(int(best[b, n]), 4)
            assert torch.equal(tokens[b, n], normed[b, :, y, x])
            assert torch.equal(token_positions[b, n], positions[b, :, y, x])


def test_chain_follows_each_token():
    """The most similar mixed patch of each later frame, with its position."""
    torch.manual_seed(0)
    chain = TokenChain(8, 2, 9, None).eval()
    tokens, token_positions = torch.randn(1, 2, 8), torch.randn(1, 2, 8)
    patches, positions = torch.randn(1, 8, 3, 3, 3), torch.randn(1, 8, 3, 3, 3)
    followed, followed_positions = chain(tokens, token_positions, patches, positions)
    assert followed.shape == followed_positions.shape == (1, 3, 2, 8)
    assert torch.equal(followed[:, 0], tokens)
    assert torch.equal(followed_positions[:, 0], token_positions)
    normed = chain.norm(patches)
    for t in (1, 2):
        later = normed[0, :, t].flatten(1).T  # P D
        keys = chain.proj(torch.cat([tokens[0], later]).T)  # D P
        for n in range(2):
            best = int((tokens[0, n] @ keys).argmax())
            y, x = divmod(best, 3)
            assert torch.equal(followed[0, t, n], later[best])
            assert torch.equal(followed_positions[0, t, n], positions[0, :, t, y, x])


def test_both_selections_select_the_same():
    outputs = []
    for selection in ("hard", "straight_through"):
        torch.manual_seed(0)
        module = Stfm(StfmOptions(num_tokens=3, selection=selection), SHAPE).eval()
        x, video = torch.randn(2, 6, 2, 2, 2), torch.randn(2, 3, 4, 32, 32)
        outputs.append(module(x, video))
    for hard, soft in zip(*outputs):
        assert hard.shape == (2, 2, 3, 8)
        assert torch.allclose(hard, soft, atol=1e-5)


def test_which_selection_trains_the_selectors():
    for selection, trained in (("hard", False), ("straight_through", True)):
        torch.manual_seed(0)
        module = Stfm(StfmOptions(num_tokens=3, selection=selection), SHAPE)
        tokens, positions = module(torch.randn(2, 6, 2, 2, 2), torch.randn(2, 3, 4, 32, 32))
        (tokens.square().sum() + positions.square().sum()).backward()
        for weight in (module.tokenselector.select[0].weight, module.chain.proj.fc1.weight):
            assert (weight.grad is not None and bool(weight.grad.any())) == trained
        assert module.adapt.transconv.weight.grad.any()


def test_block_adds_positions_first():
    torch.manual_seed(0)
    block = StfmBlock(8, 2).eval()
    x, positions = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    assert torch.equal(block(x, positions), block(x + positions, torch.zeros(2, 5, 8)))


def test_token_distance_by_hand():
    tokens = torch.tensor([1.0, 4.0, -1.0]).view(1, 3, 1, 1)
    assert token_distance_loss(tokens) == pytest.approx((0 + 3 + 2) / 3)
    assert token_distance_loss(tokens[:, :1]) == 0


def test_padded_products_give_the_same(monkeypatch):
    """Sizes that GPUs like, of weights as they are in checkpoints: every number is equal."""
    torch.manual_seed(0)
    chain = TokenChain(8, 3, 25, 1.0)
    x, positions = torch.randn(2, 8, 3, 5, 5, requires_grad=True), torch.randn(2, 8, 3, 5, 5)
    tokens = torch.randn(2, 3, 8, requires_grad=True)
    results = []
    for padded in (False, True):
        monkeypatch.setattr("slowfast.layers.stfm.pads_products", lambda _, p=padded: p)
        followed, _ = chain(tokens, torch.zeros(2, 3, 8), x, positions)
        inputs = [x, tokens, *chain.parameters()]
        results.append([followed, *torch.autograd.grad(followed.square().sum(), inputs)])
    for plain, padded in zip(*results):
        assert torch.allclose(plain, padded, rtol=1e-5, atol=1e-6)


def test_straight_through_is_the_one_hot_product():
    """Values and gradients are those of the weights ``one_hot + soft - soft.detach()``, bit by
    bit, also where several tokens select one patch."""
    torch.manual_seed(0)
    scores, values = torch.randn(2, 6, 3, requires_grad=True), torch.randn(2, 3, 4)
    values.requires_grad_()
    soft = (scores / 0.7).softmax(-1)
    hard = torch.nn.functional.one_hot(scores.argmax(-1), 3).float()
    written_out = (hard + soft - soft.detach()) @ values
    ours = select_tokens(scores, values, 0.7)
    grad = torch.randn_like(ours)
    assert torch.equal(ours, written_out)
    for found, expected in zip(
        torch.autograd.grad(ours, (scores, values), grad),
        torch.autograd.grad(written_out, (scores, values), grad),
    ):
        assert torch.equal(found, expected)


def test_hard_selection_freezes_what_cannot_learn():
    for selection, learns in (("hard", False), ("straight_through", True)):
        module = Stfm(StfmOptions(num_tokens=3, selection=selection), SHAPE)
        frozen = {n for n, p in module.named_parameters() if not p.requires_grad}
        assert bool(frozen) != learns
        assert all(n.startswith(("tokenselector.select.", "chain.proj.")) for n in frozen)
