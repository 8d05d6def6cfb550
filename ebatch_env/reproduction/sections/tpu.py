"""Section ``tpu``: TPU v1 beside Google's counters, and its systolic arithmetic beside two simulators."""

from __future__ import annotations

from ebatch_env.machines.systolic import serial_cycles, streamed_cycles, tile_count
from ebatch_env.machines.tpu import TPUv1
from ebatch_env.networks import NETWORKS
from ebatch_env.reproduction.google_counters import (
    LSTMS,
    NETWORKS_COUNTED,
    SOURCE,
    CountedNetwork,
    counters,
    peak_tops,
)
from ebatch_env.reproduction.longer_rounds import longer_rounds
from ebatch_env.reproduction.report import (
    Chart,
    Checked,
    Options,
    Progress,
    Row,
    Section,
    Series,
    Table,
    paragraphs,
    points,
)


def _arithmetic_rows(machine: TPUv1) -> list[Row]:
    tile = float(machine.tile_s(0)) * machine.frequency_hz
    matrix_us = tile_count(600, 600) * float(machine.tile_s(96)) * 1e6
    return [
        Row("peak", peak_tops(machine), "TOPS", 92.0, SOURCE, "read", 0.01),
        Row(
            "a tile from DRAM: operations per weight byte at the roofline's ridge",
            tile,
            "",
            1350.0,
            SOURCE,
            "read",
            0.01,
        ),
        Row("LSTM1's 600x600 matrix", matrix_us, "us", 18.0, SOURCE, "read", 0.05),
        Row(
            "LSTM1: weights' share of the tiles of a 600x600 matrix, against useful / active",
            100 * 600 * 600 / (tile_count(600, 600) * machine.tile_bytes),
            "%",
            100 * NETWORKS_COUNTED["LSTM1"].useful / NETWORKS_COUNTED["LSTM1"].active,
            SOURCE,
            "derived",
            NETWORKS_COUNTED["LSTM1"].model_error,
        ),
    ]


def _derived(net: CountedNetwork) -> Checked:
    """How sure a figure is that follows from a network's counters."""
    return "derived" if net.checked == "read" else "secondary"


def _consistency_rows(machine: TPUv1) -> list[Row]:
    """What the counters say of the machine whatever the network, beside the machine's constants."""
    tile = float(machine.tile_s(0)) * machine.frequency_hz
    rows = []
    for net in NETWORKS_COUNTED.values():
        aim: float | None = net.model_error
        what = f"{net.name}: (active + stall + shift) / shift * 256"
        rows.append(Row(what, tile, "cycles per tile", net.matrix_cycles, SOURCE, _derived(net), aim))
    for net in NETWORKS_COUNTED.values():
        aim = net.model_error if net in LSTMS else None  # the MLPs are here as a control
        what = f"{net.name}: useful share of peak / TOPS in production ({8 * net.activation_bytes}-bit activations)"
        rows.append(Row(what, net.activation_bytes, "cycles per row", net.row_cycles, SOURCE, _derived(net), aim))
    for net in NETWORKS_COUNTED.values():
        aim = net.model_error if net in LSTMS else None
        what = f"{net.name}: active / shift * 256, against the batch ({8 * net.activation_bytes}-bit activations)"
        rows.append(Row(what, net.batch, "rows per tile", net.rows, SOURCE, _derived(net), aim))
    for net in LSTMS:
        what = f"{net.name}: other cycles per 256 bytes of a vector layer; an instruction takes 10-20"
        rows.append(Row(what, net.element_row_cycles, "cycles", (10.0, 20.0), SOURCE, "read"))
    return rows


COUNTERS = (
    ("active", "array active", "%"),
    ("useful", "useful multipliers of peak", "%"),
    ("stall", "weight stall", "%"),
    ("shift", "weight shift", "%"),
    ("other", "non-matrix", "%"),
)
OFF_BATCH = "rests on the batch, which the counters contradict"


