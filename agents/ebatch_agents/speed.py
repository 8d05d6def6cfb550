"""How fast a training goes, beside what SB3 reaches with the same settings where the environment costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from ebatch_env.environment.sb3 import EBatchVecEnv

AIM = 0.9
REPEATS = 2


@dataclass(frozen=True)
class Speed:
    """Decisions per second, the best of some interleaved repeats.

    Attributes:
        ours: on the environment, with the checkpoints that the training writes.
        free: on one of the same spaces whose steps cost nothing.
    """

    ours: float
    free: float

    @property
    def ratio(self) -> float:
        """ours / free."""
        return self.ours / self.free

    def __str__(self) -> str:
        """One line."""
        rates = f"{self.ours:,.0f} decisions/s, {self.free:,.0f} on a free environment"
        return f"{rates}, ratio {self.ratio:.2f} (aim {AIM})"


def free_vec_env(like: EBatchVecEnv, length: int | None = None) -> EBatchVecEnv:
    """Change a VecEnv into one whose steps cost nothing: the same observation for ever and no reward.

    Args:
        like: what to change.
        length: decisions until an episode ends; None: none ends. SB3 has work to do where one does.
    """
    base: Any = type(like)
    never = np.zeros(like.num_envs, np.bool_)
    step = np.arange(like.num_envs)  # episodes begun at different times

    class Free(base):  # type: ignore[misc]
        def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
            nonlocal step
            step = step + 1
            ends = never if length is None else step % length == 0
            return self.dynamics.observation, np.zeros(self.num_envs, np.float32), ends, self._infos

    like.__class__ = Free
    return like


def measure(make: Callable[[bool], tuple[BaseAlgorithm, BaseCallback | None]], decisions: int) -> Speed:
    """Measure a training's speed.

    Args:
        make: a new model with its environment, or, given True, with a free one; and the training's callback, if any.
        decisions: how long each repeat lasts; SB3 finishes the rollout it is in.
    """
    both = make(False), make(True)
    best = [0.0, 0.0]
    for repeat in range(REPEATS + 1):
        for which, (model, callback) in enumerate(both):
            begun, before = time.perf_counter(), model.num_timesteps
            # The first round is for what is only slow once.
            model.learn(1 if repeat == 0 else decisions, callback, reset_num_timesteps=repeat == 0)
            if repeat > 0:
                done = model.num_timesteps - before
                best[which] = max(best[which], done / (time.perf_counter() - begun))
    for model, _ in both:
        model.get_env().close()  # type: ignore[union-attr]
    return Speed(*best)
