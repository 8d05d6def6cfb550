"""Models of every algorithm on the toy, trained a little, once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

TOY = "ebatch/Toy-v0"
_ROLLED: dict[str, Any] = {"n_envs": 8, "n_steps": 32, "batch_size": 64, "n_epochs": 4}
_REPLAYED: dict[str, Any] = {"n_envs": 4, "buffer_size": 2000, "learning_starts": 200, "batch_size": 32}
# Small trainings, in which every algorithm leaves its first weights well behind.
CHANGES: dict[str, dict[str, Any]] = {
    "ppo": {**_ROLLED, "teacher": None},  # learning itself is what is looked at
    "maskable_ppo": {**_ROLLED, "teacher": None},
    "recurrent_ppo": {**_ROLLED, "policy_kwargs": {"lstm_hidden_size": 16, "n_lstm_layers": 2}},
    "a2c": {"n_envs": 8, "n_steps": 8},
    "dqn": _REPLAYED,
    "qrdqn": {**_REPLAYED, "policy_kwargs": {"n_quantiles": 10}},
}
STEPS = {"ppo": 2048, "maskable_ppo": 2048, "recurrent_ppo": 1024, "a2c": 1024, "dqn": 1000, "qrdqn": 600}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A function from an algorithm's name to what `train` returned, with its folder."""
    pytest.importorskip("sb3_contrib")
    from ebatch_agents import train

    @cache
    def teach(algo: str) -> Any:
        out = tmp_path_factory.mktemp(algo)
        return train(TOY, algo, steps=STEPS[algo], seed=1, out=out, changes=CHANGES[algo], evaluations=2, episodes=4)

    return teach


@pytest.fixture(scope="session")
def exported(trained: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from an algorithm's name to its exported weights."""
    pytest.importorskip("safetensors")
    from ebatch_agents.export import export

    @cache
    def write(algo: str) -> Path:
        return export(trained(algo).folder.last, tmp_path_factory.mktemp(f"{algo}-exported"), trust=True, episodes=4)

    return write
