"""Files of embeddings that one network made, and the vectors in them nearest to another one."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from slowfast.inference.embeddings.facts import Facts
from slowfast.inference.embeddings.parquet import Found, VectorFile
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

ENDING = ".parquet"
ENGINES = ("auto", "faiss", "torch")
_MORE = 16  # neighbours beyond those asked for, so that rounding is seldom in doubt


class Place(NamedTuple):
    """A vector: ``row`` of file number ``file``; ``similarity``: its cosine with the query."""

    similarity: float
    file: int
    row: int


class Space:
    """All embeddings of ``words``: files, and folders of which every ``.parquet`` file counts.

    UserError if there are none, one is damaged, or they are of different networks.
    """

    def __init__(self, words: Sequence[str | Path]):
        paths = [path for word in words for path in _files(word)]
        self.files = [VectorFile(path) for path in dict.fromkeys(paths)]
        first, *others = self.files
        self.facts: Facts = first.facts
        for other in others:
            if other.facts is self.facts:
                continue
            difference = self.facts.difference(other.facts)
            if not difference and self.facts.classes != other.facts.classes:
                difference = "other classes"
            if difference:
                raise UserError(
                    f"{first.path} and {other.path} are of different networks: {difference}",
                    "search the embeddings of one network at a time",
                    "--vectors",
                )

    @property
    def rows(self) -> int:
        """Number of vectors."""
        return sum(file.rows for file in self.files)

    def nearest(self, query: torch.Tensor, count: int, engine: str = "auto") -> list[Place]:
        """The ``count`` vectors with the largest cosine to ``query`` (``D``, of any length), the
        nearest first, equal ones in the order of the files: exactly, by faiss (``auto``: where it
        is installed) or by PyTorch, with the same result.

        UserError if the query has another dimension or no direction.
        """
        return nearest(self._chunks(), unit_vector(query, self.facts.dimension), count, engine)

    def found(self, places: Sequence[Place]) -> list[Found]:
        """What stands beside these vectors, in the same order."""
        rows: dict[Place, Found] = {}
        for number in {place.file for place in places}:
            here = [place for place in places if place.file == number]
            rows |= zip(here, self.files[number].found([place.row for place in here]))
        return [rows[place] for place in places]

    def _chunks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        for number, file in enumerate(self.files):
            first = 0
            for vectors in file.vectors():
                yield number, first, vectors
                first += len(vectors)


def _files(word: str | Path) -> list[Path]:
    path = Path(word).expanduser()
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.endswith(ENDING))
    found = [file for file in found if not file.name.startswith(".")]
    if not found:
        raise UserError(
            f"{path} holds no embeddings (*{ENDING})", "make them: tools/embed.py", "--vectors"
        )
    return found


def unit_vector(query: torch.Tensor, dimension: int) -> np.ndarray:
    """A query as float32 ``D`` of length one. UserError if that is not possible."""
    vector = query.double().flatten()
    length = float(vector.norm())
    if len(vector) != dimension:
        problem = f"has {len(vector)} numbers, the embeddings have {dimension}"
        raise UserError(problem, "take the network that made them", "query")
    if not 0 < length < math.inf:
        raise UserError("has no direction: its features are zero or not finite", "", "query")
    return (vector / length).float().numpy()


def nearest(
    chunks: Iterator[tuple[int, int, np.ndarray]], query: np.ndarray, count: int, engine: str
) -> list[Place]:
    """:meth:`Space.nearest` of (file, first row, vectors float16 ``n D``)."""
    if count < 1:
        raise UserError(f"is {count}", "ask for one at least", "--top")
    candidates = _engine(engine, query)
    # Sums of float32 may be wrong by this much, in either engine.
    doubt = 2 * len(query) * 2.0**-24
    exact = query.astype(np.float64)
    best: list[Place] = []
    for file, first, vectors in chunks:
        least = best[-1].similarity - doubt if len(best) == count else -math.inf
        rows = candidates(vectors, count, least, doubt)
        # Engines add in different orders: what is in question is computed again, in one way.
        values = (vectors[rows].astype(np.float64) * exact).sum(1)
        if not np.isfinite(values).all():
            raise UserError("the embeddings hold numbers that are not finite", "", "--vectors")
        best += [Place(float(value), file, first + int(row)) for value, row in zip(values, rows)]
        best = sorted(best, key=lambda place: (-place.similarity, place.file, place.row))[:count]
    return best


# (vectors, count, least, doubt) -> the rows of which every one that may be among the ``count``
# nearest is one, unless its similarity is below ``least``; similarities are in ``doubt``.
Candidates = Callable[[np.ndarray, int, float, float], np.ndarray]


def _engine(name: str, query: np.ndarray) -> Candidates:
    has_faiss = importlib.util.find_spec("faiss") is not None
    if name == "faiss" and not has_faiss:
        raise UserError("faiss is not installed", 'pip install "slowfast[embed]"', "--engine")
    if name == "torch" or not has_faiss:
        return _torch_candidates(query)
    return _faiss_candidates(query)


def _torch_candidates(query: np.ndarray) -> Candidates:
    vector = torch.from_numpy(query)

    def candidates(vectors: np.ndarray, count: int, least: float, doubt: float) -> np.ndarray:
        similar = torch.from_numpy(vectors).float() @ vector
        similar = similar.nan_to_num(math.inf)  # to be noticed
        worst = float(similar.topk(min(count, len(similar))).values[-1])
        return (similar >= max(worst - doubt, least)).nonzero()[:, 0].numpy()

    return candidates


def _faiss_candidates(query: np.ndarray) -> Candidates:
    import faiss

    index: Any = faiss.IndexFlatIP(len(query))

    def candidates(vectors: np.ndarray, count: int, least: float, doubt: float) -> np.ndarray:
        index.reset()
        index.add(torch.from_numpy(vectors).float().numpy())
        similar, rows = index.search(query[None], min(count + _MORE, len(vectors)))
        similar, rows = similar[0], rows[0]
        if (rows < 0).any():  # numbers that are not finite
            return np.arange(len(vectors))
        worst = max(float(similar[min(count, len(rows)) - 1]) - doubt, least)
        if len(rows) < len(vectors) and similar[-1] >= worst:  # more may be as near
            _, _, rows = index.range_search(query[None], float(np.nextafter(worst, -math.inf)))
            return np.sort(rows)
        return np.sort(rows[similar >= worst])

    return candidates
