"""The page of a scoreboard, made of its figures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebatch_agents.scoreboard.board import Board
from ebatch_agents.scoreboard.charts import draw, shown, sorted_policies
from ebatch_env.scoring.files import write_text
from ebatch_env.scoring.tables import (
    MARK,
    NOTES,
    difference,
    markdown_table,
    number,
    scale_of,
    significant,
    with_interval,
)

REPORT, CHARTS = "report.md", "charts"
COLUMNS = (
    ("energy_per_request_j", "energy/request", "J"),
    ("latency_p99_s", "latency p99", "s"),
    ("slo_miss", "SLO miss", "%"),
)
# Which picture shows what, in the order of `charts.draw`.
CAPTIONS = (
    "Cost of every policy",
    "Energy against tail latency",
    "Learning curves",
    "What is decided where",
    "Elsewhere",
)

INTRODUCTION = """# Scoreboard

Agents trained anew from {seeds} seeds per scenario, beside every tuned baseline, all on the same {episodes} episodes, which
nothing was trained, tuned or chosen on (seeds {first}..{last}). Made by

    {command}

and checked by `ebatch verify`, which works out every figure again from the records of the single episodes and plays
episodes again.
{quick}
**How to read it.** Cost is per request and lower is better; [metrics](metrics.md) defines it. Figures are interquartile
means with 95 % bootstrap intervals. For agents the unit is a training seed on an episode: a resample draws seeds and draws
episodes, so the interval covers the chance in training too, widened for {seeds} being few. For baselines it is an episode. *Against
a rival* stands the relative difference of the mean costs on the same episodes (below 0: cheaper), and P is the probability of
improvement (Agarwal et al., NeurIPS 2021): the chance that a seed's agent on an episode is cheaper than the rival on the same
episode. The rivals are E-BATCH (`ebatch`), tuned, and the best tuned baseline: of all that were tuned, the one of least mean
cost on {rival_episodes} *validation* episodes, so it was chosen neither with an eye on these nor for how well it fits the episodes it
was tuned on. A policy with truncated episodes, whose cost counts as infinite, is marked {mark} and
ranked last. Where an agent began by imitating a tuned policy the table's last column names it: what that one's tuning took comes
on top, and the first point of a learning curve is the copy. The agent that is shipped is the seed of least cost on the *validation* episodes.

