"""`Team`: the threads that a learner's OpenMP keeps, to step systems with while the learner has no use for them.

PyTorch works with threads of OpenMP, and GNU's keep a core busy for milliseconds after each operation, looking out for the
next one. A helper of our own (`crew`) would have to share that core with one of them, and comes late. Lent to us they
come at once.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.compiled import MEMBERS, member

LEARNER = "torch"  # the module that uses the threads
_forked = False


@functools.cache
def _library() -> Any:
    """GNU's OpenMP as it is loaded in this process, under whatever name a wheel gave it; None: it is not."""
    try:
        loaded = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
        found = sorted(path for path in loaded if os.path.basename(path).startswith("libgomp"))
        # The learner's own, if others brought theirs as well.
        path = next((path for path in found if f"/{LEARNER}/" in path), found[0])
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
        library.GOMP_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        library.GOMP_parallel.restype = None
        library.omp_get_max_threads.restype = ctypes.c_int
    except (OSError, IndexError, AttributeError):  # another system, another OpenMP
        return None
    return library


def _forget() -> None:
    """The child of a fork has none of its parent's threads, and GNU's OpenMP would wait for them for ever."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def there_is_one() -> bool:
    """Whether there are such threads: a learner is there, works with more than one thread, and they are GNU's."""
    if _forked or LEARNER not in sys.modules:
        return False
    library = _library()
    return library is not None and int(library.omp_get_max_threads()) > 1


class Team:
    """The threads of OpenMP as they are when it runs: ours is one of them.

    Args:
        control: a crew's.
        arrays: those that each member of the team works on, as `addresses.pack` made them; who finds none does nothing.
    """

    def __init__(self, control: npt.NDArray[np.int64], arrays: Sequence[npt.NDArray[np.int64]]) -> None:
        self._kept = control, arrays
        addresses = [packed.ctypes.data for packed in arrays]
        self._members = np.array([0, len(arrays), control.ctypes.data, control.size, *addresses], np.int64)
        assert self._members.size - len(arrays) == MEMBERS

    def run(self) -> None:
        """Take all systems of the step that was put up, and wait until they are stepped."""
        self._members[0] = 0
        # As many threads as the learner uses: OpenMP would start and end some if the number changed from call to call.
        _library().GOMP_parallel(member(), self._members.ctypes.data, 0, 0)
