"""Traces of the built-in workloads drawn in compiled code, bit for bit as `Workload.sample` draws them.

A vector environment begins an episode every few steps, and NumPy calls from Python would take as long as the steps. The
draws come from the lane's own ``numpy.random.Generator`` (`generators`). Everything else stays with `Workload.sample`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
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
    is_pcg64,
    open_stream,
    top_bits,
    uniform,
)
from ebatch_env.workloads.lengths import TWO_53, Fixed, Geometric, Table, Uniform, look_up
from ebatch_env.workloads.modulated import MMPP, Diurnal, diurnal, first_stretch, next_arrival
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
    steps: npt.NDArray[np.uint64]  # (v,) multiples of 2**-53
    guide: IntArray  # (a power of two,)

    @property
    def draws(self) -> int:
        """Room for exponential numbers that an episode needs, besides one for each request."""
        return 1 + BLOCKS * int(self.settings[BLOCK])


NO_LAW = Law(
    np.zeros(N_SETTINGS), np.ones(1), np.ones(1, np.int32), np.full(1, 1 << 53, np.uint64), np.zeros(1, np.int32)
)


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


class Arriving(NamedTuple):
    """What `_place` works out times from: an MMPP's draws, or times that are in the row already."""

    draws: FloatArray
    rate_pair: tuple[float, float]
    sojourns: tuple[float, float]
    modulated: bool
    rate: float  # 1/s
    patience: float  # s


@njit(**INLINED)
def _place(i, stretch, arriving, arrival, deadline):
    """Put request i's times in the rows. Returns the stretch that the next arrival goes on from."""
    if arriving.modulated:
        stretch = next_arrival(i, stretch, arriving.draws, arriving.rate_pair, arriving.sojourns)
        t = stretch[0] / arriving.rate
    else:
        t = arrival[i] / arriving.rate
    arrival[i] = t
    deadline[i] = t + arriving.patience
    return stretch


@njit(**INLINED)
def _fill(n, stream, state, stretch, arriving, constant, values, steps, guide, arrival, deadline, length):
    """Draw the lengths and finish the rows; returns whether there were draws enough, and the next state.

    Times depend on each other, and so do random numbers: side by side they take no longer than either alone.
    """
    drawn = 0
    if constant > 0:
        length[:n] = constant
    elif is_pcg64(state):
        states = four(state)
        while drawn + 4 <= n:
            for k in range(4):
                stretch = _place(drawn + k, stretch, arriving, arrival, deadline)
            length[drawn] = look_up(top_bits(states[0]), values, steps, guide)
            length[drawn + 1] = look_up(top_bits(states[1]), values, steps, guide)
            length[drawn + 2] = look_up(top_bits(states[2]), values, steps, guide)
            length[drawn + 3] = look_up(top_bits(states[3]), values, steps, guide)
            state = after_four(states, state)
            states = four_on(states)
            drawn += 4
    for i in range(drawn, n):
        stretch = _place(i, stretch, arriving, arrival, deadline)
    enough = not arriving.modulated or stretch[5] < arriving.draws.size
    # Other generators move on with each draw: nothing is drawn in vain.
    if enough and constant == 0:
        for i in range(drawn, n):
            chance, state = uniform(stream, state)
            length[i] = look_up(np.uint64(chance * TWO_53), values, steps, guide)
    return enough, state


@njit(**INLINED)
def draw(n, stream, settings, rates, values, steps, guide, draws, arrival, deadline, length):
    """Draw ``n`` requests into the rows ``arrival``, ``deadline`` (float64) and ``length`` (int32).

    ``draws`` is scratch of n + `Law.draws` float64. Returns DRAWN, OUT_OF_RANGE or NO_SOJOURNS.
    """
    state = open_stream(stream)
    load = settings[LOAD_LOW]
    if settings[LOAD_HIGH] > load:
        chance, state = uniform(stream, state)
        load += (settings[LOAD_HIGH] - load) * chance
    rate = load * settings[THROUGHPUT]
    kind, patience, constant = settings[KIND], settings[PATIENCE], np.int32(settings[CONSTANT])
    rate_pair = (settings[RATE], settings[BURST_RATE])
    sojourns = (settings[SOJOURN], settings[BURST_SOJOURN])
    enough = False
    if kind == MODULATED:
        block = np.int64(settings[BLOCK])
        drawn = 0
        for size in range(1 + n + block, 1 + n + (BLOCKS + 1) * block, block):
            state = exponentials(stream, state, draws[drawn:size])
            drawn = size
            stretch = first_stretch(draws[:size], n, settings[THRESHOLD], rate_pair, sojourns)
            arriving = Arriving(draws[:size], rate_pair, sojourns, True, rate, patience)
            enough, after = _fill(
                n, stream, state, stretch, arriving, constant, values, steps, guide, arrival, deadline, length
            )  # fmt: skip
            if enough:
                state = after
                break
    else:
        times = arrival[:n]
        if kind == POISSON:
            state = exponentials(stream, state, times)
            for i in range(1, n):
                times[i] += times[i - 1]
        elif kind == DAILY:
            phase, state = uniform(stream, state)
            gaps = draws[:n]
            state = exponentials(stream, state, gaps)
            diurnal(gaps, phase * rates.size, settings[WIDTH], rates, times)
        else:
            times[:] = 0.0
        stretch = (0.0, 0.0, 1.0, 1.0, False, 0)
        arriving = Arriving(draws[:n], rate_pair, sojourns, False, rate, patience)
        enough, state = _fill(
            n, stream, state, stretch, arriving, constant, values, steps, guide, arrival, deadline, length
        )  # fmt: skip
    close_stream(stream, state)
    if not enough:
        return NO_SOJOURNS
    return DRAWN if deadline[n - 1] > arrival[n - 1] and arrival[n - 1] <= LARGEST else OUT_OF_RANGE
