"""Hyperparameters: rl-zoo3's format, read and checked."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sb3_contrib")

from ebatch_agents.algorithms import ALGORITHMS, Falling, hyperparameters, with_schedules
from ebatch_env.scenarios import SCENARIOS

TOY, QUEUE = "ebatch/Toy-v0", "ebatch/Queue-v0"


@pytest.mark.parametrize("algo", list(ALGORITHMS))
@pytest.mark.parametrize("env_id", list(SCENARIOS))
def test_every_algorithm_has_some_for_every_environment(algo: str, env_id: str) -> None:
    found = hyperparameters(algo, env_id)
    known = inspect.signature(ALGORITHMS[algo].load().__init__).parameters
    assert set(found.keywords) <= set(known)
    assert found.horizon is not None
    assert found.env_kwargs == ({"flat_actions": True} if ALGORITHMS[algo].flat else {})


def test_an_id_has_its_own_entry_and_changes_win() -> None:
    assert hyperparameters("ppo", QUEUE).horizon != hyperparameters("ppo", TOY).horizon
    found = hyperparameters("ppo", QUEUE, changes={"n_envs": 3, "horizon": 7, "batch_size": 5, "n_timesteps": 10})
    assert (found.n_envs, found.horizon, found.n_timesteps, found.keywords["batch_size"]) == (3, 7.0, 10, 5)
    assert hyperparameters("ppo", QUEUE, changes={"horizon": None}).horizon is None


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.yml"
    path.write_text(
        f"{TOY}:\n  n_timesteps: !!float 2e3\n  n_envs: 2\n  policy: MlpPolicy\n  learning_rate: lin_0.01\n"
    )
    found = hyperparameters("ppo", TOY, path)
    assert (found.n_timesteps, found.n_envs, found.horizon) == (2000, 2, None)
    schedule = with_schedules(found.keywords)["learning_rate"]
    assert (schedule(1.0), schedule(0.5), schedule(0.0)) == (0.01, 0.005, 0.0)
    with pytest.raises(
        ValueError, match=r"config must be a YAML file with a mapping for 'ebatch/Queue-v0' or 'default'"
    ):
        hyperparameters("ppo", QUEUE, path)


def test_schedules_and_numbers_as_text() -> None:
    values = with_schedules({"learning_rate": "3e-4", "clip_range": "lin_0.2", "train_freq": [4, "step"], "n_steps": 8})
    assert values["learning_rate"] == 3e-4
    assert isinstance(values["clip_range"], Falling)
    assert values["train_freq"] == (4, "step")
    assert values["n_steps"] == 8
    with pytest.raises(ValueError, match="learning_rate must be lin_ and a number, got 'lin_fast'"):
        with_schedules({"learning_rate": "lin_fast"})
    with pytest.raises(ValueError, match="learning_rate must be a finite number"):
        with_schedules({"learning_rate": "fast"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gama": 0.9}, r"hyperparameter of ppo in ppo.yml must be one of batch_size, .*, got 'gama'"),
        ({"seed": 3}, "got 'seed'"),
        ({"n_envs": 0}, r"n_envs must be an integer in 1..4096, got 0"),
        ({"n_envs": "many"}, "n_envs must be an integer"),
        ({"n_timesteps": None}, "n_timesteps must be an integer >= 1, got None"),
        ({"horizon": 0}, r"horizon must be a finite number in \(0, inf\], got 0"),
        ({"policy": "CnnPolicy"}, "policy in ppo.yml must be 'MlpPolicy'"),
        ({"policy_kwargs": "dict(net_arch=[64])"}, "policy_kwargs in ppo.yml must be a mapping"),
    ],
)
def test_bad_values_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hyperparameters("ppo", TOY, changes=changes)


@pytest.mark.parametrize("text", ["", "3", "default: 3", "a: [", "default: {n_envs: 1}\nhorizons: 3", "\x00"])
def test_bad_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"own\.yml"):
        hyperparameters("ppo", TOY, path)


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="algo must be one of ppo, maskable_ppo, recurrent_ppo, a2c, dqn, qrdqn"):
        hyperparameters("sac", TOY)
    with pytest.raises(OSError, match=r"none\.yml"):
        hyperparameters("ppo", TOY, tmp_path / "none.yml")
