"""Traces of the built-in workloads drawn in compiled code, bit for bit as `Workload.sample` draws them.

A vector environment begins an episode every few steps, and NumPy calls from Python would take as long as the steps. The
draws come from the lane's own ``numpy.random.Generator`` (`generators`). Everything else stays with `Workload.sample`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ebatch_env.errors import LARGEST, FloatArray, IntArray
from ebatch_env.workloads.arrivals import AllAtOnce, Poisson
from ebatch_env.workloads.empirical import Empirical
from ebatch_env.workloads.generators import (
    INLINED,
    KNOWS_TABLES,
    after_four,
    close_stream,
    exponentials,
    four,
    four_on,
    fraction,
    is_pcg64,
    open_stream,
    uniform,
)
from ebatch_env.workloads.lengths import Fixed, Geometric, Table, Uniform, look_up
from ebatch_env.workloads.modulated import MMPP, Diurnal, diurnal, mmpp
from ebatch_env.workloads.workload import Workload, built_in

ALL_AT_ONCE, POISSON, MODULATED, DAILY = range(4)
# Entries of `settings`, float64 (N_SETTINGS,).
KIND, REQUESTS, LOAD_LOW, LOAD_HIGH, THROUGHPUT, PATIENCE, CONSTANT = range(7)
THRESHOLD, RATE, BURST_RATE, SOJOURN, BURST_SOJOURN, BLOCK = range(7, 13)
N_SETTINGS = 13
WIDTH = THRESHOLD  # of a slot of the day
# What `draw` returns: done; a deadline rounds to its arrival, or an arrival is out of range; over BLOCKS times the sojourns that are drawn at first were
# needed, which are twice those expected (below 2**-100).
DRAWN, OUT_OF_RANGE, NO_SOJOURNS = range(3)
BLOCKS = 8


class Law(NamedTuple):
    """A workload as compiled code reads it; all read-only."""

    settings: FloatArray  # (N_SETTINGS,)
    rates: FloatArray  # (slots,) of a diurnal profile
    values: IntArray  # (v,) lengths
    cdf: FloatArray  # (v,)
    guide: IntArray  # (a power of two,)

    @property
    def draws(self) -> int:
        """Room for exponential numbers that an episode needs, besides one for each request."""
        return 1 + BLOCKS * int(self.settings[BLOCK])


NO_LAW = Law(np.zeros(N_SETTINGS), np.ones(1), np.ones(1, np.int32), np.ones(1), np.zeros(1, np.int32))


def law_of(
    workload: object, *, requests: int, load: tuple[float, float], throughput_rps: float, deadline_s: float | None
) -> Law | None:
    """What `draw` needs, or None if only ``workload.sample`` knows how."""
    if not KNOWS_TABLES or type(workload) is not Workload:
        return None
    arrivals, lengths = workload.arrivals, workload.lengths
    settings = np.zeros(N_SETTINGS)
    rates = np.ones(1)
    if type(arrivals) is AllAtOnce:
        settings[KIND] = ALL_AT_ONCE
    elif type(arrivals) is Poisson:
        settings[KIND] = POISSON
    elif type(arrivals) is MMPP:
        settings[KIND] = MODULATED
        threshold, (calm, burst), (calm_s, burst_s) = arrivals.constants
        settings[THRESHOLD : BLOCK + 1] = threshold, calm, burst, calm_s, burst_s, arrivals.block(requests)
    elif type(arrivals) is Diurnal:
        settings[KIND] = DAILY
        rates = np.array(arrivals.rates)
        settings[WIDTH] = arrivals.period / rates.size
    else:
        return None
    if not (built_in(lengths) and isinstance(lengths, (Fixed, Uniform, Geometric, Table, Empirical))):
        return None
    settings[[REQUESTS, LOAD_LOW, LOAD_HIGH, THROUGHPUT]] = requests, *load, throughput_rps
    settings[PATIENCE] = np.inf if deadline_s is None else deadline_s
    settings[CONSTANT] = lengths.length if isinstance(lengths, Fixed) else 0
    return Law(settings, rates, *lengths.tables)


@njit(**INLINED)
def _draw_lengths(stream, state, values, cdf, guide, out):
    """Fill ``out``, int32 (n,), from a uniform number each, and return the next state."""
    i = 0
    if is_pcg64(state):
        states = four(state)
        while i + 4 <= out.size:
            out[i] = look_up(fraction(states[0]), values, cdf, guide)
            out[i + 1] = look_up(fraction(states[1]), values, cdf, guide)
            out[i + 2] = look_up(fraction(states[2]), values, cdf, guide)
            out[i + 3] = look_up(fraction(states[3]), values, cdf, guide)
            state = after_four(states, state)
            states = four_on(states)
            i += 4
    while i < out.size:
        chance, state = uniform(stream, state)
        out[i] = look_up(chance, values, cdf, guide)
        i += 1
    return state


@njit(**INLINED)
def draw(n, stream, settings, rates, values, cdf, guide, draws, arrival, deadline, length):
    """Draw ``n`` requests into the rows ``arrival``, ``deadline`` (float64) and ``length`` (int32).

    ``draws`` is scratch of n + `Law.draws` float64. Returns DRAWN, OUT_OF_RANGE or NO_SOJOURNS.
    """
    state = open_stream(stream)
    load = settings[LOAD_LOW]
    if settings[LOAD_HIGH] > load:
        chance, state = uniform(stream, state)
        load += (settings[LOAD_HIGH] - load) * chance
    rate = load * settings[THROUGHPUT]
    kind = settings[KIND]
    times = arrival[:n]
    if kind == MODULATED:
        rate_pair = (settings[RATE], settings[BURST_RATE])
        sojourns = (settings[SOJOURN], settings[BURST_SOJOURN])
        block = np.int64(settings[BLOCK])
        drawn, enough = 0, False
        for size in range(1 + n + block, 1 + n + (BLOCKS + 1) * block, block):
            state = exponentials(stream, state, draws[drawn:size])
            drawn = size
            enough = mmpp(draws[:size], times, settings[THRESHOLD], rate_pair, sojourns)
            if enough:
                break
        if not enough:
            close_stream(stream, state)
            return NO_SOJOURNS
    elif kind == POISSON:
        state = exponentials(stream, state, times)
        for i in range(1, n):
            times[i] += times[i - 1]
    elif kind == DAILY:
        phase, state = uniform(stream, state)
        phase *= rates.size
        gaps = draws[:n]
        state = exponentials(stream, state, gaps)
        diurnal(gaps, phase, settings[WIDTH], rates, times)
    else:
        times[:] = 0.0
    constant = np.int32(settings[CONSTANT])
    if constant > 0:
        length[:n] = constant
    else:
        state = _draw_lengths(stream, state, values, cdf, guide, length[:n])
    close_stream(stream, state)
    patience = settings[PATIENCE]
    for i in range(n):
        t = times[i] / rate
        times[i] = t
        deadline[i] = t + patience
    return DRAWN if deadline[n - 1] > times[n - 1] and times[n - 1] <= LARGEST else OUT_OF_RANGE
