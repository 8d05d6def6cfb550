"""Section ``spatial``: Plasticine, Brainwave and V100 on DeepBench, the search over loops, and batching on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ebatch_env.machines import Brainwave, Plasticine
from ebatch_env.machines.plasticine import CHAIN_UNITS
from ebatch_env.reproduction.report import Checked, Options, Progress, Row, Section, paragraphs, points
from ebatch_env.reproduction.sections import spatial_sensitivity
from ebatch_env.reproduction.sections.spatial_batching import (
    FULL,
    QUICK,
    Budget,
    Outcome,
    one_for_all_loads,
    outcomes,
)
from ebatch_env.reproduction.sections.spatial_deepbench import (
    ANCHORS,
    FULL_TASKS,
    PAPERS_LOOPS,
    TASKS,
    FloorRule,
    Modelled,
    Searched,
    floor_rules,
    geometric_mean,
    median_error,
    search,
)
from ebatch_env.reproduction.sections.spatial_views import charts, tables
from ebatch_env.scoring.seeds import EVALUATION_SEED

_ZHAO = "Zhao, Zhang, Olukotun, MLSys 2019, arXiv 1909.13654"
_ABSTRACT = f"{_ZHAO}, abstract"
_FOWERS = "Fowers et al., ISCA 2018"
_CHIP = {"Plasticine": (494.0, 160.0), "V100": (815.0, 300.0)}  # mm2, W; recalled, and read second-hand


def run(options: Options, progress: Progress) -> Section:
    """Measure everything; ``quick`` plays fewer plans on fewer machines at one load, and searches the same."""
    progress(0.0, "DeepBench")
    searched = [search(task) for task in TASKS]
    rules = floor_rules()
    model = Modelled(searched)
    varied = spatial_sensitivity.variations()
    progress(0.05, "batching")
    budget = QUICK if options.quick else FULL
    played = outcomes(budget, options.processes, lambda share, what: progress(0.05 + 0.95 * share, what))
    progress(1.0, "done")
    return Section(
        name="spatial",
        title="A spatial accelerator against Brainwave and a V100",
        rows=[*_latency_rows(model), *_mean_rows(model), *_chip_rows(), *_batching_rows(played, budget)],
        summary=_summary(model, searched, rules, varied, played, budget),
        tables=[*tables(model, searched, rules, played), spatial_sensitivity.table(varied)],
        charts=[*charts(model, searched, played), *spatial_sensitivity.charts(varied)],
        quick=(
            f"schedulers on {', '.join(QUICK.machines)} only, at load {', '.join(f'{x:g}' for x in QUICK.loads)} only, "
            f"{QUICK.episodes} episodes of {QUICK.requests} requests instead of {FULL.episodes} of {FULL.requests}, "
            f"{QUICK.settings} settings of each instead of {FULL.settings}: other constant T are among them (the "
            "rows' names say "
            "which), so dearest over best is another figure."
        ),
        seeds=f"{EVALUATION_SEED}..{EVALUATION_SEED + budget.episodes - 1}: {budget.episodes} episodes of "
        f"{budget.requests} requests, the first half to choose settings, the second to score them",
    )


def _latency_rows(model: Modelled) -> Iterable[Row]:
    for task, measured in zip(TASKS, model.plasticine, strict=True):
        loops = PAPERS_LOOPS[task.cell]
        note = f"hu {loops.hu}, ru {loops.ru}"
        if task.plasticine_ms is None:
            note += "; probably in the paper's table, figure not recalled"
        elif abs(measured / task.plasticine_ms - 1.0) > 0.1:
            note += "; smaller loops come closer to the published figure"
        checked: Checked | None = None if task.plasticine_ms is None else "recalled"
        what = f"Plasticine, {task.name}"
        yield Row(f"{what}, latency", measured, "ms", task.plasticine_ms, _ZHAO, checked, note=note)
        yield Row(f"{what}, effective", task.tops(measured), "TOPS", task.plasticine_tops, _ZHAO, checked)
    for task, measured in zip(TASKS, model.brainwave, strict=True):
        note = "anchor" if task.name in ("GRU 512/1", "GRU 1024/1500") else ""
        what = f"Brainwave, {task.name}, latency"
        yield Row(what, measured, "ms", task.brainwave_ms, _FOWERS, "recalled", note=note)
    for task, measured in zip(TASKS, model.v100, strict=True):
        if task.v100_ms is not None:
            note = "anchor" if task.name in ANCHORS else ""
            yield Row(f"V100, {task.name}, latency", measured, "ms", task.v100_ms, _ZHAO, "recalled", note=note)


def _mean_rows(model: Modelled) -> Iterable[Row]:
    ten, eleven = range(len(FULL_TASKS)), range(len(TASKS))
    v100 = [task.v100_ms or np.nan for task in TASKS]
    brainwave = [task.brainwave_ms for task in TASKS]
    plasticine = [task.plasticine_ms or ms for task, ms in zip(TASKS, model.plasticine, strict=True)]
    recalled = "from the recalled latencies, nothing modelled"
    for what, measured, published, aim, note in (
        ("V100 over Plasticine, 10 tasks, recalled", _mean(v100, plasticine, ten), 30.0, None, recalled),
        ("V100 over Plasticine, 10 tasks, modelled", _mean(model.v100, model.plasticine, ten), 30.0, 0.15, ""),
        ("Brainwave over Plasticine, 10 tasks, recalled", _mean(brainwave, plasticine, ten), 2.0, None, recalled),
        (
            "Brainwave over Plasticine, 11 tasks, recalled",
            _mean(brainwave, plasticine, eleven),
            2.0,
            None,
            f"{recalled}, but for Plasticine's {TASKS[-1].name}",
        ),
        (
            "Brainwave over Plasticine, 11 tasks, modelled",
            _mean(model.brainwave, model.plasticine, eleven),
            2.0,
            0.15,
            "",
        ),
    ):
        figure = f"{what.partition(',')[0]}, abstract"
        what = f"{what}, geometric mean"
        yield Row(what, measured, "x", published, _ABSTRACT, "read", aim=aim, note=note, figure=figure)
    for name, other, places in (("V100", model.v100, ten), ("Brainwave", model.brainwave, eleven)):
        what = f"{name} over Plasticine with the loops found here, {len(places)} tasks, geometric mean"
        yield Row(what, _mean(other, model.searched, places), "x", note="modelled")


def _mean(upper: Sequence[float], lower: Sequence[float], places: Iterable[int]) -> float:
    return geometric_mean(upper[place] / lower[place] for place in places)


def _chip_rows() -> Iterable[Row]:
    machine = Plasticine()
    (area, power), (v100_area, v100_power) = _CHIP["Plasticine"], _CHIP["V100"]
    note = "arithmetic on recalled chip figures: what the abstract's ratio seems to mean"
    yield Row("V100 over Plasticine, area", v100_area / area, "x", 1.6, _ABSTRACT, "read", note=note)
    yield Row("V100 over Plasticine, board over chip power", v100_power / power, "x", 2.0, _ABSTRACT, "read", note=note)
    units_w = machine.compute_units * machine.compute_unit_w + machine.memory_units * machine.memory_unit_w
    yield Row("Plasticine, all units working", units_w, "W", power, _ZHAO, "recalled", note="units: stanford-ppl/pir")
    peak = machine.compute_units * machine.products_per_cycle * machine.stages * machine.frequency_hz / 1e12
    yield Row("Plasticine, peak", peak, "TOPS", 49.0, _ZHAO, "recalled", note="every stage of every lane counted")
    brainwave = Brainwave()
    multipliers = float(brainwave.tiles * brainwave.native_dim * brainwave.native_lanes)
    note = "the abstract's count; how it is made up of tiles, rows and lanes is recalled"
    yield Row("Brainwave, multipliers", multipliers, "", 96_000.0, f"{_FOWERS}, abstract", "read", note=note)


def _batching_rows(played: Sequence[Outcome], budget: Budget) -> Iterable[Row]:
    for outcome in played:
        where = f"{outcome.machine} at load {outcome.load:g}"
        worst, adaptive = outcome.worst_over_best, outcome.over_constant["ebatch"]
        yield Row(
            f"{where}: dearest over best of T = {', '.join(outcome.plans)}",
            worst.value,
            "x",
            interval=worst.interval,
            note=f"dearest {outcome.dearest}, best {outcome.best_constant}",
        )
        yield Row(
            f"{where}: T chosen every round (ebatch) over the best of these",
            1.0 + adaptive.value,
            "x",
            interval=(1.0 + adaptive.low, 1.0 + adaptive.high),
        )


def _summary(
    model: Modelled,
    searched: Sequence[Searched],
    rules: Sequence[FloorRule],
    varied: Sequence[spatial_sensitivity.Varied],
    played: Sequence[Outcome],
    budget: Budget,
) -> str:
    off = [
        ms / task.plasticine_ms - 1.0 for task, ms in zip(TASKS, model.plasticine, strict=True) if task.plasticine_ms
    ]
    good = [value for value in off if abs(value) < 0.01]
    brainwave = [abs(ms / task.brainwave_ms - 1.0) for task, ms in zip(TASKS, model.brainwave, strict=True)]
    gains = [found.gain for found in searched]
    too_large = ", ".join(found.task.name for found in searched if not found.on_chip)
    chosen = next(rule for rule in rules if "(the machine)" in rule.name)
    worst = FULL_TASKS[int(np.argmax(np.abs(chosen.errors)))]
    machine = Plasticine()
    plasticine = (
        f"One cycle rule with two fitted constants (142 cycles a step, 50 a call) gives {len(good)} of {len(off)} "
        f"Plasticine latencies within 1 %, with one choice of loops per cell; the others, off by up to "
        f"{100 * max(map(abs, off)):.0f} %, come close with smaller loops only (table). Both cells send a step "
        f"through {CHAIN_UNITS} "
        f"units, {machine.step_latency_cycles / CHAIN_UNITS:.0f} cycles each with the network, which is plausible but "
        "not sourced. "
        f"By the recalled memory size the 8-bit weights of {too_large} do not fit the chip, although latencies are "
        "published for most of them: one of the two recollections, or the width of those weights, must be wrong. "
        f"The search over loops, under a resource rule derived here, finds latencies {geometric_mean(gains):.2f}x "
        "shorter "
        f"than the published ones in the mean, from {min(gains):.2f}x to {max(gains):.2f}x by task."
    )
    others = (
        f"Brainwave's step takes the longer of a fixed chain of instructions and the matrix work: within "
        f"{100 * max(brainwave):.0f} % on all {len(brainwave)} tasks with two anchors. "
        f"On the V100 two floors and a roofline are off by {100 * median_error(chosen.errors):.0f} % in the median of "
        f"the tasks that are no anchors, and by {100 * float(np.abs(chosen.errors).max()):.0f} % on {worst.name}; the "
        f"best floors in hindsight leave {100 * median_error(rules[-1].errors):.0f} %, so the rest is not the floors'."
    )
    return paragraphs(
        "The published latencies are recalled and unverified; the abstract's ratios were read.",
        points(
            ("Plasticine.", plasticine),
            ("Brainwave and V100.", others),
            ("Uncertain constants.", spatial_sensitivity.summary(varied)),
        ),
        "Does the choice of T still matter on these machines? Asked of constant plans and of the rule of `ebatch`; no "
        "agent "
        "was trained here, so whether *learning* T pays is open.",
        points(*((f"{name}.", _verdict(name, played)) for name in budget.machines)),
        f"{_conclusion(played)} (Costs are interquartile means per request, ratios are taken episode by episode, "
        "brackets are "
        "95 % intervals.)",
    )


def _verdict(machine: str, played: Sequence[Outcome]) -> str:
    rows = [outcome for outcome in played if outcome.machine == machine]
    best = dict.fromkeys(outcome.best_constant for outcome in rows)
    dearest = dict.fromkeys(outcome.dearest for outcome in rows)
    text = (
        f"The dearest constant T ({', '.join(dearest)}) costs {_range([x.worst_over_best.value for x in rows])} the "
        "best "
        f"({', '.join(best)}), of T = {', '.join(rows[0].plans)}"
    )
    if len(rows) > 1:
        one, excess = one_for_all_loads(played, machine)
        text += f", T = {one} alone is within {100 * excess:.1f} % of the best at each of {len(rows)} loads"
    adaptive = [outcome.over_constant["ebatch"] for outcome in rows]
    gains, losses = sum(x.high < 0.0 for x in adaptive), sum(x.low > 0.0 for x in adaptive)
    text += (
        f", and a T chosen every round (`ebatch`) changes the cost by {_span([100 * x.value for x in adaptive])} %, "
        f"its interval below 0 at {gains} and above at {losses} of {len(rows)} loads."
    )
    helpers = [min(x.over_constant, key=lambda family: x.over_constant[family].value) for x in rows]
    helped = [x.over_constant[family] for x, family in zip(rows, helpers, strict=True)]
    if "ebatch" not in helpers and all(score.high < 0.0 for score in helped):
        chosen = ", ".join(dict.fromkeys(f"{f} ({x.chosen[f]})" for x, f in zip(rows, helpers, strict=True)))
        text += f" What helps there is {chosen}: {_span([100 * x.value for x in helped])} %."
    return text


def _conclusion(played: Sequence[Outcome]) -> str:
    machines = list(dict.fromkeys(outcome.machine for outcome in played))
    best = {m: [x.best_constant == str(min(x.steps)) for x in played if x.machine == m] for m in machines}
    shortest = [m for m in machines if all(best[m])]
    longer = [m for m in machines if not any(best[m])]
    parts = []
    if longer:
        parts.append(f"rounds of several steps are worth it on {', '.join(longer)}, where something is paid per round")
    if shortest:
        parts.append(f"the shortest round is best on {', '.join(shortest)}, where next to nothing is")
    return f"So {'; '.join(parts)}." if parts else ""


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return f"{low}x" if low == high else f"{low}-{high}x"


def _span(percents: Sequence[float]) -> str:
    low, high = f"{min(percents):+.2f}", f"{max(percents):+.2f}"
    return low if low == high else f"{low} to {high}"
