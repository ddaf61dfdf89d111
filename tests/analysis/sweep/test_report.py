"""Tables of a sweep, checked by hand, and tables in pages."""

from __future__ import annotations

import csv

import cv2
import pytest

from slowfast.analysis.sweep.report import Row, as_markdown, fill_pages, read_rows, write_report
from slowfast.utils.errors import UserError

ROWS = [
    Row("plain", "one", [0, 1], [50.0, 54.0], [0.0, 0.0], [10.0, 14.0], 0.75, 0.05),
    Row("few, shots", "two", [0, 1], [80.0, 80.0], [0.5, 0.25], [9.04, 9.0], 1.5, 0.125),
]
LINES = [
    "| plain | 52.0 ± 2.8 | 50.0, 54.0 | 12 | 0.75 | 0.050 |",
    "| few, shots | 80.0 ± 0.0 | 80.0 ± 0.5, 80.0 ± 0.2 | 9 | 1.50 | 0.125 |",
]


def test_tables_and_plots(tmp_path):
    write_report(ROWS, tmp_path, 12.5)
    assert (tmp_path / "table.md").read_text().splitlines()[2:] == LINES
    with open(tmp_path / "means.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["variant"], first["group"], first["runs"]) == ("plain", "one", "2")
    assert (first["top1_mean"], first["top1_deviation"]) == ("52.0", "2.83")
    assert (second["cpu_seconds_mean"], second["gflops_per_view"]) == ("9.0", "0.125")
    again = read_rows(tmp_path / "runs.csv")
    assert as_markdown(again) == as_markdown(ROWS)
    assert [row.seeds for row in again] == [[0, 1], [0, 1]] and again[0].group == "one"
    for name in ("plot.png", "gflops.png"):
        assert cv2.imread(str(tmp_path / name)).std() > 5


def test_a_row_with_fewer_seeds_says_so():
    less = Row("less", "", [1], [60.0], [0.0], [7.0], 1.0, 0.1)
    assert as_markdown([*ROWS, less]).splitlines()[-1].startswith("| less | 60.0 | 60.0 (seed 1) |")
    assert "| seed 1 |" in as_markdown([less])


def test_unknown_cpu_seconds_are_left_out(tmp_path):
    rows = [
        Row("one", "", [0, 1], [60.0, 60.0], [0.0, 0.0], [None, 7.0], 1.0, 0.1),
        Row("none", "", [0, 1], [60.0, 60.0], [0.0, 0.0], [None, None], 1.0, 0.1),
    ]
    write_report(rows, tmp_path, 12.5)
    cells = [line.split(" | ")[3] for line in as_markdown(rows).splitlines()[2:]]
    assert cells == ["7", "not measured"]
    assert as_markdown(read_rows(tmp_path / "runs.csv")) == as_markdown(rows)


def test_names_of_near_points_do_not_cover_each_other(tmp_path, monkeypatch):
    """Eight networks of the same cost and nearly the same accuracy."""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    rows = [Row(f"network {n}", "", [0], [80 + n / 4], [0.0], [1.0], 1.0, 0.1) for n in range(8)]
    rows.append(Row("another", "", [0], [20], [0.0], [1.0], 1.0, 1.0))
    from slowfast.analysis.sweep.plots import plot_costs

    plot_costs(rows, "", 12.5)
    renderer = figures[0].canvas.get_renderer()
    texts = [text for text in figures[0].axes[0].texts if text.get_text().startswith("network")]
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert len(boxes) == 8
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


@pytest.mark.parametrize("top1, chance", [(0.0, 12.5), (100.0, 12.5), (12.5, 12.5), (60.0, 1.0)])
def test_one_row_makes_a_plot(top1, chance, tmp_path, recwarn):
    write_report([Row("row", "", [0], [top1], [0.0], [1.0], 1.0, 0.05)], tmp_path, chance)
    assert cv2.imread(str(tmp_path / "gflops.png")).std() > 5
    assert not [warning for warning in recwarn if "layout" in str(warning.message)]


def test_a_page_gets_its_table(tmp_path):
    write_report(ROWS, tmp_path, 12.5)
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- table of runs.csv -->\n| old |\n| --- |\n\nText.\n")
    fill_pages([page])
    expected = f"# A\n\n<!-- table of runs.csv -->\n{as_markdown(ROWS)}\n\nText.\n"
    assert page.read_text() == expected
    fill_pages([page])
    assert page.read_text() == expected
    page.write_text("# A\n")
    with pytest.raises(UserError, match="has no mark of a table"):
        fill_pages([page])
    (tmp_path / "runs.csv").write_text("variant,seed\na,b\n")
    with pytest.raises(UserError, match="is no table of runs"):
        read_rows(tmp_path / "runs.csv")
