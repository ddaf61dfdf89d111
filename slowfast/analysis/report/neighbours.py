"""The page of a search: its results as pictures that play, in one file without references."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from slowfast.analysis.report.page import distinct, render
from slowfast.analysis.report.pictures import Budget, Picture, Span, VideoPictures
from slowfast.config.defaults import get_cfg
from slowfast.inference.embeddings.search import Hit, Query
from slowfast.inference.embeddings.space import Space
from slowfast.utils.addresses import is_address
from slowfast.utils.files import write_text_atomic

_MOST_BYTES, _MOST_SECONDS = 12 << 20, 120.0


@dataclass(frozen=True)
class Shown:
    """A result with its picture, if there is one, and where a browser finds the video, if it
    does."""

    hit: Hit
    picture: Picture | None
    link: str


def write_neighbours(query: Query, hits: Sequence[Hit], space: Space, out: str | Path) -> None:
    """Write the page of the results of a search to ``out``.

    Results play from their start to their end; a link leads to the whole video, at the same moment,
    where the browser reaches it. Pictures that do not fit into the page are left out.
    """
    out = Path(out)
    budget = Budget(len(hits) + 1, _MOST_BYTES, _MOST_SECONDS)
    pictures = VideoPictures(get_cfg(), Path("."), budget)
    asked = _show(query.video, _whole(query.span), pictures, out) if query.video else None
    shown = []
    for hit in hits:
        picture, link = _show(hit.path, hit.span, pictures, out)
        shown.append(Shown(hit, picture, link))
    drawn = [one.picture for one in shown] + [asked[0] if asked else None]
    text = render(
        "neighbours.html",
        title=f"Search: {query.text or os.path.basename(query.video)}",
        query=query,
        asked=asked,
        results=shown,
        facts=space.facts,
        rows=space.rows,
        files=len(space.files),
        failures=pictures.failures,
        spent=budget.spent,
        pictures=distinct([picture for picture in drawn if picture]),
        plots={},
        data={},
    )
    write_text_atomic(out, text)


def _whole(span: tuple[float, float | None] | None) -> Span | None:
    """A span whose end is known; a picture ends with the video anyhow."""
    return None if span is None else (span[0], span[1] if span[1] is not None else float("inf"))


def _show(
    path: str, span: Span | None, pictures: VideoPictures, out: Path
) -> tuple[Picture | None, str]:
    return pictures.picture(path, span), link_to(path, span, out)


def link_to(path: str, span: Span | None, page: Path) -> str:
    """Where a browser finds a part of a video, relative to the page; empty if it cannot."""
    if is_address(path):
        place = path if path.startswith(("http://", "https://")) else ""
    else:
        place = quote(os.path.relpath(os.path.expanduser(path), page.parent))
        place = "" if os.path.isdir(path) else place
    if not place or span is None:
        return place
    end = "" if span[1] == float("inf") else f",{span[1]:.2f}"
    return f"{place}#t={span[0]:.2f}{end}"
