"""The page in a real browser, opened from the disk: it clicks, sorts, plays, and reads numbers."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slowfast.analysis.report.page import write_page
from tests.analysis.report.folders import write_history, write_test
from tests.analysis.report.test_page import HOSTILE, NAMES, run_with_videos

playwright = pytest.importorskip("playwright.sync_api", reason='needs the extra "browser"')
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as driver:
        # A process of root has no sandbox.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(browser):
    """Opens a file and gives the page; it must report no error and ask for nothing."""
    complaints: list[str] = []

    @contextlib.contextmanager
    def open_file(file: Path, **options: Any) -> Iterator[Any]:
        page = browser.new_page(**options)
        page.set_default_timeout(60_000)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _check(request.url, file, complaints))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        yield page
        page.close()
        assert not complaints

    return open_file


def _check(url: str, file: Path, complaints: list[str]) -> None:
    if url.partition("#")[0] != file.as_uri() and not url.startswith(("data:", "blob:")):
        complaints.append(f"asked for {url}")


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory) -> Path:
    folder = run_with_videos(tmp_path_factory.mktemp("browser") / "run", shapes)
    write_page([folder], folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def page(run, visit) -> Iterator[Any]:
    """The page of the run, opened once."""
    with visit(run / "report.html", viewport={"width": 1200, "height": 900}) as page:
        yield page


def column(page: Any, table: str, number: int) -> list[str]:
    return page.locator(f"{table} tbody tr td:nth-child({number})").all_inner_texts()


def test_numbers_and_videos(run, page):
    """What is read on the page, clicked and filtered, is what predictions.csv says."""
    with open(run / "tests/set-test-1x3/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = [row for row in rows if row["correct"] == "0"]
    right = 100 * (1 - len(wrong) / len(rows))
    assert page.locator(".headline dd").first.inner_text().startswith(f"{right:.2f} %")
    assert page.locator(".figure .main-svg").count() >= 4  # Plotly has drawn
    surest = sorted(wrong, key=lambda row: -float(row["probability"]))
    assert [Path(path).name for path in column(page, ".videos", 1)] == [
        Path(row["path"]).name for row in surest
    ]
    assert column(page, ".videos", 4) == [f"{float(row['probability']):.3f}" for row in surest]
    page.uncheck(".only-wrong")
    assert len(column(page, ".videos", 1)) == len(rows)
    # A confusion shows its own videos alone, in the gallery and in the table.
    pair = page.locator(".pairs tbody tr").first
    label, guess = pair.get_attribute("data-label"), pair.get_attribute("data-guess")
    pair.locator("button").click()
    assert page.locator(".chosen").inner_text() == f"{NAMES[int(label)]} → {NAMES[int(guess)]}"
    chosen = [row for row in rows if (row["label"], row["prediction"]) == (label, guess)]
    assert len(column(page, ".videos", 1)) == len(chosen) > 0
    for card in page.locator(".gallery .clip:visible").all():
        shown = card.get_attribute("data-label"), card.get_attribute("data-guess")
        assert shown == (label, guess)
    page.click(".clear")
    page.locator(".classes tbody button").first.click()
    name = page.locator(".classes tbody td").first.inner_text()
    assert page.locator(".chosen").inner_text() == f"Class {name}"
    assert set(column(page, ".videos", 2)) == {name}


def test_tables_are_sorted_and_searched(run, page):
    header = page.locator(".classes th", has_text="accuracy")
    before = column(page, ".classes", 3)
    assert before == sorted(before, key=float)
    header.locator("button").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert column(page, ".classes", 3) == sorted(before, key=float, reverse=True)
    page.fill(".search-videos", "zzz")
    assert column(page, ".videos", 1) == []
    page.fill(".search-videos", "")


def test_videos_play(run, page):
    player = page.locator(".gallery .player").first

    def position() -> str:
        return player.evaluate("node => getComputedStyle(node).backgroundPositionX")

    still = position()
    assert player.get_attribute("aria-pressed") == "false"
    player.focus()
    page.keyboard.press("Space")
    assert player.get_attribute("aria-pressed") == "true"
    page.wait_for_function(
        "([node, still]) => parseFloat(getComputedStyle(node).backgroundPositionX) > 0",
        arg=[player.element_handle(), still],
    )
    player.click()
    assert position() == still
    page.locator(".play-all").first.click()
    assert page.locator(".player[aria-pressed=true]").count() >= 2


def test_cells_of_the_matrix_have_names(run, page):
    matrix = page.locator(".matrix")
    matrix.scroll_into_view_if_needed()
    assert set(matrix.locator(".ytick text").all_text_contents()) == set(NAMES)
    plot = matrix.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(plot["x"] + plot["width"] / 8, plot["y"] + plot["height"] / 8)
    page.wait_for_selector("#tip:not([hidden])")
    assert re.match(r"right: \w+\s+\d of 2 videos, ", page.locator("#tip").inner_text())
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector(".filter:not([hidden])")
    page.select_option(".order", "list")
    page.wait_for_function(
        "names => [...document.querySelectorAll('.matrix .ytick text')].map(n => n.textContent)"
        ".join() === names",
        arg=",".join(NAMES),
    )


@pytest.mark.parametrize("width, scheme", [(1200, "light"), (390, "dark")])
def test_many_classes_in_any_width(width, scheme, tmp_path, visit):
    """400 classes can be shown whole, the page never scrolls sideways, names that are code do
    nothing."""
    names = [*HOSTILE, *(f"class {n} with a long name" for n in range(396))]
    labels = list(range(400)) * 2
    write_test(tmp_path / "run", names, labels, [*range(1, 401 - 1), 0, *range(400)])
    write_page([tmp_path / "run"], tmp_path / "page.html")
    size = {"width": width, "height": 800}
    with visit(tmp_path / "page.html", viewport=size, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.select_option(".order", "confused")
        page.wait_for_function("document.querySelectorAll('.matrix .ytick').length > 5")
        assert 5 < page.locator(".matrix .ytick text").count() <= 45
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(255, 255, 255)") == (scheme == "light")
        assert page.locator("img").count() == 0
        page.on("dialog", lambda dialog: pytest.fail(f"a name was run: {dialog.message}"))
        page.fill(".search-videos", "/000.mp4")
        shown = {" ".join(text.split()) for text in column(page, ".videos", 2)}
        assert shown == {" ".join(HOSTILE[0].split())}
        page.fill(".search-videos", "")
        row = page.locator(".pairs tbody tr[data-label='1'] button")
        row.click()
        assert HOSTILE[1] in page.locator(".chosen").inner_text()


def test_comparison(tmp_path, visit):
    for name, guesses in (("a", [0, 1, 1]), ("b", [0, 1, 2])):
        write_history(tmp_path / name, [20, 40])
        write_test(tmp_path / name, NAMES, [0, 1, 2], guesses)
    write_page([tmp_path / "a", tmp_path / "b"], tmp_path / "page.html")
    with visit(tmp_path / "page.html") as page:
        assert page.locator(".figure .main-svg").count() >= 3
        assert "+33.33" in page.locator("#pairs").inner_text()
