"""The pages of docs/evidence and the numbers beside them."""

from __future__ import annotations

import re

import pytest

from slowfast.analysis.sweep.report import filled, read_rows
from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "evidence"
PAGES = sorted(FOLDER.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_those_of_the_files(page):
    text = page.read_text()
    assert filled(text, FOLDER) == text, f"python tools/sweep.py --fill {page.relative_to(ROOT)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_are_there(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (FOLDER / link).exists(), f"{page.name} -> {link}"


def test_every_file_belongs_to_a_page():
    names = tuple(page.stem for page in PAGES)
    for file in sorted(FOLDER.iterdir()):
        assert file.name.startswith(names), f"{file.name} begins with the name of no page"


def test_numbers_are_possible():
    for page in PAGES:
        for name in re.findall(r"^<!-- table of (\S+) -->", page.read_text(), re.M):
            for row in read_rows(FOLDER / name):
                assert len(set(row.seeds)) == len(row.seeds), f"{name}: {row.name}"
                assert all(0 <= value <= 100 for value in row.top1)
                assert row.seconds > 0 and row.parameters > 0 and row.gflops > 0
