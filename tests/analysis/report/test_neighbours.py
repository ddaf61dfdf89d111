"""The page of a search: its results play from their start to their end."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slowfast.analysis.report.neighbours import link_to, write_neighbours
from slowfast.inference.embeddings.search import Hit, Query
from slowfast.inference.embeddings.space import Space
from slowfast.video.writer import write_mp4
from tests.inference.embeddings.made import unit_rows, write

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A video whose frames become brighter, and embeddings."""
    folder = tmp_path_factory.mktemp("page")
    shades = np.linspace(0, 255, 40).astype(np.uint8)
    frames = np.broadcast_to(shades[:, None, None, None], (40, 48, 64, 3))
    write_mp4(folder / "brighter one.mp4", np.ascontiguousarray(frames), fps=10, gop=10)
    write(folder / "part-00000.parquet", unit_rows(5))
    return folder


def page_of(place: Path, query: Query, hits: list[Hit], out: Path | None = None) -> str:
    out = out or place / "page.html"
    write_neighbours(query, hits, Space([place]), out)
    return out.read_text()


def shades(text: str) -> list[list[float]]:
    """Mean brightness of the frames of each picture."""
    pictures = []
    for uri in re.findall(r"data:image/webp;base64,([^)]*)", text):
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("L"), float)
        pictures.append([float(part.mean()) for part in np.split(image, 8, axis=1)])
    return pictures


def test_pictures_show_the_part_of_the_video(place):
    video = str(place / "brighter one.mp4")
    hits = [Hit(0.9, video, 0.0, 1.0, [("left", 0.7)]), Hit(0.8, video, 3.0, 4.0, [])]
    text = page_of(place, Query("a text"), hits)
    first, last = shades(text)
    assert first == sorted(first) and last == sorted(last)
    assert max(first) < 70 and min(last) > 180
    assert "brighter%20one.mp4#t=0.00,1.00" in text and "brighter%20one.mp4#t=3.00,4.00" in text
    assert text.count('<figure class="clip">') == 2 and "0.900" in text and "left" in text
    asked = page_of(place, Query("", video, 2.0, None), hits)
    assert len(shades(asked)) == 3 and "2.00 to the end" in asked


def test_videos_that_are_gone_and_texts_of_any_kind(place):
    hostile = "<script>alert(1)</script>"
    hits = [Hit(0.9, f"gone/{hostile}.mp4", 0.0, 1.0, [(hostile, 0.7)])]
    text = page_of(place, Query(hostile), hits)
    assert text.count("<script") == 3 and "no picture" in text
    assert "1 video could not be read" in html.unescape(text)


def test_links(place):
    assert link_to("videos/a b.mp4", (1.0, 3.0), Path("pages/x.html")) == (
        "../videos/a%20b.mp4#t=1.00,3.00"
    )
    assert link_to("https://host/a.mp4", None, Path("x.html")) == "https://host/a.mp4"
    assert link_to("s3://bucket/a.mp4", None, Path("x.html")) == ""
    assert link_to(str(place), None, place / "x.html") == ""  # a folder of frames
