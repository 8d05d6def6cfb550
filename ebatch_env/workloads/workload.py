"""Workloads: what draws an episode's requests."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ebatch_env.errors import LARGEST, FloatArray, check_integer, check_number, fail
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads.arrivals import Arrivals, Poisson
from ebatch_env.workloads.files import check_rate, check_steps, later, mean_rate, read_trace
from ebatch_env.workloads.lengths import Lengths, Table

MAX_REQUESTS = 10_000_000


@runtime_checkable
class WorkloadLike(Protocol):
    """Anything that draws traces; what `ebatch_env` asks of a workload.

    A workload whose traces carry deadlines of their own says so with an attribute ``has_deadlines = True``.
    """

    @property
    def lengths(self) -> Lengths:
        """The distribution of sequence lengths."""
        ...

    def sample(
        self, rng: np.random.Generator, requests: int, rate_rps: float, deadline_s: float | None = None
    ) -> RequestTrace:
        """Draw ``requests`` requests at a mean rate of ``rate_rps``, each due ``deadline_s`` after it arrives."""
        ...


def _deadlines(arrival_s: FloatArray, deadline_s: float | None) -> FloatArray:
    """Absolute deadlines, shape (R,); refuses one so short that the last arrival plus it rounds to the arrival."""
    if deadline_s is None:
        return np.full(arrival_s.size, np.inf)
    patience = check_number("deadline_s", deadline_s, low=0.0, low_open=True, high=LARGEST)
    deadline = arrival_s + patience
    if not deadline[-1] > arrival_s[-1]:
        raise fail("deadline_s", deadline_s, f"long enough to tell from 0 after an arrival at {arrival_s[-1]} s")
    return deadline


def built_in(part: object) -> bool:
    """Whether a workload, lengths or arrivals are this package's own, whose output needs no checks."""
    return type(part).__module__.startswith(__name__.partition(".")[0] + ".")


