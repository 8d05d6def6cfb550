"""Brainwave: hand-computed native matrices, cycles and powers; bad values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebatch_env.machines import Brainwave
from ebatch_env.networks import NETWORKS, Network


def test_peak() -> None:
    machine = Brainwave()
    multipliers = machine.tiles * machine.native_dim * machine.native_lanes
    assert multipliers == 96_000  # the paper's abstract
    assert 2 * multipliers * machine.frequency_hz / 1e12 == pytest.approx(48.0)


@pytest.mark.parametrize(
    ("cell", "hidden", "native", "matrix", "step"),
    [
        ("lstm", 256, 8, 20, 630),
        ("lstm", 1024, 8 * 9, 120, 630),
        ("lstm", 2048, 8 * 36, 480, 630),
        ("gru", 512, 6 * 4, 40, 630),
        ("gru", 2560, 6 * 49, 490, 630),
        ("gru", 2816, 6 * 64, 640, 640),  # the matrix work shows at last
    ],
)
def test_cycles_by_hand(cell: str, hidden: int, native: int, matrix: int, step: int) -> None:
    layer = Network.stack("n", cell, 1, hidden).layers[0]
    machine = Brainwave()
    assert machine.native_matrices(layer) == native
    assert machine.matrix_cycles(layer) == matrix
    assert machine.step_cycles(layer) == step


def test_input_matrices_are_padded_by_themselves() -> None:
    layer = Network.stack("n", "gru", 1, 401, input_size=100).layers[0]
    assert Brainwave().native_matrices(layer) == 3 * (2 * 1 + 2 * 2)


def test_one_call_and_one_sequence_after_the_other() -> None:
    table = Brainwave().cost_table(NETWORKS["MNMT"], 8)
    np.testing.assert_allclose(table.step_s, np.tile(630 * np.arange(9) / 250e6, (8, 1)), rtol=1e-12)
    np.testing.assert_allclose(table.load_s, [2620 / 250e6, *[0.0] * 7], rtol=1e-12)
    assert float(table.round_s(10, 1)) == pytest.approx((2620 + 8 * 10 * 630) / 250e6, rel=1e-12)
    assert not table.load_j.any()


def test_fpgas_and_power() -> None:
    # 576 native matrices of 160,000 weights of 3.0125 bits: 278 Mbit, of 240 an FPGA.
    machine = Brainwave()
    assert machine.fpgas(NETWORKS["MNMT"]) == 2
    assert machine.fpgas(NETWORKS["DeepSpeech2"]) == 1
    table = machine.cost_table(NETWORKS["MNMT"], 4)
    assert table.static_w == 100.0
    # The FPGA that works draws its 125 W, the other idles at 50.
    assert float(table.round_j(64, 4) / table.round_s(64, 4)) == pytest.approx(175.0, rel=1e-3)


def test_both_directions_double_the_step() -> None:
    one, two = (Brainwave().cost_table(Network.stack("n", "lstm", 1, 256, directions=d), 2) for d in (1, 2))
    np.testing.assert_allclose(two.step_s, 2 * one.step_s, rtol=1e-12)
    assert two.whole_sequences


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frequency_hz": -1.0}, r"frequency_hz must be a finite number in \(0, inf\], got -1.0"),
        ({"tiles": 0}, r"tiles must be an integer in 1..1048576, got 0"),
        ({"chain_cycles": 0}, r"chain_cycles must be an integer in 1..1048576, got 0"),
        ({"busy_w": 49.0}, r"busy_w must be a finite number in \[50, inf\], got 49.0"),
        ({"notifies": None}, "notifies must be True or False, got None"),
        ({"name": 1}, "name must be a string, got 1"),
    ],
)
def test_bad_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Brainwave(**fields)


def test_bad_lanes() -> None:
    with pytest.raises(ValueError, match=r"lanes must be an integer in 1..4096, got 4097"):
        Brainwave().cost_table(NETWORKS["MNMT"], 4097)
