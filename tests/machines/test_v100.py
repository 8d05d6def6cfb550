"""V100: hand-computed floors, roofline, input product and energies; bad values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebatch_env.machines import MACHINES, V100
from ebatch_env.networks import NETWORKS, Network

LSTM = Network.stack("lstm", "lstm", 1, 1024)
RECURRENT = 4 * 1024 * 1024
PER_LANE = 6 * 1024 * 2  # bytes of a lane-step: four gates' input parts, the state in and out


def test_step_is_floor_plus_traffic() -> None:
    table = V100().cost_table(LSTM, 64)
    for busy in (1, 17, 64):
        expected = 8.1e-6 + (RECURRENT * 2 + busy * PER_LANE) / 790e9
        assert table.step_s[0, busy] == pytest.approx(expected, rel=1e-12)
    assert table.step_s[0, 64] < 1.1 * table.step_s[0, 1]  # what makes batching pay


def test_multipliers_bound_large_batches() -> None:
    table = V100().cost_table(LSTM, 4096)
    assert table.step_s[0, 4096] == pytest.approx(8.1e-6 + 4096 * 2 * RECURRENT / 125e12, rel=1e-12)


def test_overlap_hides_the_smaller() -> None:
    small, large = (Network.stack("n", "lstm", 1, h) for h in (256, 2048))
    table = V100(overlap=True).cost_table(small, 4)
    np.testing.assert_allclose(table.step_s[0, 1:], 8.1e-6, rtol=1e-12)
    table = V100(overlap=True).cost_table(large, 1)
    assert table.step_s[0, 1] == pytest.approx((4 * 2048**2 * 2 + 6 * 2048 * 2) / 790e9, rel=1e-12)


def test_one_call_per_round() -> None:
    table = V100().cost_table(NETWORKS["MNMT"], 4)
    np.testing.assert_array_equal(table.load_s, [0.38e-3, *[0.0] * 7])
    saved = 8 * float(table.round_s(1, 1)) - float(table.round_s(8, 1))
    floor_s = 8.1e-6 / 2 + RECURRENT * 2 / 790e9  # 8 rows of the input product take no longer than one
    assert saved == pytest.approx(7 * (0.38e-3 + 8 * floor_s), rel=1e-12)


def test_input_product() -> None:
    table = V100().cost_table(Network.stack("n", "gru", 1, 1024, input_size=512), 4)
    weights = 3 * 1024 * 512
    assert table.input_floor_s[0] == pytest.approx(4.05e-6 + weights * 2 / 790e9, rel=1e-12)
    row_s = max((512 + 3 * 1024) * 2 / 790e9, 2 * weights / 125e12)
    assert table.input_row_s[0] == pytest.approx(row_s, rel=1e-12)


def test_energy_by_hand() -> None:
    machine = V100(hbm_pj_per_bit=1.0, active_w=10.0)
    parts = machine.cost_table(LSTM, 2).parts
    mac_pj = (300 - 50 - 10 - 790e9 * 8e-12) / 62.5e12 * 1e12
    assert machine.mac_pj == pytest.approx(mac_pj)
    np.testing.assert_allclose(parts["macs"].step_j[0], 2 * RECURRENT * mac_pj * 1e-12 * np.arange(3), rtol=1e-12)
    row = 5 * 1024 * 2
    traffic = [0, RECURRENT * 2 + PER_LANE + row, RECURRENT * 2 + 2 * (PER_LANE + row)]
    np.testing.assert_allclose(parts["hbm"].step_j[0], np.array(traffic) * 8e-12, rtol=1e-12)
    np.testing.assert_allclose(parts["hbm"].input_j, RECURRENT * 2 * 8e-12, rtol=1e-12)
    np.testing.assert_allclose(parts["active"].step_j, 10.0 * machine.cost_table(LSTM, 2).step_s, rtol=1e-12)


def test_full_rate_draws_the_boards_power() -> None:
    machine = V100()
    rate_w = machine.mac_pj * 1e-12 * machine.flops / 2 + machine.bandwidth_bytes_per_s * 8e-12 * machine.hbm_pj_per_bit
    assert rate_w + machine.active_w + machine.idle_w == pytest.approx(300.0)
    table = machine.cost_table(LSTM, 4096)
    assert 150.0 < float(table.round_j(1, 4096) / table.round_s(1, 4096)) < 300.0


def test_time_steps_are_bounded_by_tables_then_by_memory() -> None:
    assert V100().cost_table(NETWORKS["MNMT"], 64).max_time_steps == 4096
    table = V100(memory_bytes=200e6).cost_table(NETWORKS["MNMT"], 64)
    assert table.max_time_steps == int((200e6 - 2 * 67108864) // (64 * 6 * 1024 * 2))
    with pytest.raises(ValueError, match="memory_bytes must be more than the weights of 'MNMT' take, got 1"):
        V100(memory_bytes=100e6).cost_table(NETWORKS["MNMT"], 64)


def test_the_librarys_call_is_no_notifying_machine() -> None:
    assert MACHINES["v100"].cost_table(LSTM, 1).notifies
    baseline = MACHINES["v100-baseline"].cost_table(LSTM, 4)
    assert not baseline.notifies
    np.testing.assert_array_equal(baseline.step_s, MACHINES["v100"].cost_table(LSTM, 4).step_s)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bandwidth_bytes_per_s": 0.0}, r"bandwidth_bytes_per_s must be a finite number in \(0, inf\], got 0.0"),
        ({"step_floor_s": -1e-6}, r"step_floor_s must be .* \[0, inf\], got -1e-06"),
        ({"word_bytes": 8}, r"word_bytes must be an integer in 1..4, got 8"),
        ({"board_w": 100.0}, "board_w must be >= idle_w .* got 100.0"),
        ({"overlap": 1}, "overlap must be True or False, got 1"),
        ({"notifies": "yes"}, "notifies must be True or False, got 'yes'"),
        ({"name": None}, "name must be a string, got None"),
    ],
)
def test_bad_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        V100(**fields)


def test_bad_lanes() -> None:
    with pytest.raises(ValueError, match=r"lanes must be an integer in 1..4096, got 0"):
        V100().cost_table(LSTM, 0)
