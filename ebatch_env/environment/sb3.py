"""`EBatchVecEnv`: the dynamics as a Stable-Baselines3 `VecEnv`. Needs the extra ``sb3``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices

from ebatch_env.environment.dynamics import Dynamics, Streams
from ebatch_env.environment.env import Choice, begin_episodes, reset_choice
from ebatch_env.environment.fleet import build_system
from ebatch_env.errors import check_integer


class EBatchVecEnv(VecEnv):
    """E environments for SB3; lanes restart in the step they end in.

    The infos of a lane that ended hold what SB3 and its `Monitor` put there: ``terminal_observation``,
    ``TimeLimit.truncated`` and ``episode`` (return ``r``, length ``l``, time ``t``), so no `VecMonitor` is needed. All
    other infos are one and the same empty dict, reused from step to step.

    Args:
        n_envs: their number E.
        seed: lane i is seeded ``seed + i``, as in the other forms; None: at random.
        threads: threads to step with; None: as many as pay.
        episode_metrics: put `EpisodeMetrics` in the info of a lane that ended.
        keywords: as in `EBatchEnv`.
    """

    def __init__(
        self,
        n_envs: int,
        *,
        seed: int | None = None,
        threads: int | None = None,
        episode_metrics: bool = False,
        render_mode: str | None = None,
        **keywords: Any,
    ) -> None:
        check_integer("n_envs", n_envs, low=1)
        self.render_mode = render_mode
        self.system = build_system(**keywords)
        self.dynamics = Dynamics(self.system, n_envs, threads, record=bool(episode_metrics), lent=True)
        super().__init__(n_envs, self.system.observations.space, self.system.actions.space)
        self._episode_metrics = bool(episode_metrics)
        self._columns = self.system.actions.columns
        self._streams = Streams([seeding.np_random(None if seed is None else seed + i)[0] for i in range(n_envs)])
        self._begun = False
        self._actions = np.zeros((n_envs, self._columns), np.int64)
        self._returns = np.zeros(n_envs)
        self._lengths = np.zeros(n_envs, np.int64)
        self._infos: list[dict[str, Any]] = [{}] * n_envs
        self._started = time.time()

    def reset(self) -> npt.NDArray[np.float32]:
        """Begin an episode in every lane; ``seed()`` and ``set_options({"trace": ..., "machine": ...})`` take effect now."""
        for e, seed in enumerate(self._seeds):
            if seed is not None:
                self._streams.replace(e, seeding.np_random(seed)[0])
        self._begin()
        self._reset_seeds()
        self._reset_options()
        self._begun = True
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return self.dynamics.observation

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = self.system.actions.check_actions(actions, self.num_envs)

    def step_wait(
        self,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """Take one decision in every lane."""
        if not self._begun:
            raise gym.error.ResetNeeded("step() needs a reset() first: no episode is under way")
        dynamics = self.dynamics
        # Compiled code begins the next episodes itself, unless the records of the last are still to be read or a
        # workload of the user's draws the work.
        itself = dynamics.draws_itself and not self._episode_metrics
        dynamics.step(self._actions, self._streams if itself else None)
        self._returns += dynamics.reward
        self._lengths += 1
        dones = dynamics.over
        infos = self._infos
        if dynamics.ended > 0:
            infos = infos.copy()
            ended = np.flatnonzero(dones)
            if not itself:
                dynamics.final_observation[ended] = dynamics.observation[ended]
            for e, observation in zip(ended.tolist(), dynamics.final_observation[ended], strict=True):
                infos[e] = self._last_info(e, observation)
            if not itself:
                dynamics.restart(ended, self._streams)
            self._returns[ended] = 0.0
            self._lengths[ended] = 0
        return dynamics.observation, dynamics.reward.astype(np.float32), dones, infos

    def _begin(self) -> None:
        """Begin every lane as ``set_options`` said, all that is drawn at once."""
        choices = [reset_choice(options, self.system) for options in self._options]
        drawn = np.array([choice == Choice() for choice in choices])
        if drawn.any():
            self.dynamics.restart(np.flatnonzero(drawn), self._streams)
        for e in np.flatnonzero(~drawn).tolist():
            begin_episodes(self.dynamics, (e,), self._streams, choices[e])

    def _last_info(self, e: int, observation: npt.NDArray[np.float32]) -> dict[str, Any]:
        dynamics = self.dynamics
        truncated = bool(dynamics.truncated[e]) and not bool(dynamics.terminated[e])
        elapsed = round(time.time() - self._started, 6)
        info: dict[str, Any] = {
            "terminal_observation": observation,
            "TimeLimit.truncated": truncated,
            "episode": {"r": float(self._returns[e]), "l": int(self._lengths[e]), "t": elapsed},
        }
        if self._episode_metrics:
            info["episode_metrics"] = dynamics.metrics(e)
        return info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which indices are legal now, shape (E, M): for MaskablePPO."""
        return self.dynamics.mask.astype(np.bool_)

    def close(self) -> None:
        """Release the threads."""
        self.dynamics.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute once per lane asked for; all lanes share it."""
        value = getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Lanes share their attributes: only setting one for all of them is possible."""
        if indices is not None and len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"indices must be None: lanes share {attr_name!r}, got {indices!r}")
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method; ``action_masks`` gives one row per lane asked for, any other the same result for each."""
        result = getattr(self, method_name)(*args, **kwargs)
        lanes = list(self._get_indices(indices))
        return list(result[lanes]) if method_name == "action_masks" else [result] * len(lanes)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """No lane is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """This form does not render: nothing per lane."""
        return [None] * self.num_envs
