"""In batches: a weight row is skipped only if every lane skips it. How that falls with lanes, and what schedulers get of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from ebatch_env.approximation.lanes import as_points
from ebatch_env.errors import FloatArray
from ebatch_env.machines.approximation import MemoizationEffect
from ebatch_env.machines.epur import EPUR
from ebatch_env.machines.savings import Saving, saving
from ebatch_env.reproduction import energy_readings
from ebatch_env.reproduction import trained_networks as nets
from ebatch_env.reproduction.approximate_serving import (
    LANES,
    NOTHING_ON,
    POLICIES,
    ROUND,
    SERVED,
    SERVING_LANES,
    VARIED_LANES,
    Effects,
    Served,
    change,
    on_lanes,
    one_share,
    serve,
    serving_table,
)
from ebatch_env.reproduction.report import Chart, Series, Table, points
from ebatch_env.reproduction.sections.memoization.measured import FILLINGS, RISING, Measured, never

Found = Mapping[str, list[Measured]]

STAGGERED, NO_STARTS = FILLINGS[0], FILLINGS[-1]
NOTHING_LEFT = 0.01  # a share of rows not worth the hardware


def chosen(found: Found) -> str:
    """The network whose curve the machine gets: the one with the largest reuse."""
    return max(found, key=lambda name: fmean(one.at_loss[nets.LOSS].reuse for one in found[name]))


def label(name: str, seeds: list[Measured]) -> str:
    """A network's name, with a warning where its curves are at a threshold that loses too much."""
    return f"{name} at 0: loses accuracy" if never(seeds) else name


def mean_fillings(seeds: list[Measured]) -> dict[str, FloatArray]:
    """By way of filling: the mean curve over seeds, (lanes,)."""
    return {way: np.mean([one.fillings[way] for one in seeds], axis=0) for way in FILLINGS}


def effects(found: Found) -> dict[str, list[Effects]]:
    """What the machine is told, for each of `LANES`, by what lanes do."""
    seeds = found[chosen(found)]
    curve = as_points(mean_fillings(seeds)[STAGGERED], LANES)
    shared = np.mean([one.together for one in seeds], axis=0).tolist()
    reuse = curve[0][1]
    alone: Effects = {"memoization": {"reuse": reuse, "lanes_reuse": curve}}
    return {
        "if lanes were independent": [{"memoization": {"reuse": reuse}}] * len(LANES),
        "each lane decides": [alone] * len(LANES),
        "lanes evaluate together": one_share("memoization", list(zip(LANES, shared, strict=True))),
    }


def serving(found: Found) -> Served:
    """Schedulers on a full queue, without memoization and with it."""
    told = effects(found)
    results: Served = []
    for lanes in SERVING_LANES:
        results.append((lanes, NOTHING_ON, serve({}, lanes)))
        for what in ("each lane decides", "lanes evaluate together"):
            results.append((lanes, what, serve(told[what][LANES.index(lanes)], lanes)))
    return results


def tables(found: Found, served: Served) -> list[Table]:
    """Rows skipped by lanes; lanes that evaluate together; the machine; the schedulers."""
    columns = [str(lanes) for lanes in LANES]
    skipped: list[tuple[str | float | None, ...]] = []
    for name, seeds in found.items():
        for way in FILLINGS:
            curves = np.array([[100 * one.fillings[way][a - 1] for a in LANES] for one in seeds])
            cells = [None if np.isnan(c).any() else nets.with_interval(c.tolist(), 2, 100) for c in curves.T]
            skipped.append((label(name, seeds), way, *cells))
    shared: list[tuple[str | float | None, ...]] = []
    for name, seeds in found.items():
        if not never(seeds):
            rows, accuracies = ([[100 * x for x in values] for values in column] for column in _together(seeds))
            shared.append((name, "rows skipped, %", *_cells(rows, 2)))
            shared.append((name, "test accuracy, %", *_cells(accuracies, 1)))
        searched = dict(zip(RISING, zip(*(one.rising for one in seeds), strict=True), strict=False))
        for what, value in (("rows skipped, %", "reuse"), ("test accuracy, %", "accuracy")):
            values = {a: [100 * getattr(one, value) for one in rising] for a, rising in searched.items()}
            told = {a: nets.with_interval(found_values, 2, 100) for a, found_values in values.items()}
            shared.append((name, f"threshold searched for these lanes: {what}", *(told.get(a) for a in LANES)))
    return [
        Table(
            "lanes",
            f"Rows that all lanes skip, %, by lanes (threshold for {nets.LOSS:.0%}; each lane decides for itself)",
            ("network", "lanes filled", *columns),
            skipped,
        ),
        Table("together", "Lanes that evaluate together, staggered, by lanes", ("network", "what", *columns), shared),
        Table(
            "batched-e-pur",
            f"{SERVED} on E-PUR with 32 dot-product units a gate, with the curve of {chosen(found)}",
            ("rule", "busy lanes", "rows skipped, %", "speed-up, x", "weight reads saved, %", "energy saved, %"),
            [
                (rule, lanes, 100 * share, one.speed_up, 100 * one.weight_reads_saved, 100 * one.energy_saved)
                for rule, all_told in effects(found).items()
                for lanes, share, one in _worth(all_told)
            ],
        ),
        serving_table(served),
        _parts_table(found),
    ]


