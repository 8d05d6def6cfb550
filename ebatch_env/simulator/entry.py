"""The kernel's functions as Python calls them: compiled once and found on disk from then on."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

from numba import njit

from ebatch_env.simulator import bits, kernel, layout, vectors, waiting
from ebatch_env.simulator.bits import COMPILED

CACHED: dict[str, Any] = {**COMPILED, "cache": True}


def checksum(*modules: ModuleType) -> int:
    """A number that changes with the source of the kernel and of ``modules``.

    numba's cache of a function watches the file that the function stands in, and no other. A function that holds code or
    constants of other files takes this number as a closure value, which is a part of the cache's key. It must be the
    only one: a compiled function among them would make a new key at every start.
    """
    sources = (bits, kernel, layout, vectors, waiting, *modules)
    return zlib.crc32(b"".join(Path(str(module.__file__)).read_bytes() for module in sources))


def _compile(stamp: int) -> tuple[Any, ...]:
    # ``stamp`` has to be used, or it is no closure value.
    @njit(**CACHED)
    def begin(*arguments):  # type: ignore[no-untyped-def]
        if stamp >= 0:
            kernel.begin(*arguments)

    @njit(**CACHED)
    def decide(*arguments):  # type: ignore[no-untyped-def]
        return kernel.decide(*arguments) if stamp >= 0 else kernel.EMPTIED

    @njit(**CACHED)
    def settle(*arguments):  # type: ignore[no-untyped-def]
        return kernel.settle(*arguments) if stamp >= 0 else (0.0, 0.0, 0, 0, 0)

    @njit(**CACHED)
    def repeat(*arguments):  # type: ignore[no-untyped-def]
        if stamp >= 0:
            kernel.repeat(*arguments)

    return begin, decide, settle, repeat


begin, decide, settle, repeat = _compile(checksum())
