"""`Baseline`: what all schedulers here share: knobs, `predict`, and the way from a plan to an action."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ebatch_baselines.view import View
from ebatch_env.environment.actions import Plans
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray, fail
from ebatch_env.scoring.policy import Knob
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.plan import Order
from ebatch_env.simulator.state import Int64Array

LONGEST, NO_LIMIT = k.LONGEST, k.NO_LIMIT

# Knobs that several schedulers have. Sizes are shares of the lanes and times are in reference latencies (lanes divided
# by saturated throughput), so one setting means the same on any machine.
SIZE = Knob("size", 1 / 64, 1.0, 1.0, log=True, meaning="largest batch, as a share of the lanes")
TIMEOUT = Knob("timeout", 0.001, 10.0, 0.1, log=True, meaning="longest wait for a full batch, in reference latencies")
STEPS = Knob("time_steps", 1, 4096, 16, integer=True, log=True, meaning="time-steps T of a round")
# How the queue is served is another matter than how batches are formed. All schedulers that can have these two have
# them, so that tuning compares the batching.
ORDERS = {"first-come": Order.FIRST_COME, "shortest": Order.SHORTEST, "similar": Order.SIMILAR}
ORDER = Knob("order", 0, 0, "first-come", choices=tuple(ORDERS), meaning="which waiting request is next")
SHED = Knob("shed", 0, 1, False, choices=(False, True), meaning="drop requests that can no longer meet their deadline")


class Baseline:
    """A scheduler: override `plan`, and list the parameters that tuning may set in ``knobs``.

    Args:
        system: what it acts on; the machine's table and the reference costs in it are static knowledge.
        knobs: values of knobs; the others keep their defaults.

    Attributes:
        name: under which it is registered, and the key of its tuned knobs.
        knobs: the parameters.
        memory_size: numbers M that it remembers per environment, 0 at an episode's start.
        settings: the value of every knob.

    Raises:
        ValueError: an unknown knob, or a value out of range.
    """

    name: ClassVar[str] = ""
    knobs: ClassVar[tuple[Knob, ...]] = ()
    memory_size: ClassVar[int] = 0

    def __init__(self, system: System, **knobs: Any) -> None:
        if not isinstance(system, System):
            raise fail("system", type(system).__name__, "a System, one machine; make_policy makes a policy per machine")
        self.system = system
        known = {knob.name: knob for knob in self.knobs}
        for name, value in knobs.items():
            if name not in known:
                listed = ", ".join(known) or "none: it has no knobs"
                raise fail(f"knob of {self.name or type(self).__name__!r}", name, f"one of {listed}")
            known[name].check(value)
        self.settings: dict[str, Any] = {n: knob.check(knobs.get(n, knob.default)) for n, knob in known.items()}

    @classmethod
    def tuned_knobs(cls, env_id: str) -> dict[str, Any] | None:
        """The knobs that ``ebatch tune`` found best on ``env_id``, or None if it was not tuned there."""
        entry = cls.tuned_entry(env_id)
        return None if entry is None else dict(entry["knobs"])

    @classmethod
    def tuned_entry(cls, env_id: str) -> dict[str, Any] | None:
        """What ``ebatch tune`` wrote of this policy on ``env_id``: see `ebatch_env.scoring.tuning.Tuned.entry`."""
        stem = env_id.removeprefix("ebatch/")
        if "/" in stem or "\\" in stem:
            return None
        file = resources.files("ebatch_baselines").joinpath("tuned", f"{stem}.json")
        if not file.is_file():
            return None
        entry: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")).get(cls.name)
        return entry

    def plan(self, view: View) -> Plans:
        """Plans for the E environments of ``view``; no Python per environment."""
        raise NotImplementedError

    def predict(
        self,
        observation: npt.NDArray[np.float32],
        state: Any = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions for observations (E, D) or (D,); see `ebatch_env.scoring.policy.Policy`.

        The state is the memory, shape (E, M); None for a scheduler without memory.
        """
        rows = np.asarray(observation, dtype=np.float32)
        single = rows.ndim == 1
        rows = np.atleast_2d(rows)
        if rows.ndim != 2 or rows.shape[1] != self.system.observations.size:
            expected = f"of shape (E, {self.system.observations.size}) or ({self.system.observations.size},)"
            raise fail("observation", f"shape {np.shape(observation)}", expected)
        memory = self._recall(state, episode_start, rows.shape[0])
        actions = self.system.actions.encode(self.plan(View(self.system, rows, memory)))
        return actions[0] if single else actions, memory if self.memory_size else None

    def _recall(self, state: Any, episode_start: npt.NDArray[np.bool_] | None, size: int) -> FloatArray:
        """The memory to work on: a copy, 0 where an episode begins."""
        shape = (size, self.memory_size)
        if state is None or not self.memory_size:
            return np.zeros(shape)
        memory = np.array(state, dtype=np.float64)
        if memory.shape != shape:
            raise fail("state", f"shape {memory.shape}", f"what the last call returned, of shape {shape}")
        if episode_start is not None:
            memory[np.atleast_1d(episode_start)] = 0.0
        return memory

    # What plans are made of ------------------------------------------------------------------------------------

    def lanes_of(self, share: float) -> int:
        """A share of the lanes as a number of lanes, at least 1."""
        return max(1, round(share * self.system.lanes))

    def seconds_of(self, latencies: float) -> float:
        """Reference latencies as seconds."""
        return latencies * self.system.saturation.latency_s

    def at_most(self, view: View, count: npt.ArrayLike) -> Int64Array:
        """The admission that lets up to ``count`` waiting requests enter at the fill (meant for plans without joins).

        An action offers only some numbers and is rounded down to one of them; where ``count`` covers all that could
        enter anyway, "no limit" says the same without rounding.
        """
        wanted = np.broadcast_to(np.asarray(count, dtype=np.int64), (view.size,))
        return np.where(wanted >= np.minimum(view.free, view.waiting), NO_LIMIT, np.maximum(wanted, 0))

    def service(self) -> dict[str, int]:
        """The plan's ``order`` and ``shed`` as the knobs `ORDER` and `SHED` set them."""
        chosen = self.settings
        return {"order": ORDERS[chosen.get("order", ORDER.default)], "shed": int(chosen.get("shed", False))}

    def offered_steps(self, time_steps: int) -> int:
        """The T that an action for ``time_steps`` really sets; `LONGEST` where nothing else is possible."""
        codec = self.system.actions
        plans = codec.decode(codec.encode(Plans.of(1, time_steps=time_steps)))
        return int(plans.time_steps[0])
