"""Policies for the tests of scoring, named to the command as ``tests.scoring.policies:Class``."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ebatch_env.environment.actions import Plans
from ebatch_env.environment.system import System
from ebatch_env.scoring.policy import Knob

HERE = "tests.scoring.policies"
STEADY, ALTERNATING, PICKY = f"{HERE}:Steady", f"{HERE}:Alternating", f"{HERE}:Picky"


class Steady:
    """T = ``time_steps``, admit all."""

    knobs: ClassVar[tuple[Knob, ...]] = (
        Knob("time_steps", 1, 16, 1, integer=True, log=True),
        Knob("joins", 0, 1, False, choices=(False, True)),
    )

    def __init__(self, system: System, *, time_steps: int = 1, joins: bool = False) -> None:
        self.system = system
        self.plan = {"time_steps": self.knobs[0].check(time_steps), "joins": int(joins)}

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        rows = np.atleast_2d(observation)
        actions = self.system.actions.encode(Plans.of(len(rows), **self.plan))
        return actions if observation.ndim == 2 else actions[0], None


class Alternating(Steady):
    """T = 1, 2, 4, 1, 2, 4, ...: its state is the number of decisions."""

    knobs: ClassVar[tuple[Knob, ...]] = ()

    def __init__(self, system: System) -> None:
        self.system = system

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        rows = np.atleast_2d(observation)
        count = np.zeros(len(rows), np.int64) if state is None else state.copy()
        if episode_start is not None:
            count[episode_start] = 0
        actions = self.system.actions.encode(Plans.of(len(rows), time_steps=2 ** (count % 3)))
        return actions if observation.ndim == 2 else actions[0], count + 1


class Idle(Steady):
    """Admits none: nothing is ever served before the last request has arrived."""

    def __init__(self, system: System) -> None:
        self.system, self.plan = system, {"admit": 0}


class Picky(Alternating):
    """Can act on two lanes only."""

    def __init__(self, system: System) -> None:
        if system.lanes != 2:
            raise ValueError(f"lanes must be 2, got {system.lanes}")
        super().__init__(system)


class Wrong(Alternating):
    """Returns probabilities."""

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return np.full((len(observation), 5), 0.5), None


class Exclusive(Steady):
    """Some knobs exclude each other; the others cost the less the closer ``time_steps`` is to 4 or more."""

    def __init__(self, system: System, *, time_steps: int = 1, joins: bool = False) -> None:
        if joins and time_steps > 8:
            raise ValueError("time_steps must be at most 8 with joins")
        super().__init__(system, time_steps=time_steps, joins=joins)


class Mortal(Steady):
    """Kills the process it plays in, once; lists in ``folder`` the episodes that it begins, by process."""

    def __init__(self, system: System, *, folder: str) -> None:
        super().__init__(system)
        self.folder = Path(folder)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        if state is None:
            (self.folder / f"{os.getpid()}-{uuid.uuid4().hex}").touch()
        elif state == 2:
            with contextlib.suppress(FileExistsError):
                (self.folder / "died").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(observation)[0], (state or 0) + 1
