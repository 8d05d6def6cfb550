"""Recurrent networks: their shapes, all that a machine's costs depend on, and a catalogue of published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from ebatch_env.errors import check_choice, check_integer, fail

GATES: Mapping[str, int] = MappingProxyType({"lstm": 4, "gru": 3})
LARGEST = 1 << 16  # no published recurrent layer comes near; a larger one is a typing error
MOST_LAYERS = 1024


@dataclass(frozen=True)
class Layer:
    """One recurrent layer.

    Attributes:
        cell: ``lstm`` (4 gates) or ``gru`` (3 gates).
        input_size: width of its input vector, 1..65536.
        hidden_size: neurons per gate and direction, 1..65536.
        directions: 1, or 2 for a layer that reads the sequence from both ends.

    Raises:
        ValueError: a field outside its range; the message names field, value and range.

    >>> Layer("lstm", 600, 600).weights
    2880000
    """

    cell: str
    input_size: int
    hidden_size: int
    directions: int = 1

    def __post_init__(self) -> None:
        """Check every field."""
        object.__setattr__(self, "cell", check_choice("cell", self.cell, tuple(GATES)))
        for name, high in (("input_size", LARGEST), ("hidden_size", LARGEST), ("directions", 2)):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=1, high=high))

    @property
    def gates(self) -> int:
        """Gates of the cell: 4 or 3."""
        return GATES[self.cell]

    @property
    def neurons(self) -> int:
        """Neurons of one gate over all directions: also the width of the layer's output."""
        return self.directions * self.hidden_size

    @property
    def input_weights(self) -> int:
        """Weights of the input matrices of all gates and directions."""
        return self.gates * self.neurons * self.input_size

    @property
    def recurrent_weights(self) -> int:
        """Weights of the recurrent matrices of all gates and directions."""
        return self.gates * self.neurons * self.hidden_size

    @property
    def weights(self) -> int:
        """All weights, biases apart: also the multiply-accumulates of one lane-step."""
        return self.input_weights + self.recurrent_weights


