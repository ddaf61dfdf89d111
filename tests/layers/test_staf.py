"""STAF's attention: shapes, a case by hand, loops written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from slowfast.layers.staf import MapAttention, StafHead

N, K, Q, C, L = 2, 3, 2, 8, 4


@pytest.fixture
def head():
    torch.manual_seed(0)
    return StafHead(C, L, num_classes=5, scale=7.0, self_weight=0.5).eval().requires_grad_(False)


def maps(seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(N, K, C, L, generator=generator)
    return prototypes, torch.randn(N, Q, C, L, generator=generator)


def test_shapes(head):
    attended = head.attend(*maps())
    assert attended.prototypes.shape == attended.queries.shape == (N, Q, K, C, L)
    assert attended.self_prototypes.shape == (N, K, C, L)
    assert attended.self_queries.shape == (N, Q, C, L)
    assert head.similarity(attended).shape == (N, Q, K)
    assert head.position_scores(attended).shape == (N, Q, K, L)
    labels = torch.zeros(N, Q, dtype=torch.long)
    assert head.global_logits(attended, labels).shape == (N * Q, 5, L)


def test_attention_is_between_one_and_two():
    torch.manual_seed(0)
    attention = MapAttention(4)(torch.rand(2, 3, 4, 4), True)
    assert attention.shape == (2, 3, 4)
    assert (attention >= 1).all() and (attention <= 2).all()
    assert torch.allclose(attention.sum(-1), torch.full((2, 3), 5.0), atol=1e-5)


def test_attention_by_hand():
    """Weights of zero and a bias of one: the mean cosine with the other map, times 40, softmax."""
    attention = MapAttention(2)
    with torch.no_grad():
        attention.conv2.weight.zero_()
        attention.conv2.bias.fill_(1.0)
    cosines = torch.tensor([[0.5, 0.3], [0.1, 0.2]])
    # (0.5 + 0.3) / 2 - (0.1 + 0.2) / 2 = 0.25, divided by 0.025
    share = 1 / (1 + torch.tensor(-10.0).exp())
    expected = torch.stack([1 + share, 2 - share])
    assert torch.allclose(attention(cosines[None], False)[0], expected, atol=1e-5)


def test_attention_against_loops(head):
    """Each pair of a prototype and a query by itself."""
    prototypes, queries = maps()
    attended = head.attend(prototypes, queries)
    for n in range(N):
        for q in range(Q):
            for k in range(K):
                p, x = prototypes[n, k], queries[n, q]
                cosines = torch.tensor(
                    [
                        [F.cosine_similarity(p[:, i], x[:, j], dim=0) for j in range(L)]
                        for i in range(L)
                    ]
                )
                weights = head.cam(cosines[None], True)[0]
                assert torch.allclose(attended.prototypes[n, q, k], p * weights, atol=1e-5)
                weights = head.cam(cosines.T[None], True)[0]
                assert torch.allclose(attended.queries[n, q, k], x * weights, atol=1e-5)


def test_similarity_against_loops(head):
    attended = head.attend(*maps())
    similarity, scores = head.similarity(attended), head.position_scores(attended)
    for n, q, k in [(0, 0, 0), (0, 1, 2), (1, 0, 1)]:
        cross, query = attended.prototypes[n, q, k].mean(-1), attended.queries[n, q, k]
        self_p, self_q = attended.self_prototypes[n, k].mean(-1), attended.self_queries[n, q]
        alone = F.cosine_similarity(self_p, self_q.mean(-1), dim=0)
        expected = 7 * (F.cosine_similarity(cross, query.mean(-1), dim=0) + 0.5 * alone)
        assert similarity[n, q, k] == pytest.approx(expected.item(), abs=1e-5)
        for position in range(L):
            alone = F.cosine_similarity(self_p, self_q[:, position], dim=0)
            expected = 7 * (F.cosine_similarity(cross, query[:, position], dim=0) + 0.5 * alone)
            assert scores[n, q, k, position] == pytest.approx(expected.item(), abs=1e-5)


def test_the_true_prototype_attends_for_the_classifier(head):
    attended = head.attend(*maps())
    labels = torch.tensor([[2, 0], [1, 1]])
    logits = head.global_logits(attended, labels).unflatten(0, (N, Q))
    weight, bias = head.classifier.weight.flatten(1), head.classifier.bias
    for n in range(N):
        for q in range(Q):
            expected = weight @ attended.queries[n, q, labels[n, q]] + bias[:, None]
            assert torch.allclose(logits[n, q], expected, atol=1e-5)


def test_a_single_query_is_not_normalized(head):
    """A quirk of the release: the self-attention of one query skips batch normalisation."""
    head.cam.conv1.bn.running_mean.fill_(3.0)
    prototypes, queries = maps()
    both = head.attend(prototypes, queries)
    alone = head.attend(prototypes, queries[:, :1])
    assert torch.allclose(both.queries[:, :1], alone.queries, atol=1e-6)
    assert not torch.allclose(both.self_queries[:, :1], alone.self_queries, atol=1e-4)


def test_episodes_are_independent(head):
    prototypes, queries = maps()
    together = head.similarity(head.attend(prototypes, queries))
    for n in range(N):
        alone = head.similarity(head.attend(prototypes[n : n + 1], queries[n : n + 1]))
        assert torch.allclose(together[n : n + 1], alone, atol=1e-5)
