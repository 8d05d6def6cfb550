"""Tables of a study, for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebatch_baselines.headroom.chart import draw
from ebatch_baselines.headroom.study import BOUND, CONSTANT, YARDSTICK
from ebatch_env.scoring.files import write_text
from ebatch_env.scoring.tables import MARK, NOTES, difference, markdown_table, with_interval

REPORT, CHART = "report.md", "headroom.png"

INTRODUCTION = """# Headroom

How far tuned E-BATCH is from what is possible, scenario by scenario. Made by

    {command}

on {episodes} episodes, seeds {first}..{last}, which nothing was tuned on. The difference to `{yardstick}` is that of the mean costs on
the same episodes, with its 95 % interval by resampling episodes (below 0: cheaper). *Room* says whether the best policy known
is at least {room:.0f} % below `{yardstick}`; it is the cheapest of many on these very episodes, so its lead is a little flattered.

- **constant**: the best constant plan: policy `constant`, tuned. **heuristic**: the best of all the other rules, tuned, but for
  `{yardstick}` itself.
- **linear**: the best member of a rich family ([baselines.md](baselines.md)) that CMA-ES found: {candidates}. **agent**: the best trained agent that ships for the scenario.
- **bound**: no policy can be cheaper than that, not even one that knows the future ([bounds.md](bounds.md)); it need not be in
  reach of any. Of the batch queue the exact optimum of all policies that do not know the future is known: `optimal-queue`.
- Costs are interquartile means with 95 % bootstrap intervals, [as everywhere](metrics.md).

![Cost of every policy relative to tuned E-BATCH]({chart})

"""


def write_page(values: Mapping[str, Any], folder: Path) -> str:
    """Draw the picture, write the page; returns the tables as text for a terminal.

    Raises:
        OSError: a file cannot be written.
    """
    settings = values["settings"]
    draw(values, folder / CHART)
    overview = _overview(values)
    first = values["seed"]
    text = INTRODUCTION.format(
        command=values["command"],
        episodes=settings["episodes"],
        first=first,
        last=first + settings["episodes"] - 1,
        yardstick=YARDSTICK,
        room=100 * values["room"],
        candidates=f"of {settings['candidates']:,} candidates on {settings['tuning_episodes']} tuning episodes"
        if settings["candidates"]
        else "the weights that ship, of a search before",
        tuning_episodes=settings["tuning_episodes"],
        chart=CHART,
    )
    text += overview + "\n"
    shown = overview
    for env_id, found in values["scenarios"].items():
        table = _table(found)
        text += f"\n## `{env_id}`\n\n{found['summary'][0].upper()}{found['summary'][1:]}. {_verdict(found)}\n\n{NOTES.format(env_id=env_id)}\n\n{table}"
        shown += f"\n{env_id}: {_verdict(found)}\n\n{table}"
    write_text(folder / REPORT, text)
    return shown


def _overview(values: Mapping[str, Any]) -> str:
    heads = [
        "scenario",
        f"cost of `{YARDSTICK}`",
        "constant, %",
        "heuristic, %",
        "linear, %",
        "agent, %",
        "optimum, %",
        "bound, %",
        "room",
    ]
    rows = []
    for env_id, found in values["scenarios"].items():
        policies = found["policies"]
        names = [found[key] for key in ("best_constant", "best_heuristic", "best_search", "best_agent", "optimum")]
        cells = [
            ""
            if name is None
            else difference(policies[name]["relative"]) + (f" `{name}`" if name not in (CONSTANT, "linear") else "")
            for name in names
        ]
        rows.append(
            [
                f"`{env_id}`",
                with_interval(policies[YARDSTICK]["cost"], "iqm"),
                *cells,
                difference(found["bound"]["relative"]),
                _room(found),
            ]
        )
    return markdown_table(heads, rows)


def _table(found: Mapping[str, Any]) -> str:
    rows = []
    for label, policy in found["policies"].items():
        name = f"`{label}`" + (f" \\{MARK}" if policy["truncated"] else "")
        kind = policy["kind"] + (", not tuned" if label in found["untuned"] else "")
        rows.append([name, kind, with_interval(policy["cost"], "iqm"), difference(policy["relative"])])
    bound = found["bound"]
    rows.insert(0, [BOUND, "", with_interval(bound["cost"], "iqm"), difference(bound["relative"])])
    return markdown_table(["policy", "kind", "cost", f"against `{YARDSTICK}`, %"], rows)


def _verdict(found: Mapping[str, Any]) -> str:
    if found["best"] is None:
        return "No policy finished all episodes."
    best = found["policies"][found["best"]]["relative"]
    bound = found["bound"]["relative"]
    doubt = f" `{YARDSTICK}` is not tuned here, so this says little." if YARDSTICK in found["untuned"] else ""
    return (
        f"Room: {_room(found)}. Best known: `{found['best']}`, {difference(best)} % against `{YARDSTICK}`; "
        f"the bound is at {difference(bound)} %.{doubt}"
    )


def _room(found: Mapping[str, Any]) -> str:
    return "yes" if found["room_sure"] else "yes, narrowly" if found["room"] else "no"
