"""Work spread over processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def in_any_order(function: Callable[[T], R], items: Sequence[T], processes: int) -> Iterator[tuple[T, R]]:
    """Pairs of item and ``function(item)`` as they are done.

    Args:
        function: importable by name, as processes are started afresh ("spawn": compiled code and threads do not
            survive a fork). A script that calls this needs the usual ``if __name__ == "__main__"``.
        items: what to work on; they must pickle.
        processes: how many work at a time; 1: this one.

    Raises:
        Exception: whatever ``function`` raised first; items not yet begun are dropped.
    """
    if processes == 1 or len(items) <= 1:
        for item in items:
            yield item, function(item)
        return
    with _single_threaded():
        pool = ProcessPoolExecutor(min(processes, len(items)), multiprocessing.get_context("spawn"))
        try:
            futures = {pool.submit(function, item): item for item in items}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started inside use one thread for linear algebra each, unless the user has said otherwise."""
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
