"""Section ``cellular``: cellular batching against padding with buckets, over load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ebatch_env.errors import FloatArray
from ebatch_env.machines.gpu_step import GPUStep
from ebatch_env.reproduction.report import Chart, Options, Progress, Row, Section, Series, Table, paragraphs, points
from ebatch_env.reproduction.sections.cellular_cases import (
    DURATION_S,
    FEWEST,
    LANES,
    LONGEST,
    MEAN_LENGTH,
    NETWORK,
    SPREAD,
    WARM_UP,
    WIDTH,
    Case,
    SystemName,
    capacity_rps,
    p90_s,
)
from ebatch_env.scoring.pool import in_any_order
from ebatch_env.scoring.seeds import EVALUATION_SEED
from ebatch_env.scoring.statistics import mean_interval

SOURCE = "Gao et al. (BatchMaker), EuroSys 2018"
REDUCTION, GAIN = (-90.5, -17.5), (25.0, 60.0)  # percent, published ranges, recalled
FIGURES = {REDUCTION: "range of latency reductions", GAIN: "range of throughput gains"}
RIVALS: dict[SystemName, str] = {"oldest": "oldest bucket first", "fullest": "fullest bucket first"}
SYSTEMS: tuple[SystemName, ...] = ("cellular", *RIVALS)
IDLE_RPS = 1.0
LOADS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.83)  # shares of cellular batching's capacity
ROW_LOADS = (0.05, 0.2, 0.4, 0.6, 0.8)
BOUNDS_S = (0.1, 0.2, 0.5, 1.0, 2.0)  # of the 90th percentile, for the peak throughput
ROW_BOUNDS_S = (0.5, 1.0)
WHOLE_UP_TO = 0.1  # load; whole batches drown soon after
VARIED_LOADS = (0.05, 0.2, 0.6)
VARIED: dict[str, tuple[float, ...]] = {
    "width": (5, 10, 20, 40, 80),
    "spread": (0.4, 0.6, 0.8),
    "floor_s": (100e-6, 185e-6, 300e-6),
}
Found = dict[Case, float]  # 90th percentiles, s


@dataclass(frozen=True)
class Plan:
    """What is run: the seeds and loads of the main comparison, the seeds of the variations."""

    seeds: tuple[int, ...]
    loads: tuple[float, ...]
    varied_seeds: tuple[int, ...]

    @classmethod
    def of(cls, options: Options) -> Plan:
        """Less for ``options.quick``."""
        count, few = (4, 0) if options.quick else (8, 4)
        seeds = tuple(range(EVALUATION_SEED, EVALUATION_SEED + count))
        return cls(seeds, ROW_LOADS if options.quick else LOADS, seeds[:few])

    def cases(self) -> list[Case]:
        """Every case once, the long ones first."""
        base = [Case(system, rate, seed) for seed in self.seeds for rate in self.rates() for system in SYSTEMS]
        base += [
            Case("whole", rate, seed)
            for seed in self.seeds
            for rate in self.rates()
            if rate <= WHOLE_UP_TO * capacity_rps() * (1 + 1e-9)
        ]
        for field in VARIED:
            for value in VARIED[field]:
                for load in VARIED_LOADS:
                    base += [c for s in SYSTEMS for c in self.varied(s, field, value, load)]
        return list(dict.fromkeys(base))

    def rates(self) -> list[float]:
        """Requests per second of the main comparison."""
        return [IDLE_RPS, *(load * capacity_rps() for load in self.loads)]

    def varied(self, system: SystemName, field: str, value: float, load: float) -> list[Case]:
        """A case per seed with one constant changed; the load stays the same share of the machine's capacity."""
        chosen: dict[str, Any] = {field: value}
        rate = load * capacity_rps(**{name: v for name, v in chosen.items() if name != "width"})
        if system == "cellular":
            chosen.pop("width", None)  # it has none
        return [replace(Case(system, rate, seed), **chosen) for seed in self.varied_seeds]


