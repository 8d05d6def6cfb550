"""Section ``e-pur``: the E-PUR model beside what its authors publish of the machine without batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from ebatch_env.machines.base import Accelerator
from ebatch_env.machines.epur import EPUR, MIB
from ebatch_env.machines.epur_energy import ENERGY_SETS, LPDDR4_PJ_PER_BIT
from ebatch_env.networks import NETWORKS, Network
from ebatch_env.reproduction.longer_rounds import Gain, longer_rounds
from ebatch_env.reproduction.report import Chart, Options, Progress, Row, Section, Series, Table, paragraphs, points

SOURCE = "Silfa et al., PACT 2018 (arXiv 1711.07480)"
SHARP = "SHARP (arXiv 1911.01258)"
ONE = EPUR(replicas=1)  # the published machine runs one sequence
FRAMES_PER_S = 100.0  # of the speech networks
LONG = 300  # steps of a long sequence: the short end of the two speech networks
# Word bytes as the networks' published sizes tell, steps from the middle of their published lengths.
MWL_CASES = (("BYSDNE", 4, 30), ("RLDRADSPR", 2, 400), ("EESEN", 4, 500), ("LDLRNN", 4, 500), ("GMAT", 2, 75))
ANCHOR = "anchor: a constant was derived from it"
T = 32  # of the sensitivity charts, against T = 1
LANES = 32


def real_time_factor(machine: Accelerator, network: Network) -> float:
    """How much faster than real time one long sequence of speech frames runs alone."""
    table = machine.cost_table(network, 1)
    return LONG / FRAMES_PER_S / float(table.round_s(LONG, 1))


def full_rate_power_w(machine: EPUR, network: Network) -> dict[str, float]:
    """Power (W) by component, ``static`` included, while one sequence runs and no weights load."""
    table = machine.cost_table(network, 1)
    elapsed_s = float(table.step_s[:, 1].sum())
    power = {name: float(part.step_j[:, 1].sum()) / elapsed_s for name, part in table.parts.items()}
    return {**power, "static": table.static_w}


def sequence_costs(machine: EPUR, network: Network, steps: int) -> dict[str, float]:
    """One sequence alone: seconds (``time``), joules (``energy``, DRAM included) and those of the ``weight_buffer``."""
    table = machine.cost_table(network, 1)
    buffer = table.parts["weight_buffer"]
    return {
        "time": float(table.round_s(steps, 1)),
        "energy": float(table.round_j(steps, 1)),
        "weight_buffer": float(buffer.load_j.sum() + buffer.input_j.sum() + steps * buffer.step_j[:, 1].sum()),
    }


def mwl_savings() -> dict[str, dict[str, float]]:
    """Percent of each of `sequence_costs` that MWL saves, by network."""
    saved = {}
    for name, word_bytes, steps in MWL_CASES:
        plain = sequence_costs(replace(ONE, word_bytes=word_bytes), NETWORKS[name], steps)
        mwl = sequence_costs(EPUR.with_mwl(replicas=1, word_bytes=word_bytes), NETWORKS[name], steps)
        saved[name] = {key: 100.0 * (1.0 - mwl[key] / plain[key]) for key in plain}
    return saved


def step_s_by_macs(network: Network, macs: Sequence[int]) -> list[float]:
    """Seconds of one step of one sequence on E-PURs whose dot-product units together have that many multipliers."""
    return [
        float(replace(ONE, dot_width=count // ONE.units).cost_table(network, 1).step_s[:, 1].sum()) for count in macs
    ]


def _power_rows() -> list[Row]:
    power = full_rate_power_w(replace(ONE, word_bytes=4), NETWORKS["BYSDNE"])
    total_w = sum(power.values())
    memory = 100 * (power["weight_buffer"] + power["activations"] + power["static"]) / total_w
    operations = 100 * power["macs"] / total_w
    return [
        Row("peak power (FP32)", 1e3 * total_w, "mW", 975.0, SOURCE, "read", 0.06, note=ANCHOR),
        Row("memories' share of on-chip power (FP32)", memory, "%", 80.0, SOURCE, "read", 0.06, note=ANCHOR),
        Row(
            "operations' share of on-chip power (FP32)", operations, "%", (10.0, 20.0), SOURCE, "read", 0.0, note=ANCHOR
        ),
    ]


def _rows(savings: dict[str, dict[str, float]]) -> list[Row]:
    def speed(name: str) -> float:
        return real_time_factor(ONE, NETWORKS[name])

    def mean(key: str) -> float:
        return fmean(saved[key] for saved in savings.values())

    layer_mib = NETWORKS["MNMT"].layers[0].weights * ONE.word_bytes / ONE.units / MIB
    macs = [1 << n for n in range(6, 15)]
    seconds = step_s_by_macs(NETWORKS["EESEN"], macs)
    enough = next(count for count, taken in zip(macs, seconds, strict=True) if taken == seconds[-1])
    return [
        Row("EESEN, times faster than real time", speed("EESEN"), "x", 30.0, SOURCE, "read", 0.05),
        Row("RLDRADSPR, times faster than real time", speed("RLDRADSPR"), "x", 5.0, SOURCE, "read", 0.05),
        *_power_rows(),
        Row("energy MWL saves, mean of five networks", mean("energy"), "%", 35.0, SOURCE, "read", 0.10),
        Row("weight-buffer accesses MWL saves, mean", mean("weight_buffer"), "%", 50.0, SOURCE, "read", 0.10),
        Row("run time with MWL, mean", 100 - mean("time"), "% of that without", 100.0, SOURCE, "read", 0.01),
        Row("FP16 layer of 1024 neurons, per unit", layer_mib, "MiB", 4.0, SOURCE, "read", 0.0),
        Row("EESEN: multipliers past which more gain nothing", enough, "", 4096.0, SHARP, "read", 0.0, note="about 4K"),
    ]


def _gain(machine: EPUR, lanes: int = LANES) -> Gain:
    return longer_rounds(machine.cost_table(NETWORKS["MNMT"], lanes), T)


def _charts(savings: dict[str, dict[str, float]]) -> list[Chart]:
    macs = [1 << n for n in range(6, 15)]
    seconds = step_s_by_macs(NETWORKS["EESEN"], macs)
    replicas = [1 << n for n in range(8)]
    by_replicas = [_gain(EPUR(replicas=count)) for count in replicas]
    lanes = [1, 2, 4, 8, 16, 32, 64]
    readings = [
        Series(name, lanes, [_gain(EPUR(energy=name), count).energy for count in lanes]) for name in ENERGY_SETS
    ]
    dram = [
        Series(
            f"LPDDR4 {picojoules:g} pJ/bit",
            lanes,
            [_gain(EPUR(energy=replace(ONE.costs, dram_pj_per_bit=picojoules)), count).energy for count in lanes],
        )
        for picojoules in (8.0, LPDDR4_PJ_PER_BIT, 14.0)
    ]
    gain = f"gain of T = {T} over T = 1 (MNMT"
    return [
        Chart(
            "mwl",
            "Energy of a sequence that MWL saves",
            "network",
            "%",
            [Series("model", list(savings), [saved["energy"] for saved in savings.values()])],
            kind="bar",
            references=[("published mean", 35.0)],
        ),
        Chart(
            "multipliers",
            "EESEN, one sequence: speed over E-PUR's 64 multipliers, by multipliers",
            "multipliers",
            "x",
            [Series("model", macs, [seconds[0] / taken for taken in seconds])],
            log_x=True,
            log_y=True,
        ),
        Chart(
            "replicas",
            f"What the number of replicated dot-product units does to the {gain}, {LANES} lanes)",
            "replicas",
            "x",
            [
                Series("throughput", replicas, [found.throughput for found in by_replicas]),
                Series("energy per sequence", replicas, [found.energy for found in by_replicas]),
            ],
            log_x=True,
        ),
        Chart(
            "energy-readings",
            f"What the reading of the energies does to the {gain})",
            "lanes",
            "energy, x",
            readings,
            log_x=True,
        ),
        Chart("lpddr4", f"What LPDDR4's energy does to the {gain})", "lanes", "energy, x", dram, log_x=True),
    ]


def _readings_table() -> Table:
    rows: list[tuple[str | float, ...]] = []
    for name, costs in ENERGY_SETS.items():
        watts = [
            sum(full_rate_power_w(replace(ONE, word_bytes=size, energy=name), NETWORKS["BYSDNE"]).values())
            for size in (2, 4)
        ]
        rows.append((name, costs.mac_fp16_pj, 1e3 * costs.leakage_w_per_mib, *(1e3 * value for value in watts)))
    columns = ("reading", "FP16 MAC, pJ", "leakage, mW/MiB", "full rate FP16, mW", "full rate FP32, mW")
    return Table("energy-readings", "The three readings of E-PUR's energies (published peak: 975 mW)", columns, rows)


def _summary(rows: list[Row], charts: list[Chart], savings: dict[str, dict[str, float]]) -> str:
    aimed = [row for row in rows if row.aim is not None]
    free = [row for row in aimed if row.note != ANCHOR]
    largest = max(free, key=lambda row: abs(row.error or 0.0))
    readings = next(chart for chart in charts if chart.name == "energy-readings")
    at_lanes = [series.y[list(series.x).index(LANES)] for series in readings.series]
    replicas = next(chart for chart in charts if chart.name == "replicas").series[0]
    energy = {name: saved["energy"] for name, saved in savings.items()}
    low, high = min(energy, key=lambda name: energy[name]), max(energy, key=lambda name: energy[name])
    anchors = len(aimed) - len(free)
    return paragraphs(
        f"{sum(bool(row.met) for row in aimed)} of {len(aimed)} rows meet their aim. {anchors} of them are anchors: "
        "constants "
        f"were derived from them. Of the other {len(free)} the largest error is {100 * (largest.error or 0.0):+.1f} % "
        f"({largest.what}). Rates follow from the cycle rule with no freedom at all.",
        f"MWL's mean hides {energy[low]:.0f} % ({low}) to {energy[high]:.0f} % ({high}): what it saves depends on the "
        "share of "
        "weights in the input half, and short sequences pay for loads it does not spare; the model counts DRAM, the "
        "paper "
        "does not say.",
        "Two things are not known and matter for batches:",
        points(
            (
                "Word width of the peak.",
                "The published peak power does not say at which word width it is drawn: the three readings give "
                f"{min(at_lanes):.1f}x to {max(at_lanes):.1f}x less energy for T = {T} than for T = 1 at {LANES} "
                "lanes.",
            ),
            (
                "Replicas.",
                f"How often the dot-product units are replicated is our assumption: from {replicas.y[0]:.2f}x in "
                "throughput "
                f"with one to {max(replicas.y):.2f}x, because a step must outrun the load of its weights for T to "
                "matter.",
            ),
        ),
    )


def run(options: Options, progress: Progress) -> Section:
    """Compare; takes no time to speak of, so ``options`` change nothing."""
    savings = mwl_savings()
    rows = _rows(savings)
    progress(0.4, "sensitivity")
    charts = _charts(savings)
    progress(1.0, "done")
    summary = _summary(rows, charts, savings)
    return Section("e-pur", "E-PUR", rows, summary, tables=[_readings_table()], charts=charts)
