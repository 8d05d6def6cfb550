"""The pictures of a scoreboard, drawn from its figures."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ebatch_env.errors import FloatArray, needs_extra
from ebatch_env.scoring.files import make_folder, whole_file
from ebatch_env.scoring.plots import COLOURS, plot_energy_latency
from ebatch_env.scoring.statistics import Aggregate
from ebatch_env.scoring.tables import MARK, number
from ebatch_env.scoring.tuning import stem_of

AGENT, OTHER, RIVAL = COLOURS[1], "0.35", COLOURS[0]
RIVALS = (COLOURS[0], COLOURS[2])
FAR = 2.5  # times the least cost
GREY = "0.82"  # never visited


def draw(env_id: str, values: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw all pictures of a scenario; returns the names of the files, in the order of the page.

    Raises:
        OSError: ``folder`` cannot be written to.
    """
    make_folder(folder)
    stem = stem_of(env_id)
    pictures = {f"{stem}-cost.png": _costs(env_id, values)}
    energy = f"{stem}-energy-latency.png"
    plot_energy_latency(*_points(env_id, values, folder / energy))
    pictures[f"{stem}-learning.png"] = _learning(env_id, values)
    pictures[f"{stem}-learned.png"] = _learned(env_id, values)
    if len(values["cases"]) > 1 and values["rivals"]:
        pictures[f"{stem}-transfer.png"] = _transfer(env_id, values)
    for name, figure in pictures.items():
        with whole_file(folder / name) as part:
            figure.savefig(part, dpi=130)
    names = list(pictures)
    return [names[0], energy, *names[1:]]


def sorted_policies(policies: Mapping[str, Any]) -> list[str]:
    """Names, the cheapest first; with truncated episodes last."""

    def rank(name: str) -> tuple[bool, float, str]:
        cost = number(policies[name]["metrics"]["cost"]["iqm"])
        return policies[name]["truncated"] > 0, math.inf if math.isnan(cost) else cost, name

    return sorted(policies, key=rank)


def shown(name: str, policy: Mapping[str, Any]) -> str:
    """A policy's name, marked if some of its episodes were truncated."""
    return f"{name} {MARK}" if policy["truncated"] else name


def _tuned(name: str, values: Mapping[str, Any]) -> str:
    """A policy's name, and whether it was tuned for the scenario."""
    tuned = [entrant["label"] for entrant in values["baselines"] if entrant["tuned"] is not None]
    return f"{name}, tuned" if name in tuned else name


