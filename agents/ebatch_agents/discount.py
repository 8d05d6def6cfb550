"""Discounting by elapsed time instead of by decision, for SB3's and sb3-contrib's algorithms.

Decisions take different times: a round of one step is over soon, a round of sixty-four is not. With one factor gamma per
decision a learner earns more by making fewer or shorter decisions, whatever they cost. A semi-Markov decision process is discounted by time: a decision after which ``t`` seconds pass
discounts what follows by ``exp(-t / horizon)`` (Puterman, Markov Decision Processes, 1994, chapter 11). As the horizon
grows, the best policy tends to the one of least average cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from ebatch_env.environment.sb3 import EBatchVecEnv
from ebatch_env.errors import FloatArray, check_number
from ebatch_env.simulator import kernel as k


class TimedVecEnv(EBatchVecEnv):
    """`EBatchVecEnv` that tells how much of the future each decision leaves, and scales rewards to match.

    Args:
        n_envs: as in `EBatchVecEnv`, and so are the other keywords.
        horizon: time constant of the discount, in reference latencies.

    Attributes:
        discount: shape (E,), exp(-time since the last decision / horizon); 1 where an episode ended: the clock is then
            the next episode's, and nothing follows. (If it was truncated, what would have followed is not discounted.)

    Rewards are multiplied by requests / (lanes * horizon): at load 1 as many requests as there are lanes come in a
    reference latency, so the discounted return of a policy that earns x per request is about x. ``info["episode"]`` has
    the return as it is.
    """

    def __init__(self, n_envs: int, *, horizon: float, **keywords: Any) -> None:
        self.horizon = check_number("horizon", horizon, low=0.0, low_open=True)
        super().__init__(n_envs, **keywords)
        system = self.system
        self._scale = np.float32(system.requests / (system.lanes * self.horizon))
        # by machine (M,)
        self._per_second = np.array([-1.0 / (self.horizon * m.saturation.latency_s) for m in system.machines])
        self._clock: FloatArray = np.zeros(n_envs)
        self.discount: FloatArray = np.ones(n_envs)

    def reset(self) -> npt.NDArray[np.float32]:
        """Begin an episode in every lane."""
        observation = super().reset()
        self._clock = self.dynamics.systems.f[:, k.CLOCK].copy()
        return observation

    def step_wait(
        self,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """Take one decision in every lane."""
        observation, reward, dones, infos = super().step_wait()
        clock = self.dynamics.systems.f[:, k.CLOCK].copy()
        self.discount = np.exp(self._per_second[self.dynamics.on] * np.where(dones, 0.0, clock - self._clock))
        self._clock = clock
        return observation, reward * self._scale, dones, infos


def discount_by_time(model: BaseAlgorithm, env: TimedVecEnv) -> None:
    """Make ``model``, which learns on ``env``, discount by time; its own gamma must be 1."""
    rollout = getattr(model, "rollout_buffer", None)
    if rollout is not None:
        _time_rollout(rollout, env)
    else:
        _time_replay(getattr(model, "replay_buffer", None), env)


def _time_rollout(buffer: Any, env: TimedVecEnv) -> None:
    """Generalised advantages (Schulman et al., ICLR 2016) with each decision's own discount in the place of gamma."""
    base: Any = type(buffer)

    class TimedRolloutBuffer(base):  # type: ignore[misc]
        def add(self, *values: Any, **keywords: Any) -> None:
            self.discounts[self.pos] = env.discount
            super().add(*values, **keywords)

        def compute_returns_and_advantage(self, last_values: Any, dones: npt.NDArray[np.bool_]) -> None:
            values = last_values.clone().cpu().numpy().flatten()
            more = 1.0 - dones.astype(np.float32)
            advantage = np.zeros_like(values)
            for step in reversed(range(self.buffer_size)):
                discount = self.discounts[step] * more
                delta = self.rewards[step] + discount * values - self.values[step]
                advantage = delta + self.gae_lambda * discount * advantage
                self.advantages[step] = advantage
                values, more = self.values[step], 1.0 - self.episode_starts[step]
            self.returns = self.advantages + self.values

    _become(buffer, TimedRolloutBuffer)


def _time_replay(buffer: Any, env: TimedVecEnv) -> None:
    """Transitions with their own discounts, which DQN and QR-DQN use in the place of gamma."""
    base: Any = type(buffer)

    class TimedReplayBuffer(base):  # type: ignore[misc]
        def add(self, *values: Any, **keywords: Any) -> None:
            self.discounts[self.pos] = env.discount
            super().add(*values, **keywords)

        def _get_samples(self, batch_inds: npt.NDArray[np.int64], env: Any = None) -> ReplayBufferSamples:
            lanes = np.random.randint(0, high=self.n_envs, size=batch_inds.size)  # noqa: NPY002 - SB3's own generator
            ended = self.dones[batch_inds, lanes] * (1 - self.timeouts[batch_inds, lanes])
            columns = (
                self.observations[batch_inds, lanes],
                self.actions[batch_inds, lanes],
                self.next_observations[batch_inds, lanes],
                ended.reshape(-1, 1),
                self.rewards[batch_inds, lanes].reshape(-1, 1),
                self.discounts[batch_inds, lanes].reshape(-1, 1),
            )
            return ReplayBufferSamples(*map(self.to_torch, columns))

    _become(buffer, TimedReplayBuffer)


def _become(buffer: Any, timed: type) -> None:
    """SB3 makes its buffers itself, and not every algorithm lets one choose their class: change it afterwards."""
    buffer.__class__ = timed
    buffer.discounts = np.ones((buffer.buffer_size, buffer.n_envs), np.float32)
