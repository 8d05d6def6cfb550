"""Networks: arithmetic, the catalogue against published sizes, round trips and bad values."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebatch_env.networks import NETWORKS, Layer, Network, network, resolve_network

MIB = 1 << 20


def test_layer_by_hand() -> None:
    layer = Layer("lstm", 3, 5, directions=2)
    assert (layer.gates, layer.neurons) == (4, 10)
    assert (layer.input_weights, layer.recurrent_weights, layer.weights) == (120, 200, 320)
    assert Layer("gru", 3, 5).weights == 3 * 5 * 8


def test_stack_feeds_both_directions_forward() -> None:
    made = Network.stack("n", "gru", 3, 8, input_size=5, directions=2)
    assert [layer.input_size for layer in made.layers] == [5, 16, 16]
    assert made.bidirectional
    assert made.weights == made.macs_per_step == sum(layer.weights for layer in made.layers)
    assert not Network.stack("n", "lstm", 1, 8).bidirectional


@pytest.mark.parametrize(
    ("name", "layers", "hidden", "cell", "directions"),
    [
        ("IMDB", 1, 128, "lstm", 1),
        ("DeepSpeech2", 5, 800, "gru", 1),
        ("MNMT", 8, 1024, "lstm", 1),
        ("BYSDNE", 5, 512, "lstm", 1),
        ("GMAT", 17, 1024, "lstm", 1),
        ("EESEN", 5, 320, "lstm", 2),
        ("LDLRNN", 2, 128, "lstm", 1),
        ("RLDRADSPR", 10, 1024, "lstm", 1),
    ],
)
def test_published_shapes(name: str, layers: int, hidden: int, cell: str, directions: int) -> None:
    found = network(name)
    assert len(found.layers) == layers
    assert {(x.hidden_size, x.cell, x.directions) for x in found.layers} == {(hidden, cell, directions)}
    assert found.bidirectional == (directions == 2)


@pytest.mark.parametrize(
    ("name", "word_bytes", "published_mib"),
    [("BYSDNE", 4, 40), ("RLDRADSPR", 2, 118), ("EESEN", 4, 42), ("LDLRNN", 4, 1), ("GMAT", 2, 272)],
)
def test_published_sizes(name: str, word_bytes: int, published_mib: int) -> None:
    assert round(network(name).weights * word_bytes / MIB) == published_mib


def test_googles_weight_counts() -> None:
    assert network("LSTM0").weights == pytest.approx(52e6, rel=0.035)
    assert network("LSTM1").weights == pytest.approx(34e6, rel=0.02)


@pytest.mark.parametrize("name", NETWORKS)
def test_catalogue_survives_json(name: str) -> None:
    entry = NETWORKS[name]
    assert entry.name == name
    assert entry.source
    for described in (entry.to_dict(), asdict(entry)):
        assert resolve_network(json.loads(json.dumps(described))) == entry
    assert resolve_network(name) is resolve_network(entry) is entry


sizes = st.integers(1, 4096)
layers = st.builds(Layer, st.sampled_from(["lstm", "gru"]), sizes, sizes, st.integers(1, 2))


@given(st.text(min_size=1), st.lists(layers, min_size=1, max_size=5), st.text())
def test_any_network_survives_json(name: str, made: list[Layer], source: str) -> None:
    entry = Network(name, tuple(made), source)
    assert Network.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rnn", 1, 1), "cell must be one of 'lstm', 'gru', got 'rnn'"),
        (("lstm", 0, 1), "input_size must be an integer in 1..65536, got 0"),
        (("lstm", 1, 1.5), "hidden_size must be an integer in 1..65536, got 1.5"),
        (("lstm", 1, True), "hidden_size must be an integer in 1..65536, got True"),
        (("lstm", 1, 1, 3), "directions must be an integer in 1..2, got 3"),
    ],
)
def test_bad_layers(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layer(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Network("n", ()), r"layers must hold 1..1024 layers, got 0"),
        (lambda: Network("", (Layer("gru", 1, 1),)), "name must be a string that is not empty"),
        (lambda: Network("n", "lstm"), "layers must be a sequence of layers, got 'lstm'"),  # type: ignore[arg-type]
        (lambda: Network("n", ({"cell": "gru"},)), r"layers\[0\] must be a Layer or a mapping"),  # type: ignore[arg-type]
        (lambda: Network(3, (Layer("gru", 1, 1),)), "name must be a string, got 3"),  # type: ignore[arg-type]
        (lambda: Network.stack("n", "gru", 0, 1), r"layers must be an integer in 1..1024, got 0"),
        (lambda: Network.stack("n", "gru", 1, 0), r"hidden must be an integer in 1..65536, got 0"),
        (lambda: Network.from_dict({"name": "n"}), "network must be a mapping with 'name' and 'layers'"),
        (lambda: Network.from_dict({"name": "n", "layers": [], "depth": 3}), "got .*depth"),
        (lambda: network("mnmt"), "network must be one of IMDB, .*MNMT.*, got 'mnmt'"),
        (lambda: resolve_network(3), "network must be a name, a mapping or a Network, got 3"),  # type: ignore[arg-type]
    ],
)
def test_bad_networks(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
