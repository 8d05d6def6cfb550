"""Tables and charts of section ``spatial``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ebatch_env.machines import Plasticine
from ebatch_env.reproduction.report import Chart, Series, Table
from ebatch_env.reproduction.sections.spatial_batching import ENV, LONGEST, Outcome
from ebatch_env.reproduction.sections.spatial_deepbench import (
    FULL_TASKS,
    PAPERS_LOOPS,
    TASKS,
    FloorRule,
    Modelled,
    Searched,
    Task,
    best_per_width,
    geometric_mean,
    median_error,
    search,
)


def tables(
    model: Modelled, searched: Sequence[Searched], rules: Sequence[FloorRule], played: Sequence[Outcome]
) -> list[Table]:
    """Every table."""
    return [_tops_table(model), _search_table(searched), _fan_in_table(), _rules_table(rules), _batching_table(played)]


def charts(model: Modelled, searched: Sequence[Searched], played: Sequence[Outcome]) -> list[Chart]:
    """Every chart."""
    return [*_deepbench_charts(model, searched), *_batching_charts(played)]


def _tops_table(model: Modelled) -> Table:
    rows = [
        [task.name, task.plasticine_tops, *(task.tops(ms[place]) for ms in columns)]
        for columns in [(model.plasticine, model.searched, model.brainwave, model.v100)]
        for place, task in enumerate(TASKS)
    ]
    columns = [
        "task H/T",
        "Plasticine, published (unverified)",
        "Plasticine",
        "Plasticine, best loops",
        "Brainwave",
        "V100",
    ]
    return Table("tops", "Effective TOPS, 2 * gates * H * 2H * T operations, modelled where not said", columns, rows)


def _search_table(searched: Sequence[Searched]) -> Table:
    machine = Plasticine()
    rows: list[list[str | float | None]] = []
    for found in searched:
        layer = found.task.layer
        needed = f"{machine.compute_units_needed(layer, found.best)} / {machine.memory_units_needed(layer, found.best)}"
        close = found.closest
        published = found.task.plasticine_ms
        rows.append(
            [
                found.task.name,
                f"{found.paper.hu} x {found.paper.ru}",
                found.paper_ms,
                f"{found.best.hu} x {found.best.ru}",
                found.best_ms,
                found.gain,
                needed,
                "yes" if found.on_chip else "no",
                found.choices,
                "" if close is None else f"{close[0].hu} x {close[0].ru}",
                None if close is None or published is None else round(100.0 * (close[1] / published - 1.0), 6),
                None if close is None else found.as_close,
            ]
        )
    columns = [
        "task H/T",
        "the paper's hu x ru (derived)",
        "ms",
        "best hu x ru",
        "ms",
        "published / best",
        "compute / memory units",
        "weights fit",
        "choices",
        "closest to the published latency",
        "its error, %",
        "choices within 1 %",
    ]
    title = f"Search over loops within {machine.compute_units} compute and {machine.memory_units} memory units"
    return Table("loops", title, columns, rows)


def _fan_in_table() -> Table:
    """What the least sure part of the resource rule does to the result."""
    rows = []
    for fan_in in (4, 8, 16):
        machine = Plasticine(fan_in=fan_in)
        gains = [search(task, machine).gain for task in TASKS]
        fits = [machine.compute_units_needed(x.layer, PAPERS_LOOPS[x.cell]) <= machine.compute_units for x in TASKS]
        rows.append([fan_in, geometric_mean(gains), min(gains), max(gains), "yes" if all(fits) else "no"])
    columns = ["partial products a unit sums", "mean of published / best", "least", "most", "the paper's loops fit"]
    return Table("fan-in", "The search under other readings of the resource rule", columns, rows)


def _rules_table(rules: Sequence[FloorRule]) -> Table:
    rows: list[list[str | float | None]] = [
        ["median size less anchors", *(100 * median_error(rule.errors) for rule in rules)],
        ["largest size", *(100 * float(np.abs(rule.errors).max()) for rule in rules)],
    ]
    rows += [[task.name, *(100 * float(rule.errors[n]) for rule in rules)] for n, task in enumerate(FULL_TASKS)]
    columns = ["error, %", *(rule.name for rule in rules)]
    return Table("v100-rules", "V100: what floors and a roofline explain of the latencies", columns, rows)


def _batching_table(played: Sequence[Outcome]) -> Table:
    rows: list[list[str | float | None]] = []
    for outcome in played:
        for family, score in outcome.by_family.items():
            over = outcome.over_constant.get(family)
            share = "" if over is None else f"{100 * over.value:+.1f} ({100 * over.low:+.1f}..{100 * over.high:+.1f})"
            setting = outcome.chosen[family]
            interval = f"{score.low:.2f}..{score.high:.2f}"
            rows.append([outcome.machine, outcome.load, family, setting, score.value, interval, share])
        if outcome.best_constant != LONGEST:
            interval = f"{outcome.longest.low:.2f}..{outcome.longest.high:.2f}"
            rows.append([outcome.machine, outcome.load, "constant", LONGEST, outcome.longest.value, interval, ""])
    columns = ["machine", "load", "scheduler", "setting", "cost", "95 % interval", "over best constant T, %"]
    return Table(
        "batching", f"Cost per request, {ENV} on other machines, best setting of each scheduler", columns, rows
    )


def _deepbench_charts(model: Modelled, searched: Sequence[Searched]) -> Iterable[Chart]:
    names = [_short(task) for task in TASKS]
    known = [task for task in TASKS if task.plasticine_tops is not None]
    yield Chart(
        "tops",
        "Plasticine on DeepBench",
        "",
        "effective TOPS",
        [
            Series("published (unverified)", [_short(x) for x in known], [x.plasticine_tops or 0.0 for x in known]),
            Series("model", names, [x.tops(ms) for x, ms in zip(TASKS, model.plasticine, strict=True)]),
            Series("model, best loops", names, [x.task.tops(x.best_ms) for x in searched]),
        ],
        kind="bar",
    )
    wide = [
        task for task in FULL_TASKS if task.name in ("LSTM 1024/25", "LSTM 1536/50", "GRU 1024/1500", "GRU 1536/375")
    ]
    curves = {task.name: sorted(best_per_width(task).items()) for task in wide}
    yield Chart(
        "loops",
        "Design space: the best ru for each hu",
        "hidden units side by side, hu",
        "effective TOPS",
        [Series(name, [hu for hu, _ in curve], [tops for _, tops in curve]) for name, curve in curves.items()],
        log_x=True,
    )
    yield Chart(
        "latency",
        "V100 and Brainwave: published and modelled",
        "published latency, ms (unverified)",
        "modelled latency, ms",
        [
            Series("V100", [x.v100_ms or 0.0 for x in FULL_TASKS], model.v100[: len(FULL_TASKS)]),
            Series("Brainwave", [x.brainwave_ms for x in TASKS], model.brainwave),
        ],
        kind="points",
        log_x=True,
        log_y=True,
    )


def _short(task: Task) -> str:
    return task.name.replace(" ", "\n")  # names side by side under bars


def _batching_charts(played: Sequence[Outcome]) -> Iterable[Chart]:
    for load in dict.fromkeys(outcome.load for outcome in played):
        yield Chart(
            f"time-steps-{round(100 * load)}",
            f"Cost of a constant T at load {load:g}",
            "time-steps per round T",
            "cost per request",
            [
                Series(
                    outcome.machine,
                    list(outcome.steps),
                    [score.value for score in outcome.by_steps],
                    [score.low for score in outcome.by_steps],
                    [score.high for score in outcome.by_steps],
                )
                for outcome in played
                if outcome.load == load
            ],
            log_x=True,
        )
