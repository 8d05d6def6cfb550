"""RLlib trains through the vector entry point. Needs Ray and what `ray.rllib` imports."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("ray.rllib")

import ebatch_env
from ebatch_env.environment.vector import EBatchVectorEnv

pytestmark = pytest.mark.slow
TOY = "ebatch/Toy-v0"
FILE = Path(__file__).parents[2] / "examples" / "rllib_ppo.py"


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> Iterator[None]:
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rllib_ppo", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_trains_on_a_worker_and_scores_the_agent(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    told = example.main(
        ["--env", TOY, "--iterations", "2", "--runners", "1", "--envs", "8", "--steps", "96", "--episodes", "2"]
    )
    assert 768 <= told["decisions"][0] < told["decisions"][1]
    assert all(math.isfinite(value) for value in told["returns"][1:])
    assert math.isfinite(told["cost"])
    assert f"cost {told['cost']:.4g}; ebatch {told['beside']:.4g}" in capsys.readouterr().out


def test_episodes_are_those_of_the_environment(example: ModuleType) -> None:
    """The step that only begins the next episode is no experience, and none is cut where it does not end."""
    algorithm = example.make_config(TOY, envs=3, steps=150, seed=3).build_algo()
    try:
        runner = algorithm.env_runner
        assert isinstance(runner.env.unwrapped, EBatchVectorEnv)
        assert runner.env.unwrapped.metadata["autoreset_mode"] == gym.vector.AutoresetMode.NEXT_STEP
        episodes: list[Any] = runner.sample(num_episodes=4, random_actions=True)
    finally:
        algorithm.stop()
    whole = [episode for episode in episodes if episode.is_done]
    assert len(whole) >= 4
    for episode in whole:
        observations, actions = episode.get_observations(), episode.get_actions()
        assert observations.dtype == np.float32
        assert (len(observations), len(episode.get_rewards())) == (len(actions) + 1, len(actions))
        # The credit of a whole episode does not depend on what was done: it would be short if a decision were missing.
        credit = sum(float(info["rewards"]["credit"]) for info in episode.get_infos()[1:])
        assert credit == pytest.approx(_credit(), rel=1e-5)


def _credit() -> float:
    env = gym.make(TOY)
    env.reset(seed=0)
    total, over = 0.0, False
    while not over:
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        total += float(info["rewards"]["credit"])
        over = terminated or truncated
    return total


def test_the_agent_takes_the_likeliest_levels(example: ModuleType) -> None:
    import torch

    system = ebatch_env.make_system(TOY)
    levels = system.actions.space.nvec

    class Module:
        def forward_inference(self, batch: dict[str, Any]) -> dict[str, Any]:
            logits = torch.zeros(len(batch["obs"]), int(levels.sum()))
            logits[:, np.cumsum(levels) - 1] = 1.0  # the last of each
            return {"action_dist_inputs": logits}

    class Algorithm:
        def get_module(self) -> Module:
            return Module()

    actions, _ = example.Agent(Algorithm(), system).predict(np.zeros((2, system.observations.size), np.float32))
    assert actions.tolist() == [(levels - 1).tolist()] * 2