def _counter_rows(machine: TPUv1, net: CountedNetwork) -> list[Row]:
    found, aim = counters(machine, net), net.model_error
    title = f"{net.name}, batch {net.batch}"
    doubtful = abs(net.batch / net.rows - 1) > aim

    def note(key: str) -> str:
        return OFF_BATCH if doubtful and key in ("active", "useful", "tops") else ""

    rows = [Row(f"{title}: cycles per tile", found["cycles"], "", net.cycles_per_tile, SOURCE, "derived", aim)]
    for key, what, unit in COUNTERS:
        rows.append(Row(f"{title}: {what}", found[key], unit, getattr(net, key), SOURCE, "read", aim, note=note(key)))
    rows.append(Row(f"{title}: in production", found["tops"], "TOPS", net.tops, SOURCE, "read", aim, note=note("tops")))
    if doubtful:
        tops = counters(machine, net, net.rows)["tops"]
        what = f"{net.name}, {net.rows:.1f} rows as counted: in production"
        note_of_rows = "rows from active / shift"
        figure = rows[-1].what
        rows.append(Row(what, tops, "TOPS", net.tops, SOURCE, "read", aim, note=note_of_rows, figure=figure))
    return rows


def _power_row() -> Row:
    table = TPUv1(activation_bytes=2).cost_table(NETWORKS["LSTM1"], 96)
    full_w = float(table.round_j(1, 96) / table.round_s(1, 96))
    tenth_w = table.static_w + 0.1 * (full_w - table.static_w)
    note = "the model's dynamic power goes with the load; the chip's mostly does not"
    what = "LSTM1: power at 10 % load, of that at full load"
    return Row(what, 100 * tenth_w / full_w, "%", 94.0, SOURCE, "read", note=note)


# Batch, SCALE-Sim's cycles, ZigZag's cycles: run once, by this project; not part of `ebatch reproduce`.
_SCALE_SIM = "SCALE-Sim 3.0.0, run by this project"
_ZIGZAG = "ZigZag, run by this project, its version not noted"
SIMULATED = (
    (1, 49087, 86857),
    (8, 49535, 87572),
    (32, 51071, 90031),
    (64, 53119, 93310),
    (128, 57215, 99867),
    (256, 65407, 113493),
)
_PRODUCT = "256x256, 1024 to 4096, batch"


def _simulator_rows(machine: TPUv1) -> list[Row]:
    per_cycle = machine.bandwidth_bytes_per_s / machine.frequency_hz
    rows = []
    for batch, scale_sim, _ in SIMULATED:
        cycles = float(serial_cycles(batch, 1024, 4096))
        what = f"{_PRODUCT} {batch}: tiles loaded one by one"
        rows.append(Row(what, cycles, "cycles", scale_sim, _SCALE_SIM, "own", 0.0, kind="simulator"))
    for batch, _, zigzag in SIMULATED:
        cycles = float(streamed_cycles(batch, 1024, 4096, per_cycle, activations=True))
        what = f"{_PRODUCT} {batch}: weights and activations from 34 GB/s"
        rows.append(Row(what, cycles, "cycles", zigzag, _ZIGZAG, "own", 0.01, kind="simulator"))
    return rows


