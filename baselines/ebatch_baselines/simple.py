"""Yardsticks: one sequence at a time, one constant plan, and chance."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ebatch_baselines.base import LONGEST, NO_LIMIT, ORDER, SHED, STEPS, Baseline
from ebatch_baselines.view import View
from ebatch_env.environment.actions import CONTROLS, Plans
from ebatch_env.environment.system import System
from ebatch_env.errors import check_integer
from ebatch_env.scoring.policy import Knob
from ebatch_env.scoring.tuning import Tuned


class Serial(Baseline):
    """One sequence at a time, each to its end: what an accelerator without batching does.

    Source: the single-sequence mode of E-PUR (Silfa et al., PACT 2018).
    Mapping: with all lanes free admit one; T to its end; no joins.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "serial"
    knobs: ClassVar[tuple[Knob, ...]] = (SHED,)

    def plan(self, view: View) -> Plans:
        """Admit one if nothing runs."""
        admit = np.where(view.idle, 1, 0)
        return Plans.of(view.size, time_steps=LONGEST, admit=admit, joins=0, **self.service())


class Constant(Baseline):
    """The same plan at every decision: what any adaptive scheduler must beat.

    Source: none; tuned, it is the best of all constant plans that the action offers: `ebatch_baselines.plans`.
    Mapping: the knobs are the plan's fields.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `time_steps` | 16 | 1..4096 | T; rounded down to one that the action offers |
    | `longest` | False | False, True | T to the end of the longest busy lane instead |
    | `admit` | 1 | 1/64..1 | most sequences that enter lanes in a round, as a share of the lanes; 1: no limit |
    | `joins` | True | False, True | sequences may enter lanes during the round |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "constant"
    knobs: ClassVar[tuple[Knob, ...]] = (
        STEPS,
        Knob("longest", 0, 1, False, choices=(False, True), meaning="T to the end of the longest busy lane instead"),
        Knob("admit", 1 / 64, 1.0, 1.0, log=True, meaning="sequences that may enter in a round, share of the lanes"),
        Knob("joins", 0, 1, True, choices=(False, True), meaning="sequences may enter lanes during the round"),
        ORDER,
        SHED,
    )

    @staticmethod
    def search(*args: Any, **kwargs: Any) -> Tuned:
        """`ebatch_baselines.plans.search`: how `ebatch tune` tunes this policy, whose plans are few enough to try them all."""
        from ebatch_baselines.plans import search  # which needs this class

        return search(*args, **kwargs)

    def plan(self, view: View) -> Plans:
        """The plan of the knobs."""
        return self.of(view.size)

    def of(self, systems: int) -> Plans:
        """The plan of the knobs, for so many environments."""
        chosen = self.settings
        return Plans.of(
            systems,
            time_steps=LONGEST if chosen["longest"] else chosen["time_steps"],
            admit=NO_LIMIT if chosen["admit"] == 1.0 else self.lanes_of(chosen["admit"]),
            joins=chosen["joins"],
            **self.service(),
        )


class Random(Baseline):
    """Every control uniform over its legal levels: the floor.

    Source: none.
    Mapping: the draws are a hash of the seed, the number of the decision and the observation, so the same episode
    gets the same actions whatever runs beside it.

    Args:
        system: what it acts on.
        seed: which stream of chance, an integer >= 0. It is no knob: there is nothing to tune.
        knobs: none; refused by name.
    """

    name: ClassVar[str] = "random"
    memory_size: ClassVar[int] = 1

    def __init__(self, system: System, *, seed: int = 0, **knobs: Any) -> None:
        super().__init__(system, **knobs)
        rng = np.random.default_rng(check_integer("seed", seed, low=0))
        shape = (system.observations.size + 1, len(CONTROLS))
        self._keys = rng.integers(1 << 63, size=shape, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

    def plan(self, view: View) -> Plans:
        """Draw a legal level for every control."""
        view.memory[:, 0] += 1.0
        bits = view.observation.view(np.uint32).astype(np.uint64)
        rows = np.concatenate([bits, view.memory.astype(np.uint64)], axis=1)
        mixed = _mix(rows @ self._keys)  # (E, controls); the products wrap around, as a hash should
        values = {}
        for column, control in enumerate(CONTROLS):
            codec = self.system.actions
            allowed = codec.levels[control][codec.legal[control]]
            uniform = (mixed[:, column] >> np.uint64(11)) * 2.0**-53
            values[control] = allowed[(uniform * allowed.size).astype(np.int64)]
        return Plans(**values)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64: every bit in affects every bit out."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
