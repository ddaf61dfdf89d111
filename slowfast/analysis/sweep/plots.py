"""Plots of a sweep: bars of accuracies, and accuracy against the cost of a view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slowfast.analysis.sweep.report import Row

# Distinguishable for the colour-blind, and dark enough for text on white (after Okabe and Ito).
_COLOURS = ("#0060a8", "#c04a00", "#007a59", "#a8498a", "#6b5d00", "#4b4b4b", "#7a3fb0", "#a3122f")
_FONT = 8.5
_LEAST_SPAN = 10  # points of accuracy that the axis shows at least
_GAP = 5  # points between a dot and its label


def plot_bars(rows: Sequence[Row], path: str, chance: float) -> None:
    """Bars for means, dots for seeds, a line at chance level."""
    figure, axes = new_figure(8, 0.9 + 0.4 * len(rows))
    heights = range(len(rows))
    axes.barh(heights, [row.mean for row in rows], color="#9ecae1")
    for height, row in zip(heights, rows):
        axes.plot(row.top1, [height] * len(row.top1), "o", color="#08519c", markersize=4)
    axes.axvline(chance, color="0.4", linestyle=":", label=f"chance, {chance:.3g} %")
    axes.set_yticks(heights, [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("top-1 in %: mean (bar) and each seed (dots)")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120, format="png")


def plot_costs(rows: Sequence[Row], path: str, chance: float) -> None:
    """Mean accuracy, with the standard deviation between seeds, against GFLOPs of one view on a
    logarithmic axis; each point is named beside it, in the colour of its group."""
    figure, axes = new_figure(9, 5.8)
    groups = list(dict.fromkeys(row.group for row in rows))
    colours = {group: _COLOURS[n % len(_COLOURS)] for n, group in enumerate(groups)}
    for group in groups:
        part = [row for row in rows if row.group == group]
        axes.errorbar(
            [row.gflops for row in part],
            [row.mean for row in part],
            yerr=[row.deviation for row in part],
            fmt="o",
            color=colours[group],
            markersize=6,
            capsize=3,
            elinewidth=1,
            label=group,
        )
    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.08)
    left, right = axes.get_xlim()
    axes.set_xlim(left, right * (right / left) ** 0.3)  # room for names
    lowest, highest = axes.get_ylim()
    reach = 0.35 * max(highest - lowest, _LEAST_SPAN)
    shows_chance = lowest - reach < chance < highest + reach
    if shows_chance:
        lowest, highest = min(lowest, chance - 2), max(highest, chance + 2)
    spare = max(_LEAST_SPAN - (highest - lowest), 0) / 2
    axes.set_ylim(lowest - spare, min(highest + spare, 103))
    if shows_chance:
        axes.axhline(chance, color="0.4", linestyle=":", zorder=0)
        axes.annotate(
            f"chance, {chance:.3g} %", (0.99, chance), xycoords=("axes fraction", "data"),
            xytext=(0, 3), textcoords="offset points", ha="right", fontsize=_FONT, color="0.3",
        )  # fmt: skip
    _plain_ticks(axes)
    axes.set_xlabel("GFLOPs (multiply-adds) of one view")
    axes.set_ylabel("top-1 in %, mean ± standard deviation")
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(groups) > 1:
        figure.legend(loc="outside upper center", ncols=4, fontsize=_FONT + 0.5, frameon=False)
    figure.draw_without_rendering()  # places of points in pixels are known from here on
    _name_points(axes, rows, [colours[row.group] for row in rows])
    figure.savefig(path, dpi=150, format="png")


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure in inches, and its axes, or the array ``rows columns`` of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    single = rows == columns == 1
    return figure, figure.add_subplot() if single else figure.subplots(rows, columns, squeeze=False)


def _plain_ticks(axes: Any) -> None:
    """0.05, 0.07, 0.1 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _name_points(axes: Any, rows: Sequence[Row], colours: Sequence[str]) -> None:
    """A label for each point at the nearest place around it where it covers no point, no error bar
    and no other label; a thin line leads to a label that is far away."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    renderer = axes.figure.canvas.get_renderer()
    unit = axes.figure.dpi / 72  # pixels of a point of the font
    points = axes.transData.transform([(row.gflops, row.mean) for row in rows])
    ends = axes.transData.transform([(row.gflops, row.mean + row.deviation) for row in rows])
    taken = [text.get_window_extent(renderer) for text in axes.texts]
    for (x, y), (_, top) in zip(points, ends):
        taken.append(Bbox.from_extents(x - 4 * unit, y - 4 * unit, x + 4 * unit, y + 4 * unit))
        taken.append(Bbox.from_extents(x - 3 * unit, 2 * y - top, x + 3 * unit, top))
    for row, colour in zip(rows, colours):
        label = axes.annotate(
            row.name, (row.gflops, row.mean), xytext=(0, 0), textcoords="offset points",
            fontsize=_FONT, color=colour, va="center",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
        best = None
        for dx, dy, side in _offsets():
            label.set(position=(dx, dy), ha=side)
            box = label.get_window_extent(renderer).padded(unit)
            inside = axes.bbox.padded(unit)
            outside = max(0.0, inside.x0 - box.x0) + max(0.0, box.x1 - inside.x1)
            outside += max(0.0, inside.y0 - box.y0) + max(0.0, box.y1 - inside.y1)
            cost = 50 * outside + sum(_shared_area(box, other) for other in taken)
            if best is None or cost < best[0]:
                best = (cost, dx, dy, side, box)
            if not cost:
                break
        assert best is not None
        _, dx, dy, side, box = best
        label.set(position=(dx, dy), ha=side)
        taken.append(box)
        if abs(dy) > 12 or abs(dx) > 2 * _GAP + 12:
            axes.annotate(
                "", (row.gflops, row.mean), xytext=(dx, dy), textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkB": 4},
            )  # fmt: skip


def _offsets() -> Iterator[tuple[float, float, str]]:
    """Places of a label relative to its point, in points of the font, the nearest first."""
    yield _GAP + 3, 0, "left"
    yield -_GAP - 3, 0, "right"
    for ring in range(1, 14):
        for dx in (0, 8 * ring, 14 * ring):
            for dy in (7 * ring, -7 * ring):
                yield dx + _GAP, dy, "left"
                yield -dx - _GAP, dy, "right"


def _shared_area(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)
