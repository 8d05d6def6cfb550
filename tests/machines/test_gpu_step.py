"""The GPU known by its step cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebatch_env.machines import GPUStep
from ebatch_env.networks import Network

LSTM = Network.stack("one", "lstm", 1, 1024)


def test_the_measured_layer_costs_what_was_measured() -> None:
    table = GPUStep().cost_table(LSTM, 512)
    assert table.step_s[0, [0, 1, 64]].tolist() == [0.0, 185e-6, 185e-6]
    assert table.step_s[0, 512] == pytest.approx(784e-6)
    assert table.step_s[0, 288] == pytest.approx((185e-6 + 784e-6) / 2)  # halfway between 64 and 512
    assert table.step_j.max() == table.static_w == 0.0
    assert table.notifies


def test_other_layers_keep_the_floor_and_scale_the_slope() -> None:
    half = Network.stack("half", "gru", 2, 1024, input_size=1024)  # 3 gates instead of 4
    table = GPUStep().cost_table(half, 128)
    one = GPUStep().cost_table(LSTM, 128)
    assert (table.step_s[:, 64] == 185e-6).all()
    np.testing.assert_allclose(table.step_s[:, 128] - 185e-6, 0.75 * (one.step_s[0, 128] - 185e-6))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"floor_s": 0.0}, r"floor_s must be a finite number in \(0, inf\]"),
        ({"full_s": 1e-6}, r"full_s must be a finite number in \[0.000185, inf\]"),
        ({"knee": 0}, "knee must be an integer in 1.."),
        ({"full": 64}, "full must be an integer in 65.."),
        ({"notifies": 1}, "notifies must be True or False, got 1"),
        ({"name": 3}, "name must be a string, got 3"),
    ],
)
def test_bad_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPUStep(**fields)


def test_bad_lanes() -> None:
    with pytest.raises(ValueError, match="lanes must be an integer in 1..4096, got 0"):
        GPUStep().cost_table(LSTM, 0)