@dataclass(frozen=True)
class Network:
    """Recurrent layers run in order.

    A layer's ``input_size`` need not equal the width of the layer before: projections and attention in between are not
    modelled.

    Attributes:
        name: shown in tables.
        layers: at least one.
        source: where the shape comes from, and which part of it is assumed.

    Raises:
        ValueError: no layer, or a field of the wrong kind.
    """

    name: str
    layers: tuple[Layer, ...]
    source: str = "user-defined"

    def __post_init__(self) -> None:
        """Check every field; layers may come as any sequence of `Layer` or of mappings."""
        for name in ("name", "source"):
            if not isinstance(getattr(self, name), str):
                raise fail(name, getattr(self, name), "a string")
        if not self.name:
            raise fail("name", self.name, "a string that is not empty")
        if isinstance(self.layers, (str, Mapping)) or not isinstance(self.layers, Iterable):
            raise fail("layers", self.layers, "a sequence of layers")
        layers = tuple(_layer(layer, place) for place, layer in enumerate(self.layers))
        if not 1 <= len(layers) <= MOST_LAYERS:
            raise ValueError(f"layers must hold 1..{MOST_LAYERS} layers, got {len(layers)}")
        object.__setattr__(self, "layers", layers)

    @classmethod
    def stack(
        cls,
        name: str,
        cell: str,
        layers: int,
        hidden: int,
        *,
        input_size: int | None = None,
        between: int | None = None,
        directions: int = 1,
        source: str = "user-defined",
    ) -> Network:
        """``layers`` equal layers on top of each other.

        Args:
            name: the network's name.
            cell: ``lstm`` or ``gru``.
            layers: number of layers, 1..1024.
            hidden: neurons per gate and direction.
            input_size: width of layer 0's input; None: ``hidden``.
            between: width of the other layers' input; None: ``hidden * directions``.
            directions: 1 or 2.
            source: see `Network`.

        >>> Network.stack("small", "gru", 2, 8, directions=2).layers[1]
        Layer(cell='gru', input_size=16, hidden_size=8, directions=2)
        """
        count = check_integer("layers", layers, low=1, high=MOST_LAYERS)
        check_integer("hidden", hidden, low=1, high=LARGEST)
        check_integer("directions", directions, low=1, high=2)
        inputs = [hidden if input_size is None else input_size]
        inputs += [hidden * directions if between is None else between] * (count - 1)
        return cls(name, tuple(Layer(cell, width, hidden, directions) for width in inputs), source)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Network:
        """The network that `to_dict` (or ``dataclasses.asdict``) described."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known, key=str)
        if unknown or not {"name", "layers"} <= set(data):
            raise fail("network", dict(data), "a mapping with 'name' and 'layers', and at most 'source' besides")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.name, "layers": [asdict(layer) for layer in self.layers], "source": self.source}

    @property
    def bidirectional(self) -> bool:
        """Whether any layer reads the sequence from both ends, so that only whole sequences can run."""
        return any(layer.directions == 2 for layer in self.layers)

    @property
    def weights(self) -> int:
        """All weights, biases apart."""
        return sum(layer.weights for layer in self.layers)

    @property
    def macs_per_step(self) -> int:
        """Multiply-accumulates of one time-step of one sequence: every weight is used once."""
        return self.weights


def _layer(value: Any, place: int) -> Layer:
    if isinstance(value, Layer):
        return value
    if isinstance(value, Mapping):
        try:
            return Layer(**value)
        except TypeError:
            pass
    raise fail(f"layers[{place}]", value, "a Layer or a mapping with 'cell', 'input_size', 'hidden_size', 'directions'")


_stack = Network.stack
_FUZZY = "layers x neurons: Silfa et al., MICRO 2019 (arXiv 2202.06563)"
_EPUR = "layers x neurons and size: Silfa et al., PACT 2018 (arXiv 1711.07480)"
_TPU = "weights and batch: Jouppi et al., ISCA 2017 (arXiv 1704.04760)"
_SAME = "input size assumed equal to the layer's width"

NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        network.name: network
        for network in (
            _stack("IMDB", "lstm", 1, 128, source=f"{_FUZZY}; {_SAME}"),
            _stack("DeepSpeech2", "gru", 5, 800, source=f"{_FUZZY}; {_SAME}, one direction assumed"),
            _stack("MNMT", "lstm", 8, 1024, source=f"{_FUZZY}; {_SAME}, attention left out"),
            _stack("ShowTell", "lstm", 3, 512, source=f"layers x neurons: arXiv 1911.04244; {_SAME}"),
            # 5 * 4 * 512 * 1024 weights of 4 bytes are 40 MiB: the size agrees with an input of 512.
            _stack("BYSDNE", "lstm", 5, 512, source=f"{_EPUR}; input size from the 40 MB (FP32)"),
            # 17 * 4 * 1024 * 2048 weights of 2 bytes are 272 MiB: the size agrees with one direction throughout.
            _stack("GMAT", "lstm", 17, 1024, source=f"{_EPUR}; input size from the 272 MB (FP16)"),
            # 2 * 4 * 320 * (120 + 320) + 4 * 2 * 4 * 320 * (640 + 320) = 10.96 M weights, 41.8 MiB in FP32.
            _stack("EESEN", "lstm", 5, 320, input_size=120, directions=2, source=f"{_EPUR}; input size from the 42 MB"),
            # 2 * 4 * 128 * 256 weights of 4 bytes are 1 MiB.
            _stack("LDLRNN", "lstm", 2, 128, source=f"{_EPUR}; input size from the 1 MB (FP32)"),
            # 4 * 1024 * (256 + 1024) + 9 * 4 * 1024 * (512 + 1024) weights of 2 bytes are 118 MiB: layers that fed each
            # other at full width would need 160 MiB, so their inputs must be projected to about half.
            _stack(
                "RLDRADSPR",
                "lstm",
                10,
                1024,
                input_size=256,
                between=512,
                source=f"{_EPUR}; input sizes 256 and 512 assumed: they give the 118 MB (FP16)",
            ),
            # 50.3 M weights, 3 % under. Table 1 counts 24 matrices (6 cells of 4 gates); the counters show no padding.
            _stack("LSTM0", "lstm", 6, 1024, source=f"{_TPU}: 52 M, 64; shape assumed, it has 50.3 M"),
            # 34.6 M weights, 2 % over. The paper names one matrix size, 600, and its padding explains the counters; it
            # counts 37 matrices and does not say which are not 600 wide.
            _stack("LSTM1", "lstm", 12, 600, source=f"{_TPU}: 34 M, 96, matrices of 600x600; depth assumed: 34.6 M"),
            _stack("Toy", "lstm", 1, 16, source="made up: for toy machines, which look at the number of layers only"),
        )
    }
)


def network(name: str) -> Network:
    """The catalogue's network of that name.

    Raises:
        ValueError: no such network; the message lists them.

    >>> network("MNMT").macs_per_step
    67108864
    """
    if name not in NETWORKS:
        raise fail("network", name, "one of " + ", ".join(NETWORKS))
    return NETWORKS[name]


def resolve_network(spec: str | Mapping[str, Any] | Network) -> Network:
    """A network from a catalogue name, from `Network.to_dict`'s mapping, or from itself.

    Raises:
        ValueError: anything else, or bad values inside.
    """
    if isinstance(spec, Network):
        return spec
    if isinstance(spec, str):
        return network(spec)
    if isinstance(spec, Mapping):
        return Network.from_dict(spec)
    raise fail("network", spec, "a name, a mapping or a Network")
