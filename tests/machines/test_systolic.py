"""Systolic arithmetic against hand counts and against runs of two independent simulators."""

from __future__ import annotations

import numpy as np
import pytest

from ebatch_env.machines.systolic import serial_cycles, streamed_cycles, tile_count

BATCHES = np.array([1, 8, 32, 64, 128, 256])
# Runs with a 256x256 weight-stationary array, 1024 inputs, 4096 outputs; ZigZag with everything from 34 GB/s.
SCALE_SIM = np.array([49087, 49535, 51071, 53119, 57215, 65407])
ZIGZAG = np.array([86857, 87572, 90031, 93310, 99867, 113493])


@pytest.mark.parametrize(
    ("inputs", "outputs", "tiles"), [(256, 256, 1), (257, 256, 2), (600, 600, 9), (1, 1, 1), (1024, 4096, 64)]
)
def test_tile_count(inputs: int, outputs: int, tiles: int) -> None:
    assert tile_count(inputs, outputs) == tiles


def test_a_rectangular_array_by_hand() -> None:
    # 5 inputs on 2 rows, 4 outputs on 3 columns: 3 * 2 tiles, each 2 to load, 7 to feed, 2 + 3 - 2 to cross.
    assert tile_count(5, 4, rows=2, columns=3) == 6
    assert float(serial_cycles(7, 5, 4, rows=2, columns=3)) == 6 * (2 + 7 + 3) - 1


def test_serial_cycles_are_scale_sims() -> None:
    np.testing.assert_array_equal(serial_cycles(BATCHES, 1024, 4096), SCALE_SIM)


def test_streamed_cycles_are_zigzags_within_half_a_percent() -> None:
    found = streamed_cycles(BATCHES, 1024, 4096, 34e9 / 700e6, activations=True)
    np.testing.assert_allclose(found, ZIGZAG, rtol=0.005)


def test_the_longest_of_transfer_shift_and_work_counts() -> None:
    assert float(streamed_cycles(10, 512, 256, bytes_per_cycle=64.0)) == 2 * 1024  # transfer
    assert float(streamed_cycles(10, 512, 256, bytes_per_cycle=1e6)) == 2 * 256  # shift
    assert float(streamed_cycles(2000, 512, 256, bytes_per_cycle=64.0)) == 2 * 2000  # work
    moved = streamed_cycles(10, 512, 256, bytes_per_cycle=64.0, activations=True)
    assert float(moved) == 2 * 1024 + 10 * (512 + 256) / 64
