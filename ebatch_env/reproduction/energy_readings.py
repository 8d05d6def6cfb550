"""What of E-PUR's energy a scheme touches, component by component, and what every reading of the energies makes of a saving.

The published savings of memoization and of dynamic precision are shares of an energy whose parts are not published. A
reading says which parts there are and how large: the sets of `ENERGY_SETS`, DRAM's ends, and what is counted at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from ebatch_env.machines.epur import EPUR
from ebatch_env.machines.epur_energy import ENERGY_SETS
from ebatch_env.machines.savings import PUBLISHED_EPUR, PublishedEffect, Saving, saving
from ebatch_env.networks import network
from ebatch_env.reproduction.report import Chart, Series, Table
from ebatch_env.workloads import Empirical

Effects = Mapping[str, Any]  # keywords `memoization` and `precision` of `saving`
Parts = Mapping[str, tuple[float, float]]  # joules before and after, by component
COMPONENTS = {
    "macs": "multiplications",
    "weight_buffer": "weight buffer",
    "activations": "activations",
    "dram": "DRAM",
    "static": "leakage",
    "predictor": "predictor",
}
LPDDR4_ENDS = (8.0, 14.0)  # pJ/bit
STEPS = 100  # of a round, as `saving` takes it


@dataclass(frozen=True)
class Reading:
    """A way to count energy.

    Attributes:
        name: shown.
        machine: with its energies.
        dram: whether DRAM counts.
        anew: whether all weights load anew for every sequence, those that fit on chip included, with sequences of
            `short_sequence` steps.
        shown: in the chart; the table has all.
    """

    name: str
    machine: EPUR = PUBLISHED_EPUR
    dram: bool = True
    anew: bool = False
    shown: bool = True

    def parts(self, of: str, effects: Effects) -> Parts:
        """Joules of a round by component, before and after."""
        steps = short_sequence() if self.anew else STEPS
        found = dict(saving(of, machine=self.machine, steps=steps, **effects).parts)
        if not self.dram:
            found.pop("dram")
        elif self.anew and not any(found["dram"]):
            table = replace(self.machine, precision=effects.get("precision")).weight_bytes * network(of).weights
            loaded_j = table * 8e-12 * self.machine.costs.dram_pj_per_bit
            found["dram"] = (loaded_j, loaded_j)
        return found


def short_sequence() -> int:
    """Words of a sentence of IMDB's kind, on average."""
    return round(Empirical("sentiment").mean)


def readings() -> list[Reading]:
    """The default first."""
    default = PUBLISHED_EPUR
    sets = [Reading(name, replace(default, energy=name)) for name in ENERGY_SETS]
    sets.sort(key=lambda reading: reading.machine.costs != default.costs)
    name = sets[0].name
    ends = [
        Reading(
            f"{name}, LPDDR4 {pj:g} pJ/bit",
            replace(default, energy=replace(default.costs, dram_pj_per_bit=pj)),
            shown=False,
        )
        for pj in LPDDR4_ENDS
    ]
    on_chip = [Reading(f"{one.name}, without DRAM", one.machine, dram=False, shown=False) for one in sets]
    anew = Reading(f"{name}, weights anew for every {short_sequence()} steps", default, anew=True)
    return [*sets, *ends, *on_chip, anew]


def saved(parts: Parts) -> float:
    """Share of the energy that is saved."""
    return 1.0 - sum(after for _, after in parts.values()) / sum(before for before, _ in parts.values())


def shares(parts: Parts) -> dict[str, tuple[float, float]]:
    """Percent of the energy before that a component takes, and what of it is saved, in points of all energy."""
    total = sum(before for before, _ in parts.values())
    return {name: (100 * before / total, 100 * (before - after) / total) for name, (before, after) in parts.items()}


@dataclass(frozen=True)
class Counted:
    """A published saving under one reading.

    Attributes:
        network, reading: names.
        published, saved: shares of energy.
        parts: of `shares`; empty for a mean over networks.
    """

    network: str
    reading: str
    published: float
    saved: float
    parts: Mapping[str, tuple[float, float]]

    @property
    def error(self) -> float:
        """Relative to the published one."""
        return self.saved / self.published - 1.0


@dataclass(frozen=True)
class PrintedMean:
    """A published saving that is a mean over networks.

    Attributes:
        name: shown.
        published: share of energy.
        effects: by network: what the machine is told.
    """

    name: str
    published: float
    effects: Mapping[str, Effects]


def counted(
    published: Sequence[PublishedEffect], effects: Mapping[str, Effects], means: Sequence[PrintedMean]
) -> list[Counted]:
    """Every network with its published share, and the means, under every reading.

    Args:
        published: one per network.
        effects: by network: what the machine is told.
        means: over networks.
    """
    found = []
    for reading in readings():
        for one in published:
            parts = reading.parts(one.network, effects[one.network])
            found.append(Counted(one.network, reading.name, one.energy_saved or 0.0, saved(parts), shares(parts)))
        for mean in means:
            average = fmean(saved(reading.parts(name, told)) for name, told in mean.effects.items())
            found.append(Counted(mean.name, reading.name, mean.published, average, {}))
    return found


def table(found: Sequence[Counted]) -> Table:
    """Every network under every reading, with what each component takes and what is saved of it."""
    columns = ["network", "reading of the energies", "published, %", "saved, %", "error, %"]
    columns += [f"{label}: % of all, saved points" for label in COMPONENTS.values()]
    names = list(dict.fromkeys(one.network for one in found))
    rows: list[list[str | float | None]] = []
    for name in names:
        for one in found:
            if one.network == name:
                cells = [_cell(one.parts.get(component)) for component in COMPONENTS]
                rows.append([name, one.reading, 100 * one.published, 100 * one.saved, 100 * one.error, *cells])
    title = "Energy saved with the published shares under every reading of the energies, and where it is saved"
    return Table("energy-readings", title, columns, rows)


