"""Training is a function of recipe and seed, and the cache changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ebatch_env.approximation import RECIPES, RecurrentClassifier, evaluate, load, train, trained, training

SHORT = replace(RECIPES["motion-lstm"], hidden=8, epochs=2)


def same(a: RecurrentClassifier, b: RecurrentClassifier) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_seeds_decide() -> None:
    first = train(SHORT, 3)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    assert same(first, train(SHORT, 3))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not same(first, train(SHORT, 4))


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RECIPES", {"short": SHORT})
    first = trained("short", 0, tmp_path)
    (path,) = tmp_path.iterdir()
    calls = []
    monkeypatch.setattr(training, "train", lambda *args: calls.append(args) or train(*args))
    assert same(first, trained("short", 0, tmp_path))
    assert not calls
    for damage in (b"", b"nonsense", path.read_bytes()[:100]):
        path.write_bytes(damage)
        assert same(first, trained("short", 0, tmp_path))
        assert calls.pop()
    assert same(first, trained("short", 0, tmp_path))  # written anew
    assert not calls
    monkeypatch.setattr(training, "RECIPES", {"short": replace(SHORT, noise=0.2)})
    assert not same(first, trained("short", 0, tmp_path))
    assert calls


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RECIPES", {"short": SHORT})
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert same(train(SHORT, 0), trained("short", 0, blocked / "below"))


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert training.cache_folder() == tmp_path / "ebatch-env" / "networks"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert training.cache_folder() == Path.home() / ".cache" / "ebatch-env" / "networks"


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="recipe must be one of vowels-lstm"):
        trained("vowels", 0)
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got -1"):
        train(SHORT, -1)
    with pytest.raises(ValueError, match="cell must be one of 'lstm', 'gru', got 'rnn'"):
        RecurrentClassifier("rnn", 1, 1, 1, 2)
    with pytest.raises(ValueError, match="hidden must be an integer >= 1, got 0"):
        RecurrentClassifier("gru", 1, 0, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"), [("vowels-lstm", 0.92), ("digits-gru", 0.90), ("motion-lstm", 0.85), ("vowels-gru", 0.92)]
)
def test_sound_accuracy(name: str, least: float, tmp_path: Path) -> None:
    network, data = trained(name, 0, tmp_path), load(RECIPES[name].data)
    assert evaluate(network, data.test).accuracy >= least


def test_shape_for_machines() -> None:
    network = RecurrentClassifier("gru", 12, 64, 2, 9)
    shape = network.shape("vowels")
    assert [(layer.input_size, layer.hidden_size, layer.gates) for layer in shape.layers] == [(12, 64, 3), (64, 64, 3)]
    counted = sum(layer.forward.numel() + layer.recurrent.numel() for layer in network.layers)
    assert shape.weights == counted
