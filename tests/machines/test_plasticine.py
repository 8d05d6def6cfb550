"""Plasticine: hand-computed cycles, units, memory and energies; the search against enumeration; bad values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ebatch_env.machines.plasticine import CHAIN_UNITS, Loops, Plasticine
from ebatch_env.networks import NETWORKS, Network

LSTM = Network.stack("lstm", "lstm", 1, 1024)
GRU = Network.stack("gru", "gru", 1, 1024)
ONE = Plasticine(hu=4, ru=8)


def test_peak() -> None:
    machine = Plasticine()
    assert machine.products_per_cycle == 64
    # Every stage of every lane works on 4 packed bytes: 49 peak TOPS are recalled.
    operations = machine.compute_units * machine.vector_lanes * machine.stages * machine.packed
    assert operations * machine.frequency_hz / 1e12 == pytest.approx(49.2, abs=0.05)
    assert machine.compute_units * machine.compute_unit_w + machine.memory_units * machine.memory_unit_w == (
        pytest.approx(158.3, abs=0.05)
    )


@pytest.mark.parametrize(
    ("cell", "loops", "units"),
    [
        ("lstm", Loops(4, 8), 4 * 32 + 4 * 4 + 4 * 11),  # dot products, one sum each, 4 * 2 + 2 + 1 element-wise
        ("gru", Loops(5, 8), 3 * 40 + 3 * 5 + 5 * 7),  # 2 * 2 + 2 + 1
        ("lstm", Loops(2, 1), 8 + 0 + 22),  # a single partial product needs no sum
        ("gru", Loops(1, 40), 120 + 3 * (3 + 1) + 7),  # 40 partial products: 3 units, then 1
    ],
)
def test_compute_units(cell: str, loops: Loops, units: int) -> None:
    layer = Network.stack("n", cell, 1, 2560).layers[0]
    assert Plasticine().compute_units_needed(layer, loops) == units


@pytest.mark.parametrize(
    ("hidden", "loops", "weights"),
    [(1024, Loops(4, 8), 128), (1536, Loops(4, 8), 256), (2048, Loops(4, 8), 512), (1024, Loops(1, 1), 4 * 25)],
)
def test_memory_units(hidden: int, loops: Loops, weights: int) -> None:
    # A dot-product unit of LSTM 1024 at (4, 8) has 65,536 bytes of weights, of 1536 147,456, of 2048 262,144.
    layer = Network.stack("n", "lstm", 1, hidden).layers[0]
    assert Plasticine().memory_units_needed(layer, loops) == weights + loops.ru + 5 * loops.hu


def test_latency_by_hand() -> None:
    seconds = float(ONE.cost_table(LSTM, 1).round_s(25, 1))
    assert seconds == pytest.approx((25 * (256 * 4 + 142) + 50) * 1e-9, rel=1e-12)
    seconds = float(Plasticine(hu=5, ru=8).cost_table(GRU, 1).round_s(1500, 1))
    assert seconds == pytest.approx((1500 * (205 * 4 + 142) + 50) * 1e-9, rel=1e-12)


def test_lanes_follow_each_other_through_the_pipeline() -> None:
    table = ONE.cost_table(LSTM, 8)
    np.testing.assert_allclose(table.step_s[0, 1:], (1024 * np.arange(1, 9) + 142) * 1e-9, rtol=1e-12)
    np.testing.assert_allclose(table.step_j[0], table.step_j[0, 1] * np.arange(9), rtol=1e-12)
    assert not table.load_j.any()
    assert not table.has_input_gemm
    assert not table.prefetch


def test_input_and_recurrent_part_are_one_dot_product() -> None:
    narrow = Network.stack("n", "lstm", 1, 1024, input_size=100).layers[0]
    assert Plasticine().work_cycles(narrow, Loops(4, 8)) == 256 * math.ceil(1124 / 512)


def test_both_directions_double_the_step() -> None:
    one, two = (ONE.cost_table(Network.stack("n", "lstm", 1, 512, directions=d), 4) for d in (1, 2))
    np.testing.assert_allclose(two.step_s, 2 * one.step_s, rtol=1e-12)
    assert two.whole_sequences


def test_a_second_sum_adds_its_share_of_the_latency() -> None:
    layer = LSTM.layers[0]
    assert [Plasticine().latency_cycles(layer, Loops(1, ru)) for ru in (1, 16, 17)] == [142, 142, 142 + 13]
    assert round(142 / CHAIN_UNITS) == 13


@pytest.mark.parametrize("weights_fit", [False, True])
@pytest.mark.parametrize(("cell", "hidden"), [("lstm", 256), ("lstm", 1536), ("gru", 512), ("gru", 2048), ("gru", 800)])
def test_search_finds_the_best_of_all(cell: str, hidden: int, weights_fit: bool) -> None:
    machine = Plasticine()
    layer = Network.stack("n", cell, 1, hidden).layers[0]
    gates, widest = layer.gates, math.ceil(2 * hidden / 64)
    element_wise = {"lstm": 11, "gru": 7}[cell]
    fewest = math.inf
    for hu in range(1, 193):
        for ru in range(1, widest + 1):
            sums, level = 0, ru
            levels = 0
            while level > 1:
                level = math.ceil(level / 16)
                sums, levels = sums + level, levels + 1
            columns = gates * hu * ru
            if columns + gates * hu * sums + hu * element_wise > 192:
                continue
            banks = columns * math.ceil(layer.weights / columns / 86016) + ru + hu * {"lstm": 5, "gru": 3}[cell]
            if not weights_fit or banks <= 384:
                work = math.ceil(hidden / hu) * math.ceil(2 * hidden / (64 * ru))
                fewest = min(fewest, work + 142 + 13 * max(0, levels - 1))
    found = machine.search([layer], weights_fit)
    assert machine.work_cycles(layer, found) + machine.latency_cycles(layer, found) == fewest
    assert machine.compute_units_needed(layer, found) <= machine.compute_units


def test_nothing_fits() -> None:
    with pytest.raises(ValueError, match="layers must have an unrolling within 10 compute and 384 memory units"):
        Plasticine(compute_units=10).cost_table(LSTM, 1)
    large = Network.stack("n", "gru", 1, 2560).layers
    with pytest.raises(ValueError, match="layers must have an unrolling .* got .*2560"):
        Plasticine().search(large, weights_fit=True)
    with pytest.raises(ValueError, match=r"hu and ru must be within 192 compute units \(needed: 235\), got \(5, 8\)"):
        Plasticine(hu=5, ru=8).cost_table(LSTM, 1)


def test_chips_and_time_steps_by_hand() -> None:
    # Layers of 128 memory units; vectors 8 and tables 20 leave 356 on a chip: two layers each, four chips.
    mnmt = NETWORKS["MNMT"]
    table = ONE.cost_table(mnmt, 64)
    assert table.static_w == 4 * 32.0
    left = (4 * 356 - 8 * 128) * 84 * 1024 - 64 * 8 * 1024 * 5
    assert table.max_time_steps == left // (64 * 2048)
    assert Plasticine(hu=4, ru=8, chips=5).cost_table(mnmt, 64).static_w == 160.0
    with pytest.raises(ValueError, match="chips must be >= 4 for 'MNMT' with 64 lanes, got 3"):
        Plasticine(hu=4, ru=8, chips=3).cost_table(mnmt, 64)
    # 512 units of weights: more than one chip's 356.
    assert ONE.cost_table(Network.stack("n", "lstm", 1, 2048), 1).static_w == 64.0


def test_lanes_may_need_another_chip() -> None:
    one, many = (ONE.cost_table(LSTM, lanes) for lanes in (64, 4096))
    assert one.static_w == 32.0
    # (1024 * 5 bytes of state and 2048 of one step) * 4096 lanes: 342 units beside the 128 of the weights.
    assert many.static_w == 64.0
    assert many.max_time_steps >= 1


def test_energy_by_hand() -> None:
    machine = Plasticine(hu=4, ru=8, compute_unit_w=2.0, memory_unit_w=3.0)
    parts = machine.cost_table(LSTM, 2).parts
    cycles = 1024e-9
    compute = cycles * (128 + 60 / 4) * 2.0  # sums and element-wise units work once in the 4 cycles of a dot product
    memory = cycles * (128 + 8 + 20 / 4) * 3.0
    np.testing.assert_allclose(parts["compute"].step_j[0], [0, compute, 2 * compute], rtol=1e-12)
    np.testing.assert_allclose(parts["memory"].step_j[0], [0, memory, 2 * memory], rtol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frequency_hz": 0.0}, r"frequency_hz must be a finite number in \(0, inf\], got 0.0"),
        ({"compute_units": 0}, r"compute_units must be an integer in 1..65536, got 0"),
        ({"fan_in": 1}, r"fan_in must be an integer in 2..1024, got 1"),
        ({"hu": 4}, r"hu and ru must be both given or both None, got \(4, None\)"),
        ({"hu": 0, "ru": 1}, r"hu must be an integer in 1..65536, got 0"),
        ({"chips": 1.5}, "chips must be an integer .* got 1.5"),
        ({"idle_w": -1.0}, r"idle_w must be .* \[0, inf\], got -1.0"),
        ({"notifies": 1}, "notifies must be True or False, got 1"),
        ({"name": 1}, "name must be a string, got 1"),
    ],
)
def test_bad_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plasticine(**fields)


def test_bad_lanes() -> None:
    with pytest.raises(ValueError, match=r"lanes must be an integer in 1..4096, got 0"):
        Plasticine().cost_table(LSTM, 0)
    with pytest.raises(ValueError, match="memory_units must be more than vectors and function tables take, got 20"):
        Plasticine(hu=4, ru=8, memory_units=20).cost_table(LSTM, 1)
