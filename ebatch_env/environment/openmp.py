"""`Team`: the threads that PyTorch's OpenMP keeps, to step systems with between its operations.

GNU's OpenMP keeps a core busy for milliseconds after each operation, looking out for the next one. A helper of our own
(`crew`) has to share that core and comes late; the thread that is awake there comes at once if it is lent to us.

A lent step is over only when every thread of the team has had a core. On a busy machine that may take milliseconds, where
a crew would have waited for nobody, so a `Team` that was slow is left alone for a while.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.compiled import MEMBERS, member

LEARNER = "torch"  # the package that uses the threads
# A lent step is slow if it takes this long more than twice the quickest one. Then so many steps are done without the team,
# twice as many each time it happens again, and an eighth less after each step that is not slow.
SLOW_S = 0.5e-3
LEAST_WITHOUT, MOST_WITHOUT = 64, 4096
_forked = False


def _forget() -> None:
    """The child of a fork has none of its parent's threads, and GNU's OpenMP would wait for them for ever."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _is_forked() -> bool:
    """Whether this process is such a child, or, as its parent may have forked it before the import, any of multiprocessing's."""
    return _forked or multiprocessing.parent_process() is not None


def _library() -> Any:
    """GNU's OpenMP if the learner brought it along and it is loaded, else None: another system, another OpenMP."""
    try:
        maps = os.fsdecode(Path("/proc/self/maps").read_bytes())
        loaded = {line.split(maxsplit=5)[-1].strip() for line in maps.splitlines()}
        own = (path for path in loaded if f"/{LEARNER}/" in path and os.path.basename(path).startswith("libgomp"))
        library = ctypes.CDLL(next(own), mode=os.RTLD_NOLOAD)
        library.GOMP_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        library.GOMP_parallel.restype = None
    except (OSError, StopIteration, AttributeError):
        return None
    return library


def _threads() -> int:
    """How many threads the learner works with, 1 if there is none."""
    learner = sys.modules.get(LEARNER)
    return 1 if learner is None else int(learner.get_num_threads())


class Team:
    """The learner's threads as they are when it runs: the calling one and those that look out for work.

    Args:
        control: a crew's.
        arrays: those that each member works on, as `addresses.pack` made them; who comes later than these does nothing.
    """

    def __init__(self, control: npt.NDArray[np.int64], arrays: Sequence[npt.NDArray[np.int64]]) -> None:
        self._library = _library()
        self._kept = control, arrays
        addresses = [packed.ctypes.data for packed in arrays]
        self._members = np.array([0, len(arrays), control.ctypes.data, control.size, *addresses], np.int64)
        assert self._members.size - len(arrays) == MEMBERS
        self._quickest_s = np.inf
        self._without, self._next_without = 0, LEAST_WITHOUT

    def is_ready(self) -> bool:
        """Whether to lend it the next step. Asked once a step: a team that was slow sits out some."""
        # OpenMP wakes all of its threads: many more than there is work for would cost more than they bring.
        if self._library is None or _is_forked() or not 1 < _threads() <= 2 * len(self._kept[1]):
            return False
        if self._without > 0:
            self._without -= 1
            return False
        return True

    def run(self) -> None:
        """Take all systems of the step that was put up, and wait until they are stepped."""
        self._members[0] = 0
        function = member().address
        start = time.perf_counter()
        # As many threads as the learner uses: OpenMP would start and end some if the number changed from call to call.
        self._library.GOMP_parallel(function, self._members.ctypes.data, 0, 0)
        self._took(time.perf_counter() - start)

    def _took(self, seconds: float) -> None:
        self._quickest_s = min(self._quickest_s, seconds)
        if seconds > 2.0 * self._quickest_s + SLOW_S:
            self._without = self._next_without
            self._next_without = min(2 * self._next_without, MOST_WITHOUT)
        else:
            self._next_without = max(self._next_without - self._next_without // 8, LEAST_WITHOUT)
