"""What the depth of the full queue does to the gains: only rivals that pick batches by length have a use for more of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ebatch_env.reproduction.report import Chart, Series, Table
from ebatch_env.reproduction.sections.headline.cases import EBATCH, LANES, MACHINES, RIVALS, headline_networks
from ebatch_env.reproduction.sections.headline.episodes import Outcome, full_queue, play_schemes
from ebatch_env.reproduction.sections.headline.saturated import QUANTITIES, Cells


@dataclass(frozen=True)
class Depth:
    """One network on one machine with that many requests a lane waiting at the start: scheme -> one outcome per seed."""

    machine: str
    network: str
    requests_per_lane: int
    outcomes: Mapping[str, Sequence[Outcome]]


@dataclass(frozen=True)
class DepthJob:
    """Play every scheme at a depth."""

    machine: str
    network: str
    requests_per_lane: int
    seeds: tuple[int, ...]

    def run(self) -> Depth:
        """Play."""
        where = (self.machine, self.network, LANES, self.requests_per_lane * LANES)
        outcomes = play_schemes(partial(full_queue, *where), self.seeds, dry=True)
        return Depth(self.machine, self.network, self.requests_per_lane, outcomes)


def jobs(depths: Sequence[int], seeds: tuple[int, ...]) -> list[DepthJob]:
    """All of this part, the long ones first."""
    ordered = sorted(depths, reverse=True)
    return [DepthJob(m, name, depth, seeds) for depth in ordered for m in MACHINES for name in headline_networks()]


def depths_of(found: Sequence[Depth]) -> list[int]:
    """The depths measured, the least first."""
    return sorted({item.requests_per_lane for item in found})


def gain(found: Sequence[Depth], machine: str, quantity: str, rival: str, depth: int) -> float:
    """E-BATCH over ``rival`` at a depth, geometric mean over networks and seeds."""
    logs = []
    for item in found:
        if (item.machine, item.requests_per_lane) == (machine, depth):
            for ours, theirs in zip(item.outcomes[EBATCH.key], item.outcomes[rival], strict=True):
                faster, cheaper = ours.throughput_rps / theirs.throughput_rps, theirs.energy_j / ours.energy_j
                logs.append(np.log(faster if quantity == "throughput" else cheaper))
    return float(np.exp(np.mean(logs)))


def tables(found: Sequence[Depth]) -> list[Table]:
    """Gains over every rival by depth."""
    columns = ["machine", "gain in", "requests a lane", *(f"over {rival.key}" for rival in RIVALS)]
    cells: list[Cells] = [
        (MACHINES[m], quantity, depth, *(gain(found, m, quantity, rival.key, depth) for rival in RIVALS))
        for m in MACHINES
        for quantity in QUANTITIES
        for depth in depths_of(found)
    ]
    seeds = len(found[0].outcomes[EBATCH.key])
    title = (
        "Depth of the full queue: E-BATCH's gain over each rival, geometric means over "
        f"{', '.join(headline_networks())} "
        f"and {seeds} seeds"
    )
    return [Table("depth", title, columns, cells)]


def charts(found: Sequence[Depth]) -> list[Chart]:
    """Gains in throughput over the two kinds of padding, and over the rival of the headline, by depth."""
    depths = depths_of(found)
    lines = [
        Series(f"{label}, over {rival.key}", depths, [gain(found, m, "throughput", rival.key, d) for d in depths])
        for m, label in MACHINES.items()
        for rival in (RIVALS[0], *RIVALS[-2:])
    ]
    title = "Gain in throughput against the depth of the full queue: buckets find equal lengths in a deep one"
    chart = Chart("depth", title, "requests a lane that wait at the start", "gain", lines, log_x=True)
    return [chart]
