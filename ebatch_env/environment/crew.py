"""`Crew`: the threads that share a step of many systems.

Steps of a vector environment follow each other within microseconds, less than it takes to wake a thread. So the helpers
look out for the next step for a while (`PATIENCE`) before they go to sleep. Each thread has its share of the systems, the
same at every step because they are in its core's cache, but takes a few of them at a time: a thread that is done goes on
with what another has left, so that a helper that wakes late, or finds its core busy, delays nobody. What a system goes
through does not depend on who steps it.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.compiled import (
    END,
    FINISHED,
    NOT_DRAWN,
    OVER,
    STOP,
    THREADS,
    publish,
    wait_for_all,
    work,
)

PATIENCE = 4000  # looks of a helper before it sleeps; a look takes some 20 to 40 ns
BACK_TO_BACK_S = 100e-6  # steps closer than this are worth waking a helper for, however few the systems
WORTH_WAKING = 256  # systems; so many are worth it in any case


def _help(
    control: npt.NDArray[np.int64],
    me: int,
    awake: threading.Event,
    arguments: tuple[Any, ...],
    published: list[tuple[Any, ...]],
) -> None:
    """A helper's life. It knows the arrays and not the crew, so that a forgotten crew can be collected.

    ``published`` holds the arrays of the step under way, whose addresses are in ``control``: they live while this does.
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
        shared: arguments of `compiled.work` between ``patience`` and each thread's own.
        own: each thread's own ones; as many threads as there are entries.
    """

    def __init__(self, n: int, shared: tuple[Any, ...], own: list[tuple[Any, ...]]) -> None:
        self._n, self._threads = n, len(own)
        self._shared, self._own = shared, own
        self._control = np.zeros(THREADS + 16 * self._threads, np.int64)
        self._control[THREADS::16] = self._control[FINISHED] = n  # nothing to step yet
        self._arguments = [
            (self._control, me, self._threads, PATIENCE if me else 0, *shared, *mine) for me, mine in enumerate(own)
        ]
        self._awake = [threading.Event() for _ in own[1:]]
        self._published: list[tuple[Any, ...]] = [()]
        self._under_way = self._begun = False
        self._last = 0.0
        self._dismiss = weakref.finalize(self, _dismiss, self._control, self._awake)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has threads of its own."""
        return Crew, (self._n, self._shared, self._own)

    def step(self, *published: Any) -> int:
        """Step all systems; arguments and result as `compiled.publish`."""
        if self._under_way:  # an interrupt ended the last call early
            self._finish()
        self._published[0], self._under_way = published, True
        bad = int(publish(self._control, self._threads, *published))
        if bad < 0:
            try:
                if self._awake:
                    self._wake()
            finally:
                self._finish()
        self._under_way = False
        return bad

    def _finish(self) -> None:
        """Do what is left of the step and wait for what others have taken of it."""
        work(*self._arguments[0])
        if self._awake:
            while not wait_for_all(self._control, self._n, 100_000):
                time.sleep(0)  # the core that a helper needs may be this one
            self._last = time.perf_counter()

    def outcome(self) -> tuple[int, int, bool]:
        """Of the last step: episodes that are over, those of them cut off, and whether all work could be drawn."""
        over, cut, not_drawn = self._control[OVER : NOT_DRAWN + 1].tolist()
        return over, cut, not_drawn == 0

    def _wake(self) -> None:
        """Wake the helpers that sleep, if that pays."""
        if not self._begun:
            self._begun = True
            for me, awake in enumerate(self._awake, 1):
                self._control[THREADS + 16 * me + 8] = 1
                life = (self._control, me, awake, self._arguments[me], self._published)
                threading.Thread(target=_help, args=life, name=f"ebatch-{me}", daemon=True).start()
        if self._n >= WORTH_WAKING or time.perf_counter() - self._last < BACK_TO_BACK_S:
            for me, awake in enumerate(self._awake, 1):
                if self._control[THREADS + 16 * me + 8]:
                    awake.set()

    def close(self) -> None:
        """Dismiss the helpers."""
        self._dismiss()
