"""`EBatchEnv`: one accelerator as a Gymnasium environment. Its docstring is the page for all forms of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.fleet import AnySystem, build_system
from ebatch_env.environment.rewards import TERMS
from ebatch_env.errors import check_choice, fail
from ebatch_env.simulator.state import Int64Array
from ebatch_env.trace import RequestTrace

RENDER_MODES = ("human", "rgb_array", "ansi")
FRAMES_PER_SECOND = 10


class Choice(NamedTuple):
    """What ``reset(options=...)`` says of the episode; None: it is drawn."""

    trace: RequestTrace | None = None
    machine: int | None = None


def reset_choice(options: dict[str, Any] | None, system: AnySystem) -> Choice:
    """Read ``{"trace": RequestTrace, "machine": name or number}``, either of which may be missing.

    Raises:
        ValueError: other options, a trace that the machines cannot play, no such machine.
    """
    if options is None:
        return Choice()
    if not isinstance(options, Mapping) or set(options) - {"trace", "machine", "reset_mask"}:
        raise fail("options", options, "a mapping with keys among 'trace', 'machine', 'reset_mask'")
    chosen, trace = options.get("machine"), options.get("trace")
    machine = None if chosen is None else _machine_number(chosen, system)
    if trace is None:
        return Choice(None, machine)
    return Choice(_checked(trace, system if machine is None else system.machines[machine]), machine)


def _machine_number(chosen: Any, system: AnySystem) -> int:
    names = [machine.accelerator.name for machine in system.machines]
    if isinstance(chosen, str) and names.count(chosen) == 1:
        return names.index(chosen)
    number = isinstance(chosen, (int, np.integer)) and not isinstance(chosen, (bool, np.bool_))
    if number and 0 <= chosen < len(names):
        return int(chosen)
    raise fail("options['machine']", chosen, f"one of {names} that is there once, or a place in this list from 0 on")


def begin_episodes(
    dynamics: Dynamics, which: Sequence[int] | Int64Array, rngs: Sequence[np.random.Generator], choice: Choice
) -> None:
    """Begin episodes in the systems ``which`` as chosen; what is not, each draws from its generator of ``rngs`` (E)."""
    if choice.trace is None:
        dynamics.restart(which, rngs, choice.machine)
        return
    drawn = choice.machine is None
    on = [dynamics.system.draw_machine(rngs[e]) if drawn else choice.machine for e in which]
    dynamics.load([choice.trace] * len(on), which, np.array(on, np.int64))


def _checked(trace: Any, system: AnySystem) -> RequestTrace:
    if not isinstance(trace, RequestTrace):
        raise fail("options['trace']", trace, "a RequestTrace")
    if trace.requests > system.requests:
        raise fail("trace.requests", trace.requests, f"at most requests = {system.requests} of the environment")
    return system.check_trace(trace, trace.requests)


class EBatchEnv(gym.Env[npt.NDArray[np.float32], Any]):
    """One accelerator that serves sequences to a recurrent network in batches.

    ## Description

    Requests (sequences of differing lengths) arrive at an accelerator whose batch has B lanes. Work goes in rounds: the
    machine runs every layer of the network in turn, up to T time-steps each, over all lanes. A sequence that ends frees
    its lane, and another may join at once. Before each round the agent decides how many time-steps to run before it may
    decide again, how many requests to admit, whether sequences may join during the round, which waiting request goes
    first, and whether to drop requests that can no longer meet their deadline. Large T reuses each layer's weights for
    more work; small T reacts sooner. The simulator is exact and draws no random numbers; all chance is in the traces.

    ## Action Space

    `MultiDiscrete`, one index per control (`Discrete` over their product with ``flat_actions=True``):

    | control | levels | meaning |
    |---|---|---|
    | `time_steps` | 1, 2, 4, ... up to the machine's limit, then "longest" | T; "longest": to the end of the longest busy lane |
    | `admit` | 0, 1, 2, 4, ... below B, then "all" | most sequences that may enter lanes, joins included |
    | `joins` | no, yes | sequences may enter free lanes during the round |
    | `order` | first come, shortest, similar | which waiting request is next |
    | `shed` | no, yes | first drop waiting requests that cannot meet their deadline even alone |

    ``env.unwrapped.system.actions`` lists the levels. ``info["action_mask"]`` (int8, the form that
    ``action_space.sample(mask=...)`` takes) and ``action_masks()`` (bool, for MaskablePPO) say which are legal. A level
    the machine rules out has the nearest legal effect: T is capped by the machine, a machine that runs whole sequences
    runs them whole, a join, an order or a shed that is impossible does not happen. To hold is to admit none with no
    lane busy: the clock moves on to the next arrival, at most ``hold``. Once the last request has arrived there is
    nothing to wait for: holding is masked, and chosen all the same it admits all. So every episode ends. An index out
    of range, another shape and anything but integers raise ValueError.

    ## Observation Space

    `Box` of float32 in [-1, 1]: the queue, the lanes, arrival rates, deadlines, the last round, and the machine's own
    constants. ``env.unwrapped.system.observations`` gives name, unit, scale and range of every index and reads them
    back in units; ``docs/observations.md`` is the same table. With ``lengths_known=False`` whatever would give lengths
    away is 0.

    ## Rewards

    ``credit * resolved / R`` less the cost of the interval since the last decision: weighted energy, integral of the
    number of requests in the system, missed deadlines and shed requests (`Objective`). The undiscounted return is
    ``credit`` less the mean cost per request, unless the episode was truncated: what is left undone then earned no
    credit and ran up no cost. ``info["rewards"]`` holds the named terms, which add up to the reward.

    ## Starting State

    All lanes free, the clock at the first arrival. ``reset(options={"trace": RequestTrace(...)})`` plays a given trace,
    and ``options={"machine": "tpu"}`` a given one of several machines: its name, or its place in the list.

    ## Episode End

    Terminated when every request is complete or shed. Truncated after ``max_decisions``; ``info["truncation"]`` then
    says ``"max_decisions"``. By default no policy that admits whenever a lane is free can reach that number.

    ## Arguments

    | keyword | default | meaning |
    |---|---|---|
    | `network` | `"MNMT"` | name, `Network`, or its dict |
    | `accelerator` | `"epur"` | name, `Accelerator`, `"module:Class"`, or dict; or a list of several: each episode is played on one of them, see Several Machines |
    | `lanes` | 64 | lanes B of the batch |
    | `workload` | `"translation"` | name, workload, path of a CSV, `"module:Class"`, or dict |
    | `load` | 0.8 | arrival rate / saturated throughput of the machine, 1e-6..1000; a pair is a range drawn from anew each episode |
    | `requests` | 1024 | requests R of an episode |
    | `deadline` | None | after arrival, in reference latencies (lanes / saturated throughput) |
    | `hold` | 0.1 | longest hold, in reference latencies; `inf`: until the next arrival |
    | `objective` | | `Objective`, or a mapping of weights `energy, latency, miss, shed, credit` |
    | `lengths_known` | True | False hides sequence lengths, as for decoders |
    | `controls` | all five | which controls the action has |
    | `plan` | longest, all, joins | what the other controls are set to (`RoundPlan` or mapping) |
    | `time_step_levels`, `admit_levels` | see above | other levels; None stands for "longest" and "all" |
    | `flat_actions` | False | one `Discrete` index |
    | `max_decisions` | R (longest length + 129) + holds | truncation; holds: twice as many as fill the arrivals of the mean episode, at most 1,000,000 |
    | `reference_accelerator` | `accelerator` | the machine whose saturated throughput, latency and energy are the references of `load`, `deadline`, `hold` and the costs: with the same one, numbers on different machines compare |
    | `episode_metrics` | True | put `EpisodeMetrics` in ``info["episode_metrics"]`` when an episode ends |
    | `render_mode` | None | `human`, `rgb_array`, `ansi` |

    ## Several Machines

    With a list of accelerators one policy serves several machines. At the beginning of an episode its machine is drawn
    from the environment's generator, all alike, and everything is relative to it: load, deadline, hold, costs, scales.
    The observation's constant part shows which it is (``env.unwrapped.system.observations.machine_of(observation)``).
    `time_steps` has the levels of all of them; those above a machine's limit are masked there and capped. ``system`` is a
    `Fleet`, and ``system.machines`` holds a `System` for each.

    ## Vectorized

    ``gym.make_vec(id, num_envs=...)`` builds `EBatchVectorEnv`, and ``ebatch_env.make_sb3(id, n_envs=...)`` a
    Stable-Baselines3 `VecEnv`, both over the same compiled dynamics. Lane i seeded with ``seed`` plays exactly what
    this class plays with seed ``seed + i``.

    ## Version History

    * v0: initial version.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's own declaration
        "render_modes": list(RENDER_MODES),
        "render_fps": FRAMES_PER_SECOND,
    }

    def __init__(self, *, render_mode: str | None = None, episode_metrics: bool = True, **keywords: Any) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, RENDER_MODES)
        if not isinstance(episode_metrics, bool):
            raise fail("episode_metrics", episode_metrics, "True or False")
        self.render_mode = render_mode
        self.system = build_system(**keywords)
        self.dynamics = Dynamics(self.system, 1, record=bool(episode_metrics) or render_mode is not None)
        self.action_space = self.system.actions.space
        self.observation_space: gym.spaces.Box = self.system.observations.space  # type: ignore[assignment]
        self._episode_metrics = episode_metrics
        self._ready = False
        self._renderer: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; see Starting State."""
        super().reset(seed=seed)
        begin_episodes(self.dynamics, (0,), (self.np_random,), reset_choice(options, self.system))
        self._ready = True
        if self.render_mode is not None:
            self._draw(new_episode=True)
        return self.dynamics.observation[0], {"action_mask": self._mask()}

    def step(self, action: Any) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take one decision; see Action Space."""
        if not self._ready:
            raise gym.error.ResetNeeded("step() needs a reset() first: no episode is under way")
        dynamics = self.dynamics
        dynamics.step(self.system.actions.check_actions(action, 1))
        terminated, truncated = bool(dynamics.terminated[0]), bool(dynamics.truncated[0])
        info: dict[str, Any] = {
            "rewards": dict(zip(TERMS, dynamics.terms[0].tolist(), strict=True)),
            "action_mask": self._mask(),
        }
        if terminated or truncated:
            self._ready = False
            if truncated:
                info["truncation"] = "max_decisions"
            if self._episode_metrics:
                info["episode_metrics"] = dynamics.metrics(0)
        if self.render_mode is not None:
            self._draw(new_episode=False)
        return dynamics.observation[0], float(dynamics.reward[0]), terminated, truncated, info

    def _mask(self) -> Any:
        return self.system.actions.split_mask(self.dynamics.mask[0])

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which indices are legal now, shape (M,), the controls one behind the other: for MaskablePPO."""
        legal: npt.NDArray[np.bool_] = self.dynamics.mask[0].astype(np.bool_)
        return legal

    def _draw(self, *, new_episode: bool) -> None:
        """Tell the renderer what happened; in ``human`` mode show it."""
        if self._renderer is None:
            from ebatch_env.environment.rendering import Renderer

            assert self.render_mode is not None
            self._renderer = Renderer(self.dynamics.playing(0), self.render_mode)
        if new_episode:
            self._renderer.begin(self.dynamics)
        else:
            self._renderer.record(self.dynamics)
        if self.render_mode == "human":
            self._renderer.show()

    def render(self) -> Any:
        """The lanes over time, rounds and passes marked, queue and energy beside them; see ``render_mode``."""
        if self.render_mode is None:
            gym.logger.warn('render() does nothing without a render_mode: gym.make(id, render_mode="rgb_array")')
            return None
        if self._renderer is None:
            raise gym.error.ResetNeeded("render() needs a reset() first: no episode is under way")
        return self._renderer.frame() if self.render_mode != "human" else None

    def close(self) -> None:
        """Close the window, if any."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self.dynamics.close()
