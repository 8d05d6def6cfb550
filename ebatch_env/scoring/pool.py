"""Work spread over processes, or over a Ray cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def in_any_order(
    function: Callable[[T], R],
    items: Sequence[T],
    processes: int,
    *,
    ray: str | None = None,
    shared: Path | None = None,
) -> Iterator[tuple[T, R]]:
    """Pairs of item and ``function(item)`` as they are done.

    Args:
        function: importable by name, as processes are started afresh ("spawn": compiled code and threads do not
            survive a fork). A script that calls this needs the usual ``if __name__ == "__main__"``.
        items: what to work on; they must pickle.
        processes: how many work at a time; 1: this one.
        ray: work on a Ray cluster instead, as many at a time as it has processors; see `cluster.connected`. An item whose
            worker dies begins again on another.
        shared: a folder that ``function`` writes to, which all machines of a cluster must share with this one.

    Raises:
        Exception: whatever ``function`` raised first; items not yet begun are dropped, and on a cluster all others.
    """
    if ray is not None and items:
        from ebatch_env.scoring import cluster

        yield from cluster.in_any_order(function, items, ray, shared)
        return
    if processes == 1 or len(items) <= 1:
        for item in items:
            yield item, function(item)
        return
    with single_threaded():
        pool = ProcessPoolExecutor(min(processes, len(items)), multiprocessing.get_context("spawn"))
        try:
            futures = {pool.submit(function, item): item for item in items}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def at_once(processes: int, ray: str | None = None) -> Iterator[int]:
    """How many items `in_any_order` works on at a time; inside, a cluster stays connected from one sweep to the next."""
    if ray is None:
        yield processes
        return
    from ebatch_env.scoring import cluster

    with cluster.connected(ray):
        yield cluster.size()


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Processes started inside use one thread for linear algebra each, unless the user has said otherwise."""
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
