"""Arrivals at a rate that changes, by chance (MMPP) or by the hour (diurnal). Unit time, as in `arrivals`."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import Any

import numpy as np
from numba import njit

from ebatch_env.errors import FloatArray, check_array, check_number, fail
from ebatch_env.workloads.generators import INLINED

# As in the kernel: nothing is allocated, and slices cost nothing.
COMPILED: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}

Stretch = tuple[float, float, float, float, bool, int]
"""Where an MMPP stands: last arrival, the state's end, its rate, 1 / rate, whether it is a burst, draws used."""


@njit(**INLINED)
def first_stretch(
    draws: FloatArray, n: int, threshold: float, rates: tuple[float, float], means: tuple[float, float]
) -> Stretch:
    """The state at time 0; see `mmpp`."""
    burst = draws[0] < threshold
    rate = rates[1] if burst else rates[0]
    return 0.0, draws[n + 1] * (means[1] if burst else means[0]), rate, 1.0 / rate, burst, n + 1


@njit(**INLINED)
def next_arrival(
    i: int, stretch: Stretch, draws: FloatArray, rates: tuple[float, float], means: tuple[float, float]
) -> Stretch:
    """Go on to arrival i. If the sojourns ran out, all draws are used afterwards."""
    t, end, rate, gap, burst, used = stretch
    work = draws[i + 1]  # a Poisson process of rate 1, seen through the integral of the rate
    while t + work * gap >= end:
        work = max(work - (end - t) * rate, 0.0)
        used += 1
        if used >= draws.size:
            break
        t = end
        burst = not burst
        rate = rates[1] if burst else rates[0]
        gap = 1.0 / rate
        end = t + draws[used] * (means[1] if burst else means[0])
    return t + work * gap, end, rate, gap, burst, used


@njit(**COMPILED)
def mmpp(
    draws: FloatArray, out: FloatArray, threshold: float, rates: tuple[float, float], means: tuple[float, float]
) -> bool:
    """Fill ``out`` from exponential ``draws``: one for the first state, one per arrival, the rest for sojourns.

    ``rates`` and ``means`` (sojourns) are those of the calm and the burst state. False: the sojourns ran out.
    """
    stretch = first_stretch(draws, out.size, threshold, rates, means)
    for i in range(out.size):
        stretch = next_arrival(i, stretch, draws, rates, means)
        if stretch[5] >= draws.size:
            return False
        out[i] = stretch[0]
    return True