def run(options: Options, progress: Progress) -> Section:
    """Measure; a minute and a half on one core."""
    plan = Plan.of(options)
    cases, found = plan.cases(), Found()
    for case, seconds in in_any_order(p90_s, cases, options.processes):
        found[case] = seconds
        progress(len(found) / len(cases), f"{case.system} at {case.rate:.0f} requests/s")
    rows = [*_latency_rows(plan, found), *_peak_rows(plan, found)]
    full = Plan.of(Options())
    charts = [_latencies(plan, found), _reductions(plan, found), _peaks(plan, found), _step_cost()]
    if plan.varied_seeds:
        charts += [_variation(plan, found, field) for field in VARIED]
    return Section(
        name="cellular",
        title="Cellular batching against padded buckets",
        rows=rows,
        summary=_summary(plan, found, rows),
        tables=[_table(plan, found)],
        charts=charts,
        quick=(
            f"{len(Plan.of(Options(quick=True)).seeds)} seeds instead of {len(full.seeds)}, {len(ROW_LOADS)} loads "
            "instead of "
            f"{len(LOADS)}, so that peak throughputs are interpolated between fewer points, and no sensitivity charts."
        ),
        seeds=f"Poisson arrivals, {DURATION_S:g} s or {FEWEST} requests an episode, the first {100 * WARM_UP:g} % not "
        f"counted; seeds {plan.seeds[0]}..{plan.seeds[-1]}, the same requests for all systems.",
    )


# What the cases come to --------------------------------------------------------------------------------------------


def reductions(found: Found, cellular: Iterable[Case], rival: Iterable[Case]) -> FloatArray:
    """Change of the 90th percentile by cellular batching, in percent, seed by seed."""
    return np.array([100.0 * (found[a] / found[b] - 1.0) for a, b in zip(cellular, rival, strict=True)])


def at_rate(plan: Plan, system: SystemName, rate: float) -> list[Case]:
    """The cases of a system at a rate, seed by seed."""
    return [Case(system, rate, seed) for seed in plan.seeds]


def peak_rps(rates: Sequence[float], p90: Sequence[float], bound_s: float, capacity: float) -> float:
    """The highest rate at which the 90th percentile stays within ``bound_s``; at most the capacity.

    Between rates the logarithm of the percentile is interpolated; above the last one the capacity is taken.

    >>> peak_rps([1.0, 2.0], [0.1, 1.0], 10.0**-0.5, 5.0)
    1.5
    """
    for place in range(len(rates)):
        if p90[place] > bound_s:
            if place == 0:
                return 0.0
            below, above = math.log(p90[place - 1]), math.log(p90[place])
            share = (math.log(bound_s) - below) / (above - below)
            return rates[place - 1] + share * (rates[place] - rates[place - 1])
    return capacity


def peak_gains(plan: Plan, found: Found, rival: SystemName, bound_s: float) -> FloatArray:
    """How much higher cellular batching's peak throughput is, in percent, seed by seed."""
    gains = []
    for seed in plan.seeds:
        limits: dict[SystemName, float] = {"cellular": capacity_rps(), rival: capacity_rps(width=WIDTH)}
        ours, theirs = (
            peak_rps(plan.rates(), [found[Case(system, rate, seed)] for rate in plan.rates()], bound_s, limit)
            for system, limit in limits.items()
        )
        gains.append(100.0 * (ours / theirs - 1.0) if theirs else math.inf)
    return np.array(gains)


def padding_gain() -> float:
    """How much higher cellular batching's capacity is, in percent: what padding to bucket edges costs full batches."""
    return 100.0 * (capacity_rps() / capacity_rps(width=WIDTH) - 1.0)


# How it is reported ------------------------------------------------------------------------------------------------


def _row(what: str, values: FloatArray, published: tuple[float, float], note: str = "") -> Row:
    interval = mean_interval(values)
    mean, figure = float(values.mean()), FIGURES[published]
    return Row(what, mean, "%", published, SOURCE, "recalled", 0.0, interval, note, figure=figure)


def _latency_rows(plan: Plan, found: Found) -> list[Row]:
    rows = []
    for rival, name in RIVALS.items():
        for rate in (IDLE_RPS, *(load * capacity_rps() for load in ROW_LOADS)):
            load = "idle machine" if rate == IDLE_RPS else f"load {rate / capacity_rps():.2g}"
            values = reductions(found, at_rate(plan, "cellular", rate), at_rate(plan, rival, rate))
            rows.append(_row(f"90th-percentile latency, {load}, against {name}", values, REDUCTION))
    return rows


