"""The windows of embedded videos nearest to a text or to a clip."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from slowfast.datasets.lists import VIDEO_SUFFIXES
from slowfast.inference.embeddings.facts import Facts
from slowfast.inference.embeddings.space import Space
from slowfast.inference.network import Network
from slowfast.inference.predictor import Predictor
from slowfast.utils.addresses import is_address
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.json_text import json_text

_NAMED_CLASSES = 3
_COLUMNS = ("rank", "similarity", "path", "start", "end", "class", "score")


@dataclass(frozen=True)
class Query:
    """A ``text``, or a ``video`` from ``start`` to ``end`` (seconds; None: its beginning, and the
    length of a window, or its end)."""

    text: str = ""
    video: str = ""
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, word: str, start: float | None = None, end: float | None = None) -> Query:
        """What a word of a command line means: a video if there is one of this name, else a text.

        UserError if it names a video that is not there, or a text is given times.
        """
        path = os.path.expanduser(word)
        if is_address(word) or os.path.exists(path):
            return cls("", path, start, end)
        if Path(word).suffix.lower() in VIDEO_SUFFIXES:
            raise UserError(f"there is no video {word}", "check its path", "QUERY")
        if not word.strip():
            raise UserError("is empty", "give a text or a video", "QUERY")
        if start is not None or end is not None:
            raise UserError("a text has no times", "leave them out", "--start")
        return cls(word)

    @property
    def span(self) -> tuple[float, float | None] | None:
        """The part of the video; None: all of it, or a text."""
        return None if self.start is None and self.end is None else (self.start or 0.0, self.end)

    def for_windows(self, seconds: float) -> Query:
        """With the end that a window has, if a start is given and no end."""
        if self.start is None or self.end is not None or not seconds:
            return self
        return replace(self, end=self.start + seconds)

    def vector(self, predictor: Predictor) -> torch.Tensor:
        """The features ``D`` of the query. UserError if the video cannot be read, or if the network
        knows no words."""
        if self.text:
            return predictor.embed_texts([self.text])[0]
        try:
            if self.span is None:
                return predictor.embed(self.video)[0]
            return predictor.embed_part(self.video, *self.span)
        except VideoError as error:
            raise UserError(f"{error}", "take another clip", "QUERY") from error


@dataclass(frozen=True)
class Hit:
    """A window from ``start`` to ``end`` (None: the whole video), the cosine of its vector with the
    query, and its most probable classes with their scores."""

    similarity: float
    path: str
    start: float | None
    end: float | None
    classes: list[tuple[str, float]] = field(default_factory=list)

    @property
    def span(self) -> tuple[float, float] | None:
        """Start and end; None: the whole video."""
        return None if self.start is None or self.end is None else (self.start, self.end)


def network_of(
    facts: Facts, checkpoint: str = "", device: str | None = None, overrides: Sequence[str] = ()
) -> Predictor:
    """The network that made embeddings, configured as then; ``checkpoint`` if its file has moved.

    UserError if its weights are others.
    """
    path = checkpoint or facts.checkpoint
    if not checkpoint and not is_address(path) and not os.path.exists(path):
        raise UserError(
            f"the network of the embeddings, {path}, is not there",
            "say where it is: --checkpoint",
            "--checkpoint",
        )
    classes = facts.classes if facts.knows_classes else None
    predictor = Network(path, device, facts.configuration, classes, None, overrides).load()
    made = Facts.of(predictor, path)
    difference = facts.difference(made)
    if difference:
        raise UserError(
            f"the embeddings were made by another network than {path}: {difference}",
            "name the file that made them (it may have changed since), or embed the videos again",
            "--checkpoint",
        )
    return predictor


def search(space: Space, vector: torch.Tensor, count: int, engine: str = "auto") -> list[Hit]:
    """The ``count`` windows nearest to a vector ``D``, the nearest first."""
    places = space.nearest(vector, count, engine)
    names = space.facts.classes
    hits = []
    for place, found in zip(places, space.found(places)):
        order = found.scores.argsort(kind="stable")[::-1][:_NAMED_CLASSES]
        classes = [(names[index], float(found.scores[index])) for index in order]
        hits.append(Hit(place.similarity, found.path, found.start, found.end, classes))
    return hits


# -- results for people and programs ---------------------------------------------------------------


def as_json(hits: Iterable[Hit]) -> str:
    """An object for each result, in order."""
    rows = [
        {
            "similarity": round(hit.similarity, 6),
            "path": hit.path,
            "start": hit.start,
            "end": hit.end,
            "classes": {name: round(score, 4) for name, score in hit.classes},
        }
        for hit in hits
    ]
    return json_text(rows, indent=1, ensure_ascii=False) + "\n"


def as_csv(hits: Iterable[Hit]) -> str:
    """A row for each result, in order, with its most probable class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for rank, hit in enumerate(hits, 1):
        name, score = hit.classes[0] if hit.classes else ("", 0.0)
        times = ["" if time is None else f"{time:.3f}" for time in (hit.start, hit.end)]
        shown = f"{score:.4f}" if hit.classes else ""
        writer.writerow([rank, f"{hit.similarity:.6f}", hit.path, *times, name, shown])
    return text.getvalue()


def as_table(hits: Sequence[Hit]) -> str:
    """Lines for a terminal."""
    rows = [("", "cosine", "seconds", "class", "video")]
    for rank, hit in enumerate(hits, 1):
        span = "" if hit.span is None else "{:.2f} to {:.2f}".format(*hit.span)
        name = hit.classes[0][0] if hit.classes else ""
        rows.append((str(rank), f"{hit.similarity:.4f}", span, name, hit.path))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    right = (True, True, True, False)
    lines = []
    for *cells, path in rows:
        padded = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(cells, widths, right)
        ]
        lines.append("  ".join([*padded, path]).rstrip())
    return "\n".join(lines) + "\n"
