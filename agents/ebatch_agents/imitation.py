"""Imitation before reinforcement: a policy that begins as a copy of a tuned scheduler.

A random policy rarely holds for a whole timeout, or keeps a cap on the lanes for a hundred decisions on end, so what such
rules are worth is hardly ever seen. A policy that begins where a scheduler is has only to find what is better. The
scheduler acts (states are its own), and its choices are learnt as a classification (behavioural cloning; Pomerleau, Neural
Computation 3(1), 1991). A small share of the labels is drawn at random, so that the policy ends sure enough to act like its
teacher and unsure enough to try something else. The critic learns what followed, so that the first advantages are not noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from ebatch_agents.acting import LegalActions
from ebatch_agents.algorithms import algorithm
from ebatch_agents.policy import SB3Policy
from ebatch_env.environment.sb3 import EBatchVecEnv
from ebatch_env.errors import FloatArray, check_integer, fail
from ebatch_env.scoring.policy import make_policy

DECISIONS = 65_536  # of the teacher
EPOCHS = 20
BATCH = 1024
LEARNING_RATE = 1e-3
NOISE = 0.05  # share of the labels, per control, that are drawn from its legal levels
VALUE = 0.5  # weight of the squared error of the value


@dataclass(frozen=True)
class Imitated:
    """What came of it.

    Attributes:
        decisions: that the teacher took.
        agreement: share of decisions that have every control's likeliest level as the teacher has it.
    """

    decisions: int
    agreement: float

    def __str__(self) -> str:
        return f"{self.agreement:.1%} of its {self.decisions:,} decisions"


def check_teacher(algo: str, teacher: str) -> None:
    """Refuse what cannot imitate.

    Raises:
        ValueError: the algorithm has no actor and critic of its own, or remembers.
    """
    chosen = algorithm(algo)
    if chosen.replays or "Lstm" in chosen.policy:
        raise fail("teacher", teacher, f"None with {algo}: only ppo, maskable_ppo and a2c begin by imitation")


def imitate(
    model: BaseAlgorithm, env: EBatchVecEnv, teacher: str, env_id: str, decisions: int | None = None
) -> Imitated:
    """Make the model's policy a copy of ``teacher``, and its critic the judge of that.

    Args:
        model: a new model of an actor and a critic.
        env: its environments; they are left in the middle of episodes.
        teacher: a registered policy, with the knobs tuned for ``env_id``.
        env_id: the id.
        decisions: the teacher's, all environments together; None: `DECISIONS`.

    Raises:
        ValueError: an unknown teacher, or one that cannot act on the environment.
    """
    decisions = check_integer("decisions", DECISIONS if decisions is None else decisions, low=env.num_envs)
    observations, actions, returns = _watch(env, teacher, env_id, -(-decisions // env.num_envs), _gamma(model, env))
    policy: Any = model.policy
    legal = LegalActions(env.system, flat=env.system.actions.flat)(observations)
    labels = _noisy(actions, legal, env.system.actions.limits().tolist(), np.random.default_rng(model.seed))
    columns = list(map(torch.as_tensor, (observations, labels, returns)))
    if type(model).__name__ == "MaskablePPO":
        columns.append(torch.as_tensor(legal))
    optimizer = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)
    policy.set_training_mode(True)
    for _ in range(EPOCHS):
        shuffled = torch.randperm(len(observations))
        for first in range(0, len(shuffled), BATCH):
            chosen = shuffled[first : first + BATCH]
            rows, taken, worth, *masks = (column[chosen] for column in columns)
            value, likelihood, _ = policy.evaluate_actions(rows, taken, *masks)
            loss = -likelihood.mean() + VALUE * (value.flatten() - worth).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    policy.set_training_mode(False)
    learnt = SB3Policy(model, env.system).predict(observations)[0]
    same = (learnt == actions).reshape(len(actions), -1).all(axis=1)
    return Imitated(len(observations), float(same.mean()))


def _noisy(
    actions: npt.NDArray[np.int64], legal: npt.NDArray[np.bool_], sizes: Sequence[int], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """``actions`` (E, C) or (E,) with a share `NOISE` of each column drawn anew from what is ``legal`` (E, M = sum of sizes)."""
    noisy = actions.reshape(len(actions), -1).copy()
    first = 0
    for column, size in enumerate(sizes):
        allowed = legal[:, first : first + size]
        drawn = np.argmax(rng.random(allowed.shape) * allowed, axis=1)
        noisy[:, column] = np.where(rng.random(len(noisy)) < NOISE, drawn, noisy[:, column])
        first += size
    return noisy.reshape(actions.shape)


def _gamma(model: BaseAlgorithm, env: VecEnv) -> float | None:
    """The discount per decision; None where the environment tells each decision's own."""
    return None if hasattr(env, "discount") else float(model.gamma)  # type: ignore[attr-defined]


def _watch(
    env: EBatchVecEnv, teacher: str, env_id: str, steps: int, gamma: float | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """What the teacher saw and did, and the discounted return of what followed, one row per decision."""
    scheduler = make_policy(teacher, env.system, env_id)
    seen, done, rewards, discounts, starts = [], [], [], [], []
    observation: Any = env.reset()
    state: Any = None
    start = np.ones(env.num_envs, np.bool_)
    for _ in range(steps):
        actions, state = scheduler.predict(observation, state, start, deterministic=True)
        seen.append(observation)
        done.append(actions)
        starts.append(start)
        observation, reward, start, _ = env.step(actions)
        rewards.append(reward)
        discounts.append(np.full(env.num_envs, gamma) if gamma is not None else env.discount)  # type: ignore[attr-defined]
    returns = _returns(np.array(rewards), np.array(discounts), np.array([*starts[1:], start]))
    return (
        np.concatenate(seen),
        np.concatenate(done),
        returns.reshape(-1).astype(np.float32),
    )


def _returns(rewards: FloatArray, discounts: FloatArray, over: npt.NDArray[np.bool_]) -> FloatArray:
    """Discounted sums of the rewards that followed, up to the episode's end, all (steps, E).

    What follows the last step is not known; a mean reward for ever is assumed there.
    """
    factor = np.where(over, 0.0, discounts)
    after = rewards.mean() / max(1.0 - float(discounts[~over].mean() if (~over).any() else 0.0), 1e-3)
    total = np.full(rewards.shape[1], after)
    found = np.empty_like(rewards, dtype=np.float64)
    for step in range(len(rewards) - 1, -1, -1):
        total = rewards[step] + factor[step] * total
        found[step] = total
    return found