"""


def write_page(board: Board, folder: Path) -> str:
    """Draw the pictures and write the page; returns the tables as text for a terminal.

    Raises:
        OSError: a file cannot be written.
    """
    text, tables = _introduction(board), ""
    for env_id, values in board.values["scenarios"].items():
        pictures = draw(env_id, values, folder / CHARTS)
        main = _main_table(values)
        text += _section(env_id, values, main, pictures)
        tables += f"{env_id}\n\n{main}\n"
    write_text(folder / REPORT, text + _foot(board))
    return tables


def _introduction(board: Board) -> str:
    values = board.values
    settings, first = values["settings"], values["first_episode"]
    quick = "\n*Made with `--quick`: for a look, not for claims.*\n" if values["quick"] else ""
    return INTRODUCTION.format(
        seeds=settings["seeds"],
        episodes=settings["episodes"],
        rival_episodes=settings["rival_episodes"],
        first=first,
        last=first + settings["episodes"] - 1,
        command=values["command"],
        quick=quick,
        mark="\\" + MARK,
    )


def _section(env_id: str, values: Mapping[str, Any], main: str, pictures: Sequence[str]) -> str:
    chosen = next(agent for agent in values["agents"] if agent["label"] == values["shipped"]["label"])
    trained = values["training"]
    lines = [
        f"## `{env_id}`\n\n{values['summary']}.\n",
        NOTES.format(env_id=env_id) + "\n",
        main,
        _wrapped(
            f"Shipped: seed {chosen['seed']}, cost {significant(number(chosen['validation_cost']))} on the validation episodes. "
            f"Cost above by seed: {_seeds(values)}. The training of the first seed, by itself:"
        ),
        f"    {trained['command']}\n",
    ]
    lines += [f"![{caption}]({CHARTS}/{name})\n" for caption, name in zip(CAPTIONS, pictures, strict=False)]
    lines.append(_choices(values))
    if len(values["cases"]) > 1:
        lines.append(_transfer_table(values))
    return "\n".join(lines) + "\n"


def _main_table(values: Mapping[str, Any]) -> str:
    policies = values["cases"][""]["policies"]
    rivals = values["rivals"]
    budgets = _budgets(values)
    names = sorted_policies(policies)
    heads = ["policy", "cost"]
    for rival in rivals:
        heads += [f"cost against `{rival}`, %", f"P over `{rival}`, %"]
    columns = []
    for metric, heading, unit in COLUMNS:
        factor, unit = scale_of([number(policies[name]["metrics"][metric]["iqm"]) for name in names], unit)
        heads.append(f"{heading}, {unit}" if unit else heading)
        columns.append((metric, factor))
    heads.append("decisions to train or tune")
    rows = []
    for name in names:
        policy = policies[name]
        label = "`" + name + "`" + (f" \\{MARK}" if shown(name, policy) != name else "")
        row = [
            f"**{label}**" if name == values["algorithm"] else label,
            with_interval(policy["metrics"]["cost"], "iqm"),
        ]
        for rival in rivals:
            found = policy["against"].get(rival)
            row += (
                ["", ""]
                if found is None
                else [difference(found["relative"]), with_interval(found["probability"], "value", 100)]
            )
        row += [significant(number(policy["metrics"][metric]["iqm"]) * factor) for metric, factor in columns]
        rows.append([*row, budgets[name]])
    return markdown_table(heads, rows)


def _budgets(values: Mapping[str, Any]) -> dict[str, str]:
    """How many decisions it took to make each policy what it is."""
    agents = [agent["decisions"] for agent in values["agents"]]
    teacher = values["training"]["hyperparameters"].get("teacher")
    taught = "" if teacher is None else f", after imitating `{teacher}`"
    found = {values["algorithm"]: f"{max(agents):,} per seed{taught}"}
    for entrant in values["baselines"]:
        tuned = entrant["tuned"]
        if tuned is None:
            found[entrant["label"]] = "not tuned" if entrant["knobs"] else "no knobs"
        elif tuned.get("decisions"):
            found[entrant["label"]] = f"{tuned['decisions']:,}"
        else:  # tuned before decisions were counted
            found[entrant["label"]] = f"{tuned['trials']} trials of {tuned['episodes']} episodes"
    return found


def _seeds(values: Mapping[str, Any]) -> str:
    costs = values["cases"][""]["policies"][values["algorithm"]]["seeds"]
    seeds = {agent["label"]: agent["seed"] for agent in values["agents"]}
    return ", ".join(f"{seeds[label]}: {significant(number(cost))}" for label, cost in costs.items())


def _choices(values: Mapping[str, Any]) -> str:
    """How often each level of each control is chosen, on the states that either policy comes to."""
    learned = values["learned"]
    rows = []
    for control, names in learned["levels"].items():
        if len(names) == 1:
            continue
        for policy, found in learned["policies"].items():
            counts = found["levels"][control]
            total = sum(counts)
            parts = [
                f"{name}: {100 * n / total:.0f}"
                for name, n in zip(names, counts, strict=True)
                if total and 100 * n >= total
            ]
            rows.append([f"`{control}`", f"`{policy}`", ", ".join(parts)])
    episodes = learned["episodes"]
    who = " and ".join(f"`{policy}`" for policy in learned["policies"])
    text = (
        f"Decisions of {who}, both asked at every state that either comes to in {episodes} evaluation episodes. In the picture, "
        "`longest` counts as the machine's largest T, and T only where a round runs. Shares of all decisions in %, those of "
        "at least 1 %:"
    )
    return _wrapped(text) + "\n" + markdown_table(["control", "policy", "chosen"], rows)


def _transfer_table(values: Mapping[str, Any]) -> str:
    algo, rivals = values["algorithm"], values["rivals"]
    heads = ["condition", "episodes", f"cost of `{algo}`"]
    for rival in rivals:
        heads += [f"cost of `{rival}`", f"against `{rival}`, %", f"P over `{rival}`, %"]
    rows = []
    for case in values["cases"].values():
        mine = case["policies"].get(algo)
        row = [case["title"], str(case["episodes"])]
        row.append("cannot act" if mine is None else _cost(mine))
        for rival in rivals:
            theirs = case["policies"].get(rival)
            found = None if mine is None else mine["against"].get(rival)
            row.append("cannot act" if theirs is None else _cost(theirs))
            row += (
                ["", ""]
                if found is None
                else [difference(found["relative"]), with_interval(found["probability"], "value", 100)]
            )
        rows.append(row)
    text = (
        "**Elsewhere.** Nothing was trained or tuned again: agents (all seeds; `transfer=true` lets them act) and baselines, tuned "
        "for the scenario, under other conditions. Loads, deadlines and costs are relative to the machine with the network at "
        "hand. Interquartile means of the cost, and the same comparisons as above:"
    )
    return _wrapped(text) + "\n" + markdown_table(heads, rows)


def _cost(policy: Mapping[str, Any]) -> str:
    text = with_interval(policy["metrics"]["cost"], "iqm")
    return f"{text} \\{MARK}" if policy["truncated"] else text


def _foot(board: Board) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in board.values["versions"].items())
    return f"## Made with\n\n{_wrapped(versions + '.')}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"