def _charts(machine: TPUv1) -> list[Chart]:
    cycles = [float(c) for c in range(0, 31, 5)]
    other = [
        Series(
            net.name, cycles, [counters(TPUv1(activation_bytes=2, instruction_cycles=c), net)["other"] for c in cycles]
        )
        for net in LSTMS
    ]
    names = [f"{net.name} {what}" for net in LSTMS for _, what, _ in COUNTERS]
    widths: list[Series] = [
        Series("Google's counters", names, [getattr(n, key) for n in LSTMS for key, _, _ in COUNTERS])
    ]
    for size in (1, 2):
        model = TPUv1(activation_bytes=size)
        shares = [counters(model, net)[key] for net in LSTMS for key, _, _ in COUNTERS]
        widths.append(Series(f"model, {8 * size}-bit activations", names, shares))
    lanes = [1.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    energy = []
    for picojoules in (20.0, 30.0, 70.0):
        model = TPUv1(dram_pj_per_bit=picojoules)
        gains = [longer_rounds(model.cost_table(NETWORKS["MNMT"], int(n)), 32).energy for n in lanes]
        energy.append(Series(f"DDR3 {picojoules:g} pJ/bit", lanes, gains))
    throughput = []
    for issue in (5.0, 10.0, 15.0, 20.0):
        model = TPUv1(instruction_cycles=issue)
        ratios = [longer_rounds(model.cost_table(NETWORKS["MNMT"], int(n)), 32).throughput for n in lanes]
        throughput.append(Series(f"{issue:g} cycles", lanes, ratios))
    return [
        Chart("counters", "Google's counters and the model", "counter", "% of cycles", widths, kind="bar"),
        Chart(
            "instruction-cycles",
            "Cycles without matrix work over the cycles of a vector instruction (in print: 10-20 on average)",
            "cycles per 256 bytes",
            "% of cycles",
            other,
            references=[(f"{net.name}, counted", net.other) for net in LSTMS],
        ),
        Chart(
            "ddr3",
            "What DDR3's energy does to the gain of T = 32 over T = 1 (MNMT)",
            "lanes",
            "energy, x",
            energy,
            log_x=True,
        ),
        Chart(
            "vector-work",
            "What the cycles of a vector instruction do to the gain of T = 32 over T = 1 (MNMT)",
            "lanes",
            "throughput, x",
            throughput,
            log_x=True,
        ),
    ]


def _raw_table(machine: TPUv1) -> Table:
    rows = [(net.name, net.raw, net.other, counters(machine, net)["other"]) for net in LSTMS]
    title = "Read-after-write stalls (from a secondary source; they may overlap other cycles) beside the cycles without matrix work"
    return Table("raw-stalls", title, ("network", "RAW stalls, %", "non-matrix, %", "model's non-matrix, %"), rows)


def _summary(rows: list[Row]) -> str:
    by_name = {row.what: row for row in rows}

    def error(what: str) -> str:
        found = by_name[what].error
        assert found is not None
        return f"{100 * found:+.1f} %"

    lstm0, lstm1 = LSTMS
    within = [row for row in rows if row.aim in (lstm0.model_error, lstm1.model_error) and row.met]
    total = [row for row in rows if row.aim in (lstm0.model_error, lstm1.model_error)]
    return paragraphs(
        f"Google's model of its own chip is {100 * lstm0.model_error:g} % and {100 * lstm1.model_error:g} % off the "
        f"counters' cycles on LSTM0 and LSTM1; this one is {error('LSTM0, batch 64: cycles per tile')} and "
        f"{error('LSTM1, batch 96: cycles per tile')}, and meets that aim in {len(within)} of {len(total)} rows. Three "
        "things carry it, none fitted:",
        points(
            (
                "Nothing hides behind the weights.",
                "On four networks the cycles with matrix work come to the DRAM's time for a tile: work without the "
                "matrix "
                "unit is not hidden.",
            ),
            (
                "16-bit activations.",
                "Useful multiplications are twice those production reports, on both LSTMs and on neither MLP: their "
                "activations have 16 bits, which the array takes at half speed.",
            ),
            (
                "Vector work.",
                f"A vector layer takes {lstm0.element_row_cycles:.1f} and {lstm1.element_row_cycles:.1f} cycles per "
                "256 "
                "bytes, if all of the time without matrix work is its: the published time of one instruction. That "
                "each "
                "moves one row of 256 bytes is a reading formed after seeing the counters; it cannot hold for the "
                "activations of a convolution (CNN0 would be slower than it is).",
            ),
        ),
        "What does not fit:",
        points(
            (
                "LSTM1's batch.",
                f"Its active and shift cycles give {lstm1.rows:.1f} rows per tile where the batch is {lstm1.batch}. "
                "Its "
                "useful share and its TOPS agree with the rows counted, so the batch is the odd one out, and the rows "
                "that "
                "rest on it are off by it.",
            ),
            (
                "LSTM0's non-matrix cycles",
                f"are {error('LSTM0, batch 64: non-matrix')} off: the time of an instruction is known to a third.",
            ),
            ("Power", "does not follow the load as the model's does."),
        ),
        "The tile arithmetic equals SCALE-Sim's to the cycle, and ZigZag's to half a per cent once activations share "
        "the DRAM "
        "as they do there; both were run once by this project, and their figures are kept in the code. The MLPs' "
        "counters, here "
        "as a control, and the read-after-write stalls are from a transcription of Google's table, the LSTMs' from "
        "the paper.",
    )


def run(options: Options, progress: Progress) -> Section:
    """Compare; takes no time to speak of, so ``options`` change nothing."""
    machine, counted = TPUv1(), TPUv1(activation_bytes=2)
    rows = [*_arithmetic_rows(machine), *_consistency_rows(machine)]
    for net in LSTMS:
        rows += _counter_rows(counted, net)
    rows.append(_power_row())
    progress(0.3, "simulators")
    rows += _simulator_rows(machine)
    progress(0.5, "sensitivity")
    charts = _charts(machine)
    progress(1.0, "done")
    return Section("tpu", "TPU v1", rows, _summary(rows), tables=[_raw_table(counted)], charts=charts)