def _cell(share: tuple[float, float] | None) -> str:
    return "" if share is None or not any(share) else f"{share[0]:.1f}, {share[1]:.1f}"


def charts(found: Sequence[Counted]) -> list[Chart]:
    """Savings by network beside the published ones; the components of the default reading, and what is saved of each."""
    names = list(dict.fromkeys(one.network for one in found))
    given = [next(one for one in found if one.network == name) for name in names]
    series = [Series("published", names, [100 * one.published for one in given])]
    for reading in (one.name for one in readings() if one.shown):
        mine = {one.network: one for one in found if one.reading == reading}
        series.append(Series(reading, names, [100 * mine[name].saved for name in names]))
    alone = [one for one in given if one.parts]

    def pieces(place: int) -> list[Series]:
        return [
            Series(label, [one.network for one in alone], [one.parts.get(name, (0.0, 0.0))[place] for one in alone])
            for name, label in COMPONENTS.items()
            if any(name in one.parts for one in alone)
        ]

    default = found[0].reading
    return [
        Chart("energy-readings", "Energy saved with the published shares, by reading", "", "%", series, "bar"),
        Chart("energy-parts", f"Energy by component without the scheme, {default}", "", "%", pieces(0), "bar"),
        Chart("energy-saved", f"What is saved of each component, {default}", "", "points", pieces(1), "bar"),
    ]


def explained(found: Sequence[Counted], aim: float) -> str:
    """For every saving that misses the aim as the machine stands: which readings meet it, or how much is missing."""
    default = found[0].reading
    parts = []
    for base in (one for one in found if one.reading == default and abs(one.error) > aim):
        others = [one for one in found if one.network == base.network and one.reading != default]
        close = [f"{one.reading} ({100 * one.saved:.1f} %)" for one in others if abs(one.error) <= aim]
        text = f"{base.network}: {100 * base.saved:.1f} % against {100 * base.published:.1f} % in print ({100 * base.error:+.1f} %)"
        if close:
            text += f", within the aim under {', '.join(close)}"
        else:
            low, high = (extreme(one.saved for one in [base, *others]) for extreme in (min, max))
            text += f", from {100 * low:.1f} to {100 * high:.1f} % under all readings, so none explains it"
            least = min([base, *others], key=lambda one: abs(one.error))
            if least.error > 0:
                text += (
                    f": even under the closest, {least.reading}, another {100 * least.error:.0f} % of the energy "
                    "would have to "
                    "come on top that the scheme does not touch"
                )
        if base.parts:
            largest = max(base.parts, key=lambda name: base.parts[name][1])
            share, points = base.parts[largest]
            text += (
                f"; most is saved of the {COMPONENTS[largest]}, {points:.1f} points of the {100 * base.saved:.1f} (it "
                "is "
                f"{share:.0f} % of the energy)"
            )
        parts.append(text)
    return "; ".join(parts) + "." if parts else "Every saving is within the aim as the machine stands."


# Batched -----------------------------------------------------------------------------------------------------------


def machines() -> dict[str, tuple[EPUR, int]]:
    """Batched E-PUR as it stands, then one constant at a time: machine and steps of a round."""
    default, steps = EPUR(), 8
    found = {"as it stands": (default, steps)}
    for name, costs in ENERGY_SETS.items():
        if costs != default.costs:
            found[f"energies = {name}"] = (replace(default, energy=name), steps)
    for pj in LPDDR4_ENDS:
        costs = replace(default.costs, dram_pj_per_bit=pj)
        found[f"LPDDR4 pJ/bit = {pj:g}"] = (replace(default, energy=costs), steps)
    for count in (8, 64):
        found[f"replicas = {count}"] = (replace(default, replicas=count), steps)
    for count in (1, 24):
        found[f"steps a round = {count}"] = (default, count)
    return found


def sensitivity(of: str, effects: Mapping[int, Effects], title: str) -> tuple[Table, list[Chart]]:
    """Energy saved and speed-up on batched E-PUR with one constant changed at a time.

    Args:
        of: the network.
        effects: busy lanes -> what the machine is told.
        title: of what.
    """
    varied: dict[str, dict[int, Saving]] = {
        name: {lanes: saving(of, machine=machine, lanes=lanes, steps=steps, **told) for lanes, told in effects.items()}
        for name, (machine, steps) in machines().items()
    }
    columns = [
        "constant",
        *(f"{n} lanes: energy saved, %" for n in effects),
        *(f"{n} lanes: speed-up, x" for n in effects),
    ]
    rows: list[list[str | float | None]] = [
        [name, *(100 * one.energy_saved for one in by_lanes.values()), *(one.speed_up for one in by_lanes.values())]
        for name, by_lanes in varied.items()
    ]

    def chart(name: str, what: str, label: str, value: str, factor: float) -> Chart:
        series = [
            Series(f"{n} busy lanes", list(varied), [factor * getattr(varied[key][n], value) for key in varied])
            for n in effects
        ]
        return Chart(name, f"{title}: what one constant at a time does to the {what}", "", label, series, "points")

    return Table("sensitivity", f"{title}: uncertain constants, one at a time", columns, rows), [
        chart("sensitivity-energy", "energy saved", "%", "energy_saved", 100.0),
        chart("sensitivity-speed", "speed-up", "x", "speed_up", 1.0),
    ]
