"""Work spread over a Ray cluster: of several machines, or of this one.

A worker that dies costs the item it was at, which begins again on another. The cluster's machines need the same
installation; where the driver's working folder exists there, they work in it, so that relative paths mean the same.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ebatch_env.errors import fail, needs_extra
from ebatch_env.scoring.files import make_folder
from ebatch_env.scoring.jobs import installation
from ebatch_env.scoring.pool import single_threaded

T = TypeVar("T")
R = TypeVar("R")

LOCAL, RUNNING = "local", "auto"
RETRIES = 3  # how often an item is begun again after its worker has died
PATIENCE_S = 5.0  # how long a task that is asked to end may take
ANSWER_S = 10.0  # how long to wait for a cluster to answer; Ray itself takes minutes to give up
# The second: tasks without accelerators see the machine's own, as in later versions; none of ours uses any.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class _Work:
    """What every item of a sweep is done with.

    Attributes:
        function: what does it.
        folder: the driver's working folder.
        installation: the driver's.
        mark: a file of the driver's that shows, where it can be seen, that a folder is shared; None: none needs to be.
    """

    function: Callable[[Any], Any]
    folder: str
    installation: tuple[str, ...]
    mark: Path | None


def in_any_order(
    function: Callable[[T], R], items: Sequence[T], address: str, shared: Path | None = None
) -> Iterator[tuple[T, R]]:
    """`ebatch_env.scoring.pool.in_any_order` on a cluster."""
    with connected(address), _marked(shared) as mark:
        import ray

        work = ray.put(_Work(function, os.getcwd(), installation(), mark))
        begin = ray.remote(num_cpus=1, max_retries=RETRIES)(_do)
        waiting = {begin.remote(work, item): item for item in items}
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), num_returns=1)
                try:
                    result = ray.get(ready[0])
                except ray.exceptions.RayTaskError as error:
                    raise error.cause or error from error
                yield waiting.pop(ready[0]), result
        finally:
            _stop(list(waiting))


def _stop(tasks: list[Any]) -> None:
    """End what is not done yet: asked first, killed only if that does not help.

    A kill costs a new worker, and one that comes just as its task ends is hard on the driver.
    """
    import ray

    def cancel(left: list[Any], force: bool) -> None:
        for task in left:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.cancel(task, force=force)

    try:
        tasks = _not_done(tasks, 0.0)
        cancel(tasks, force=False)
        tasks = _not_done(tasks, PATIENCE_S)
    finally:  # a second interrupt is in a hurry
        cancel(tasks, force=True)


def _not_done(tasks: list[Any], patience_s: float) -> list[Any]:
    """Those of ``tasks`` that are not done after that time."""
    import ray

    with contextlib.suppress(ray.exceptions.RayError):
        if tasks:
            return list(ray.wait(tasks, num_returns=len(tasks), timeout=patience_s)[1])
    return tasks


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Within it there is a cluster to work on; one that is connected to already is taken as it is.

    Args:
        address: ``"local"``: one is started on this machine, with all its processors, and ended; ``"auto"``: the one that
            runs here or that ``RAY_ADDRESS`` names; otherwise where its head is, ``HOST:PORT`` or ``ray://HOST:PORT``.

    Raises:
        ValueError: an address of another form.
        OSError: no cluster is there.
        ModuleNotFoundError: Ray is not installed.
    """
    with needs_extra("working on Ray", "ray"):
        import ray
    if ray.is_initialized():
        yield
        return
    if address not in (LOCAL, RUNNING):
        _check_answers(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options["include_dashboard"] = False
    with single_threaded(), _quiet():
        ray.init(address, **options)
    try:
        yield
    finally:
        ray.shutdown()


def size() -> int:
    """Processors of the cluster that is connected to."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _do(work: _Work, item: Any) -> Any:
    """Do an item, on whatever machine this is."""
    with contextlib.suppress(OSError):
        os.chdir(work.folder)
    if (here := installation()) != work.installation:
        raise fail(f"the installation on {platform.node()}", here, f"the driver's, {work.installation}")
    if work.mark is not None and not work.mark.exists():
        folder = str(work.mark.parent)
        raise fail("folder", folder, f"one that all machines of the cluster share; {platform.node()} does not see it")
    return work.function(item)


@contextlib.contextmanager
def _marked(folder: Path | None) -> Iterator[Path | None]:
    """A file in ``folder`` for as long as the work takes."""
    if folder is None:
        yield None
        return
    mark = make_folder(folder) / f".shared-{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _check_answers(address: str) -> None:
    expected = "'local', 'auto', HOST:PORT or ray://HOST:PORT"
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.scheme not in ("", "ray"):
        raise fail("ray", address, expected)
    try:
        socket.create_connection((host, port), ANSWER_S).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error.strerror or error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Clusters started inside send no usage statistics and warn of no future, unless the user has said otherwise."""
    added = {name: value for name, value in _QUIET.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
