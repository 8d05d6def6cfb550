"""RLlib's PPO on a registered id, through its vector entry point; then the agent beside a heuristic.

In an environment of its own, because RLlib pins Gymnasium: `pip install 'ebatch-env[rllib]'`, and
`python examples/rllib_ppo.py --env ebatch/EPUR-Translation-v0 --runners 2 --iterations 20`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig

import ebatch_env
from ebatch_env.environment.system import System
from ebatch_env.scoring.cluster import connected
from ebatch_env.scoring.jobs import PolicySpec
from ebatch_env.scoring.policy import Policy
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import VALIDATION_SEED
from ebatch_env.scoring.statistics import episode_costs


class Agent:
    """An RLlib module as a policy that this package can score: the likeliest level of every control."""

    def __init__(self, algorithm: PPO, system: System) -> None:
        self.module = algorithm.get_module()
        self.levels = [int(n) for n in system.actions.space.nvec]

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Actions (E, C) for observations (E, D)."""
        with torch.no_grad():
            logits = self.module.forward_inference({"obs": torch.as_tensor(observation)})["action_dist_inputs"]
        parts = torch.split(logits, self.levels, dim=-1)
        return np.stack([part.argmax(-1).numpy() for part in parts], axis=-1), None


def make_config(env_id: str, *, runners: int = 0, envs: int = 64, steps: int = 32, seed: int = 0) -> PPOConfig:
    """PPO on ``runners`` processes of ``envs`` environments, each stepped ``steps`` times per iteration.

    The module before the colon is imported wherever an environment is made, which registers the ids there.
    """
    config = PPOConfig()
    config.environment(f"ebatch_env:{env_id}", env_config={"threads": 1})
    config.env_runners(
        num_env_runners=runners,
        num_envs_per_env_runner=envs,
        gym_env_vectorize_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT,
        rollout_fragment_length=steps,
    )
    batch = max(1, runners) * envs * steps
    config.training(
        gamma=0.999, lambda_=0.98, lr=3e-4, train_batch_size=batch, minibatch_size=max(1, batch // 4), num_epochs=4
    )
    config.debugging(seed=seed, log_level="ERROR")
    return config


def mean_cost(policy: Policy, system: System, episodes: int) -> float:
    """Over validation episodes, which no training plays."""
    played = play(system, policy, range(VALIDATION_SEED, VALIDATION_SEED + episodes))
    return float(episode_costs(played).mean())


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, tell, and return what was told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="ebatch/Toy-v0")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--runners", type=int, default=0, help="processes that play; 0: the one that learns")
    parser.add_argument("--envs", type=int, default=64, help="environments per process")
    parser.add_argument("--steps", type=int, default=32, help="decisions per environment and iteration")
    parser.add_argument("--episodes", type=int, default=16, help="validation episodes")
    parser.add_argument("--beside", default="ebatch", help="the heuristic to compare with")
    parser.add_argument("--ray", default="local", help="the cluster, as with `ebatch evaluate --ray`")
    given = parser.parse_args(arguments)
    with connected(given.ray):
        return learn(given)


def learn(given: argparse.Namespace) -> dict[str, Any]:
    """Train and compare on the cluster that is connected to."""
    algorithm = make_config(given.env, runners=given.runners, envs=given.envs, steps=given.steps).build_algo()
    told: dict[str, Any] = {"decisions": [], "returns": []}
    try:
        for _ in range(given.iterations):
            result = algorithm.train()["env_runners"]
            told["decisions"].append(int(result["num_env_steps_sampled_lifetime"]))
            told["returns"].append(float(result.get("episode_return_mean", np.nan)))
            print(f"{told['decisions'][-1]:>10,} decisions, mean return {told['returns'][-1]:.4g}", flush=True)
        system = ebatch_env.make_system(given.env)
        told["cost"] = mean_cost(Agent(algorithm, system), system, given.episodes)
        told["beside"] = mean_cost(PolicySpec.parse(given.beside).make(system, given.env), system, given.episodes)
        print(f"cost {told['cost']:.4g}; {given.beside} {told['beside']:.4g}")
    finally:
        algorithm.stop()
    return told


if __name__ == "__main__":
    main()
