"""The headline: every scheme on a full queue, network by network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ebatch_env.errors import FloatArray
from ebatch_env.reproduction.report import Chart, Row, Series, Table
from ebatch_env.reproduction.sections.headline.cases import (
    AIM,
    CASES,
    CELLS,
    EBATCH,
    MACHINES,
    PUBLISHED,
    RIVALS,
    SCHEMES,
    SOURCE,
    Scheme,
    ebatch_fixed,
    headline_networks,
    lanes_of,
    left_out,
)
from ebatch_env.reproduction.sections.headline.episodes import (
    Outcome,
    best_time_steps,
    curve,
    full_queue,
    play_scheme,
)
from ebatch_env.scoring.statistics import mean_interval

Cells = Sequence[str | float | None]
QUANTITIES = ("throughput", "energy")
FIXED = "ebatch-fixed"
ENDLESS = 1 << 20  # steps: a round whose beginning no longer counts


@dataclass(frozen=True)
class Saturated:
    """One network on one machine with a full queue.

    Attributes:
        machine, network: names.
        lanes: of the batch.
        max_time_steps: the longest round that fits.
        best_time_steps: the best fixed T.
        bound: per quantity, what rounds without end would gain over rounds of one step with all lanes busy.
        curve: T -> outcome, from one trace.
        outcomes: scheme -> one outcome per seed; a scheme that cannot run is left out.
    """

    machine: str
    network: str
    lanes: int
    max_time_steps: int
    best_time_steps: int
    bound: Mapping[str, float]
    curve: Mapping[int, Outcome]
    outcomes: Mapping[str, Sequence[Outcome]]

    def gain(self, quantity: str, rival: str, scheme: str = EBATCH.key) -> FloatArray:
        """How many times better ``scheme`` is than ``rival``, per seed: shape (seeds,)."""
        ours, theirs = self.outcomes[scheme], self.outcomes[rival]
        if quantity == "throughput":
            return np.array([a.throughput_rps / b.throughput_rps for a, b in zip(ours, theirs, strict=True)])
        return np.array([b.energy_j / a.energy_j for a, b in zip(ours, theirs, strict=True)])


Found = Mapping[tuple[str, str], Saturated]  # by machine and network


@dataclass(frozen=True)
class SaturatedJob:
    """Measure one network on one machine."""

    machine: str
    network: str
    seeds: tuple[int, ...]
    requests_per_lane: int

    def run(self) -> Saturated:
        """Play every scheme."""
        lanes = lanes_of(self.machine, self.network)
        system = full_queue(self.machine, self.network, lanes, self.requests_per_lane * lanes)
        bare = full_queue(self.machine, self.network, lanes, self.requests_per_lane * lanes, notifies=False)
        table = system.table
        points = {} if table.whole_sequences else curve(system, table)
        best = best_time_steps(points) if points else table.max_time_steps
        schemes: list[Scheme] = [*SCHEMES]
        if points:
            schemes.append(ebatch_fixed(best))
        else:
            schemes = [scheme for scheme in schemes if scheme.plan is None]
        return Saturated(
            self.machine,
            self.network,
            lanes,
            table.max_time_steps,
            best,
            {
                "throughput": float(ENDLESS * table.round_s(1, lanes) / table.round_s(ENDLESS, lanes)),
                "energy": float(ENDLESS * table.round_j(1, lanes) / table.round_j(ENDLESS, lanes)),
            },
            points,
            {s.key: play_scheme(system if s.notifies else bare, s, self.seeds, dry=True) for s in schemes},
        )


@dataclass(frozen=True)
class Mean:
    """A geometric mean, with its 95 % interval over seeds."""

    value: float
    interval: tuple[float, float]


def mean_gain(
    found: Found, machine: str, quantity: str, rival: str, networks: Sequence[str], scheme: str = EBATCH.key
) -> Mean:
    """Geometric mean over networks of `Saturated.gain`."""
    logs = np.log([found[machine, name].gain(quantity, rival, scheme) for name in networks]).mean(axis=0)  # (seeds,)
    return _mean(logs)


def step_networks(found: Found) -> tuple[str, ...]:
    """The networks whose sequences can be cut into steps."""
    return tuple(name for name in CASES if all(CELLS.key in found[machine, name].outcomes for machine in MACHINES))


def rows(found: Found, requests_per_lane: int) -> list[Row]:
    """The headline, then E-BATCH over each rival, with the best fixed T, and with the networks that stay on chip.

    Args:
        found: what was measured.
        requests_per_lane: the depth of the full queue, for a note where it matters.
    """
    chosen = headline_networks()
    each = [(machine, quantity) for machine in MACHINES for quantity in QUANTITIES]

    def row(machine: str, quantity: str, rival: Scheme, networks: Sequence[str], scheme: str, note: str) -> Row:
        mean = mean_gain(found, machine, quantity, rival.key, networks, scheme)
        headline = note == ""
        ours = "E-BATCH" if scheme == EBATCH.key else "E-BATCH with the best fixed T"
        which = "" if networks == chosen else f", {len(networks)} networks"
        return Row(
            f"{MACHINES[machine]}: {quantity}, {ours} over {rival.key}{which}",
            mean.value,
            "x",
            PUBLISHED[machine, quantity],
            SOURCE,
            "read",
            AIM if headline else None,
            mean.interval,
            note or f"{rival.label}; geometric mean of {len(networks)} networks",
            figure=f"{machine} {quantity}",
        )

    result = [row(*pair, CELLS, chosen, EBATCH.key, "") for pair in each]
    result += [row(*pair, CELLS, chosen, FIXED, "no T chosen at run time") for pair in each]
    for rival in RIVALS:
        if rival is not CELLS:
            note = rival.label
            if rival.key == "buckets":
                note += f"; {requests_per_lane} requests a lane: the gain falls with the depth, see the table"
            result += [row(*pair, rival, chosen, EBATCH.key, note) for pair in each]
    everything = step_networks(found)
    note = f"with {', '.join(n for n in everything if n not in chosen)}"
    result += [row(*pair, CELLS, everything, EBATCH.key, note) for pair in each]
    return result


def tables(found: Found) -> list[Table]:
    """Networks one by one: one table per quantity."""
    units = {"throughput": "sequences/s", "energy": "mJ/sequence"}
    result = []
    for quantity in QUANTITIES:
        columns = ["machine", "network", "lanes", "largest T", "mean T", f"E-BATCH, {units[quantity]}"]
        columns += [*(f"over {rival.key}" for rival in RIVALS), "best fixed T", "with it over cells-5", "bound"]
        cells: list[Cells] = []
        for machine in MACHINES:
            for name in CASES:
                case = found[machine, name]
                ours = case.outcomes[EBATCH.key]
                absolute = [o.throughput_rps if quantity == "throughput" else 1e3 * o.energy_j for o in ours]
                gains = [
                    _geometric(case.gain(quantity, rival.key)) if rival.key in case.outcomes else None
                    for rival in RIVALS
                ]
                fixed: list[float | None] = [None, None, None]
                if FIXED in case.outcomes:
                    gain = _geometric(case.gain(quantity, CELLS.key, FIXED))
                    fixed = [case.best_time_steps, gain, case.bound[quantity]]
                means = float(np.mean([o.time_steps for o in ours])), float(np.mean(absolute))
                cells.append((MACHINES[machine], name, case.lanes, case.max_time_steps, *means, *gains, *fixed))
        title = f"{quantity.capitalize()} on a full queue, and E-BATCH's gain over each rival (1: equal)"
        result.append(Table(f"saturated-{quantity}", title, columns, cells))
    schemes = [(scheme.key, scheme.label) for scheme in SCHEMES]
    result.append(Table("schemes", "The schemes", ("name", "what it is"), schemes))
    out = left_out()
    workloads = [
        (name, case.source, case.lengths.mean, case.lengths.max_length, f"no: {out[name]}" if name in out else "yes")
        for name, case in CASES.items()
    ]
    columns = ["network", "lengths of its sequences", "mean, steps", "longest, steps", "in the headline's mean"]
    result.append(Table("workloads", "Networks and their sequences", columns, workloads))
    return result


def charts(found: Found) -> list[Chart]:
    """The headline by network, and by rival."""
    chosen = headline_networks()
    pairs = [(machine, quantity) for machine in MACHINES for quantity in QUANTITIES]
    by_network, by_rival = [], []
    for machine, quantity in pairs:
        label = f"{MACHINES[machine]}, {quantity}"
        gains = [found[machine, name].gain(quantity, CELLS.key) for name in step_networks(found)]
        means = [_mean(np.log(gain)) for gain in gains]
        means.append(mean_gain(found, machine, quantity, CELLS.key, chosen))
        published = PUBLISHED[machine, quantity]
        by_network.append(_bars(label, [*step_networks(found), "mean of headline", "published"], means, published))
        means = [mean_gain(found, machine, quantity, rival.key, chosen) for rival in RIVALS]
        by_rival.append(_bars(label, [*(rival.key for rival in RIVALS), "published"], means, published))
    return [
        Chart("networks", "E-BATCH over cellular batching (cells-5), full queue", "", "gain", by_network, "bar"),
        Chart("rivals", "E-BATCH over each rival, full queue, geometric mean", "", "gain", by_rival, "bar"),
    ]


def _bars(label: str, names: Sequence[str], means: Sequence[Mean], published: float) -> Series:
    return Series(
        label,
        names,
        [*(mean.value for mean in means), published],
        [*(mean.interval[0] for mean in means), published],
        [*(mean.interval[1] for mean in means), published],
    )


def _mean(logs: FloatArray) -> Mean:
    low, high = np.exp(mean_interval(logs))
    return Mean(float(np.exp(logs.mean())), (float(low), float(high)))


def _geometric(values: FloatArray) -> float:
    return float(np.exp(np.log(values).mean()))