@dataclass(frozen=True)
class Workload:
    """Independent lengths and arrivals.

    Args:
        lengths: sequence lengths; see `ebatch_env.workloads.lengths`.
        arrivals: arrival process in unit time; see `ebatch_env.workloads.arrivals`.

    >>> from ebatch_env.workloads import Uniform
    >>> Workload(Uniform(1, 9)).sample(np.random.default_rng(0), requests=3, rate_rps=10.0).length.tolist()
    [1, 8, 9]
    """

    lengths: Lengths
    arrivals: Arrivals = field(default_factory=Poisson)

    def __post_init__(self) -> None:
        """Check the fields' kinds."""
        if not isinstance(self.lengths, Lengths):
            raise fail("lengths", self.lengths, "a length distribution (mean, max_length, sample, quantile)")
        if not isinstance(self.arrivals, Arrivals):
            raise fail("arrivals", self.arrivals, "an arrival process (sample)")

    def sample(
        self, rng: np.random.Generator, requests: int, rate_rps: float, deadline_s: float | None = None
    ) -> RequestTrace:
        """Draw one episode's requests: first all arrivals, then all lengths.

        Args:
            rng: the only source of chance; the same state gives the same trace.
            requests: how many, 1..10,000,000.
            rate_rps: long-run mean rate in requests per second, 1e-9..1e12.
            deadline_s: each request's deadline after its arrival; None: no deadlines.

        Raises:
            ValueError: an argument out of range, a rate so low that the last request comes after 1e12 s, or a deadline
                too short to tell from the last arrival time.
        """
        n = check_integer("requests", requests, low=1, high=MAX_REQUESTS)
        arrival = self.arrivals.sample(rng, n) / check_rate(rate_rps)
        if self._built_in and arrival[-1] > LARGEST:
            raise fail("rate_rps", rate_rps, f"high enough for {n} requests to arrive within {LARGEST:g} s")
        make = RequestTrace.trusted if self._built_in else RequestTrace
        return make(arrival, self.lengths.sample(rng, n), _deadlines(arrival, deadline_s))

    @cached_property
    def _built_in(self) -> bool:
        """Whether both parts are this package's, whose output needs no checks."""
        return built_in(self.lengths) and built_in(self.arrivals)

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON that `resolve_workload` turns back into this workload."""
        return asdict(self)


@dataclass(frozen=True)
class TraceWorkload:
    """Consecutive requests of a recorded trace, lengths and arrival times together.

    Args:
        trace: a `RequestTrace`, or the path of a CSV that `read_trace` reads (once, on construction).
        steps: for an Azure trace: ``"generated"``, ``"context"`` or ``"total"`` tokens are the steps.

    Raises:
        ValueError: as `read_trace`.
    """

    trace: str | os.PathLike[str] | RequestTrace
    steps: str = "generated"

    def __post_init__(self) -> None:
        """Check the fields and read the file."""
        check_steps(self.steps)
        if isinstance(self.trace, os.PathLike):
            object.__setattr__(self, "trace", os.fspath(self.trace))
        if not isinstance(self.trace, (str, RequestTrace)):
            raise fail("trace", self.trace, "a RequestTrace or a path")
        _ = self.requests

    @cached_property
    def requests(self) -> RequestTrace:
        """The whole trace."""
        return self.trace if isinstance(self.trace, RequestTrace) else read_trace(self.trace, self.steps)

    @cached_property
    def lengths(self) -> Table:
        """The distribution of the whole trace's lengths."""
        values, counts = np.unique(self.requests.length, return_counts=True)
        return Table(tuple(values.tolist()), tuple(counts.tolist()))

    @property
    def has_deadlines(self) -> bool:
        """Whether the recorded requests carry deadlines."""
        return self.requests.has_deadlines

    @property
    def rate_rps(self) -> float:
        """Mean rate of the whole trace, requests / last arrival; ``inf`` if everything is there at time 0."""
        return mean_rate(self.requests)

    def sample(
        self,
        rng: np.random.Generator,
        requests: int | None = None,
        rate_rps: float | None = None,
        deadline_s: float | None = None,
    ) -> RequestTrace:
        """Cut out a window of consecutive requests, each start equally likely.

        Time 0 is the arrival of the request before the window (the trace's own time 0 if there is none), so the first
        gap is kept. Scaling uses the whole trace's mean rate: busy windows stay busier than quiet ones.

        Args:
            rng: draws where to start, one integer.
            requests: size of the window; None: the whole trace.
            rate_rps: mean rate the whole trace would have; None: played as recorded. No effect if `rate_rps` is inf.
            deadline_s: each request's deadline after its arrival; None: as recorded, relative to the arrival.

        Raises:
            ValueError: a window longer than the trace, or an argument out of range.
        """
        whole = self.requests
        if requests is None and rate_rps is None and deadline_s is None:
            return whole
        n = whole.requests if requests is None else requests
        if check_integer("requests", n, low=1) > whole.requests:
            raise fail("requests", requests, f"at most {whole.requests}, the length of the trace")
        first = int(rng.integers(whole.requests - n + 1))
        cut = slice(first, first + n)
        arrival = whole.arrival_s[cut] - (whole.arrival_s[first - 1] if first else 0.0)
        if rate_rps is not None:
            rate = check_rate(rate_rps)
            if self.rate_rps < np.inf:
                arrival *= self.rate_rps / rate
        if deadline_s is not None:
            deadline = _deadlines(arrival, deadline_s)
        else:
            deadline = later(arrival, whole.deadline_s[cut] - whole.arrival_s[cut])
        return RequestTrace.trusted(arrival, whole.length[cut].copy(), deadline)

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON that `resolve_workload` turns back into this workload (a trace in memory: in full)."""
        if not isinstance(self.trace, RequestTrace):
            return {"trace": os.fspath(self.trace), "steps": self.steps}
        arrays: dict[str, Any] = {"arrival_s": self.trace.arrival_s.tolist(), "length": self.trace.length.tolist()}
        if self.trace.has_deadlines:
            arrays["deadline_s"] = self.trace.deadline_s.tolist()
        return {"trace": arrays, "steps": self.steps}