ALONE, REPLICATED, LOADED = "published machine", "replicated units", "replicated units, short rounds"


def component_cases(found: Found) -> list[tuple[str, int, int, Saving]]:
    """From the published machine to full batches, a step at a time: what, steps of a round, busy lanes, what is saved."""
    told = effects(found)["each lane decides"]
    first = told[LANES.index(1)]
    cases = [
        (ALONE, 100, 1, saving(SERVED, steps=100, **first)),
        (REPLICATED, 100, 1, saving(SERVED, machine=EPUR(), steps=100, **first)),
    ]
    return cases + [(LOADED, ROUND, lanes, on_lanes(one, lanes)) for lanes, one in zip(LANES, told, strict=True)]


def _parts_table(found: Found) -> Table:
    rows: list[list[str | float | None]] = []
    for what, steps, lanes, one in component_cases(found):
        parts = energy_readings.shares(one.parts)
        cells = [parts.get(name, (0.0, 0.0)) for name in energy_readings.COMPONENTS]
        told = [f"{share:.1f}, {points_saved:.1f}" for share, points_saved in cells]
        rows.append([what, steps, lanes, 100 * one.energy_saved, *told])
    columns = ["E-PUR", "steps a round", "busy lanes", "energy saved, %"]
    columns += [f"{label}: % of all, saved points" for label in energy_readings.COMPONENTS.values()]
    title = f"Where memoization saves energy: {SERVED} with the curve of {chosen(found)}, each lane decides"
    return Table("energy-parts-batched", title, columns, rows)


def _energy_story(found: Found) -> str:
    """Why more energy is saved with more lanes although fewer rows are skipped, and less than without batches."""
    cases = {(what, lanes): one for what, _, lanes, one in component_cases(found)}
    alone, replicated = cases[ALONE, 1], cases[REPLICATED, 1]
    one, many = cases[LOADED, LANES[0]], cases[LOADED, LANES[-1]]
    shares = {case: energy_readings.shares(cases[case].parts) for case in cases}
    first, last = shares[LOADED, LANES[0]], shares[LOADED, LANES[-1]]
    before = shares[ALONE, 1]
    batched = [cases[LOADED, lanes].energy_saved for lanes in LANES]
    least = min(range(len(LANES)), key=lambda place: batched[place])
    way = f"{100 * one.energy_saved:.0f} % are saved with one lane"
    if least:
        way += f", falling with the rows to {100 * batched[least]:.0f} % with {LANES[least]}"
    way += f", and {100 * many.energy_saved:.0f} % with {LANES[-1]}, where hardly a row is skipped"
    return (
        f"{way}. A lane that hits spares its own multiplications and operand reads whoever else needs the row, and "
        "these are a "
        "growing share of the energy, because reading weights, leakage and DRAM are paid once for all lanes: "
        f"multiplications are {first['macs'][0]:.0f} % of it with one lane and {last['macs'][0]:.0f} % "
        f"with {LANES[-1]}, and give {first['macs'][1]:.0f} and {last['macs'][1]:.0f} of the points saved. That one "
        "lane saves "
        f"less than the {100 * alone.energy_saved:.0f} % of the published machine is the batched machine's DRAM and "
        "leakage: "
        f"with replicated units it is {100 * replicated.energy_saved:.0f} %, and with rounds of {ROUND} steps instead "
        "of 100, "
        f"where weights come from DRAM {100 / ROUND:.3g} times as often, {100 * one.energy_saved:.0f} %: DRAM, of "
        "which "
        f"nothing is saved, goes from {before['dram'][0]:.0f} % of the energy to {first['dram'][0]:.0f} %."
    )


def sensitivity(found: Found) -> tuple[Table, list[Chart]]:
    """Uncertain constants of the batched machine."""
    told = effects(found)["each lane decides"]
    title = f"{SERVED} on batched E-PUR with memoization"
    return energy_readings.sensitivity(SERVED, {n: told[LANES.index(n)] for n in VARIED_LANES}, title)


def _together(seeds: list[Measured]) -> tuple[list[list[float]], list[list[float]]]:
    return [one.together for one in seeds], [one.together_accuracy for one in seeds]


def _worth(told: Sequence[Effects]) -> list[tuple[int, float, Saving]]:
    """At each of `LANES`: rows skipped, and what that is worth."""
    shares = [
        float(MemoizationEffect(**one["memoization"]).rows_skipped(lanes))
        for lanes, one in zip(LANES, told, strict=True)
    ]
    return [(lanes, share, on_lanes(one, lanes)) for lanes, share, one in zip(LANES, shares, told, strict=True)]


