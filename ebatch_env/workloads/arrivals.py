"""Arrival processes in unit time: long-run mean rate 1, so that one process serves every load.

A `Workload` divides the times by its rate. Every duration here is in units of the mean inter-arrival time.

Draws are standard exponential or uniform numbers in bulk; what follows uses only sums, products and comparisons, so
equal seeds give equal times bit for bit on every machine (with the same NumPy stream). `GammaRenewal` is the exception:
NumPy's gamma sampler calls the platform's ``pow`` and ``log``, whose last bit may differ.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from ebatch_env.errors import FloatArray, check_number
from ebatch_env.workloads.files import STEPS, check_steps, read_trace


@runtime_checkable
class Arrivals(Protocol):
    """A point process with mean rate 1."""

    def sample(self, rng: np.random.Generator, n: int, /) -> FloatArray:
        """Draw the first ``n`` arrival times: shape (n,), sorted, >= 0; the first holds the first gap."""
        ...


@dataclass(frozen=True)
class Poisson:
    """Independent exponential gaps: CV 1, index of dispersion 1.

    >>> Poisson().sample(np.random.default_rng(0), 3).round(3).tolist()
    [0.68, 1.7, 1.719]
    """

    kind: str = field(default="poisson", init=False, repr=False)

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Times from ``n`` exponential draws: shape (n,)."""
        gaps = rng.standard_exponential(n)
        return np.cumsum(gaps, out=gaps)


@dataclass(frozen=True)
class AllAtOnce:
    """Everything at time 0, whatever the rate: a full queue, to measure saturation (MLPerf's offline scenario)."""

    kind: str = field(default="all-at-once", init=False, repr=False)

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Zeros; draws nothing: shape (n,)."""
        return np.zeros(n)


@dataclass(frozen=True)
class GammaRenewal:
    """Independent gamma gaps with mean 1 and the given coefficient of variation; time 0 counts as an arrival.

    Below 1 the traffic is smoother than Poisson, above 1 it comes in clumps. The index of dispersion tends to cv**2.

    Args:
        cv: standard deviation of a gap over its mean, 0.01..50.
    """

    cv: float
    kind: str = field(default="gamma-renewal", init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the field."""
        object.__setattr__(self, "cv", check_number("cv", self.cv, low=0.01, high=50.0))

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Times from ``n`` gamma draws: shape (n,)."""
        variance = self.cv * self.cv
        gaps = rng.standard_gamma(1.0 / variance, n)
        gaps *= variance
        return np.cumsum(gaps, out=gaps)


@dataclass(frozen=True)
class Replay:
    """The gaps of a trace file from a random place on, around its end if need be, scaled to mean 1; not its lengths.

    The gap before the first request is taken to be the mean gap. To replay lengths and times together use
    `ebatch_env.workloads.TraceWorkload`.

    Args:
        path: CSV as `ebatch_env.workloads.read_trace` reads it; read once, on construction.
        steps: which column of an Azure trace counts as length (of no effect on the times).

    Raises:
        ValueError: as `read_trace`, or a file in which no time passes.
    """

    path: str | os.PathLike[str]
    steps: str = STEPS[0]
    kind: str = field(default="replay", init=False, repr=False)

    def __post_init__(self) -> None:
        """Read the file."""
        object.__setattr__(self, "path", os.fspath(self.path))
        check_steps(self.steps)
        _ = self._gaps

    @cached_property
    def _gaps(self) -> FloatArray:
        arrival = read_trace(self.path, self.steps).arrival_s
        if not arrival[-1] > arrival[0]:
            raise ValueError(f"{os.fspath(self.path)}: a replay needs at least two different arrival times")
        gaps = np.diff(arrival)
        gaps /= (arrival[-1] - arrival[0]) / gaps.size
        return np.concatenate([[1.0], gaps])

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Times from one draw, the place to start: shape (n,)."""
        first = int(rng.integers(self._gaps.size))
        return np.cumsum(np.take(self._gaps, np.arange(first, first + n), mode="wrap"))
