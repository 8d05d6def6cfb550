"""`EBatchVectorEnv`: many accelerators in step, natively."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ebatch_env.environment.dynamics import Dynamics, Streams
from ebatch_env.environment.env import begin_episodes, reset_choice
from ebatch_env.environment.fleet import build_system
from ebatch_env.environment.rewards import TERMS
from ebatch_env.errors import check_integer, fail


class EBatchVectorEnv(VectorEnv[npt.NDArray[np.float32], Any, npt.NDArray[np.float64]]):
    """E environments that are stepped together; see `EBatchEnv` for everything but the following.

    Args:
        num_envs: their number E.
        autoreset_mode: an `AutoresetMode` or its name: ``NextStep`` (a lane that ended ignores the next action and
            starts anew, reward 0), ``SameStep`` (it starts anew at once; its last observation and info are in
            ``info["final_obs"]`` and ``info["final_info"]``), ``Disabled`` (``reset(options={"reset_mask": ...})``
            restarts chosen lanes; stepping a lane that ended changes nothing and earns 0).
        threads: threads to step with; None: as many as pay.
        episode_metrics: as in `EBatchEnv`; off by default because it costs time at every episode's end.
        max_episode_steps: what ``gym.make_vec`` passes on; the same as ``max_decisions``.
        keywords: as in `EBatchEnv`.

    ``info["rewards"]`` maps each term to an array (E,), ``info["action_mask"]`` is int8 (E, M).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's own declaration
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int | None = None,
        episode_metrics: bool = False,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **keywords: Any,
    ) -> None:
        self.num_envs = check_integer("num_envs", num_envs, low=1)
        if threads is not None:
            check_integer("threads", threads, low=1)
        if render_mode is not None:
            raise fail("render_mode", render_mode, "None: the vector environment does not render")
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            raise fail("autoreset_mode", autoreset_mode, f"one of {[mode.value for mode in AutoresetMode]}") from None
        if max_episode_steps is not None:
            keywords["max_decisions"] = max_episode_steps
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.system = build_system(**keywords)
        self.dynamics = Dynamics(self.system, self.num_envs, threads, record=bool(episode_metrics))
        self.single_action_space = self.system.actions.space
        self.single_observation_space = self.system.observations.space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._episode_metrics = bool(episode_metrics)
        self._streams: Streams | None = None
        self._over = np.zeros(self.num_envs, np.bool_)
        self._any_over = False
        self._everywhere = np.ones(self.num_envs, np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begin episodes: in all lanes, or in those of ``options["reset_mask"]``, a bool array (E,)."""
        which = np.arange(self.num_envs)
        mask = (options or {}).get("reset_mask")
        if mask is not None:
            mask = np.asarray(mask)
            if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
                raise fail(
                    "options['reset_mask']", mask, f"a bool array of shape ({self.num_envs},) with one True at least"
                )
            which = np.flatnonzero(mask)
        choice = reset_choice(options, self.system)
        begin_episodes(self.dynamics, which, self._seed(seed, which), choice)
        self._over[which] = False
        self._any_over = bool(self._over.any())
        return self.dynamics.observation, self._info()

    def _seed(self, seed: int | list[int | None] | None, which: npt.NDArray[np.intp]) -> Streams:
        """Seed lane i with ``seed + i``, or ``seed[i]``; None leaves the generators as they are."""
        seeds: list[int | None]
        if seed is None:
            seeds = [None] * self.num_envs
        elif isinstance(seed, (int, np.integer)):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
            if len(seeds) != self.num_envs:
                raise fail("seed", seed, f"an integer or {self.num_envs} of them")
        if self._streams is None:
            if which.size < self.num_envs:
                raise fail(
                    "options['reset_mask']", which.tolist(), "left out of the first reset, which begins every lane"
                )
            self._streams = Streams([seeding.np_random(s)[0] for s in seeds])
            return self._streams
        for e in which.tolist():
            if seeds[e] is not None:
                self._streams.replace(e, seeding.np_random(seeds[e])[0])
        return self._streams

    def step(  # type: ignore[override]  # Gymnasium types flags and rewards as one array type
        self, actions: Any
    ) -> tuple[
        npt.NDArray[np.float32],
        npt.NDArray[np.float64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Take one decision in every lane."""
        streams = self._streams
        if streams is None:
            raise gym.error.ResetNeeded("step() needs a reset() first: no episode is under way")
        rows = self.system.actions.check_actions(actions, self.num_envs)
        dynamics, same_step = self.dynamics, self.autoreset_mode == AutoresetMode.SAME_STEP
        # Compiled code begins the next episodes itself, unless the records of the last are still to be read or a
        # workload of the user's draws the work.
        itself = dynamics.draws_itself and not self._episode_metrics
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and self._any_over:
            dynamics.step(rows, streams if itself else None, self._over)
            if not itself:
                dynamics.restart(np.flatnonzero(self._over), streams)
        else:
            dynamics.step(rows, streams if same_step and itself else None)
        terminated, truncated = dynamics.terminated, dynamics.truncated
        over = dynamics.over
        self._any_over = dynamics.ended > 0
        info = self._info()
        info["rewards"], info["_rewards"] = dict(zip(TERMS, dynamics.terms.T, strict=True)), self._everywhere
        if self._any_over and (same_step or self._episode_metrics or dynamics.cut > 0):
            ended = over.nonzero()[0]
            last = self._final_info(ended, truncated)
            if same_step:
                if not itself:
                    dynamics.final_observation[ended] = dynamics.observation[ended]
                    dynamics.final_mask[:] = dynamics.mask
                    dynamics.restart(ended, streams)
                    info["action_mask"] = dynamics.mask
                final_obs = np.empty(self.num_envs, dtype=object)  # None, until it is set
                for e, row in zip(ended.tolist(), dynamics.final_observation.take(ended, 0), strict=True):
                    final_obs[e] = row
                which = over.copy()  # `over` itself is kept, and changed by a reset
                last["rewards"], last["action_mask"] = info["rewards"], dynamics.final_mask.copy()
                last["_rewards"] = last["_action_mask"] = which
                info["final_obs"], info["final_info"] = final_obs, last
                info["_final_obs"] = info["_final_info"] = which
            else:
                info.update(last)
        self._over = over
        return dynamics.observation, dynamics.reward, terminated, truncated, info

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self.dynamics.mask, "_action_mask": self._everywhere}

    def _final_info(self, ended: npt.NDArray[np.intp], truncated: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """What the single environment's info says at an episode's end, for the lanes that ended."""
        info: dict[str, Any] = {}
        if self.dynamics.cut > 0:
            reasons = np.empty(self.num_envs, dtype=object)
            reasons[truncated] = "max_decisions"
            info["truncation"] = reasons
            info["_truncation"] = truncated.copy()
        if self._episode_metrics:
            metrics = np.empty(self.num_envs, dtype=object)
            for e in ended:
                metrics[e] = self.dynamics.metrics(int(e))
            there = np.zeros(self.num_envs, np.bool_)
            there[ended] = True
            info["episode_metrics"], info["_episode_metrics"] = metrics, there
        return info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which indices are legal now, shape (E, M)."""
        return self.dynamics.mask.astype(np.bool_)

    def close_extras(self, **kwargs: Any) -> None:
        """Release the threads; Gymnasium calls this even if the constructor failed."""
        if hasattr(self, "dynamics"):
            self.dynamics.close()