def _cells(values: list[list[float]], digits: int) -> list[str]:
    return [nets.with_interval(column, digits, 100) for column in np.array(values).T.tolist()]


def charts(found: Found) -> list[Chart]:
    """Rows skipped by lanes, by filling and by network; what is left of the speed-up and of the energy."""
    name = chosen(found)
    seeds, lanes = found[name], list(LANES)

    def curve(way: str, of: list[Measured]) -> Series:
        longest = [a for a in LANES if not any(np.isnan(one.fillings[way][a - 1]) for one in of)]
        values = [[one.fillings[way][a - 1] for a in longest] for one in of]
        return Series(way, longest, *nets.mean_curve(values))

    shared = Series("staggered, lanes evaluate together", lanes, *nets.mean_curve([one.together for one in seeds]))
    worth = {rule: _worth(told) for rule, told in effects(found).items()}
    axis, share = "lanes", "share of rows skipped"
    return [
        Chart(
            "fillings",
            f"Rows that all lanes skip, {name}",
            axis,
            share,
            [*(curve(way, seeds) for way in FILLINGS), shared],
            log_x=True,
        ),
        Chart(
            "networks",
            "Rows that all lanes skip, staggered, each lane decides",
            axis,
            share,
            [Series(label(key, of), *_xy(curve(STAGGERED, of))) for key, of in found.items()],
            log_x=True,
        ),
        Chart(
            "batched-speed",
            f"{SERVED} on batched E-PUR: speed-up by memoization",
            "busy lanes",
            "x",
            [Series(rule, lanes, [one.speed_up for *_, one in found_worth]) for rule, found_worth in worth.items()],
            log_x=True,
            references=[("none", 1.0)],
        ),
        Chart(
            "batched-energy",
            f"{SERVED} on batched E-PUR: energy saved by memoization",
            "busy lanes",
            "share of energy",
            [Series(rule, lanes, [one.energy_saved for *_, one in found_worth]) for rule, found_worth in worth.items()],
            log_x=True,
        ),
    ]


def _xy(
    series: Series,
) -> tuple[Sequence[float | str], Sequence[float], Sequence[float] | None, Sequence[float] | None]:
    return series.x, series.y, series.low, series.high


def summary(found: Found, served: Served) -> str:
    """How far batches leave anything."""
    name = chosen(found)
    curves = mean_fillings(found[name])
    shared = np.mean([one.together for one in found[name]], axis=0)
    worth = {rule: _worth(told) for rule, told in effects(found).items()}

    def gone(values: Sequence[float]) -> str:
        few = [a for a, value in zip(LANES, values, strict=True) if value < NOTHING_LEFT]
        return f"under {NOTHING_LEFT:.0%} from {few[0]} lanes on" if few else f"{values[-1]:.1%} at {LANES[-1]} lanes"

    def at(way: str, lanes: int) -> str:
        return f"{100 * curves[way][lanes - 1]:.1f} %"

    alone = fmean(one.exact - one.together_accuracy[0] for one in found[name])
    kept = fmean(one.exact - one.together_accuracy[LANES.index(8)] for one in found[name])
    full = worth["each lane decides"][LANES.index(32)]
    rates = [change(served, 32, "each lane decides", policy) for policy in POLICIES]
    return points(
        (
            "Rows and speed in a batch.",
            f"Most of both is lost. On {name}, the best case, one lane skips {at(STAGGERED, 1)} of the rows, 8 lanes "
            "together "
            f"{at(STAGGERED, 8)}: {gone([curves[STAGGERED][a - 1] for a in LANES])}. Two causes: lanes disagree (with "
            "starts "
            f"set apart 8 lanes still skip {at(NO_STARTS, 8)}), and a sequence's first step is always evaluated, so "
            "that joins "
            f"at all moments, E-BATCH's way, cost more than lanes that start together ({at(FILLINGS[1], 8)}; of "
            "similar length "
            f"{at(FILLINGS[2], 8)}, of one class {at(FILLINGS[3], 8)}). On E-PUR with 32 lanes the speed-up is "
            f"{full[2].speed_up:.3f}x.",
        ),
        ("Energy in a batch.", _energy_story(found)),
        (
            "Lanes that evaluate together.",
            f"If all lanes evaluate whenever one must, their misses fall together: {100 * shared[LANES.index(8)]:.1f} "
            "% at 8 "
            f"lanes, {gone(shared.tolist())}, and the accuracy lost at 8 lanes is {100 * kept:.1f} points instead of "
            f"{100 * alone:.1f}, so that a larger threshold would do (table).",
        ),
        (
            "In the environment, 32 lanes:",
            f"throughput {rates[0][0]:+.1f} % and energy per request {rates[0][1]:+.0f} % under {POLICIES[0]}, "
            f"{rates[1][0]:+.1f} % and {rates[1][1]:+.0f} % under {POLICIES[1]}.",
        ),
    )
