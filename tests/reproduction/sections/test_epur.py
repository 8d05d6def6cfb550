"""Section `e-pur`: each row's error is held."""

from __future__ import annotations

import pytest

from ebatch_env.machines import ENERGY_SETS, EPUR
from ebatch_env.networks import NETWORKS, Network
from ebatch_env.reproduction.report import Options
from ebatch_env.reproduction.sections.epur import (
    full_rate_power_w,
    mwl_savings,
    real_time_factor,
    run,
    step_s_by_macs,
)

SECTION = run(Options(quick=True), lambda share, what: None)
ROWS = {row.what: row for row in SECTION.rows}
ERRORS = {
    "EESEN, times faster than real time": -0.030,
    "RLDRADSPR, times faster than real time": 0.030,
    "peak power (FP32)": -0.050,  # 5 % are neither memory nor operations
    "memories' share of on-chip power (FP32)": 0.053,
    "operations' share of on-chip power (FP32)": 0.0,
    "energy MWL saves, mean of five networks": -0.080,
    "weight-buffer accesses MWL saves, mean": -0.089,
    "run time with MWL, mean": -0.001,
    "FP16 layer of 1024 neurons, per unit": 0.0,
    "EESEN: multipliers past which more gain nothing": 0.0,
}


def test_every_row_is_held_and_met() -> None:
    assert set(ROWS) == set(ERRORS)
    assert all(row.met for row in SECTION.rows)


@pytest.mark.parametrize("what", ERRORS)
def test_error(what: str) -> None:
    assert ROWS[what].error == pytest.approx(ERRORS[what], abs=0.001)


def test_real_time_by_hand() -> None:
    # 64 MACs at 500 MHz over 2 * 4 * 64 * 64 weights a frame, no load, 34 cycles of tail a step: 100 frames/s.
    network = Network.stack("n", "lstm", 1, 64)
    assert real_time_factor(EPUR(replicas=1), network) == pytest.approx(500e6 / (64 * 8 + 34) / 100)


def test_full_rate_power_by_hand() -> None:
    # Resident, FP32: 64 multiply-accumulates a cycle but for the tail, each with 4 bytes of weights.
    network = Network.stack("n", "lstm", 1, 256)
    machine = EPUR(replicas=1, word_bytes=4)
    power = full_rate_power_w(machine, network)
    rate = 8 * 256 * 256 * 500e6 / (256 * 32 + 34)
    assert power["macs"] == pytest.approx(rate * machine.costs.mac_fp32_pj * 1e-12)
    assert power["weight_buffer"] == pytest.approx(rate * 4 * machine.costs.weight_pj_per_byte * 1e-12)
    assert power["static"] == machine.static_w
    assert power["dram"] == 0.0


def test_mwl_saves_on_every_network() -> None:
    savings = mwl_savings()
    assert set(savings) == {"BYSDNE", "RLDRADSPR", "EESEN", "LDLRNN", "GMAT"}
    assert all(20 < saved["energy"] < 45 for saved in savings.values())
    # A third of RLDRADSPR's weights are in the input half, two thirds of EESEN's.
    assert savings["RLDRADSPR"]["weight_buffer"] < savings["GMAT"]["weight_buffer"] < savings["EESEN"]["weight_buffer"]


def test_more_multipliers_stop_helping() -> None:
    # 64 inputs and 64 neurons: 4 * 64 multipliers take each half of a neuron in one cycle.
    first, enough, more = step_s_by_macs(Network.stack("n", "lstm", 1, 64), [64, 256, 1024])
    assert first == pytest.approx((64 * 8 + 34) / 500e6)
    assert enough == more == pytest.approx((64 * 2 + 34) / 500e6)


def test_charts_and_table() -> None:
    charts = {chart.name: chart for chart in SECTION.charts}
    assert set(charts) == {"mwl", "multipliers", "replicas", "energy-readings", "lpddr4"}
    readings = {series.label: series for series in charts["energy-readings"].series}
    assert set(readings) == set(ENERGY_SETS)
    at_32 = {name: series.y[list(series.x).index(32)] for name, series in readings.items()}
    assert at_32["peak-fp16"] < at_32["peak-fp32"] < at_32["circuit"]
    middle = next(series for series in charts["lpddr4"].series if "11" in series.label)
    assert list(middle.y) == pytest.approx(list(readings["peak-fp32"].y))
    throughput = charts["replicas"].series[0].y
    assert list(throughput) == sorted(throughput)
    assert NETWORKS["MNMT"].layers[0].hidden_size == 1024
    assert [row[0] for row in SECTION.tables[0].rows] == list(ENERGY_SETS)


def test_the_summary_quotes_what_was_measured() -> None:
    for figure in ("10 of 10 rows", "25 % (BYSDNE)", "41 % (EESEN)", "2.0x to 4.3x", "1.03x", "2.06x"):
        assert figure in SECTION.summary
