"""E-PUR: hand-computed costs, stairs, residency, bounds and bad values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ebatch_env.machines import ENERGY_SETS, EPUR, EPUREnergy
from ebatch_env.networks import NETWORKS, Network

MIB = 1 << 20
UNIT = EPUREnergy(  # round numbers: sums can be done by hand
    mac_fp16_pj=1.0,
    mac_fp32_pj=2.0,
    weight_pj_per_byte=10.0,
    small_pj_per_byte=0.5,
    intermediate_pj_per_byte=4.0,
    dram_pj_per_bit=12.5,
    leakage_w_per_mib=0.0,
)
SMALL = Network.stack("small", "lstm", 1, 32, input_size=24)
MNMT, EESEN = NETWORKS["MNMT"], NETWORKS["EESEN"]


def test_step_time_by_hand() -> None:
    # 32 neurons, each ceil(24 / 16) + ceil(32 / 16) = 4 cycles, then the tail of 34: 162 cycles of 2 ns.
    table = EPUR(replicas=1).cost_table(SMALL, 2)
    np.testing.assert_allclose(table.step_s, [[0, 162 * 2e-9, (2 * 128 + 34) * 2e-9]], rtol=1e-12)


def test_both_directions_take_twice_the_time() -> None:
    table = EPUR().cost_table(EESEN, 1)
    cycles = 2 * (320 * (40 + 20) + 34)
    np.testing.assert_allclose(table.step_s[1, 1], cycles / 500e6, rtol=1e-12)
    np.testing.assert_allclose(table.step_s[0, 1], 2 * (320 * (8 + 20) + 34) / 500e6, rtol=1e-12)
    assert table.whole_sequences
    assert not EPUR().cost_table(MNMT, 1).whole_sequences


@pytest.mark.parametrize("replicas", [1, 5, 32])
def test_stairs(replicas: int) -> None:
    step_s = EPUR(replicas=replicas, mfu_tail_cycles=0).cost_table(MNMT, 64).step_s[0]
    np.testing.assert_allclose(step_s, np.ceil(np.arange(65) / replicas) * step_s[1], rtol=1e-12)


def test_energy_of_a_step_by_hand() -> None:
    # Inputs 24 and neurons 32 in FP16: 4 * 32 * 56 = 7168 weights.
    table = EPUR(energy=UNIT).cost_table(SMALL, 2)
    parts = table.parts
    np.testing.assert_allclose(parts["macs"].step_j, [[0, 7168e-12, 2 * 7168e-12]], rtol=1e-12)
    np.testing.assert_allclose(parts["weight_buffer"].step_j, [[0, 143360e-12, 143360e-12]], rtol=1e-12)  # read once
    lane = 7168 * 2 * 0.5 + (24 + 32) * 2 * 4 * 0.5 + (24 + 32) * 2 * 4.0 + 32 * 13 * 1.0
    np.testing.assert_allclose(parts["activations"].step_j, [[0, lane * 1e-12, 2 * lane * 1e-12]], rtol=1e-12)
    assert not parts["dram"].step_j.any()


def test_a_network_that_fits_stays() -> None:
    for machine in (EPUR(), EPUR.with_mwl()):
        table = machine.cost_table(NETWORKS["LDLRNN"], 8)
        assert not table.load_s.any()
        assert not table.load_j.any()
        assert not table.prefetch


def test_load_is_what_the_first_step_does_not_cover() -> None:
    table = EPUR(energy=UNIT).cost_table(MNMT, 32)
    size = 4 * 1024 * 2048 * 2
    first_step_s = (1024 * 128 + 34) / 500e6
    np.testing.assert_allclose(table.load_s, np.full(8, size / 30e9 - first_step_s), rtol=1e-12)
    np.testing.assert_allclose(table.parts["dram"].load_j, np.full(8, size * 8 * 12.5e-12), rtol=1e-12)
    assert not table.prefetch
    hidden = EPUR(bandwidth_bytes_per_s=1e12).cost_table(MNMT, 32)
    assert not hidden.load_s.any()
    assert hidden.load_j.all()


def test_prefetch_where_two_layers_fit() -> None:
    table = EPUR().cost_table(NETWORKS["BYSDNE"], 4)
    assert table.prefetch
    np.testing.assert_allclose(table.load_s, 4 * 512 * 1024 * 2 / 30e9, rtol=1e-12)  # the whole transfer
    # A GRU uses three of four units, so a unit holds a third of a layer: two of 800 do not fit.
    assert not EPUR().cost_table(NETWORKS["DeepSpeech2"], 4).prefetch
    assert EPUR(weight_memory_bytes=32 * MIB).cost_table(NETWORKS["DeepSpeech2"], 4).prefetch


def test_a_layer_too_large_streams_what_does_not_fit_at_every_step() -> None:
    network = Network.stack("wide", "lstm", 2, 2048)  # 64 MiB a layer in FP16, 48 of them do not fit
    table = EPUR(energy=UNIT, intermediate_memory_bytes=64 * MIB).cost_table(network, 4)
    stream_s, total_s = 48 * MIB / 30e9, 64 * MIB / 30e9
    np.testing.assert_allclose(table.step_s[:, 1:], stream_s, rtol=1e-12)  # slower than the 1.05 ms of work
    np.testing.assert_allclose(table.load_s, total_s - stream_s, rtol=1e-12)
    np.testing.assert_allclose(table.parts["dram"].step_j[:, 1:], 48 * MIB * 8 * 12.5e-12, rtol=1e-12)
    np.testing.assert_allclose(table.parts["dram"].load_j, 16 * MIB * 8 * 12.5e-12, rtol=1e-12)


def test_mwl_halves_the_weight_reads_and_keeps_the_time() -> None:
    plain, mwl = EPUR(energy=UNIT).cost_table(MNMT, 32), EPUR.with_mwl(energy=UNIT).cost_table(MNMT, 32)
    np.testing.assert_array_equal(plain.step_s, mwl.step_s)
    np.testing.assert_allclose(plain.load_s, mwl.load_s, rtol=1e-12)
    half = 4 * 1024 * 1024 * 2  # bytes
    np.testing.assert_allclose(mwl.parts["weight_buffer"].step_j[:, 1:], half * (10 + 0.5) * 1e-12, rtol=1e-12)
    np.testing.assert_allclose(plain.parts["weight_buffer"].step_j[:, 1:], half * 20e-12, rtol=1e-12)
    # The forward half comes from DRAM with each sweep; a join needs one more.
    np.testing.assert_allclose(mwl.parts["dram"].input_j, half * 8 * 12.5e-12, rtol=1e-12)
    np.testing.assert_allclose(mwl.parts["dram"].load_j, half * 8 * 12.5e-12, rtol=1e-12)
    assert mwl.has_input_gemm
    assert not mwl.input_floor_s.any()
    assert not plain.has_input_gemm


def test_mwl_keeps_all_recurrent_halves_where_they_fit() -> None:
    table = EPUR.with_mwl(energy=UNIT).cost_table(EESEN, 1)  # 10 * 4 * 320 * 320 * 2 bytes: 7.8 of 8 MiB
    assert not table.load_j.any()
    assert table.parts["dram"].input_j.all()
    resident = EPUR.with_mwl(energy=UNIT).cost_table(NETWORKS["LDLRNN"], 1)
    np.testing.assert_allclose(resident.parts["weight_buffer"].input_j, 4 * 128 * 128 * 2 * 10e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("network", "lanes", "plain", "mwl"),
    [("MNMT", 32, 48, 16), ("MNMT", 64, 24, 8), ("EESEN", 1, 2457, 1228), ("DeepSpeech2", 32, 61, 24)],
)
def test_intermediate_memory_bounds_the_steps(network: str, lanes: int, plain: int, mwl: int) -> None:
    # MNMT: 3 MiB / (1024 * 2 bytes) = 1536 lane-steps; MWL adds 4 * 1024 partial sums of a byte: 512.
    assert EPUR().cost_table(NETWORKS[network], lanes).max_time_steps == plain
    assert EPUR.with_mwl().cost_table(NETWORKS[network], lanes).max_time_steps == mwl
    assert EPUR(spill=True).cost_table(NETWORKS[network], lanes).max_time_steps == 4096


def test_spilling_costs_dram_traffic() -> None:
    plain = EPUR(energy=UNIT).cost_table(EESEN, 4)
    spill = EPUR(energy=UNIT, spill=True).cost_table(EESEN, 4)
    traffic = 2 * 640 * 2 * np.arange(5)
    np.testing.assert_allclose(spill.step_j - plain.step_j, np.tile(traffic * 8 * 12.5e-12, (5, 1)), atol=1e-15)
    np.testing.assert_array_equal(spill.step_s, plain.step_s)  # the traffic hides behind the work
    slow = EPUR(spill=True, bandwidth_bytes_per_s=1e7).cost_table(EESEN, 4)
    np.testing.assert_allclose(slow.step_s[1], traffic / 1e7, rtol=1e-12)


def test_leakage() -> None:
    energy = replace(UNIT, leakage_w_per_mib=0.01)
    assert EPUR(energy=energy).static_w == pytest.approx(0.01 * (16 + 6 + 1))  # 4 * 32 input memories of 8 KiB
    assert EPUR(energy=energy, replicas=1).static_w == pytest.approx(0.01 * (22 + 1 / 32))


def test_energy_sets_by_hand() -> None:
    wide, narrow, circuit = (ENERGY_SETS[name] for name in ("peak-fp32", "peak-fp16", "circuit"))
    assert wide.mac_fp32_pj == pytest.approx(0.15 * 975 / 32)  # mW / (GMAC/s) = pJ
    assert wide.mac_fp16_pj == pytest.approx(4.570 * 1.5 / 4.6, rel=1e-3)
    assert narrow.mac_fp16_pj == wide.mac_fp32_pj
    assert wide.leakage_w_per_mib == pytest.approx((0.780 - 128 * 4.3695e-3) / 22.03125, rel=1e-3)
    # The machine-level figure: everything the memories draw over the 64 GB/s of FP16 weights, 10-12 pJ per byte.
    assert 10 < 1e3 * narrow.leakage_w_per_mib * 22.03125 / 64 + narrow.weight_pj_per_byte < 12
    assert circuit.leakage_w_per_mib == 0.0
    assert circuit.mac_fp16_pj == pytest.approx(1.5 * 28 / 45 * (0.78 / 0.9) ** 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frequency_hz": 0.0}, r"frequency_hz must be a finite number in \(0, inf\], got 0.0"),
        ({"bandwidth_bytes_per_s": float("nan")}, "bandwidth_bytes_per_s must be .* got nan"),
        ({"replicas": 0}, r"replicas must be an integer in 1..65536, got 0"),
        ({"units": 3}, r"units must be an integer in 4..65536, got 3"),
        ({"dot_width": 1.5}, "dot_width must be an integer .* got 1.5"),
        ({"word_bytes": 3}, "word_bytes must be 2 or 4, got 3"),
        ({"mwl": 1}, "mwl must be True or False, got 1"),
        ({"name": 1}, "name must be a string, got 1"),
        ({"energy": "none"}, "energy must be one of peak-fp32, peak-fp16, circuit, .* got 'none'"),
        ({"energy": {"mac_pj": 1.0}}, "energy must be a mapping of the fields of EPUREnergy"),
        ({"energy": {"mac_fp16_pj": -1.0, "mac_fp32_pj": 1.0}}, r"mac_fp16_pj must be .* \[0, inf\], got -1.0"),
    ],
)
def test_bad_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EPUR(**fields)


def test_bad_lanes() -> None:
    with pytest.raises(ValueError, match=r"lanes must be an integer in 1..4096, got 0"):
        EPUR().cost_table(MNMT, 0)
    with pytest.raises(ValueError, match=r"lanes must be an integer in 1..1536 for 'MNMT' on 'epur'.* got 1537"):
        EPUR().cost_table(MNMT, 1537)
    with pytest.raises(ValueError, match="network must leave room for one step of one lane"):
        EPUR(intermediate_memory_bytes=2048.0).cost_table(MNMT, 1)