def _figure(width: float, height: float) -> Any:
    with needs_extra("a picture", "cli"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure  # no pyplot: no display, no global state

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _costs(env_id: str, values: Mapping[str, Any]) -> Any:
    """Cost of every policy with its interval, the cheapest on top, and each seed's agent as a small ring."""
    policies = values["cases"][""]["policies"]
    far = _far(values)
    names = [name for name in sorted_policies(policies) if name not in far]
    figure = _figure(7.4, 1.3 + 0.27 * len(names))
    axes = figure.subplots()
    for row, name in enumerate(names):
        found = policies[name]["metrics"]["cost"]
        agent = name == values["algorithm"]
        colour = AGENT if agent else RIVAL if name in values["rivals"] else OTHER
        low, high = number(found["low"]), number(found["high"])
        if math.isfinite(low):
            axes.plot([low, high], [row, row], color=colour, linewidth=4.5, alpha=0.35, solid_capstyle="butt")
        axes.plot([number(found["iqm"])], [row], marker="o", color=colour, markersize=6)
        if agent:
            seeds = [number(cost) for cost in policies[name]["seeds"].values()]
            axes.plot(seeds, [row] * len(seeds), "o", mfc="none", mec=colour, markersize=8, linestyle="none", alpha=0.7)
    axes.set_yticks(range(len(names)), [shown(name, policies[name]) for name in names])
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        if name == values["algorithm"]:
            tick.set_color(AGENT)
            tick.set_fontweight("bold")
        elif name in values["rivals"]:
            tick.set_color(RIVAL)
    axes.invert_yaxis()
    episodes, seeds_played = values["cases"][""]["episodes"], len(values["agents"])
    label = f"cost per request: interquartile mean over {episodes} episodes, 95 % interval; rings: each seed ({seeds_played})"
    if far:
        label += "\nfarther right: " + ", ".join(f"{name} {cost:.3g}" for name, cost in far.items())
    axes.set_xlabel(label)
    axes.set_title(env_id, fontsize=11)
    axes.grid(alpha=0.25, axis="x")
    return figure


def _far(values: Mapping[str, Any]) -> dict[str, float]:
    """Baselines so dear that they would dwarf a picture, with their costs."""
    policies = values["cases"][""]["policies"]
    costs = {name: number(policy["metrics"]["cost"]["iqm"]) for name, policy in policies.items()}
    return {
        name: cost for name, cost in costs.items() if cost > FAR * min(costs.values()) and name != values["algorithm"]
    }


def _points(env_id: str, values: Mapping[str, Any], path: Path) -> tuple[list[Aggregate], Path, str]:
    """What `plot_energy_latency` takes, the agents of all seeds being one policy, less what would dwarf the picture."""
    case = values["cases"][""]
    far = _far(values)
    aggregates = [
        Aggregate(
            env=env_id,
            policy=name,
            metric=metric,
            episodes=case["episodes"],
            **{key: number(found[key]) for key in ("mean", "iqm", "low", "high")},
            truncated=policy["truncated"],
        )
        for name, policy in case["policies"].items()
        for metric, found in policy["metrics"].items()
        if name not in far
    ]
    left_out = f"Left out, as their cost is more than {FAR:g} times the least: {', '.join(far)}." if far else ""
    return aggregates, path, left_out


def _learning(env_id: str, values: Mapping[str, Any]) -> Any:
    """Validation cost over decisions: each seed thin, their mean thick, the rivals on the same episodes as lines."""
    figure = _figure(7.2, 4.2)
    axes = figure.subplots()
    curves = [np.array([[d, number(cost)] for d, cost in agent["evaluations"]]) for agent in values["agents"]]
    for n, curve in enumerate(curves):
        label = f"{values['algorithm']}, each seed" if n == 0 else None
        axes.plot(*curve.T, color=AGENT, linewidth=0.8, alpha=0.5, label=label)
    if len({curve.shape for curve in curves}) == 1:  # evaluated at the same decisions, as all seeds are
        axes.plot(*np.mean(curves, axis=0).T, color=AGENT, linewidth=2.2, label="mean of the seeds")
    levels = []
    for n, (label, cost) in enumerate(values["validation"].items()):
        levels.append(number(cost))
        style = ("--", ":")[n % 2]
        axes.axhline(levels[-1], color=RIVAL, linestyle=style, linewidth=1.4, label=_tuned(label, values))
    _maybe_log_y(axes, [*levels, *(cost for curve in curves for cost in curve[:, 1])])
    axes.set_xlabel("decisions learnt from")
    axes.set_ylabel("cost per request on the validation episodes")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_title(env_id, fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8.5)
    return figure


def _maybe_log_y(axes: Any, values: Sequence[float]) -> None:
    """The first evaluations, of random weights, may be many times what is learnt."""
    from matplotlib.ticker import LogLocator, NullFormatter

    finite = [value for value in values if math.isfinite(value) and value > 0]
    if finite and max(finite) > 2.5 * min(finite):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _learned(env_id: str, values: Mapping[str, Any]) -> Any:
    """T and admission over queue and lanes, agent beside E-BATCH; grey where neither ever was."""
    learned = values["learned"]
    names = list(learned["policies"])
    figure = _figure(4.6 * len(names) + 1.2, 7.6)
    panels = figure.subplots(2, len(names), squeeze=False, sharex=True, sharey=True)
    rows, columns = _bin_names(learned["waiting"], more=True), _bin_names(learned["busy"], more=False)
    seen = [n for n, line in enumerate(learned["states"]) if any(line)]
    top = max(seen, default=0) + 1  # bins of longer queues than ever were are left out
    steps = [_grid(learned["policies"][name]["log2_steps"])[:top] for name in names]
    finite = np.concatenate([grid[np.isfinite(grid)] for grid in steps])
    most = float(finite.max()) if finite.size else 1.0
    for n, name in enumerate(names):
        limited = _grid(learned["policies"][name]["limited"])[:top]
        for panel, grid, limits, wanted in (
            (panels[0, n], steps[n], (0.0, max(1.0, most)), "T"),
            (panels[1, n], limited, (0.0, 1.0), "%"),
        ):
            image = panel.imshow(grid, origin="lower", aspect="auto", cmap="viridis", vmin=limits[0], vmax=limits[1])
            panel.set_facecolor(GREY)
            for (i, j), value in np.ndenumerate(grid):
                if np.isfinite(value):
                    text = f"{2**value:.3g}" if wanted == "T" else f"{100 * value:.0f}"
                    bright = value > 0.6 * limits[1]
                    panel.text(j, i, text, ha="center", va="center", fontsize=7, color="black" if bright else "white")
            panel.set_yticks(range(top), rows[:top])
            panel.set_xticks(range(len(columns)), columns, rotation=40 if len(columns) > 5 else 0)
            if n == len(names) - 1:
                bar = figure.colorbar(image, ax=panels[0 if wanted == "T" else 1, :].tolist(), aspect=25, pad=0.02)
                if wanted == "T":
                    ticks = np.arange(0, math.floor(limits[1]) + 1)
                    bar.set_ticks(ticks, labels=[f"{2**tick:g}" for tick in ticks])
                    bar.set_label("time-steps T: geometric mean")
                else:
                    bar.set_ticks([0, 0.5, 1], labels=["0", "50", "100"])
                    bar.set_label("lets in fewer than could enter, % of decisions")
        panels[0, n].set_title(_tuned(name, values), fontsize=11)
        panels[1, n].set_xlabel("busy lanes")
    for panel in panels[:, 0]:
        panel.set_ylabel("requests waiting")
    figure.suptitle(f"{env_id}: what is decided where. Grey: never there", fontsize=11)
    return figure


def _grid(rows: Sequence[Sequence[float | None]]) -> FloatArray:
    return np.array([[number(value) for value in row] for row in rows], np.float64)


def _bin_names(least: Sequence[int], *, more: bool) -> list[str]:
    """Names of bins by their least values: "0", "1", "2-3", ..., "512+"; the last one without + if there is no ``more``."""
    names = [str(low) if high == low + 1 else f"{low}-{high - 1}" for low, high in itertools.pairwise(least)]
    return [*names, f"{least[-1]}+" if more else str(least[-1])]


def _transfer(env_id: str, values: Mapping[str, Any]) -> Any:
    """Relative difference of the agents' cost to each rival's, condition by condition."""
    cases = [case for case in values["cases"].values() if values["algorithm"] in case["policies"]]
    figure = _figure(7.4, 1.6 + 0.42 * len(cases))
    axes = figure.subplots()
    for n, rival in enumerate(values["rivals"]):
        for row, case in enumerate(cases):
            found = case["policies"][values["algorithm"]]["against"].get(rival)
            if found is None:
                continue
            value, low, high = (100 * number(found["relative"][key]) for key in ("value", "low", "high"))
            at = row + (n - (len(values["rivals"]) - 1) / 2) * 0.3
            label = f"against {_tuned(rival, values)}" if row == 0 else None
            if math.isfinite(low):
                axes.plot([low, high], [at, at], color=RIVALS[n], linewidth=3.5, alpha=0.35, solid_capstyle="butt")
            axes.plot([value], [at], marker="os"[n % 2], color=RIVALS[n], markersize=5, linestyle="none", label=label)
    axes.axvline(0.0, color="0.3", linewidth=1.0)
    axes.set_yticks(range(len(cases)), [textwrap.fill(case["title"], 30) for case in cases])
    axes.invert_yaxis()
    axes.set_xlabel(f"cost of {values['algorithm']} over the rival's, less 1 (%)\nleft of 0 the agents are cheaper")
    axes.set_title(env_id, fontsize=11)
    axes.grid(alpha=0.25, axis="x")
    axes.legend(fontsize=8.5, loc="best")
    return figure
