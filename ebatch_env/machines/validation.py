"""The machine models beside what is published about the machines; no constant depends on the network.

``python -m ebatch_env.machines.validation`` prints the tables of ``docs/machines.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ebatch_env.costs import CostTable
from ebatch_env.machines.base import Accelerator
from ebatch_env.machines.epur import EPUR
from ebatch_env.machines.tpu import TPUv1
from ebatch_env.networks import NETWORKS, Network

FRAMES_PER_S = 100.0  # speech frames, E-PUR's networks
LONG = 300  # steps of a long sequence: the short end of E-PUR's two speech networks
_EPUR, _TPU, _EBATCH = "arXiv 1711.07480", "arXiv 1704.04760", "arXiv 2009.10656"


@dataclass(frozen=True)
class ValidationRow:
    """One published figure and what the model gives.

    Attributes:
        quantity: what is measured, and where.
        published: the figure in print; for a printed range, its middle.
        measured: the model's.
        unit: of both.
        source: where the published figure is from.
        verified: whether the published figure was read in its source (or follows from such by arithmetic).
        anchor: whether the model's constants were derived from this very figure, so that agreement proves nothing.
    """

    quantity: str
    published: float
    measured: float
    unit: str
    source: str
    verified: bool = True
    anchor: bool = False

    @property
    def error(self) -> float:
        """Relative error of the model."""
        return self.measured / self.published - 1.0


@dataclass(frozen=True)
class HeadlineRow:
    """What longer rounds give on a saturated machine: rounds of ``time_steps`` against rounds of one step.

    Attributes:
        machine, network: names.
        lanes: all busy.
        time_steps: T, cut to the machine's limit.
        throughput: sequences per second, as a ratio.
        energy: energy per sequence, as a ratio (above 1: less energy with longer rounds).
    """

    machine: str
    network: str
    lanes: int
    time_steps: int
    throughput: float
    energy: float


def real_time_factor(machine: Accelerator, network: Network, frames_per_s: float = FRAMES_PER_S) -> float:
    """How much faster than real time one long sequence runs alone."""
    table = machine.cost_table(network, 1)
    return LONG / frames_per_s / float(table.round_s(LONG, 1))


def full_rate_power_w(machine: EPUR, network: Network) -> dict[str, float]:
    """Power (W) by component, ``static`` included, while one sequence runs and no weights load."""
    table = machine.cost_table(network, 1)
    elapsed_s = float(table.step_s[:, 1].sum())
    power = {name: float(part.step_j[:, 1].sum()) / elapsed_s for name, part in table.parts.items()}
    return {**power, "static": table.static_w}


def sequence_energy_j(table: CostTable, steps: int) -> float:
    """Energy of one sequence of ``steps`` steps alone on the machine, weights loaded once per layer (J)."""
    return float(table.round_j(steps, 1))


def array_counters(machine: TPUv1, network: Network, batch: int) -> dict[str, float]:
    """Google's hardware counters as the model gives them, when every step streams all weights once.

    Returns:
        Percent of all cycles: ``active`` (the array works), ``useful`` (multipliers of peak doing work that is not
        padding), ``stall`` (no weights there), ``shift`` (weights move into the array), ``non-matrix``; and ``TOPS``,
        counted as twice the network's multiply-accumulates over the time.
    """
    table = machine.cost_table(network, batch)
    total_s = float(table.round_s(1, batch))
    tiles = float(sum(part.sum() for part in machine.tiles(network)))
    cycle_s = 1.0 / machine.frequency_hz
    active_s = tiles * batch * machine.cycles_per_row * cycle_s
    other_s = float(machine.vector_s(network, batch).sum())
    # The next tile shifts in while the array works; only what sticks out of the work keeps the array waiting.
    shift_s = min(tiles * machine.array * cycle_s, total_s - other_s - active_s)
    padding = network.macs_per_step / (tiles * machine.tile_bytes)
    shares = {
        "active": active_s,
        "useful": active_s * padding,
        "stall": total_s - other_s - active_s - shift_s,
        "shift": shift_s,
        "non-matrix": other_s,
    }
    counters = {name: 100.0 * seconds / total_s for name, seconds in shares.items()}
    return {**counters, "TOPS": 2.0 * network.macs_per_step * batch / total_s / 1e12}


def _epur_rows() -> list[ValidationRow]:
    one = EPUR(replicas=1)  # the published machine runs one sequence
    eesen, residual, large = NETWORKS["EESEN"], NETWORKS["RLDRADSPR"], NETWORKS["MNMT"]
    power = full_rate_power_w(replace(one, word_bytes=4), NETWORKS["BYSDNE"])
    total_w = sum(power.values())
    memory_w = power["weight_buffer"] + power["activations"] + power["static"]
    rows = [
        ValidationRow("EESEN, times faster than real time", 30.0, real_time_factor(one, eesen), "x", _EPUR),
        ValidationRow("RLDRADSPR, times faster than real time", 5.0, real_time_factor(one, residual), "x", _EPUR),
        ValidationRow("peak power (FP32)", 975.0, 1e3 * total_w, "mW", _EPUR, anchor=True),
        ValidationRow(
            "memories' share of on-chip power (FP32)", 80.0, 100 * memory_w / total_w, "%", _EPUR, anchor=True
        ),
        ValidationRow(
            "operations' share of on-chip power (FP32), printed 10-20",
            15.0,
            100 * power["macs"] / total_w,
            "%",
            _EPUR,
            anchor=True,
        ),
    ]
    savings = mwl_savings()
    mean = sum(savings.values()) / len(savings)
    rows.append(ValidationRow("energy MWL saves, mean of E-PUR's five networks", 35.0, mean, "%", _EPUR))
    bytes_per_unit = large.layers[0].weights * one.word_bytes / one.units
    rows.append(
        ValidationRow("FP16 layer of 1024 per unit", 4.0, bytes_per_unit / (1 << 20), "MiB", _EPUR),
    )
    return rows


# Word bytes as the networks' published sizes tell, steps from the middle of their published lengths.
_MWL_CASES = (("BYSDNE", 4, 30), ("RLDRADSPR", 2, 400), ("EESEN", 4, 500), ("LDLRNN", 4, 500), ("GMAT", 2, 75))


def mwl_savings() -> dict[str, float]:
    """Percent of the energy of one sequence that MWL saves, DRAM included, by network."""
    saved = {}
    for name, word_bytes, steps in _MWL_CASES:
        plain = EPUR(replicas=1, word_bytes=word_bytes).cost_table(NETWORKS[name], 1)
        mwl = EPUR.with_mwl(replicas=1, word_bytes=word_bytes).cost_table(NETWORKS[name], 1)
        saved[name] = 100.0 * (1.0 - sequence_energy_j(mwl, steps) / sequence_energy_j(plain, steps))
    return saved


_COUNTERS = (
    ("active", "array active", "%", (8.2, 10.5)),
    ("useful", "useful multipliers of peak", "%", (8.2, 6.3)),
    ("stall", "weight stall", "%", (58.1, 62.1)),
    ("shift", "weight shift", "%", (15.8, 17.1)),
    ("non-matrix", "non-matrix", "%", (17.9, 10.3)),
    ("TOPS", "TOPS in production", "TOPS", (3.7, 2.8)),
)


def _tpu_rows() -> list[ValidationRow]:
    machine = TPUv1()
    cycles = float(machine.tile_s(0)) * machine.frequency_hz
    one_matrix = Network.stack("600x600", "gru", 1, 600)
    matrix_tiles = machine.tiles(one_matrix)[1][0] / 3
    matrix_us = float(matrix_tiles * machine.tile_s(96)) * 1e6
    rows = [
        ValidationRow("a tile from DRAM", 1349.0, cycles, "cycles", _TPU),
        ValidationRow("LSTM1's 600x600 matrix, batch 96", 18.0, matrix_us, "us", _TPU),
    ]
    for place, (name, batch) in enumerate((("LSTM0", 64), ("LSTM1", 96))):
        for label, model in (("", machine), (", 16-bit activations", replace(machine, cycles_per_row=2))):
            counters = array_counters(model, NETWORKS[name], batch)
            rows += [
                ValidationRow(f"{name}, batch {batch}{label}: {what}", published[place], counters[key], unit, _TPU)
                for key, what, unit, published in _COUNTERS
                if not label or key in ("active", "stall", "shift")
            ]
    return rows


def validation_rows() -> list[ValidationRow]:
    """Every published figure the models can be held against."""
    return [*_epur_rows(), *_tpu_rows()]


HEADLINE_NETWORKS = ("DeepSpeech2", "MNMT", "BYSDNE", "GMAT", "RLDRADSPR", "LSTM0", "LSTM1")


def headline_rows(
    machines: Iterable[Accelerator] = (EPUR(), TPUv1()),
    networks: Iterable[str] = HEADLINE_NETWORKS,
    lanes: int = 32,
    time_steps: Sequence[int] = (16, 32),
) -> list[HeadlineRow]:
    """Whether the costs alone carry E-BATCH's claim: T steps a round against one, all lanes busy, from `CostTable`.

    Networks that run whole sequences have no choice of T and are left out, and so are those that stay on chip.
    """
    rows = []
    for machine in machines:
        for name in networks:
            table = machine.cost_table(NETWORKS[name], lanes)
            for wanted in time_steps:
                steps = min(wanted, table.max_time_steps)
                seconds = steps * table.round_s(1, lanes) / table.round_s(steps, lanes)
                joules = steps * table.round_j(1, lanes) / table.round_j(steps, lanes)
                rows.append(HeadlineRow(machine.name, name, lanes, steps, float(seconds), float(joules)))
    return rows


def markdown() -> str:
    """Both tables in Markdown."""
    lines = ["| quantity | published | model | error | source |", "|---|---|---|---|---|"]
    for row in validation_rows():
        marks = f"{row.source}{' (anchor)' if row.anchor else ''}{'' if row.verified else ' (unverified)'}"
        values = f"{row.published:g} {row.unit} | {row.measured:.3g} {row.unit} | {100 * row.error:+.0f} %"
        if row.unit == "cycles":
            values = f"{row.published:g} {row.unit} | {row.measured:.0f} {row.unit} | {100 * row.error:+.0f} %"
        lines.append(f"| {row.quantity} | {values} | {marks} |")
    sets = [
        EPUR(name="epur"),
        EPUR(energy="peak-fp16", name="epur, peak-fp16"),
        EPUR(energy="circuit", name="epur, circuit"),
    ]
    dram = [TPUv1(dram_pj_per_bit=pj, name=f"tpu, DDR3 {pj:g} pJ/bit") for pj in (20.0, 30.0, 70.0)]
    lines += ["", "| machine | network | lanes | T | throughput | energy per sequence |", "|---|---|---|---|---|---|"]
    everything = headline_rows([sets[0], TPUv1()]) + headline_rows([*sets[1:], *dram], networks=("MNMT",))
    for head in everything:
        ratios = f"{head.throughput:.2f}x | {head.energy:.2f}x"
        lines.append(f"| {head.machine} | {head.network} | {head.lanes} | {head.time_steps} | {ratios} |")
    for name in ("epur", "tpu"):
        chosen = [row for row in everything if row.machine == name]
        ratios = " | ".join(
            f"{np.exp(np.mean(np.log([getattr(row, key) for row in chosen]))):.2f}x" for key in ("throughput", "energy")
        )
        lines.append(f"| {name} | geometric mean | 32 | 16, 32 | {ratios} |")
    lines.append(f"| E-PUR, published over its rivals ({_EBATCH}) | | | | 1.8x | 3.6x |")
    lines.append(f"| TPU, published over its rivals ({_EBATCH}) | | | | 2.1x | 1.6x |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
