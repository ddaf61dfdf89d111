"""Figures of the page, as Plotly figures. Colours of text and background are set by the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from slowfast.analysis.report.history import Curve, History

# Distinguishable in light and dark, and for the colour-blind (Okabe and Ito).
COLOURS = ("#1f86c7", "#d9680f", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#b8a900")
_RIGHT = [[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,0.7)"]]
_WRONG = [[0, "rgba(213,94,0,0)"], [0.02, "rgba(213,94,0,0.25)"], [1, "rgba(213,94,0,0.9)"]]


def plain(text: str) -> str:
    """``text`` for Plotly, which reads tags in texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def loss_figure(runs: Sequence[tuple[str, History]]) -> go.Figure:
    """Loss over epochs of one or several runs by name."""
    figure = _figure("epoch", "loss")
    for colour, (name, history) in _coloured(runs):
        label = f"{plain(name)}, " if len(runs) > 1 else ""
        if len(runs) == 1:
            steps = history.step_loss.thinned()
            _line(figure, steps, "training, steps", colour, width=1, opacity=0.45)
        _line(figure, history.loss, f"{label}training", colour, markers=True)
        if len(history.val_loss):
            _line(
                figure, history.val_loss, f"{label}validation", _second(runs, colour), True, "dot"
            )
        if len(runs) == 1 and history.best:
            figure.add_vline(history.best[0], line_dash="dash", line_width=1, opacity=0.6)
    return figure


def accuracy_figure(runs: Sequence[tuple[str, History]]) -> go.Figure:
    """Accuracies of training and validation in percent, the best epoch marked by a star."""
    figure = _figure("epoch", "accuracy in %")
    for colour, (name, history) in _coloured(runs):
        label = f"{plain(name)}, " if len(runs) > 1 else ""
        _line(figure, history.train_accuracy, f"{label}training", colour, True, "dot")
        measures = list(history.measures.items())[: 1 if len(runs) > 1 else None]
        for number, (measure, curve) in enumerate(measures):
            shade = colour if len(runs) > 1 else COLOURS[1 + number % (len(COLOURS) - 1)]
            title = "validation" if number == 0 else f"validation, {plain(measure)}"
            _line(figure, curve, f"{label}{title}", shade, markers=True)
        if history.best:
            epoch, _, value = history.best
            figure.add_scatter(
                x=[epoch],
                y=[value],
                mode="markers",
                marker={"symbol": "star", "size": 14, "color": colour},
                cliponaxis=False,
                name=f"{label}best epoch ({epoch}: {value:.2f})",
                showlegend=len(runs) == 1,
            )
    return figure


def rate_figure(runs: Sequence[tuple[str, History]]) -> go.Figure:
    """Learning rate over epochs."""
    figure = _figure("epoch", "learning rate")
    figure.update_yaxes(exponentformat="power", rangemode="tozero")
    for colour, (name, history) in _coloured(runs):
        _line(figure, history.rate.thinned(), plain(name), colour)
    figure.update_layout(showlegend=len(runs) > 1)
    return figure


def confusion_figure() -> go.Figure:
    """The empty figure of a confusion matrix, which the page fills with the classes it shows.

    Rows are true classes, columns predictions; colours are shares of the row. Right predictions are
    blue, errors orange on a scale of their own.
    """
    figure = _figure("prediction", "true class")
    for name, scale in (("right", _RIGHT), ("wrong", _WRONG)):
        figure.add_heatmap(
            name=name, colorscale=scale, zmin=0, zmax=100, showscale=False, hoverinfo="none"
        )
    plain_axis = {"showgrid": False, "zeroline": False, "automargin": True}
    figure.update_xaxes(**plain_axis, tickangle=-45)
    figure.update_yaxes(**plain_axis, autorange="reversed")
    figure.update_layout(hovermode="closest", showlegend=False)
    return figure


def confidence_figure(scores: np.ndarray, correct: np.ndarray) -> go.Figure:
    """Histogram of the probability of the prediction, of right and of wrong videos."""
    figure = _figure("probability of the prediction", "videos")
    edges = np.linspace(0, 1, 21)
    centres = (edges[:-1] + edges[1:]) / 2
    for name, chosen, colour in (("right", correct, COLOURS[0]), ("wrong", ~correct, COLOURS[1])):
        counts, _ = np.histogram(scores[chosen], edges)
        figure.add_bar(x=centres, y=counts, name=name, marker_color=colour, width=0.05)
    figure.update_layout(barmode="stack", bargap=0)
    figure.update_xaxes(range=[0, 1])
    return figure


def episodes_figure(tests: Sequence[tuple[str, Sequence[float]]]) -> go.Figure:
    """Histogram of the accuracies of episodes in percent, of one or several tests."""
    figure = _figure("accuracy of an episode in %", "share of the episodes in %")
    for colour, (name, values) in _coloured(tests):
        levels, counts = np.unique(np.round(values, 4), return_counts=True)
        figure.add_bar(
            x=levels,
            y=100 * counts / len(values),
            name=plain(name),
            marker_color=colour,
            opacity=0.75,
        )
        mean = float(np.mean(values))
        figure.add_vline(mean, line_color=colour, line_dash="dash", line_width=1.5)
    figure.update_xaxes(dtick=20)
    figure.update_layout(barmode="group", showlegend=len(tests) > 1)
    return figure


def _coloured(items: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(COLOURS[number % len(COLOURS)], item) for number, item in enumerate(items)]


def _second(runs: Sequence[Any], colour: str) -> str:
    return colour if len(runs) > 1 else COLOURS[1]


def _figure(x: str, y: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="none",
        xaxis_title={"text": x, "standoff": 10},
        yaxis_title={"text": y, "standoff": 10},
        margin={"l": 60, "r": 16, "t": 16, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def _line(
    figure: go.Figure,
    curve: Curve,
    name: str,
    colour: str,
    markers: bool = False,
    dash: str = "solid",
    width: float = 2,
    opacity: float = 1.0,
) -> None:
    if not len(curve):
        return
    figure.add_scatter(
        x=curve.x,
        y=curve.y,
        name=name,
        mode="lines+markers" if markers else "lines",
        line={"color": colour, "width": width, "dash": dash},
        opacity=opacity,
    )
