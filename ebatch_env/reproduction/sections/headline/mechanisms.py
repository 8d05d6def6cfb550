"""What the gain is made of: concatenation and notification switched off in turn, and energy against T."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ebatch_env.reproduction.report import Chart, Series, Table
from ebatch_env.reproduction.sections.headline.cases import LANES, MACHINES, RIVALS, headline_networks
from ebatch_env.reproduction.sections.headline.episodes import (
    Outcome,
    best_time_steps,
    curve,
    full_queue,
    play_plan,
    play_scheme,
)
from ebatch_env.reproduction.sections.headline.saturated import Cells, Found
from ebatch_env.simulator.plan import RoundPlan

FULL, NO_JOINS, NO_NOTICE, NEITHER = "full", "no concatenation", "no notification", "neither (padded)"
MEANING = {
    FULL: "rounds of T; a sequence takes a lane as soon as it is free",
    NO_JOINS: "rounds of T; a lane that ends stays empty to the round's end, at no cost",
    NO_NOTICE: "rounds of T; the machine does not know that a lane has ended: it is padded to the round's end",
    NEITHER: "each batch runs to the end of its longest sequence, padded",
}
PADDED = next(scheme for scheme in RIVALS if scheme.key == "padded")


@dataclass(frozen=True)
class Mechanisms:
    """One network on one machine: variant -> (T, one outcome per seed), with full's T and with the variant's own best."""

    machine: str
    network: str
    same: Mapping[str, tuple[int, Sequence[Outcome]]]
    own: Mapping[str, tuple[int, Sequence[Outcome]]]


@dataclass(frozen=True)
class MechanismJob:
    """Switch each mechanism off."""

    machine: str
    network: str
    seeds: tuple[int, ...]
    requests_per_lane: int

    def run(self) -> Mechanisms:
        """Play the four variants."""
        requests = self.requests_per_lane * LANES
        system = full_queue(self.machine, self.network, LANES, requests)
        bare = full_queue(self.machine, self.network, LANES, requests, notifies=False)
        shared = best_time_steps(curve(system, system.table))
        same: dict[str, tuple[int, list[Outcome]]] = {}
        own: dict[str, tuple[int, list[Outcome]]] = {}
        for variant, where, joins in ((FULL, system, True), (NO_JOINS, system, False), (NO_NOTICE, bare, False)):
            best = best_time_steps(curve(where, where.table, joins=joins))
            for found, steps in ((same, shared), (own, best)):
                plan = RoundPlan(time_steps=steps, joins=joins)
                found[variant] = (steps, play_plan(where, where.table, plan, self.seeds, dry=True))
        same[NEITHER] = own[NEITHER] = (0, play_scheme(bare, PADDED, self.seeds, dry=True))
        return Mechanisms(self.machine, self.network, same, own)


def tables(found: Sequence[Mechanisms]) -> list[Table]:
    """Each variant against the full scheme, geometric means over networks."""
    columns = ["machine", "variant", "throughput", "energy", "padding, %", "lanes idle, %"]
    columns += ["throughput, own T", "energy, own T", "own T", "what it is"]
    cells: list[Cells] = []
    for machine in MACHINES:
        mine = [item for item in found if item.machine == machine]
        for variant in MEANING:
            same = against_full([item.same for item in mine], variant)
            own = against_full([item.own for item in mine], variant)
            outcomes = [outcome for item in mine for outcome in item.same[variant][1]]
            padding = 100 * float(np.mean([o.padding for o in outcomes]))
            # What is idle is neither at work nor padded.
            idle = 100 * (1 - float(np.mean([o.occupancy / (1 - o.padding) for o in outcomes])))
            steps = "" if variant == NEITHER else ", ".join(str(item.own[variant][0]) for item in mine)
            cells.append((MACHINES[machine], variant, *same, padding, idle, *own, steps, MEANING[variant]))
    names = ", ".join(headline_networks())
    title = (
        "Mechanisms switched off, full queue: throughput and energy per sequence as multiples of the full scheme's, "
        f"geometric means over {names}; with the full scheme's T, and with the best T of each"
    )
    return [Table("mechanisms", title, columns, cells)]


def charts(found: Sequence[Mechanisms], saturated: Found) -> list[Chart]:
    """The variants as bars; energy against T."""
    bars = []
    for machine in MACHINES:
        mine = [item.own for item in found if item.machine == machine]
        values = [against_full(mine, variant) for variant in MEANING]
        for place, quantity in enumerate(("throughput", "energy per sequence")):
            bars.append(Series(f"{MACHINES[machine]}, {quantity}", list(MEANING), [pair[place] for pair in values]))
    title = "Mechanisms switched off, each with its best T, full queue"
    result = [Chart("mechanisms", title, "", "multiple of the full scheme's", bars, "bar")]
    for machine, label in MACHINES.items():
        lines = []
        for name in headline_networks():
            points = saturated[machine, name].curve
            steps = sorted(points)
            lines.append(Series(name, steps, [points[t].energy_j / points[1].energy_j for t in steps]))
        title = f"{label}: energy per sequence against T, full queue"
        y_label = "energy, multiple of T = 1"
        result.append(Chart(f"energy-{machine}", title, "time-steps T of a round", y_label, lines, log_x=True))
    return result


def against_full(found: Sequence[Mapping[str, tuple[int, Sequence[Outcome]]]], variant: str) -> tuple[float, float]:
    """Throughput and energy of ``variant`` as multiples of the full scheme's: geometric means over networks and seeds."""
    pairs = [pair for item in found for pair in zip(item[variant][1], item[FULL][1], strict=True)]
    faster = np.log([a.throughput_rps / b.throughput_rps for a, b in pairs]).mean()
    dearer = np.log([a.energy_j / b.energy_j for a, b in pairs]).mean()
    return float(np.exp(faster)), float(np.exp(dearer))
