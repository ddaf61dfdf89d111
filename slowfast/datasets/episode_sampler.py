"""EpisodeSampler: an episode's number -> its support and query clips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from slowfast.config.node import CfgNode
from slowfast.datasets.lists import ItemList
from slowfast.utils.errors import Problem, UserError, VideoError
from slowfast.utils.seeding import sample_rng


class TooFewClips(VideoError):
    """Class ``label`` has too few readable clips for an episode."""

    def __init__(self, class_name: str, label: int, needed: int):
        super().__init__(f"class {class_name}", f"has fewer than {needed} readable clips")
        self.label = label


@dataclass(frozen=True)
class EpisodeIndices:
    """The clips of an episode of K classes, S shots and Q queries, as indices into their list.

    - ``classes``: labels of the K classes within the split;
    - ``support``: ``K S`` indices; ``queries``: ``Q`` indices;
    - ``query_labels``: ``Q``, the class of each query within the episode, ``0..K-1``;
    - ``skipped``: bad clips whose place other clips of their class take.
    """

    number: int
    classes: list[int]
    support: list[list[int]]
    queries: list[int]
    query_labels: list[int]
    skipped: list[int]

    @property
    def indices(self) -> list[int]:
        """``K*S+Q``: support clips by class, then queries."""
        return [index for row in self.support for index in row] + self.queries

    @property
    def global_labels(self) -> list[int]:
        """``Q``: the label of each query within the split."""
        return [self.classes[label] for label in self.query_labels]


class EpisodeSampler:
    """Draws episodes from labelled clips; episode ``n`` follows from (seed, split, n) alone.

    Args:
        labels: label of each clip of the split.
        way: classes of an episode.
        shot: support clips of each class.
        num_queries: query clips of a class that has queries.
        queries_of_all: every class has queries; else a single class of each episode has.
        class_names: names in label order, for messages.

    UserError if the clips do not suffice.
    """

    def __init__(
        self,
        labels: Sequence[int],
        *,
        split: str,
        seed: int,
        way: int,
        shot: int,
        num_queries: int,
        queries_of_all: bool,
        class_names: Sequence[str] = (),
    ):
        self.split, self.seed = split, seed
        self.way, self.shot, self.num_queries = way, shot, num_queries
        self.queries_of_all, self.class_names = queries_of_all, class_names
        by_class: dict[int, list[int]] = defaultdict(list)
        for index, label in enumerate(labels):
            by_class[label].append(index)
        self._indices = {label: np.array(by_class[label]) for label in sorted(by_class)}
        problems = list(self._problems())
        if problems:
            raise UserError(problems)

    @classmethod
    def from_cfg(cls, cfg: CfgNode, split: str, item_list: ItemList) -> EpisodeSampler:
        """The sampler of a split, as FEWSHOT describes it."""
        options = cfg.FEWSHOT
        return cls(
            [item.label for item in item_list.items],
            split=split,
            seed=cfg.RNG_SEED,
            way=options.WAY,
            shot=options.SHOT,
            num_queries=options.QUERY if split == "train" else options.QUERY_TEST,
            queries_of_all=options.QUERY_CLASSES == "all",
            class_names=item_list.class_names,
        )

    @property
    def clips_per_episode(self) -> int:
        """``K*S+Q``."""
        return self.way * self.shot + self.num_queries * (self.way if self.queries_of_all else 1)

    def _name(self, label: int) -> str:
        return repr(self.class_names[label]) if self.class_names else str(label)

    def _problems(self) -> Iterator[Problem]:
        if len(self._indices) < self.way:
            yield Problem(
                f"{self.way} classes per episode, but the {self.split} list has clips of "
                f"{len(self._indices)}",
                "lower it, or add classes",
                "FEWSHOT.WAY",
            )
        needed = self.shot + self.num_queries
        few = [label for label, indices in self._indices.items() if len(indices) < needed]
        if few:
            yield Problem(
                f"an episode takes {needed} clips of a class ({self.shot} shots and "
                f"{self.num_queries} queries), but {len(few)} classes of the {self.split} list "
                f"have fewer, e.g. {self._name(few[0])} {len(self._indices[few[0]])}",
                "lower FEWSHOT.SHOT or the queries, or leave those classes out",
                "FEWSHOT.SHOT",
            )

    def draw(self, number: int, bad: Collection[int] = frozenset()) -> EpisodeIndices:
        """Episode ``number``; the next clip of the class replaces one of the ``bad`` clips.

        TooFewClips if a class has too few others.
        """
        # The purpose is part of the seed: another text would give other episodes.
        rng = sample_rng(self.seed, 0, number, f"{self.split} task")
        classes = rng.permutation(np.array(list(self._indices)))[: self.way].tolist()
        with_queries = range(self.way) if self.queries_of_all else [int(rng.integers(self.way))]
        support, queries, query_labels, skipped = [], [], [], []
        for position, label in enumerate(classes):
            order = iter(rng.permutation(self._indices[label]).tolist())
            needed = self.shot + (self.num_queries if position in with_queries else 0)
            chosen: list[int] = []
            while len(chosen) < needed:
                index = next(order, None)
                if index is None:
                    raise TooFewClips(self._name(label), label, needed)
                (skipped if index in bad else chosen).append(index)
            support.append(chosen[: self.shot])
            queries += chosen[self.shot :]
            query_labels += [position] * (needed - self.shot)
        return EpisodeIndices(number, classes, support, queries, query_labels, skipped)
