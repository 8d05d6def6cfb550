"""The two schemes once more, neuron by neuron in plain Python, from their rules alone: no torch, no arrays, no code shared."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Neuron:
    """One gate neuron's entry in the memoization buffer of one lane."""

    output: list[float] | None = None  # None: nothing memoized for this sequence yet
    binary: int = 0
    change: float = 0.0


@dataclass
class Element:
    """One cell-state element's state machine in one lane."""

    state: str = "profiling"
    count: int = 0
    low: float = math.inf
    high: float = -math.inf

    def observe(self, c: float, settings: dict) -> None:
        self.count += 1
        if self.state == "profiling":
            self.low, self.high = min(self.low, c), max(self.high, c)
            if self.count == settings["profile_steps"]:
                self.state, self.count = "stable", 0
            return
        slack = settings["margin"] * (self.high - self.low)
        inside = self.low - slack <= c <= self.high + slack
        if self.state == "stable":
            if not inside:
                self.state, self.count = "peak", 0
            elif self.count == settings["stable_steps"]:
                self.__init__()
        elif inside:
            self.state, self.count = "stable", 0
        elif self.count == settings["peak_steps"]:
            self.__init__()


def levels(value: float, low: float, high: float) -> tuple[float, float]:
    """``value`` in 8 bits and in the 4-bit part of the same word."""
    step = (high - low) / 255
    index = min(max(round((value - low) / step), 0), 255)
    nibble, offset = index >> 4, (index >> 3) & 1
    return low + step * index, low + 16 * step * (nibble + offset)


def signs(values) -> list[int]:
    return [1 if value >= 0 else -1 for value in values]


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def quantised(matrix, hidden: int):
    """Both versions of a weight matrix, a range for every gate."""
    eight, four = [], []
    for first in range(0, len(matrix), hidden):
        gate = matrix[first : first + hidden]
        low, high = min(min(row) for row in gate), max(max(row) for row in gate)
        for row in gate:
            eight.append([levels(w, low, high)[0] for w in row])
            four.append([levels(w, low, high)[1] for w in row])
    return eight, four


def run_layer(cell, w, u, wb, ub, inputs, start, busy, group, threshold, throttling, settings, input_range):
    """One layer over lanes and units.

    Args:
        cell: lstm or gru; w, u, wb, ub: weights and biases as lists.
        inputs: [lane][unit] -> features; start, busy: [lane][unit] -> bool.
        group: lanes that share rows.
        threshold: None: no memoization.
        settings: of the precision; None: none.
        input_range: of the quantised inputs.

    Returns:
        outputs, reused, eight: [lane][unit] -> list.
    """
    lanes, units, hidden = len(inputs), len(inputs[0]), len(u[0])
    gates = len(w) // hidden
    exact = (w, u)
    if settings is not None:
        (w8, w4), (u8, u4) = quantised(w, hidden), quantised(u, hidden)
    h = [[0.0] * hidden for _ in range(lanes)]
    c = [[0.0] * hidden for _ in range(lanes)]
    neurons = [[Neuron() for _ in w] for _ in range(lanes)]
    elements = [[Element() for _ in range(hidden)] for _ in range(lanes)]
    outputs = [[None] * units for _ in range(lanes)]
    reused = [[[False] * len(w) for _ in range(units)] for _ in range(lanes)]
    eight = [[[False] * len(w) for _ in range(units)] for _ in range(lanes)]
    for t in range(units):
        for lane in range(lanes):
            if start[lane][t]:
                h[lane], c[lane] = [0.0] * hidden, [0.0] * hidden
                neurons[lane] = [Neuron() for _ in w]
                elements[lane] = [Element() for _ in range(hidden)]
        values = [[None] * len(w) for _ in range(lanes)]
        for first in range(0, lanes, group):
            members = [lane for lane in range(first, first + group) if busy[lane][t]]
            for r in range(len(w)):
                binary, would = {}, {}
                for lane in members:
                    neuron, x = neurons[lane][r], inputs[lane][t]
                    y_b = dot(signs(w[r]), signs(x)) + dot(signs(u[r]), signs(h[lane]))
                    binary[lane] = y_b
                    if threshold is None or neuron.output is None:
                        would[lane] = False
                        continue
                    moved = abs(y_b - neuron.binary)
                    eps = moved / abs(y_b) if y_b else (math.inf if moved else 0.0)
                    neuron.change = neuron.change + eps if throttling else eps
                    would[lane] = neuron.change <= threshold
                skip = bool(members) and all(would.values())
                asks = {lane: settings is not None and needs(elements[lane][r % hidden], settings) for lane in members}
                for lane in members:
                    neuron, x = neurons[lane][r], inputs[lane][t]
                    reused[lane][t][r], eight[lane][t][r] = skip, asks[lane]
                    if not skip:
                        if settings is None:
                            parts = [dot(exact[0][r], x), dot(exact[1][r], h[lane])]
                        else:
                            bits8 = any(asks.values())
                            fine = bits8 or not settings["low_inputs"]
                            x_q = [levels(v, *input_range)[0 if fine else 1] for v in x]
                            h_q = [levels(v, -1.0, 1.0)[0 if fine else 1] for v in h[lane]]
                            parts = [dot((w8 if bits8 else w4)[r], x_q), dot((u8 if bits8 else u4)[r], h_q)]
                        neuron.output, neuron.binary, neuron.change = parts, binary[lane], 0.0
                    values[lane][r] = neuron.output
        for lane in range(lanes):
            if not busy[lane][t]:
                continue
            x = [values[lane][r][0] + wb[r] for r in range(len(w))]
            y = [values[lane][r][1] + ub[r] for r in range(len(w))]
            for j in range(hidden):
                at = [j + gate * hidden for gate in range(gates)]
                if cell == "lstm":
                    i, f, g, o = (x[k] + y[k] for k in at)
                    c[lane][j] = sigmoid(f) * c[lane][j] + sigmoid(i) * math.tanh(g)
                else:
                    r_, z = sigmoid(x[at[0]] + y[at[0]]), sigmoid(x[at[1]] + y[at[1]])
                    c[lane][j] = (1 - z) * math.tanh(x[at[2]] + r_ * y[at[2]]) + z * h[lane][j]
                if settings is not None:
                    elements[lane][j].observe(c[lane][j], settings)
            if cell == "lstm":
                o = [sigmoid(x[j + 3 * hidden] + y[j + 3 * hidden]) for j in range(hidden)]
                h[lane] = [o[j] * math.tanh(c[lane][j]) for j in range(hidden)]
            else:
                h[lane] = list(c[lane])
            outputs[lane][t] = list(h[lane])
    return outputs, reused, eight


def needs(element: Element, settings: dict) -> bool:
    if settings["fixed_bits"] is not None:
        return settings["fixed_bits"] == 8
    return element.state == "peak"
