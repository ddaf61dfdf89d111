"""TRX against loops over tuples of frames."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from slowfast.layers.trx import TrxHead, TupleAttention, frame_positions

N, K, S, Q, T, D, OUT = 2, 3, 2, 2, 5, 6, 7


def clips(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    support = torch.randn(N, K, S, T, D, generator=generator)
    return support, torch.randn(N, Q, T, D, generator=generator)


def attention(tuple_size: int) -> TupleAttention:
    torch.manual_seed(1)
    return TupleAttention(T, D, OUT, tuple_size, dropout=0.5).eval()


@pytest.mark.parametrize("tuple_size", [1, 2, 3])
def test_logits_against_loops(tuple_size):
    layer, (support, queries) = attention(tuple_size), clips()
    logits = layer(support, queries)
    assert logits.shape == (N, Q, K)
    tuples = list(itertools.combinations(range(T), tuple_size))

    def keys_and_values(clip):
        clip = clip + layer.pe.pe[0, :T]
        rows = torch.stack([torch.cat([clip[i] for i in chosen]) for chosen in tuples])
        return layer.norm_k(layer.k_linear(rows)), layer.v_linear(rows)

    for n, q, k in itertools.product(range(N), range(Q), range(K)):
        shots = [keys_and_values(support[n, k, s]) for s in range(S)]
        keys, values = (torch.cat(parts) for parts in zip(*shots))
        query_keys, query_values = keys_and_values(queries[n, q])
        distance = 0.0
        for key, value in zip(query_keys, query_values):
            weights = torch.softmax(keys @ key / math.sqrt(OUT), 0)
            distance += (value - weights @ values).square().sum()
        assert torch.allclose(logits[n, q, k], -distance / len(tuples), atol=1e-4)


def test_tuples_are_ordered_and_complete():
    assert attention(2).tuples.tolist() == [list(p) for p in itertools.combinations(range(T), 2)]
    assert len(attention(3).tuples) == math.comb(T, 3)


def test_branches_are_averaged():
    torch.manual_seed(2)
    head, (support, queries) = TrxHead(T, D, OUT, (2, 3), 0.1).eval(), clips()
    parts = [branch(support, queries) for branch in head.transformers]
    assert torch.allclose(head(support, queries), (parts[0] + parts[1]) / 2)


def test_frame_positions_by_hand():
    table = frame_positions(3, 5)
    assert table.shape == (1, 3, 5)
    for frame in range(3):
        for channel in range(5):
            angle = frame / 10000 ** ((channel - channel % 2) / 5)
            value = math.cos(angle) if channel % 2 else math.sin(angle)
            assert table[0, frame, channel].item() == pytest.approx(0.1 * value, abs=1e-6)


def test_the_order_of_frames_matters_and_that_of_shots_does_not():
    layer, (support, queries) = attention(2), clips()
    logits = layer(support, queries)
    assert torch.allclose(layer(support.flip(2), queries), logits, atol=1e-5)
    assert not torch.allclose(layer(support, queries.flip(2)), logits, atol=1e-3)


def test_unused_parameters_are_frozen():
    layer = attention(2)
    frozen = [name for name, p in layer.named_parameters() if not p.requires_grad]
    assert frozen == ["norm_v.weight", "norm_v.bias"]
    assert "tuples" not in layer.state_dict() and "pe.pe" in layer.state_dict()
