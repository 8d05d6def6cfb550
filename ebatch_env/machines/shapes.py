"""A network's sizes as columns, ready to broadcast against lanes."""

from __future__ import annotations

import numpy as np

from ebatch_env.errors import FloatArray
from ebatch_env.machines.base import ELEMENTWISE_OPS
from ebatch_env.networks import Network


class LayerShapes:
    """A network's sizes as columns, (n, 1) float64 each."""

    def __init__(self, network: Network) -> None:
        def column(values: list[int]) -> FloatArray:
            return np.array(values, dtype=np.float64)[:, None]

        layers = network.layers
        self.n = len(layers)
        self.gates = column([layer.gates for layer in layers])
        self.inputs = column([layer.input_size for layer in layers])
        self.hidden = column([layer.hidden_size for layer in layers])
        self.directions = column([layer.directions for layer in layers])
        self.outputs = self.directions * self.hidden
        self.input_weights = self.gates * self.outputs * self.inputs
        self.recurrent_weights = self.gates * self.outputs * self.hidden
        self.weights = self.input_weights + self.recurrent_weights
        self.ops = column([ELEMENTWISE_OPS[layer.cell] for layer in layers])