@dataclass(frozen=True)
class MMPP:
    """Two-state Markov-modulated Poisson process: calm stretches and bursts, each exponentially long.

    The burst state has ``burst_ratio`` times the calm state's rate and holds ``burst_share`` of the time in the long
    run, so with r and s for these the calm rate is 1 / (1 + s (r - 1)) and the mean rate 1. The first state is drawn
    from the stationary law, so time 0 is an arbitrary moment. With the defaults a burst runs at 5.3 times the mean
    rate, brings 168 requests, and one starts every 320 mean gaps.

    Args:
        burst_ratio: rate in a burst over rate in the calm, 1..10000.
        burst_share: fraction of time in bursts, 0.001..0.999.
        sojourn: mean duration of one burst, in mean inter-arrival times, 1..1e9. (A calm stretch lasts
            (1 - burst_share) / burst_share times as long.)

    Sources: Fischer and Meier-Hellstern, "The Markov-modulated Poisson process cookbook", Performance Evaluation 18(2),
    1993; Heffes and Lucantoni, IEEE JSAC 4(6), 1986.
    """

    burst_ratio: float = 10.0
    burst_share: float = 0.1
    sojourn: float = 32.0
    kind: str = field(default="mmpp", init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "burst_ratio", check_number("burst_ratio", self.burst_ratio, low=1.0, high=1e4))
        object.__setattr__(self, "burst_share", check_number("burst_share", self.burst_share, low=0.001, high=0.999))
        object.__setattr__(self, "sojourn", check_number("sojourn", self.sojourn, low=1.0, high=1e9))

    @cached_property
    def constants(self) -> tuple[float, tuple[float, float], tuple[float, float]]:
        """Threshold below which a standard exponential falls with probability burst_share; rates; mean sojourns."""
        calm_rate = 1.0 / (1.0 + self.burst_share * (self.burst_ratio - 1.0))
        calm_sojourn = self.sojourn * (1.0 - self.burst_share) / self.burst_share
        return -math.log1p(-self.burst_share), (calm_rate, calm_rate * self.burst_ratio), (calm_sojourn, self.sojourn)

    @property
    def rates(self) -> tuple[float, float]:
        """Rates of the calm and the burst state, in units of the mean rate."""
        return self.constants[1]

    @property
    def cv(self) -> float:
        """Coefficient of variation of the gaps between arrivals, in the long run."""
        (calm, burst), (calm_s, burst_s) = self.constants[1:]
        leave, enter = 1.0 / burst_s, 1.0 / calm_s
        total = leave + enter
        spread = 2.0 * leave * enter * (burst - calm) ** 2
        return math.sqrt(1.0 + spread / (total * total * (calm * burst + calm * leave + burst * enter)))

    def index_of_dispersion(self, t: float = math.inf) -> float:
        """Variance over mean of the arrivals in a window of ``t`` mean inter-arrival times; 1 for a Poisson process."""
        calm, burst = self.rates
        memory = self.sojourn * (1.0 - self.burst_share)  # time constant of the rate's autocorrelation
        limit = 2.0 * self.burst_share * (1.0 - self.burst_share) * (burst - calm) ** 2 * memory
        if t == math.inf:
            return 1.0 + limit
        x = check_number("t", t, low=0.0, low_open=True) / memory
        return 1.0 + limit * (1.0 + math.expm1(-x) / x)

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Times from n + 1 exponential draws and twice the sojourns expected, plus 16; more only if those run out."""
        block = self.block(n)
        draws = rng.standard_exponential(1 + n + block)
        out = np.empty(n)
        while not mmpp(draws, out, *self.constants):
            draws = np.concatenate([draws, rng.standard_exponential(block)])
        return out

    def block(self, n: int) -> int:
        """How many draws for sojourns are taken at a time."""
        return 16 + int(4.0 * n * self.burst_share / self.sojourn)


@njit(**COMPILED)
def diurnal(gaps: FloatArray, phase: float, width: float, rates: FloatArray, out: FloatArray) -> None:
    """Fill ``out`` with a Poisson process whose rate is ``rates`` in turn, ``width`` each, from ``phase`` slots in."""
    slot = int(phase)
    t = 0.0
    end = (slot + 1 - phase) * width
    for i in range(gaps.size):
        work = gaps[i]
        # Written so that an hour without arrivals (rate 0) is stepped over, too.
        while work >= (end - t) * rates[slot]:
            work -= (end - t) * rates[slot]
            t = end
            end += width
            slot = (slot + 1) % rates.size
        t = min(t + work / rates[slot], end)
        out[i] = t


@dataclass(frozen=True)
class Diurnal:
    """Inhomogeneous Poisson process whose rate follows the hours of a day, by exact inversion of the integrated rate.

    The rate of slot h is 1 + amplitude * (profile[h] / mean(profile) - 1), constant within the slot; the days repeat.
    Time 0 is uniform over the day.

    Args:
        period: length of the day in mean inter-arrival times, 1..1e9.
        amplitude: 0 is Poisson, 1 the profile as it is, in [0, 10]; no slot's rate may fall below 0.
        profile: 2 or more equally long slots' relative loads, >= 0; left out: the 24 hours of the shipped table.
    """

    period: float = 1000.0
    amplitude: float = 1.0
    profile: tuple[float, ...] = ()
    kind: str = field(default="diurnal", init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "period", check_number("period", self.period, low=1.0, high=1e9))
        object.__setattr__(self, "amplitude", check_number("amplitude", self.amplitude, low=0.0, high=10.0))
        profile = check_array("profile", self.profile, shape=(None,))
        if profile.size and (profile.size < 2 or not 1e-100 < float(profile.mean()) < 1e100):
            raise fail("profile", self.profile, "two or more loads with a mean in (1e-100, 1e100)")
        object.__setattr__(self, "profile", tuple(profile.tolist()))
        if bool((self.rates < 0.0).any()):
            raise fail("amplitude", self.amplitude, "small enough that no slot's rate is below 0")

    @cached_property
    def rates(self) -> FloatArray:
        """Rate of each slot, shape (slots,), mean 1."""
        profile = np.array(self.profile if self.profile else shipped_profile())
        rates = 1.0 + self.amplitude * (profile / (math.fsum(profile.tolist()) / profile.size) - 1.0)
        rates.setflags(write=False)
        return rates

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Times from one uniform draw for the time of day and ``n`` exponential ones: shape (n,)."""
        phase = rng.random() * self.rates.size
        gaps = rng.standard_exponential(n)
        times = np.empty(n)
        diurnal(gaps, phase, self.period / self.rates.size, self.rates, times)
        return times


@cache
def shipped_profile() -> Sequence[float]:
    """Relative load of hours 0..23, from the shipped table."""
    text = resources.files("ebatch_env.workloads").joinpath("data/diurnal_profile.csv").read_text(encoding="utf-8")
    return tuple(float(row["relative_load"]) for row in csv.DictReader(text.splitlines()))
