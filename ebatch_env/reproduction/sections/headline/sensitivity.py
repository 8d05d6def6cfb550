"""What uncertain constants do to the four headline figures, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ebatch_env.machines import ENERGY_SETS, EPUR, TPUv1, resolve_machine
from ebatch_env.networks import network
from ebatch_env.reproduction.report import Chart, Series, Table
from ebatch_env.reproduction.sections.headline.cases import (
    AIM,
    CELLS,
    LANES,
    MACHINES,
    PUBLISHED,
    headline_networks,
    stacked_cells,
)
from ebatch_env.reproduction.sections.headline.episodes import best_time_steps, curve, full_queue, play_plan
from ebatch_env.reproduction.sections.headline.saturated import Cells
from ebatch_env.scoring.seeds import TUNING_SEED
from ebatch_env.simulator.plan import RoundPlan

BASE = "as it stands"


@dataclass(frozen=True)
class Variation:
    """A constant at one end of its range.

    Attributes:
        machine: which.
        what: the constant; "" for the machine as it stands.
        value: shown.
        fields: of the machine, to change.
        lanes: of the batch.
    """

    machine: str
    what: str
    value: str
    fields: Mapping[str, Any]
    lanes: int = LANES


def variations() -> list[Variation]:
    """The machines as they stand, then each constant at the ends of its range, and the lanes at a value between."""
    default = EPUR()
    bandwidth = {"epur": default.bandwidth_bytes_per_s, "tpu": TPUv1().bandwidth_bytes_per_s}
    lpddr4 = {pj: {"energy": {**asdict(default.costs), "dram_pj_per_bit": pj}} for pj in (8.0, 14.0)}
    sets = [name for name in ENERGY_SETS if ENERGY_SETS[name] != default.costs]
    found = [Variation(machine, "", BASE, {}) for machine in MACHINES]
    found += [Variation("epur", "energies", name, {"energy": name}) for name in sets]
    found += [Variation("epur", "LPDDR4 pJ/bit", f"{pj:g}", fields) for pj, fields in lpddr4.items()]
    found += [Variation("epur", "replicas", str(n), {"replicas": n}) for n in (8, 64)]
    found += [Variation("epur", "lanes and replicas", str(n), {"replicas": n}, n) for n in (8, 16, 64)]
    found += [Variation("epur", "word bytes", "4", {"word_bytes": 4})]
    found += [Variation("tpu", "DDR3 pJ/bit", f"{pj:g}", {"dram_pj_per_bit": pj}) for pj in (20.0, 70.0)]
    found += [Variation("tpu", "drain cycles", str(n), {"drain_cycles": n}) for n in (0, 1024)]
    # Instructions take 10 to 20 cycles on average, Google says. What a machine without any such work would gain shows how
    # much of a shortfall is theirs.
    found += [Variation("tpu", "instruction cycles", str(n), {"instruction_cycles": n}) for n in (10, 20)]
    found += [Variation("tpu", "element-wise work", "none", {"instruction_cycles": 0, "drain_cycles": 0})]
    found += [Variation("tpu", "activation bytes", "2", {"activation_bytes": 2})]
    found += [Variation("tpu", "lanes", str(n), {}, n) for n in (8, 16, 96)]
    found += [Variation("tpu", "idle W", "0", {"idle_w": 0.0})]
    found += [
        Variation(machine, "GB/s", f"{share * rate / 1e9:.3g}", {"bandwidth_bytes_per_s": share * rate})
        for machine, rate in bandwidth.items()
        for share in (0.8, 1.2)
    ]
    return found


@dataclass(frozen=True)
class Sensitive:
    """The gains of E-BATCH (best fixed T) over cells-5 under a variation, geometric means over the networks."""

    variation: Variation
    throughput: float
    energy: float

    @property
    def label(self) -> str:
        """For example "lanes = 8"."""
        return f"{self.variation.what} = {self.variation.value}"

    def gain(self, quantity: str) -> float:
        """Of "throughput" or "energy"."""
        return {"throughput": self.throughput, "energy": self.energy}[quantity]

    def error(self, quantity: str) -> float:
        """Against the published gain, as a fraction."""
        return self.gain(quantity) / PUBLISHED[self.variation.machine, quantity] - 1.0

    def within(self, quantity: str) -> bool:
        """Whether the gain is within the aim of the published one."""
        return abs(self.error(quantity)) <= AIM


def of_machine(found: Sequence[Sensitive], machine: str) -> tuple[Sensitive, list[Sensitive]]:
    """The machine as it stands, and its variations."""
    mine = [item for item in found if item.variation.machine == machine]
    (base,) = [item for item in mine if not item.variation.what]
    return base, [item for item in mine if item.variation.what]


@dataclass(frozen=True)
class SensitivityJob:
    """Work out both gains under the variation with this number."""

    number: int
    requests_per_lane: int

    def run(self) -> Sensitive:
        """Play one trace of each network."""
        chosen = variations()[self.number]
        machine = resolve_machine({"name": chosen.machine, **chosen.fields})
        assert CELLS.plan is not None
        logs = []
        for name in headline_networks():
            system = full_queue(chosen.machine, name, chosen.lanes, self.requests_per_lane * chosen.lanes)
            table = machine.cost_table(network(name), chosen.lanes)
            plan = RoundPlan(time_steps=best_time_steps(curve(system, table)))
            (ours,) = play_plan(system, table, plan, (TUNING_SEED + 1,), dry=True)
            (theirs,) = play_plan(system, stacked_cells(table), CELLS.plan, (TUNING_SEED + 1,), dry=True)
            logs.append((np.log(ours.throughput_rps / theirs.throughput_rps), np.log(theirs.energy_j / ours.energy_j)))
        throughput, energy = np.exp(np.mean(logs, axis=0))
        return Sensitive(chosen, float(throughput), float(energy))


def tables(found: Sequence[Sensitive]) -> list[Table]:
    """Every variation."""
    columns = ["machine", "constant", "value"]
    for quantity in ("throughput", "energy"):
        columns += [quantity, f"{quantity} / published", f"{quantity} within the aim"]
    cells: list[Cells] = []
    for item in found:
        what = item.variation.what
        row: list[str | float | None] = [MACHINES[item.variation.machine], what or BASE]
        row.append(item.variation.value if what else "")
        for quantity in ("throughput", "energy"):
            within = "yes" if item.within(quantity) else "no"
            row += [item.gain(quantity), 1.0 + item.error(quantity), within]
        cells.append(row)
    title = "Uncertain constants, one at a time: E-BATCH (best fixed T) over cellular batching (cells-5), full queue"
    return [Table("sensitivity", title, columns, cells)]


def charts(found: Sequence[Sensitive]) -> list[Chart]:
    """One chart per headline figure: a line from the figure as it stands to where each value of a constant takes it."""
    result = []
    for (machine, quantity), published in PUBLISHED.items():
        base, varied = of_machine(found, machine)
        stands = base.gain(quantity)

        def reach(what: str, *, items: Sequence[Sensitive] = varied, of: str = quantity, at: float = stands) -> float:
            return max(abs(item.gain(of) - at) for item in items if item.variation.what == what)

        ordered = sorted(varied, key=lambda item: -reach(item.variation.what))
        values = [item.gain(quantity) for item in ordered]
        series = Series(
            "with this value, all else as it stands",
            [item.label for item in ordered],
            values,
            [min(value, stands) for value in values],
            [max(value, stands) for value in values],
        )
        references = (
            (f"as it stands: {stands:.2f}", stands),
            (f"published: {published:g}", published),
            (f"aim: {1 - AIM:g} and {1 + AIM:g} times that", (1 - AIM) * published),
            ("", (1 + AIM) * published),
        )
        title = f"{MACHINES[machine]}, {quantity}: what one constant at a time does to the gain"
        name = f"sensitivity-{machine}-{quantity}"
        result.append(Chart(name, title, "", "gain over cells-5", [series], "points", references=references))
    return result