def _peak_rows(plan: Plan, found: Found) -> list[Row]:
    rows = []
    for rival, name in RIVALS.items():
        for bound_s in ROW_BOUNDS_S:
            what = f"peak throughput with 90 % within {bound_s:g} s, against {name}"
            gains = peak_gains(plan, found, rival, bound_s)
            note = "both keep the bound up to their capacity" if np.ptp(gains) == 0.0 else ""
            rows.append(_row(what, gains, GAIN, note))
    what = "peak throughput whatever the latency, against buckets"
    note = "padding of full batches alone"
    rows.append(Row(what, padding_gain(), "%", GAIN, SOURCE, "recalled", aim=0.0, note=note, figure=FIGURES[GAIN]))
    return rows


def _table(plan: Plan, found: Found) -> Table:
    columns = ("load", "requests/s", "cellular, ms", *(f"{name}, ms" for name in RIVALS.values()))
    columns += tuple(f"change against {name}, %" for name in RIVALS.values())
    rows = []
    for rate in plan.rates():
        mean = {system: 1e3 * _mean(found, at_rate(plan, system, rate)) for system in SYSTEMS}
        change = [reductions(found, at_rate(plan, "cellular", rate), at_rate(plan, r, rate)).mean() for r in RIVALS]
        rows.append((rate / capacity_rps(), rate, *mean.values(), *map(float, change)))
    return Table("latency", "90th percentile of the latency, means over seeds", columns, rows)


def _mean(found: Found, cases: Sequence[Case]) -> float:
    return float(np.mean([found[case] for case in cases]))


def _series(label: str, x: Sequence[float], values: Sequence[FloatArray]) -> Series:
    ends = [mean_interval(entry) for entry in values]
    middle = [float(entry.mean()) for entry in values]
    return Series(label, list(x), middle, [low for low, _ in ends], [high for _, high in ends])


def _latencies(plan: Plan, found: Found) -> Chart:
    names: dict[SystemName, str] = {"cellular": "cellular batching"}
    names |= {rival: f"buckets of {WIDTH}, {name}" for rival, name in RIVALS.items()}
    names["whole"] = "whole batches, no buckets"
    series = []
    for system, label in names.items():
        rates = [rate for rate in plan.rates() if at_rate(plan, system, rate)[0] in found]
        values = [1e3 * np.array([found[case] for case in at_rate(plan, system, rate)]) for rate in rates]
        series.append(_series(label, rates, values))
    return Chart(
        "latency",
        "Latency over load",
        "requests per second",
        "90th percentile of the latency, ms",
        series,
        log_x=True,
        log_y=True,
    )


def _reductions(plan: Plan, found: Found) -> Chart:
    series = [
        _series(
            f"against buckets, {name}",
            plan.rates(),
            [reductions(found, at_rate(plan, "cellular", r), at_rate(plan, rival, r)) for r in plan.rates()],
        )
        for rival, name in RIVALS.items()
    ]
    return Chart(
        "reduction",
        "What cellular batching changes in the 90th percentile of the latency",
        "requests per second",
        "change, %",
        series,
        log_x=True,
        references=[("published, least (unverified)", REDUCTION[1]), ("published, most (unverified)", REDUCTION[0])],
    )


def _peaks(plan: Plan, found: Found) -> Chart:
    series = [
        _series(
            f"against buckets, {name}",
            [1e3 * bound_s for bound_s in usable],
            [peak_gains(plan, found, rival, bound_s) for bound_s in usable],
        )
        for rival, name in RIVALS.items()
        for usable in [[b for b in BOUNDS_S if np.isfinite(peak_gains(plan, found, rival, b)).all()]]
    ]
    return Chart(
        "peak",
        "Gain in peak throughput over the bound that the latency must keep",
        "bound of the 90th percentile, ms",
        "gain in peak throughput, %",
        series,
        log_x=True,
        log_y=True,
        references=[
            ("published, least (unverified)", GAIN[0]),
            ("published, most (unverified)", GAIN[1]),
            ("padding of full batches alone", padding_gain()),
        ],
    )


def _step_cost() -> Chart:
    step_us = 1e6 * GPUStep().cost_table(NETWORK, LANES).step_s[0, 1:]
    series = [Series("a step of the layer", list(range(1, LANES + 1)), step_us.tolist())]
    return Chart("step", f"The machine: {NETWORK.name}, one step (recalled, unverified)", "lanes", "us", series)


