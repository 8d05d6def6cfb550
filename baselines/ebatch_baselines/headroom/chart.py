"""The picture: every policy relative to E-BATCH, a row per scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebatch_baselines.headroom.study import CONSTANT, YARDSTICK
from ebatch_env.errors import needs_extra
from ebatch_env.scoring.files import whole_file
from ebatch_env.scoring.tables import number

FARTHEST = 0.6  # a policy that is dearer by more than this stands at the edge, as an arrow
# Colour and marker of what is told apart; the palette is Okabe and Ito's.
STYLES = {
    "best constant plan": ("#0072B2", "s"),
    "other heuristics": ("0.55", "o"),
    "linear, searched": ("#D55E00", "D"),
    "trained agents": ("#009E73", "P"),
    "exact optimum": ("#CC79A7", "*"),
}
# Where in its row each stands, so that they do not hide each other.
SHIFTS = dict(zip(STYLES, (0.1, 0.25, -0.05, -0.2, -0.3), strict=True))


def draw(values: Mapping[str, Any], path: Path) -> None:
    """Write the picture (PNG, SVG or PDF by the suffix of ``path``).

    Raises:
        OSError: the file cannot be written.
    """
    with needs_extra("a picture", "cli"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure  # no pyplot: no display, no global state

    scenarios = values["scenarios"]
    figure = Figure(figsize=(8.4, 1.7 + 0.55 * len(scenarios)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    told: set[str] = set()
    for row, found in enumerate(scenarios.values()):
        bound = number(found["bound"]["relative"]["value"])
        axes.plot([100 * bound] * 2, [row - 0.38, row + 0.38], color="black", linewidth=2.5, label=_once(told, "bound"))
        for label, policy in found["policies"].items():
            if label == YARDSTICK:
                continue
            style = style_of(label, policy["kind"])
            colour, marker = STYLES[style]
            value, low, high = (number(policy["relative"][name]) for name in ("value", "low", "high"))
            if math.isnan(value):
                continue
            shift = SHIFTS[style]
            if value > FARTHEST:
                axes.plot([100 * FARTHEST], [row + shift], marker=">", color=colour, markersize=5, alpha=0.7)
                continue
            if math.isfinite(low):
                ends = [100 * low, 100 * min(high, FARTHEST)]
                axes.plot(ends, [row + shift] * 2, color=colour, linewidth=2.5, alpha=0.35, solid_capstyle="butt")
            axes.plot(
                [100 * value], [row + shift], marker=marker, color=colour, markersize=6, linestyle="none",
                label=_once(told, style),
            )  # fmt: skip
    axes.axvline(0.0, color="0.3", linewidth=1.0)
    axes.axvline(-100 * values["room"], color="0.3", linewidth=1.0, linestyle=":")
    axes.set_yticks(range(len(scenarios)), [env_id.removeprefix("ebatch/") for env_id in scenarios])
    axes.set_ylim(len(scenarios) - 0.5, -0.5)
    axes.set_xlabel(
        f"mean cost against tuned {YARDSTICK}, %, with its 95 % interval\n"
        f"dotted: what counts as room; arrows: above {100 * FARTHEST:+.0f} %"
    )
    axes.grid(alpha=0.25, axis="x")
    figure.legend(loc="outside upper center", ncols=6, fontsize=8)
    with whole_file(path) as part:
        figure.savefig(part, dpi=150)


def style_of(label: str, kind: str) -> str:
    """Which of `STYLES` a policy has."""
    if label == CONSTANT:
        return "best constant plan"
    return {"search": "linear, searched", "agent": "trained agents", "optimum": "exact optimum"}.get(
        kind, "other heuristics"
    )


def _once(told: set[str], label: str) -> str | None:
    """The label the first time, for a legend with one entry each."""
    if label in told:
        return None
    told.add(label)
    return label
