"""Properties of the episodes that a sampler draws."""

from __future__ import annotations

import pytest

from slowfast.datasets.episode_sampler import EpisodeSampler, TooFewClips
from slowfast.datasets.lists import Item, ItemList
from slowfast.utils.errors import UserError
from tests.fewshot import fewshot_cfg

LABELS = [label for label in range(6) for _ in range(7)]


def make(labels=LABELS, split="test", seed=0, **changes):
    options = {"way": 3, "shot": 2, "num_queries": 2, "queries_of_all": True}
    return EpisodeSampler(labels, split=split, seed=seed, **(options | changes))


@pytest.mark.parametrize("queries_of_all, num_queries", [(False, 2), (True, 8)])
def test_episodes_are_as_described(queries_of_all, num_queries):
    sampler = make(way=4, shot=3, queries_of_all=queries_of_all)
    assert sampler.clips_per_episode == 12 + num_queries
    classes_with_queries, classes = set(), set()
    for number in range(200):
        episode = sampler.draw(number)
        assert episode.number == number and episode.skipped == []
        assert len(set(episode.classes)) == 4 and len(episode.queries) == num_queries
        assert len(set(episode.indices)) == len(episode.indices) == sampler.clips_per_episode
        for position, label in enumerate(episode.classes):
            assert [LABELS[index] for index in episode.support[position]] == [label] * 3
        assert [LABELS[index] for index in episode.queries] == episode.global_labels
        assert len(set(episode.query_labels)) == (4 if queries_of_all else 1)
        classes_with_queries |= set(episode.query_labels)
        classes |= set(episode.classes)
    assert classes_with_queries == {0, 1, 2, 3} and classes == set(range(6))


def test_episodes_follow_from_seed_split_and_number():
    first, second = make(), make()
    episodes = [first.draw(n) for n in range(50)]
    assert [second.draw(n) for n in reversed(range(50))][::-1] == episodes
    assert len({tuple(episode.indices) for episode in episodes}) > 45
    for other in (make(seed=1), make(split="val")):
        assert [other.draw(n) for n in range(50)] != episodes


@pytest.mark.parametrize(
    "queries_of_all, queries, query_labels", [(True, [22, 32, 13], [0, 1, 2]), (False, [24], [0])]
)
def test_episodes_stay_those_of_earlier_versions(queries_of_all, queries, query_labels):
    """Values of commit 78951b3: runs are compared episode by episode."""
    episode = make(shot=1, num_queries=1, queries_of_all=queries_of_all).draw(5)
    assert episode.classes == [3, 4, 1] and episode.support == [[26], [34], [11]]
    assert episode.queries == queries and episode.query_labels == query_labels


def test_the_next_clip_replaces_a_bad_one():
    sampler = make(shot=1, num_queries=1)
    plain = sampler.draw(5)
    bad = frozenset(plain.support[1])
    changed = sampler.draw(5, bad)
    assert changed.skipped == plain.support[1] and not bad & set(changed.indices)
    assert changed.classes == plain.classes and changed.support[0] == plain.support[0]
    assert changed.support[1] == [plain.queries[1]]  # the next of the class
    unused = set(range(len(LABELS))) - set(plain.indices)
    assert sampler.draw(5, unused) == plain


def test_a_class_without_readable_clips_is_named():
    sampler = make(shot=1, num_queries=1, class_names=list("abcdef"))
    label = sampler.draw(5).classes[2]
    bad = {index for index in range(len(LABELS)) if LABELS[index] == label}
    readable = min(bad)
    with pytest.raises(TooFewClips, match=f"class '{'abcdef'[label]}': has fewer than 2") as caught:
        sampler.draw(5, bad - {readable})
    assert caught.value.label == label


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"way": 7}, "FEWSHOT.WAY: 7 classes per episode, but the test list has clips of 6"),
        (
            {"shot": 5, "num_queries": 3},
            r"an episode takes 8 clips of a class \(5 shots and 3 queries\), but 6 classes of the "
            "test list have fewer, e.g. 0 7",
        ),
    ],
)
def test_too_few_clips(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_queries_of_training_and_test_are_two_keys(compositions):
    cfg = fewshot_cfg(
        compositions, {"FEWSHOT.QUERY": 1, "FEWSHOT.QUERY_TEST": 2, "FEWSHOT.QUERY_CLASSES": "all"}
    )
    item_list = ItemList([Item("", label, 0, 0) for label in LABELS], "list", [])
    sizes = {
        split: EpisodeSampler.from_cfg(cfg, split, item_list).clips_per_episode
        for split in ("train", "val", "test")
    }
    assert sizes == {"train": 6, "val": 9, "test": 9}