LABELS: dict[str, tuple[str, str, Callable[[float], float]]] = {
    "width": ("width of a bucket, steps", "the bucket width", float),
    "spread": ("standard deviation of the logarithm of a length", "the spread of the lengths", float),
    "floor_s": ("time of a step up to 64 lanes, us", "the step's floor", lambda seconds: 1e6 * seconds),
}


def _variation(plan: Plan, found: Found, field: str) -> Chart:
    label, what, scale = LABELS[field]
    series = []
    for rival, name in RIVALS.items():
        for load in VARIED_LOADS:
            values = [
                reductions(found, plan.varied("cellular", field, v, load), plan.varied(rival, field, v, load))
                for v in VARIED[field]
            ]
            series.append(_series(f"{name}, load {load:g}", [scale(v) for v in VARIED[field]], values))
    references = [("published, most (unverified)", REDUCTION[0])]
    title = f"Sensitivity to {what}: change of the 90th percentile"
    return Chart(f"by-{field.removesuffix('_s')}", title, label, "change, %", series, references=references)


def _summary(plan: Plan, found: Found, rows: Sequence[Row]) -> str:
    latency = [row for row in rows if row.reference == REDUCTION]
    peaks = [row.measured for row in rows if row.reference == GAIN]
    fullest, oldest = ([r for r in latency if RIVALS[rival] in r.what] for rival in ("fullest", "oldest"))
    held = max(row.measured for row in latency) < 0.0 < min(peaks)
    edges = np.arange(WIDTH, LONGEST + WIDTH, WIDTH)
    cycle_s = float(edges.sum()) * GPUStep.floor_s
    between = min(peaks) < GAIN[0] and max(peaks) > GAIN[1]
    few = max(rate for rate in plan.rates() if at_rate(plan, "whole", rate)[0] in found)
    simple_s = _mean(found, at_rate(plan, "whole", few))
    best_s = min(_mean(found, at_rate(plan, rival, few)) for rival in RIVALS)
    reached = sum(bool(row.met) for row in rows)
    return paragraphs(
        f"LSTM of 1024 neurons on a GPU whose step costs {1e6 * GPUStep.floor_s:g} us up to {GPUStep.knee} lanes and "
        f"{1e6 * GPUStep.full_s:g} us at {GPUStep.full}; sentences of {MEAN_LENGTH:g} words on average and at most "
        f"{LONGEST}, log-normal with spread {SPREAD:g} (assumed); all published figures are recalled, not checked.",
        f"The published direction, lower latency and higher peak throughput than padded buckets, "
        f"{'holds everywhere' if held else 'does not hold everywhere'}. The {len(rows)} rows are set against the same "
        "two "
        f"published ranges, and {reached} lie within. The size depends on something about the rivals that is not "
        "known to us, "
        "which bucket they serve first:",
        points(
            (
                "Fullest bucket first.",
                f"{sum(bool(row.met) for row in fullest)} of {len(fullest)} latency reductions are in the published "
                "range, "
                f"the least being {max(row.measured for row in fullest):.3g} % on an idle machine, where only the "
                "padding to "
                "the bucket's edge is left.",
            ),
            (
                "Oldest request's bucket first.",
                f"{sum(bool(row.met) for row in oldest)} of {len(oldest)} are, and the others reach "
                f"{min(row.measured for row in oldest):.3g} %: every bucket gets its turn, the rare long ones run "
                "nearly "
                f"empty, and the {edges.size} buckets once round take {cycle_s:.2g} s at the step's floor.",
            ),
            (
                "Peak throughput.",
                f"Gains span {min(peaks):.3g} to {max(peaks):.3g} %, by that order and by the latency that is allowed; "
                f"{padding_gain():.3g} % is what padding costs full batches, and no order can lose less."
                + (f" The published {GAIN[0]:g} to {GAIN[1]:g} % lie between the two orders." if between else ""),
            ),
            (
                "Buckets or none.",
                f"At load {few / capacity_rps():.2g} padding whole batches without any buckets has a 90th percentile "
                "of "
                f"{1e3 * simple_s:.3g} ms, against {1e3 * best_s:.3g} ms with buckets"
                + (
                    f": up to {GPUStep.knee} lanes a step costs the same, so buckets pay only under load"
                    if simple_s < best_s
                    else ""
                )
                + ".",
            ),
        ),
        "The model leaves out what either kind of system spends outside the steps.",
    )
