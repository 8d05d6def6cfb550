"""TPU v1: hand-computed tiles, times and energies, bounds and bad values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebatch_env.machines import TPUv1
from ebatch_env.networks import NETWORKS, Network

TILE_S = 65536 / 34e9
MNMT = NETWORKS["MNMT"]


def test_tile_cost() -> None:
    machine = TPUv1()
    assert float(machine.tile_s(1)) == pytest.approx(TILE_S)
    assert float(machine.tile_s(1349)) == pytest.approx(TILE_S)
    assert float(machine.tile_s(2000)) == pytest.approx(2000 / 700e6)
    fast = TPUv1(bandwidth_bytes_per_s=1e15)
    np.testing.assert_allclose(fast.tile_s([1, 256, 300]), np.array([256, 256, 300]) / 700e6)  # the shift is the floor
    assert float(TPUv1(activation_bytes=2).tile_s(1000)) == pytest.approx(2000 / 700e6)  # 16 bits: half speed


@pytest.mark.parametrize(
    ("network", "inputs", "recurrent"),
    [
        (Network.stack("n", "lstm", 1, 1024), 4 * 16, 4 * 16),
        (Network.stack("n", "lstm", 1, 600), 4 * 9, 4 * 9),
        (Network.stack("n", "gru", 1, 257, input_size=1), 3 * 2, 3 * 4),
        (Network.stack("n", "lstm", 1, 320, input_size=120, directions=2), 8 * 2, 8 * 4),
    ],
)
def test_tiles(network: Network, inputs: int, recurrent: int) -> None:
    found = TPUv1().tiles(network)
    assert (found[0][0], found[1][0]) == (inputs, recurrent)


def test_step_time_by_hand() -> None:
    table = TPUv1().cost_table(MNMT, 64)
    # 64 recurrent tiles; drain 512 cycles; for each lane, at 15 cycles a row of 256 bytes: 4 sums of 2048 bytes (the
    # gates' input parts in 16 bits), 5 operations on 1024 bytes (three for the cell state, its tanh, the output).
    for busy in (1, 17, 64):
        expected = 64 * TILE_S + (512 + 15 * (4 * 8 + 5 * 4) * busy) / 700e6
        np.testing.assert_allclose(table.step_s[:, busy], expected, rtol=1e-12)
    assert not table.load_s.any()
    assert not table.load_j.any()
    assert not table.prefetch


def test_input_gemm_streams_once_per_pass() -> None:
    table = TPUv1().cost_table(MNMT, 32)
    np.testing.assert_allclose(table.input_floor_s, 64 * TILE_S, rtol=1e-12)
    np.testing.assert_allclose(table.input_row_s, 64 / 700e6, rtol=1e-12)
    np.testing.assert_allclose(table.input_j, 64 * 65536 * 8 * 30e-12, rtol=1e-12)
    saved = 8 * table.round_s(1, 32) - table.round_s(8, 32)
    assert float(saved) == pytest.approx(8 * 7 * 64 * TILE_S)  # 8 layers, 7 sweeps of 64 tiles


def test_energy_of_a_step_by_hand() -> None:
    machine = TPUv1(
        mac_pj=1.0, dram_pj_per_bit=2.0, unified_buffer_pj_per_byte=3.0, accumulator_pj_per_byte=0.5, vector_op_pj=7.0
    )
    parts = machine.cost_table(Network.stack("n", "lstm", 1, 300, input_size=100), 2).parts
    one, two = (pytest.approx, lambda x: pytest.approx(2 * x))
    macs = 4 * 300 * 400 * 1e-12
    tiles = 4 * (1 * 2 + 2 * 2)
    buffer = tiles * 256 + 300 * (2 * 4 * 2 + 1)
    activations = (buffer * 3.0 + tiles * 256 * 8 * 0.5) * 1e-12
    vector = 300 * 13 * 7e-12
    for name, each in (("macs", macs), ("activations", activations), ("vector", vector)):
        assert parts[name].step_j[0, 1] == one(each)
        assert parts[name].step_j[0, 2] == two(each)
    dram = 16 * 65536 * 8 * 2e-12
    np.testing.assert_allclose(parts["dram"].step_j, [[0, dram, dram]], rtol=1e-12)
    np.testing.assert_allclose(parts["dram"].input_j, [8 * 65536 * 8 * 2e-12], rtol=1e-12)


def test_vector_work_of_a_gru_with_16_bits() -> None:
    network = Network.stack("n", "gru", 1, 300, input_size=100, directions=2)
    machine = TPUv1(activation_bytes=2, partial_sum_bytes=4, instruction_cycles=10.0)
    # Per direction and lane: 3 sums of 1200 bytes (5 rows), 5 operations on 600 bytes (3 rows).
    expected = 2 * (512 + 10 * (3 * 5 + 5 * 3) * 7) / 700e6
    assert float(machine.vector_s(network, 7)[0]) == pytest.approx(expected)
    assert float(machine.vector_s(network, 0)[0]) == 0.0


def test_16_bits_double_the_array_s_energy() -> None:
    network = Network.stack("n", "lstm", 1, 256)
    narrow, wide = (TPUv1(activation_bytes=size, unified_buffer_pj_per_byte=0.0) for size in (1, 2))
    for part in ("macs", "activations"):
        one, two = (machine.cost_table(network, 2).parts[part].step_j for machine in (narrow, wide))
        np.testing.assert_allclose(two, 2 * one)


def test_both_directions_double_the_step() -> None:
    one = TPUv1().cost_table(Network.stack("n", "lstm", 1, 256), 4)
    two = TPUv1().cost_table(Network.stack("n", "lstm", 1, 256, directions=2), 4)
    np.testing.assert_allclose(two.step_s, 2 * one.step_s, rtol=1e-12)
    assert two.whole_sequences


@pytest.mark.parametrize(
    ("network", "lanes", "steps"), [("MNMT", 32, 76), ("MNMT", 64, 38), ("DeepSpeech2", 32, 122), ("EESEN", 64, 61)]
)
def test_unified_buffer_bounds_the_steps(network: str, lanes: int, steps: int) -> None:
    # MNMT: 1024 in, 1024 out and 4 * 1024 two-byte gate parts: 24 MiB / 10240 = 2457 lane-steps.
    assert TPUv1().cost_table(NETWORKS[network], lanes).max_time_steps == steps


def test_idle_power() -> None:
    assert TPUv1().cost_table(MNMT, 1).static_w == 28.0


def test_dynamic_power_stays_within_idle_to_busy() -> None:
    # Google: 28 W idle, 40 W busy. A weight-bound LSTM must stay below.
    for batch in (1, 32, 64):
        table = TPUv1().cost_table(NETWORKS["LSTM0"], batch)
        power_w = float(table.round_j(1, batch) / table.round_s(1, batch))
        assert 28.0 < power_w < 40.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frequency_hz": -1.0}, r"frequency_hz must be a finite number in \(0, inf\], got -1.0"),
        ({"array": 0}, r"array must be an integer in 1..16384, got 0"),
        ({"activation_bytes": 3}, r"activation_bytes must be an integer in 1..2, got 3"),
        ({"path_bytes": 0}, r"path_bytes must be an integer in 1..16384, got 0"),
        ({"instruction_cycles": float("nan")}, r"instruction_cycles must be a finite number in \[0, inf\], got nan"),
        ({"dram_pj_per_bit": -0.1}, r"dram_pj_per_bit must be .* got -0.1"),
        ({"idle_w": "28"}, "idle_w must be .* got '28'"),
        ({"notifies": 1}, "notifies must be True or False, got 1"),
        ({"name": None}, "name must be a string, got None"),
    ],
)
def test_bad_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TPUv1(**fields)


def test_bad_lanes() -> None:
    with pytest.raises(ValueError, match=r"lanes must be an integer in 1..4096, got 5000"):
        TPUv1().cost_table(MNMT, 5000)
    with pytest.raises(ValueError, match=r"lanes must be an integer in 1..2457 for 'MNMT' on 'tpu'.* got 2458"):
        TPUv1().cost_table(MNMT, 2458)
