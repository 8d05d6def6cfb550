"""The networks of SB3's and sb3-contrib's policies in numpy, from an observation to an action: no torch.

Sums are in float32, as torch's are. The two differ by rounding only, because linear algebra libraries add in different
orders: by some 1e-7 of the sum's largest term. So an action can differ only where the two best values of a control are
closer than that, which `ebatch export` looks for and reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import fail

Float32 = npt.NDArray[np.float32]
State = tuple[Float32, Float32]  # hidden and cell, each (layers, E, H), as in sb3-contrib

MASKED = np.float32(-1e8)  # sb3-contrib's logit of an illegal action (MaskableCategorical)
HEADS = ("logits", "values", "quantiles")


def _relu(x: Float32) -> Float32:
    return np.maximum(x, np.float32(0.0))


ACTIVATIONS: Mapping[str, Callable[[Float32], Float32]] = {"tanh": np.tanh, "relu": _relu}


@dataclass(frozen=True)
class Architecture:
    """The form of a network: LSTM layers, if any, then hidden layers, then a linear head.

    Attributes:
        inputs: fields D of the observation.
        lstm: sizes H of the LSTM layers.
        hidden: sizes of the hidden layers.
        activation: of the hidden layers, one of `ACTIVATIONS`.
        head: ``logits``: the likeliest level of every control; ``values``: the most valuable flat action; ``quantiles``:
            the same, the value being the mean of its quantiles.
        outputs: levels of each control, or the number of flat actions.
        quantiles: how many of them for each action; 1 without.
    """

    inputs: int
    lstm: tuple[int, ...]
    hidden: tuple[int, ...]
    activation: str
    head: str
    outputs: tuple[int, ...]
    quantiles: int = 1

    def __post_init__(self) -> None:
        """Check names and sizes."""
        if self.activation not in ACTIVATIONS:
            raise fail("activation", self.activation, f"one of {', '.join(ACTIVATIONS)}")
        if self.head not in HEADS:
            raise fail("head", self.head, f"one of {', '.join(HEADS)}")
        sizes = (self.inputs, *self.lstm, *self.hidden, *self.outputs, self.quantiles)
        if not self.outputs or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise fail("architecture", self, "of sizes >= 1 and at least one output")
        if len(set(self.lstm)) > 1:
            raise fail("lstm", self.lstm, "layers of one size")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes of its tensors; weights are (out, in), an LSTM's gates in torch's order: i, f, g, o."""
        found: dict[str, tuple[int, ...]] = {}
        size = self.inputs
        for n, units in enumerate(self.lstm):
            found |= {f"lstm.{n}.weight_ih": (4 * units, size), f"lstm.{n}.weight_hh": (4 * units, units)}
            found |= {f"lstm.{n}.bias_ih": (4 * units,), f"lstm.{n}.bias_hh": (4 * units,)}
            size = units
        for n, units in enumerate(self.hidden):
            found |= {f"hidden.{n}.weight": (units, size), f"hidden.{n}.bias": (units,)}
            size = units
        total = sum(self.outputs) * self.quantiles
        return found | {"head.weight": (total, size), "head.bias": (total,)}

    @classmethod
    def from_dict(cls, values: Any) -> Architecture:
        """An architecture from plain values.

        Raises:
            ValueError: it is none.
        """
        try:
            listed = {name: tuple(values[name]) for name in ("lstm", "hidden", "outputs")}
            return cls(**{**values, **listed})
        except (KeyError, TypeError) as error:
            raise fail("architecture", values, f"inputs, lstm, hidden, activation, head, outputs ({error})") from None


