"""Heads over frames against what their definitions say."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from slowfast.layers.consensus import HEAD_REGISTRY, ConvLstmConsensus, HeadOptions, build_head

T, D = 5, 8


def make(kind, **options):
    torch.manual_seed(0)
    return build_head(
        kind,
        HeadOptions(
            **{"num_frames": T, "dim": D, "num_classes": 3, "hidden_size": 6, "dropout": 0.0}
            | options
        ),
    ).eval()


def features(kind, batch=2):
    shape = (batch, T, D, 3, 4) if make(kind).wants_maps else (batch, T, D)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", sorted(set(HEAD_REGISTRY) - {"TSN"}))
def test_order_matters(kind):
    head, x = make(kind), features(kind)
    with torch.no_grad():
        assert not torch.allclose(head(x), head(x.flip(1)), atol=1e-6)


def test_averaging_is_blind_to_order():
    x = torch.randn(2, T, 3)
    assert torch.allclose(make("TSN")(x), make("TSN")(x.flip(1)), atol=1e-6)


def test_names_of_the_paper():
    assert type(make("FCN")) is type(make("FCN2D")) and type(make("avg")) is type(make("TSN"))


def relations(head, x, subsets):
    """Multi-scale TRN written out, with the given subsets of each size."""
    total = 0
    for size, relation in zip(range(T, 1, -1), head.fc_fusion_scales):
        for subset in subsets(size):
            total = total + relation(torch.cat([x[:, t] for t in subset], dim=1))
    return total


def test_relations_of_evaluation_are_the_first_subsets():
    head, x = make("TRNmultiscale"), features("TRNmultiscale")

    def first(size):
        return list(itertools.combinations(range(T), size))[:3]

    with torch.no_grad():
        assert torch.allclose(head(x), relations(head, x, first), atol=1e-6)


def test_all_relations_count_as_much_as_three():
    head = make("TRNmultiscale", all_subsets_in_eval=True)
    x = features("TRNmultiscale")
    with torch.no_grad():
        expected = 0
        for size, relation in zip(range(T, 1, -1), head.fc_fusion_scales):
            subsets = list(itertools.combinations(range(T), size))
            logits = [relation(x[:, list(s)].flatten(1)) for s in subsets]
            expected = expected + sum(logits) / len(subsets) * min(3, len(subsets))
        assert torch.allclose(head(x), expected, atol=1e-5)


def test_training_draws_distinct_subsets_from_the_generator():
    head = make("TRNmultiscale").train()
    torch.manual_seed(4)
    one = [head.draw_subsets(3) for _ in range(40)]
    torch.manual_seed(4)
    two = [head.draw_subsets(3) for _ in range(40)]
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    seen = {tuple(row) for draw in one for row in draw.tolist()}
    assert seen == set(itertools.combinations(range(T), 3))
    assert all(len({tuple(r) for r in draw.tolist()}) == 3 for draw in one)


def test_many_frames_need_no_list_of_all_subsets():
    """32 frames have 6e8 subsets of 16: they are drawn, never listed."""
    head = make("TRNmultiscale", num_frames=32).train()
    drawn = head.draw_subsets(16)
    assert drawn.shape == (3, 16) and (drawn.diff(dim=1) > 0).all() and math.comb(32, 16) > 1e8
    assert head(torch.randn(1, 32, D)).shape == (1, 3)
    assert sum(b.numel() for b in head.buffers()) < 2e6


def test_bidirectional_state():
    head, x = make("BLSTM"), features("BLSTM")
    with torch.no_grad():
        states, (last, _) = head.rnn(x)
        expected = head.fc(torch.cat([last[1], last[0]], dim=1))
        assert torch.allclose(head(x), expected, atol=1e-6)


def test_conv_lstm_of_one_pixel_is_an_lstm():
    """On 1x1 maps only the kernel's centre counts, and the gates are those of nn.LSTM."""
    head = make("CONVLSTM")
    assert isinstance(head, ConvLstmConsensus)
    lstm = torch.nn.LSTM(D, 6, batch_first=True)
    centre = head.cell_list[0].conv.weight[:, :, 1, 1]
    order = [0, 1, 3, 2]  # ours i f o g, PyTorch's i f g o

    def reordered(rows):
        return torch.cat([rows.chunk(4)[k] for k in order])

    with torch.no_grad():
        lstm.weight_ih_l0.copy_(reordered(centre[:, :D]))
        lstm.weight_hh_l0.copy_(reordered(centre[:, D:]))
        lstm.bias_ih_l0.copy_(reordered(head.cell_list[0].conv.bias))
        lstm.bias_hh_l0.zero_()
        x = torch.randn(2, T, D)
        expected = head.fc(lstm(x)[0][:, -1])
        assert torch.allclose(head(x[..., None, None]), expected, atol=1e-6)
