"""The picture: energy per request against tail latency, a panel per environment."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebatch_env.errors import needs_extra
from ebatch_env.scoring.files import whole_file
from ebatch_env.scoring.statistics import ALL, Aggregate
from ebatch_env.scoring.tables import MARK, scale_of

# Okabe and Ito's palette, which colour-blind readers can tell apart, less the yellow that is faint on white; the
# marker changes as well, for print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
X, Y = "latency_p99_s", "energy_per_request_j"
Box = tuple[float, float, float, float]  # left, low, right, high


@dataclass(frozen=True)
class Place:
    """A point of the picture: its label, where it is, how far its bars reach left and right, down and up."""

    label: str
    at: tuple[float, float]
    x_bar: tuple[float, float]
    y_bar: tuple[float, float]
    colour: str


def plot_energy_latency(aggregates: Sequence[Aggregate], path: Path, caption: str = "") -> None:
    """Write the picture (PNG, SVG or PDF by the suffix of ``path``).

    Points are interquartile means, bars their 95 % intervals. Policies that served nothing are left out, those with
    truncated episodes marked.

    Raises:
        OSError: the file cannot be written.
    """
    with needs_extra("a picture", "cli"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure  # no pyplot: no display, no global state

    envs = list(dict.fromkeys(a.env for a in aggregates if a.env != ALL))
    policies = list(dict.fromkeys(a.policy for a in aggregates))
    columns = min(2, len(envs))
    rows = math.ceil(len(envs) / columns)
    figure = Figure(figsize=(6.4 * columns, 4.8 * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    drawn = []
    for panel, env in zip(panels.flat, envs, strict=False):
        found = {(a.policy, a.metric): a for a in aggregates if a.env == env}
        points = [(p, found[p, X], found[p, Y]) for p in policies if (p, X) in found]
        points = [(p, x, y) for p, x, y in points if math.isfinite(x.iqm) and math.isfinite(y.iqm)]
        drawn.append((panel, _draw_points(panel, env, points, policies)))
    for panel in panels.flat[len(envs) :]:
        panel.set_axis_off()
    if caption:
        figure.supxlabel("\n".join(textwrap.wrap(caption, 95 * columns)), fontsize=8, color="0.35")
    figure.canvas.draw()  # settles the layout, which the labels need to find their places
    for panel, places in drawn:
        _place_labels(panel, places)
    with whole_file(path) as part:
        figure.savefig(part, dpi=150)


def _draw_points(
    panel: Any, title: str, points: Sequence[tuple[str, Aggregate, Aggregate]], policies: Sequence[str]
) -> list[Place]:
    """Markers and bars; returns where they are."""
    x_factor, x_unit = scale_of([x.iqm for _, x, _ in points], "s")
    y_factor, y_unit = scale_of([y.iqm for _, _, y in points], "J")
    places = []
    for policy, x, y in points:
        n = policies.index(policy)
        colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
        label = f"{policy} {MARK}" if x.truncated else policy
        place = Place(label, (x.iqm * x_factor, y.iqm * y_factor), _bar(x, x_factor), _bar(y, y_factor), colour)
        places.append(place)
        bars = {"xerr": [[end] for end in place.x_bar], "yerr": [[end] for end in place.y_bar]}
        panel.errorbar(*place.at, **bars, fmt=marker, color=colour, markersize=6, elinewidth=1.2, capsize=2)
    _set_scale(panel.set_xscale, panel.xaxis, [place.at[0] for place in places])
    _set_scale(panel.set_yscale, panel.yaxis, [place.at[1] for place in places])
    panel.margins(0.15)
    panel.set_title(title, fontsize=11)
    panel.set_xlabel(f"99th percentile of latency ({x_unit})")
    panel.set_ylabel(f"energy per request ({y_unit})")
    panel.grid(alpha=0.25)
    return places


def _set_scale(set_scale: Any, axis: Any, values: Sequence[float]) -> None:
    """A logarithmic scale for values that differ much, with plain numbers at 1, 2, 5, 10, ..."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if values and min(values) > 0 and max(values) > 8 * min(values):
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())


def _bar(entry: Aggregate, factor: float) -> tuple[float, float]:
    """Lengths of a bar below and above the point; 0 without an interval."""
    ends = (entry.iqm - entry.low, entry.high - entry.iqm)
    return tuple(max(0.0, end) * factor if math.isfinite(end) else 0.0 for end in ends)  # type: ignore[return-value]


def _place_labels(panel: Any, places: Sequence[Place]) -> None:
    """Put each label at the best place around its point, with a line to it if that is not close by.

    Best is near the point and off other labels, points and, less so, bars.
    """
    frame = panel.get_window_extent()
    pixels = panel.figure.dpi / 72
    centres = [panel.transData.transform(place.at) for place in places]
    taken = [(x - 5 * pixels, y - 5 * pixels, x + 5 * pixels, y + 5 * pixels) for x, y in centres]
    bars = [box for place in places for box in _bar_boxes(panel.transData.transform, place, pixels)]
    for place, (cx, cy) in zip(places, centres, strict=True):
        width, height = 4.8 * len(place.label) * pixels, 9.5 * pixels  # of text at 8 points
        best, least = (cx, cy, cx, cy), math.inf
        for radius in (9, 16, 26, 38, 52, 70, 90, 115, 145):
            for angle in (0, 180, 45, 135, 315, 225, 90, 270):
                across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
                side = 0.0 if across > 0.3 else width if across < -0.3 else width / 2
                left, low = cx + radius * pixels * across - side, cy + radius * pixels * up - height / 2
                box = (left, low, left + width, low + height)
                clash = 4 * sum(_overlap(box, other) for other in taken) + sum(_overlap(box, bar) for bar in bars)
                bad = clash + _outside(box, frame) + 2 * radius * pixels
                if bad < least:
                    best, least = box, bad
        taken.append(best)
        dx, dy = best[0] - cx, (best[1] + best[3]) / 2 - cy
        far = math.hypot(max(0.0, dx, cx - best[2]), dy) > 14 * pixels
        line = {"arrowstyle": "-", "color": place.colour, "lw": 0.6, "alpha": 0.6, "shrinkB": 4}
        panel.annotate(
            place.label,
            place.at,
            (dx / pixels, dy / pixels),
            textcoords="offset points",
            fontsize=8,
            va="center",
            color=place.colour,
            arrowprops=line if far else None,
        )


def _bar_boxes(to_pixels: Any, place: Place, pixels: float) -> list[Box]:
    """The two bars of a point, in pixels."""
    (x, y), (left, right), (low, high) = place.at, place.x_bar, place.y_bar
    ends = to_pixels([(x - left, y), (x + right, y), (x, y - low), (x, y + high)])
    half = pixels
    return [
        (ends[0][0], ends[0][1] - half, ends[1][0], ends[1][1] + half),
        (ends[2][0] - half, ends[2][1], ends[3][0] + half, ends[3][1]),
    ]


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box, frame: Any) -> float:
    """Pixels by which a box sticks out, weighed so that overlapping is the lesser evil."""
    sides = (frame.x0 - box[0], box[2] - frame.x1, frame.y0 - box[1], box[3] - frame.y1)
    return 100.0 * sum(max(0.0, float(side)) for side in sides)