def check_weights(architecture: Architecture, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse weights that do not make up the network.

    Raises:
        ValueError: naming the first tensor that is missing, too much, of another type or shape, or not finite.
    """
    wanted = architecture.shapes()
    for name in [*wanted, *weights]:
        if name not in weights:
            raise fail("weights", sorted(weights), f"such that there is a tensor {name!r}")
        if name not in wanted:
            raise fail("weights", name, f"among {', '.join(wanted)}")
        tensor = weights[name]
        if tensor.dtype != np.float32:
            raise fail(f"tensor {name!r}", str(tensor.dtype), "float32")
        if tensor.shape != wanted[name]:
            raise fail(f"tensor {name!r}", f"shape {tensor.shape}", f"of shape {wanted[name]}")
        if not np.isfinite(tensor).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(tensor))[0])
            raise fail(f"tensor {name!r}", f"{tensor[where]} at {where}", "finite")


@dataclass(frozen=True)
class NumpyNetwork:
    """A network that acts.

    Attributes:
        architecture: its form.
        weights: its tensors, see `Architecture.shapes`.

    Raises:
        ValueError: the weights do not make up the network.
    """

    architecture: Architecture
    weights: Mapping[str, Float32]
    _transposed: dict[str, Float32] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the weights, and transpose them once."""
        check_weights(self.architecture, self.weights)
        for name, tensor in self.weights.items():
            self._transposed[name] = np.ascontiguousarray(tensor.T)

    def start(self, rows: int) -> State | None:
        """The state at the start of an episode; None without an LSTM."""
        layers = self.architecture.lstm
        if not layers:
            return None
        shape = (len(layers), rows, layers[0])
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def outputs(self, observation: Float32, state: State | None = None) -> tuple[Float32, State | None]:
        """The head's values (E, sum of outputs), for observations (E, D) in ``state``; and the next state."""
        shape = self.architecture
        x = observation
        if shape.lstm:
            assert state is not None
            x, state = self._recur(x, state)
        activation = ACTIVATIONS[shape.activation]
        for n in range(len(shape.hidden)):
            x = activation(self._linear(f"hidden.{n}", x))
        x = self._linear("head", x)
        if shape.head == "quantiles":
            x = x.reshape(len(x), shape.quantiles, -1).mean(axis=1, dtype=np.float32)
        return x, state

    def _linear(self, name: str, x: Float32) -> Float32:
        return np.asarray(x @ self._transposed[f"{name}.weight"] + self._transposed[f"{name}.bias"])

    def _recur(self, x: Float32, state: State) -> tuple[Float32, State]:
        hidden, cell = (part.copy() for part in state)
        for n in range(len(self.architecture.lstm)):
            gates = x @ self._transposed[f"lstm.{n}.weight_ih"] + self._transposed[f"lstm.{n}.bias_ih"]
            gates = gates + hidden[n] @ self._transposed[f"lstm.{n}.weight_hh"] + self._transposed[f"lstm.{n}.bias_hh"]
            i, f, g, o = np.split(gates, 4, axis=1)
            cell[n] = _sigmoid(f) * cell[n] + _sigmoid(i) * np.tanh(g)
            hidden[n] = x = _sigmoid(o) * np.tanh(cell[n])
        return x, (hidden, cell)


def _sigmoid(x: Float32) -> Float32:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1.0)))


def choose(
    values: Float32,
    sizes: tuple[int, ...],
    mask: npt.NDArray[np.bool_] | None = None,
    rng: np.random.Generator | None = None,
) -> npt.NDArray[np.int64]:
    """An index per control, shape (E, C), from the head's values (E, sum of ``sizes``).

    Args:
        values: logits or values of actions.
        sizes: levels of each control.
        mask: what is legal, one control behind the other; None: all.
        rng: draw from the logits' distribution with it; None: take the best, the first of equals.
    """
    if mask is not None:
        values = np.where(mask, values, MASKED)
    if rng is not None:  # adding Gumbel noise and taking the largest draws from the softmax of the logits
        values = values + rng.gumbel(size=values.shape).astype(np.float32)
    parts = np.split(values, np.cumsum(sizes)[:-1], axis=1)
    return np.stack([part.argmax(axis=1) for part in parts], axis=1)


def gaps(values: Float32, sizes: tuple[int, ...], mask: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float32]:
    """How far the best is from the second best of every control, (E, C); infinite where there is only one."""
    if mask is not None:
        values = np.where(mask, values, MASKED)
    found = []
    for part in np.split(values, np.cumsum(sizes)[:-1], axis=1):
        if part.shape[1] == 1:
            found.append(np.full(len(part), np.inf, np.float32))
        else:
            best = np.partition(part, -2, axis=1)
            found.append(best[:, -1] - best[:, -2])
    return np.stack(found, axis=1)
