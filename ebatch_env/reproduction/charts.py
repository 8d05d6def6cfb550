"""The one function that draws the charts of all sections."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ebatch_env.reproduction.report import Chart, Series
from ebatch_env.scoring.files import whole_file
from ebatch_env.scoring.plots import COLOURS, MARKERS

MANY = 6  # series; more go into a legend beside the chart


def draw_chart(chart: Chart, path: Path) -> None:
    """Write a chart (PNG, SVG or PDF by the suffix of ``path``).

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    names = _names(chart)
    beside = len(chart.series) > MANY
    figure = Figure(figsize=(max(7.2, 1.0 + 0.75 * len(names)) + 2.2 * beside, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for n, series in enumerate(chart.series):
        colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
        if chart.kind == "bar":
            _bars(axes, series, names, n, len(chart.series), colour)
        else:
            joined = chart.kind == "line"
            _line(axes, series, names, colour, "" if joined and len(series.x) > 40 else marker, joined)
    if names:
        _name_ticks(axes, names, 0.8 * figure.get_figwidth() - 1.4 * beside)
    elif chart.log_x:
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis, [x for series in chart.series for x in series.x])
    if chart.log_y:
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis, [y for series in chart.series for y in series.y])
    style: Any = "--"
    for n, (label, value) in enumerate(chart.references):
        if label:
            style = ("--", ":", "-.", (0, (1, 3)))[n % 4]
        axes.axhline(value, color="0.35", linestyle=style, linewidth=1.2, label=label or None, zorder=1)
    if chart.kind == "bar" and not chart.log_y:
        axes.margins(y=0.18)  # room for the legend
    axes.set_title("\n".join(textwrap.wrap(chart.title, 85)), fontsize=11)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(alpha=0.25, axis="y" if names else "both")
    axes.set_axisbelow(True)
    if len(chart.series) + len(chart.references) > 1:
        where = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if beside else {"loc": "best"}
        axes.legend(fontsize=8.5, framealpha=0.85, **where)
    with whole_file(path) as part:
        figure.savefig(part, dpi=130)


def _name_ticks(axes: Any, names: Sequence[str], width: float) -> None:
    """Names along the x axis, which is ``width`` inches long: broken into lines where they fit so, slanted otherwise."""
    room = int(width / len(names) / 0.095)  # characters of the usual size
    if max(len(word) for name in names for word in name.split() or [""]) <= room:
        axes.set_xticks(range(len(names)), [textwrap.fill(name, max(room, 1)) for name in names])
    else:
        style = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(names)), [textwrap.fill(name, 26) for name in names], **style)


def _names(chart: Chart) -> list[str]:
    """The names along the x axis; none where it is numbers."""
    every = [x for series in chart.series for x in series.x]
    if chart.kind != "bar" and not any(isinstance(x, str) for x in every):
        return []
    return list(dict.fromkeys(map(str, every)))


def _line(axes: Any, series: Series, names: Sequence[str], colour: str, marker: str, joined: bool) -> None:
    x = [names.index(str(value)) for value in series.x] if names else series.x
    style = {"color": colour, "marker": marker, "markersize": 5, "linestyle": "-" if joined else "none"}
    axes.errorbar(x, series.y, _reach(series), label=series.label, linewidth=1.5, capsize=2, **style)


def _bars(axes: Any, series: Series, names: Sequence[str], place: int, groups: int, colour: str) -> None:
    width = 0.8 / groups
    x = [names.index(str(value)) + (place - (groups - 1) / 2) * width for value in series.x]
    bars = {"capsize": 2, "error_kw": {"elinewidth": 1.1}}
    axes.bar(x, series.y, width * 0.94, yerr=_reach(series), label=series.label, color=colour, **bars)


def _reach(series: Series) -> list[list[float]] | None:
    """Lengths of the error bars below and above; None without any. An end on the wrong side counts as no length."""
    if series.low is None or series.high is None:
        return None
    below = [max(0.0, y - low) for y, low in zip(series.y, series.low, strict=True)]
    above = [max(0.0, high - y) for y, high in zip(series.y, series.high, strict=True)]
    return [below, above]


def _plain_ticks(axis: Any, values: Sequence[Any]) -> None:
    """Plain numbers on a logarithmic axis: at 1, 2, 5, 10, ..., or only at powers of ten where there are many."""
    from matplotlib.ticker import LogLocator, NullFormatter

    positive = [float(value) for value in values if value > 0]
    wide = bool(positive) and max(positive) > 1000 * min(positive)
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())
