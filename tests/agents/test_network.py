"""Networks in numpy: worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ebatch_agents.network import Architecture, NumpyNetwork, choose, gaps


def test_a_small_network_by_hand() -> None:
    shape = Architecture(2, (), (2,), "relu", "logits", (2, 1))
    weights = {
        "hidden.0.weight": np.array([[1, 2], [-1, 0]], np.float32),
        "hidden.0.bias": np.array([0.5, 0], np.float32),
        "head.weight": np.array([[1, 0], [0, 1], [1, 1]], np.float32),
        "head.bias": np.array([0, 3, 0], np.float32),
    }
    values, state = NumpyNetwork(shape, weights).outputs(np.array([[1, 1], [-2, 0]], np.float32))
    assert state is None
    assert values.tolist() == [[3.5, 3.0, 3.5], [0.0, 5.0, 2.0]]
    assert choose(values, (2, 1)).tolist() == [[0, 0], [1, 0]]
    assert gaps(values, (2, 1)).tolist() == [[0.5, np.inf], [5.0, np.inf]]


def test_masks_and_ties() -> None:
    values = np.array([[1.0, 3.0, 3.0, 9.0]], np.float32)
    assert choose(values, (4,)).tolist() == [[3]]
    assert choose(values, (4,), np.array([True, True, True, False])).tolist() == [[1]]  # the first of equals, as torch
    assert choose(values, (2, 2), np.array([True, False, True, False])).tolist() == [[0, 0]]
    assert gaps(values, (4,), np.array([True, True, True, False])).tolist() == [[0.0]]


def test_quantiles_are_averaged_per_action() -> None:
    shape = Architecture(1, (), (), "relu", "quantiles", (2,), quantiles=3)
    weights = {"head.weight": np.zeros((6, 1), np.float32), "head.bias": np.array([0, 1, 0, 2, 9, 3], np.float32)}
    values, _ = NumpyNetwork(shape, weights).outputs(np.zeros((1, 1), np.float32))
    assert values.tolist() == [[3.0, 2.0]]


def test_an_lstm_by_hand() -> None:
    shape = Architecture(1, (1,), (), "tanh", "logits", (1,))
    gates = np.array([[0.5], [0.25], [1.0], [-0.5]], np.float32)  # i, f, g, o
    weights = {
        "lstm.0.weight_ih": gates,
        "lstm.0.weight_hh": 2 * gates,
        "lstm.0.bias_ih": np.zeros(4, np.float32),
        "lstm.0.bias_hh": np.full(4, 0.1, np.float32),
        "head.weight": np.ones((1, 1), np.float32),
        "head.bias": np.zeros(1, np.float32),
    }
    network = NumpyNetwork(shape, weights)
    state = network.start(1)
    hidden = cell = 0.0
    for x in (0.3, -1.0, 2.0):
        values, state = network.outputs(np.array([[x]], np.float32), state)
        i, f, g, o = (float(w) * x + 2 * float(w) * hidden + 0.1 for w in gates[:, 0])
        sigmoid = [1 / (1 + np.exp(-v)) for v in (i, f, o)]
        cell = sigmoid[1] * cell + sigmoid[0] * np.tanh(g)
        hidden = sigmoid[2] * np.tanh(cell)
        assert values[0, 0] == pytest.approx(hidden, rel=1e-5)


def test_sizes_of_lstm_layers_must_agree() -> None:
    with pytest.raises(ValueError, match="lstm must be layers of one size"):
        Architecture(1, (2, 3), (), "tanh", "logits", (1,))
