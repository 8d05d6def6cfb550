"""`Crew`: the threads that share a step of many systems.

Steps of a vector environment follow each other within microseconds, less than it takes to wake a thread. So the helpers
look out for the next step for a while (`LOOKS_AHEAD`) before they go to sleep. Each thread has its share of the systems,
the same at every step because they are in its core's cache, but takes a few of them at a time: a thread that is done goes
on with what another has left, so that a helper that wakes late, or finds its core busy, delays nobody. What a system goes
through does not depend on who steps it.

Where a learner works between steps the threads of its OpenMP may take the helpers' place (`openmp`).
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_env.environment import openmp
from ebatch_env.environment.addresses import pack
from ebatch_env.environment.compiled import (
    ALL,
    ARRAYS,
    AWAKE,
    DONE,
    END,
    FINISHED,
    LATE,
    NOT_DRAWN,
    OVER,
    PATIENCE,
    STOP,
    TEAM,
    THREADS,
    UNDER_WAY,
    WAKE,
    work,
)

# Steps closer than this are back to back. For them a helper looks out so many times before it sleeps, 20 to 40 ns each, and
# is worth waking however few the systems. Where a learner works between steps it would only be in that one's way.
BACK_TO_BACK_S = 100e-6
LOOKS_AHEAD = 4000
WORTH_WAKING = 256  # systems; so many are worth it in any case
# In place of a step's arrays where one is under way, whose are in ``control``.
_NOTHING = (
    np.zeros(0, np.bool_),
    np.zeros((0, 0), np.int64),
    np.zeros((0, 4), np.uint64),
    np.zeros((0, 0), np.float32),
    np.zeros(0),
    np.zeros((0, 5)),
    np.zeros((3, 0), np.bool_),
    np.zeros((0, 0), np.int8),
)


def _help(
    control: npt.NDArray[np.int64],
    me: int,
    awake: threading.Event,
    arguments: tuple[Any, ...],
    kept: tuple[Any, ...],
) -> None:
    """A helper's life. It knows the arrays and not the crew, so that a forgotten crew can be collected.

    ``kept`` holds the arrays that ``arguments`` and ``control`` know by address, those of a step too: they live while this
    does.
    """
    while True:
        awake.wait()
        awake.clear()
        control[THREADS + 16 * me + 8] = 0
        if work(*arguments) == END:
            return


def _dismiss(control: npt.NDArray[np.int64], awake: list[threading.Event]) -> None:
    control[STOP] = 1
    for event in awake:
        event.set()


class Crew:
    """The calling thread and its helpers.

    Args:
        n: systems E.
        shared: those of `compiled.ARRAYS` that all threads work on.
        own: each thread's own ones, the last; as many threads as there are entries.
        lent: a learner's threads take the helpers' place where steps are not back to back.
    """

    def __init__(self, n: int, shared: tuple[Any, ...], own: list[tuple[Any, ...]], *, lent: bool = False) -> None:
        self._n, self._threads = n, len(own)
        self._shared, self._own = shared, own
        self._control = np.zeros(THREADS + 16 * self._threads, np.int64)
        self._control[THREADS::16] = self._control[FINISHED] = n  # nothing to step yet
        self._arguments = [
            (
                self._control,
                me,
                self._threads,
                pack(ARRAYS, (*shared, *mine)),
                UNDER_WAY,
                AWAKE,
                *_NOTHING,
            )
            for me, mine in enumerate(own)
        ]
        self._lead = self._arguments[0][:4]
        self._awake = [threading.Event() for _ in own[1:]]
        self._published: list[tuple[Any, ...]] = [()]
        self._under_way = self._begun = False
        self._few = n < WORTH_WAKING
        self._last = 0.0
        self._team: openmp.Team | None = None
        if lent and self._awake and not self._few:
            # Helpers may be awake while a team works: what they work on is theirs.
            others = [tuple(np.zeros_like(array) for array in mine) for mine in own[1:]]
            self._team_own = [own[0], *others]
            self._team = openmp.Team(self._control, [pack(ARRAYS, (*shared, *mine)) for mine in self._team_own])
        self._dismiss = weakref.finalize(self, _dismiss, self._control, self._awake)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has threads of its own."""
        return functools.partial(Crew, lent=self._team is not None), (self._n, self._shared, self._own)

    def step(self, mode: int, *published: Any) -> int:
        """Step all systems; arguments and result as `compiled.work`: the first action out of range, or DONE."""
        self.finish()
        self._published[0], self._under_way = published, True
        others = self._others()
        found = int(work(*self._lead, mode, others, *published))
        try:
            if found == WAKE and others == TEAM and self._team is not None:
                self._team.run()
            elif found == WAKE:
                self._wake()
        finally:
            if found in (WAKE, LATE):
                self._finish()
                found = DONE
        if self._awake:
            self._last = time.perf_counter()
        self._under_way = False
        return found

    def finish(self) -> None:
        """Bring the step to its end that an interrupt has left under way, if there is one."""
        if self._under_way:
            self._finish()
            self._under_way = False

    def _finish(self) -> None:
        """Do what is left of the step and wait for what others have taken of it."""
        while work(*self._arguments[0]) == LATE:
            time.sleep(0)  # the core that a helper needs may be this one

    def outcome(self) -> tuple[int, int, bool]:
        """Of the last step: episodes that are over, those of them cut off, and whether all work could be drawn."""
        over, cut, not_drawn = self._control[OVER : NOT_DRAWN + 1].tolist()
        return over, cut, not_drawn == 0

    def _others(self) -> int:
        """Who shares the next step with this thread: `compiled.work` says what there is."""
        if not self._awake:
            return AWAKE
        close = time.perf_counter() - self._last < BACK_TO_BACK_S
        self._control[PATIENCE] = LOOKS_AHEAD if close else 0
        if self._team is not None and not close and self._team.is_ready():
            return TEAM
        if not self._begun:
            self._begun = True
            for me, awake in enumerate(self._awake, 1):
                self._control[THREADS + 16 * me + 8] = 1
                kept = (self._shared, self._own[me], self._published)
                life = (self._control, me, awake, self._arguments[me], kept)
                threading.Thread(target=_help, args=life, name=f"ebatch-{me}", daemon=True).start()
        return ALL if close or not self._few else AWAKE

    def _wake(self) -> None:
        """Wake the helpers that sleep."""
        for me, awake in enumerate(self._awake, 1):
            if self._control[THREADS + 16 * me + 8]:
                awake.set()

    def close(self) -> None:
        """Dismiss the helpers."""
        self._dismiss()
