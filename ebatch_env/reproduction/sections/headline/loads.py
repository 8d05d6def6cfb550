"""Over load: Poisson arrivals at shares of E-BATCH's saturated throughput; and the curve whose knee sets T."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ebatch_env.reproduction.report import Chart, Series, Table
from ebatch_env.reproduction.sections.headline.cases import (
    CELLS,
    EBATCH,
    LANES,
    MACHINES,
    SCHEMES,
    ebatch_fixed,
    headline_networks,
)
from ebatch_env.reproduction.sections.headline.episodes import (
    Outcome,
    full_queue,
    play_plan,
    play_scheme,
    play_schemes,
    under_load,
)
from ebatch_env.reproduction.sections.headline.saturated import Cells
from ebatch_env.saturation import powers_of_two
from ebatch_env.scoring.statistics import mean_interval
from ebatch_env.simulator.plan import RoundPlan

SHOWN = "MNMT"  # the network of the charts
KNEE_LOADS = (0.4, 0.8)


@dataclass(frozen=True)
class Loaded:
    """One network on one machine at one load: scheme -> one outcome per seed."""

    machine: str
    network: str
    load: float
    outcomes: Mapping[str, Sequence[Outcome]]


@dataclass(frozen=True)
class LoadJob:
    """Play every scheme at a load."""

    machine: str
    network: str
    load: float
    seeds: tuple[int, ...]
    requests: int

    def run(self) -> Loaded:
        """Play."""
        where = (self.machine, self.network, LANES, self.requests, self.load)
        outcomes = play_schemes(partial(under_load, *where), self.seeds, dry=False)
        return Loaded(self.machine, self.network, self.load, outcomes)


@dataclass(frozen=True)
class Knee:
    """The latency-energy curve at one load, and its knee.

    Attributes:
        machine, load: where.
        points: T -> one outcome per seed.
        time_steps: the knee: the T of least cost, energy and latency weighted alike.
        chosen: what choosing T at run time made of it.
        throughput, energy: gain over cells-5 on a full queue with the knee's T kept.
    """

    machine: str
    load: float
    points: Mapping[int, Sequence[Outcome]]
    time_steps: int
    chosen: Sequence[Outcome]
    throughput: float
    energy: float


@dataclass(frozen=True)
class KneeJob:
    """Play fixed T, one after the other, at a load."""

    machine: str
    load: float
    seeds: tuple[int, ...]
    requests: int

    def run(self) -> Knee:
        """Play."""
        system = under_load(self.machine, SHOWN, LANES, self.requests, self.load)
        limit = system.table.max_time_steps
        points = {
            t: play_plan(system, system.table, RoundPlan(time_steps=t), self.seeds, dry=False)
            for t in sorted({*powers_of_two(limit), limit, *(t for t in (3, 6, 12, 24) if t < limit)})
        }
        knee = min(points, key=lambda t: mean(points[t], "cost"))
        full = full_queue(self.machine, SHOWN, LANES, self.requests)
        ours = play_scheme(full, ebatch_fixed(knee), self.seeds, dry=True)
        theirs = play_scheme(full, CELLS, self.seeds, dry=True)
        return Knee(
            self.machine,
            self.load,
            points,
            knee,
            play_scheme(system, EBATCH, self.seeds, dry=False),
            mean(ours, "throughput_rps") / mean(theirs, "throughput_rps"),
            mean(theirs, "energy_j") / mean(ours, "energy_j"),
        )


def mean(outcomes: Sequence[Outcome], field: str) -> float:
    """Arithmetic mean of a field over seeds."""
    return float(np.mean([getattr(outcome, field) for outcome in outcomes]))


def gain(found: Sequence[Loaded], machine: str, load: float, field: str) -> float:
    """E-BATCH over cells-5, geometric mean over networks and seeds; above 1 is better, whatever the field."""
    logs = []
    for item in found:
        if (item.machine, item.load) == (machine, load):
            for ours, theirs in zip(item.outcomes[EBATCH.key], item.outcomes[CELLS.key], strict=True):
                a, b = getattr(ours, field), getattr(theirs, field)
                logs.append(np.log(a / b) if field == "throughput_rps" else np.log(b / a))
    return float(np.exp(np.mean(logs)))


def tables(found: Sequence[Loaded], knees: Sequence[Knee]) -> list[Table]:
    """The gain over load, and the knees."""
    columns = ["machine", "load", "throughput", "energy", "latency p50", "latency p99"]
    fields = ("throughput_rps", "energy_j", "latency_p50_s", "latency_p99_s")
    loads = sorted({item.load for item in found})
    cells: list[Cells] = [
        (MACHINES[m], load, *(gain(found, m, load, field) for field in fields)) for m in MACHINES for load in loads
    ]
    names = ", ".join(dict.fromkeys(item.network for item in found))
    title = (
        "Over load (Poisson; 1 is E-BATCH's saturated throughput): how many times better E-BATCH is than cellular "
        f"batching (cells-5), geometric means over {names}. Beyond its own capacity the rival's latency grows with the "
        "length of the episode"
    )
    result = [Table("loads", title, columns, cells)]
    columns = ["machine", "load", "T at the knee", "cost there", "mean T at run time", "cost at run time"]
    columns += ["throughput, full queue, knee's T", "energy, full queue, knee's T"]
    cells = []
    for knee in knees:
        costs = mean(knee.points[knee.time_steps], "cost"), mean(knee.chosen, "cost")
        steps = mean(knee.chosen, "time_steps")
        cells.append(
            (
                MACHINES[knee.machine],
                knee.load,
                knee.time_steps,
                costs[0],
                steps,
                costs[1],
                knee.throughput,
                knee.energy,
            )
        )
    title = (
        f"{SHOWN}: the knee of the latency-energy curve (T of least cost, energy and latency weighted alike) and the T "
        "chosen at run time; and the gain over cells-5 on a full queue if the knee's T were kept"
    )
    return [*result, Table("knee", title, columns, cells)]


def charts(found: Sequence[Loaded], knees: Sequence[Knee]) -> list[Chart]:
    """Latency against load for every scheme; the gain over load; the latency-energy curve."""
    result = []
    for machine, label in MACHINES.items():
        items = sorted(
            (item for item in found if (item.machine, item.network) == (machine, SHOWN)), key=lambda item: item.load
        )
        for percentile in ("p50", "p99"):
            field = f"latency_{percentile}_s"
            lines = []
            for scheme in SCHEMES:
                values = np.array([[1e3 * getattr(o, field) for o in item.outcomes[scheme.key]] for item in items])
                low, high = zip(*(mean_interval(row) for row in values), strict=True)
                x = [item.load for item in items]
                lines.append(Series(scheme.key, x, values.mean(axis=1).tolist(), low, high))
            title = f"{label}, {SHOWN}: latency ({percentile}) against load"
            x_label = "load (1: E-BATCH's saturated throughput)"
            name = f"latency-{percentile}-{machine}"
            result.append(Chart(name, title, x_label, "latency, ms", lines, log_y=True))
    loads = sorted({item.load for item in found})
    lines = [
        Series(f"{label}, {name}", loads, [gain(found, machine, load, field) for load in loads])
        for machine, label in MACHINES.items()
        for name, field in (("throughput", "throughput_rps"), ("energy", "energy_j"))
    ]
    title = "E-BATCH over cellular batching (cells-5) against load, geometric means over networks"
    result.append(Chart("gain-over-load", title, "load (1: E-BATCH's saturated throughput)", "gain", lines))
    for machine, label in MACHINES.items():
        lines = []
        for knee in knees:
            if knee.machine == machine:
                path = [knee.points[t] for t in sorted(knee.points)]
                lines.append(_series(f"load {knee.load:g}, T = 1..{max(knee.points)}", path))
                lines.append(
                    _series(f"load {knee.load:g}, knee: T = {knee.time_steps}", [knee.points[knee.time_steps]])
                )
                chosen = f"load {knee.load:g}, chosen at run time: mean T = {mean(knee.chosen, 'time_steps'):.0f}"
                lines.append(_series(chosen, [knee.chosen]))
        title = f"{label}, {SHOWN}: energy and latency over T"
        x_label, y_label = "mean latency, ms", "energy per sequence, mJ"
        result.append(Chart(f"knee-{machine}", title, x_label, y_label, lines, log_x=True, log_y=True))
    return result


def _series(label: str, path: Sequence[Sequence[Outcome]]) -> Series:
    x = [1e3 * mean(outcomes, "latency_mean_s") for outcomes in path]
    return Series(label, x, [1e3 * mean(outcomes, "energy_j") for outcomes in path])


def jobs(loads: Sequence[float], seeds: tuple[int, ...], requests: int) -> list[LoadJob | KneeJob]:
    """All of this part."""
    names = headline_networks()
    return [
        *(LoadJob(machine, name, load, seeds, requests) for machine in MACHINES for name in names for load in loads),
        *(KneeJob(machine, load, seeds, requests) for machine in MACHINES for load in KNEE_LOADS),
    ]
