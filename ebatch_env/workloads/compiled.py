"""Traces of the built-in workloads drawn in compiled code, bit for bit as `Workload.sample` draws them.

A vector environment begins an episode every few steps, and NumPy calls from Python would take as long as the steps. The
draws come from the lane's own ``numpy.random.Generator``: its bit generator is called through the function pointers that
NumPy publishes, so it moves on as if NumPy itself had drawn. Everything else stays with `Workload.sample`.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ebatch_env.errors import LARGEST, FloatArray, IntArray
from ebatch_env.workloads.arrivals import AllAtOnce, Poisson
from ebatch_env.workloads.empirical import Empirical
from ebatch_env.workloads.lengths import Fixed, Geometric, Table, Uniform, look_up
from ebatch_env.workloads.modulated import MMPP, Diurnal, diurnal, mmpp
from ebatch_env.workloads.workload import Workload, built_in

try:  # NumPy's own ziggurat tables, as numba keeps them
    from numba.np.random._constants import fe_double, ke_double, we_double, ziggurat_exp_r
except ImportError:  # pragma: no cover - a numba that moved them: `Workload.sample` then draws everything
    fe_double = we_double = np.zeros(0)
    ke_double, ziggurat_exp_r = np.zeros(0, np.uint64), 0.0

INLINED: dict[str, Any] = {"nogil": True, "_nrt": False, "error_model": "numpy", "forceinline": True}

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

StreamArray = npt.NDArray[np.uint64]


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
    if not ke_double.size or type(workload) is not Workload:
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


def stream_of(rng: np.random.Generator) -> StreamArray:
    """Where compiled code finds the bit generator: uint64 (3,): state, next_uint64, next_double.

    Good as long as ``rng`` lives.
    """
    interface = rng.bit_generator.ctypes
    pointers = (interface.next_uint64, interface.next_double)
    return np.array([interface.state_address, *(ctypes.cast(p, ctypes.c_void_p).value for p in pointers)], np.uint64)


def _caller(returns: Any, kind: ir.Type) -> Any:
    """An intrinsic ``(function, state)`` that calls a C function of one pointer at an address."""

    @intrinsic
    def call(typing: Any, function: Any, state: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = ir.IntType(8).as_pointer()
            callee = builder.inttoptr(arguments[0], ir.FunctionType(kind, [pointer]).as_pointer())
            return builder.call(callee, [builder.inttoptr(arguments[1], pointer)])

        return returns(types.uint64, types.uint64), generate

    return call


_call_uint64 = _caller(types.uint64, ir.IntType(64))
_call_double = _caller(types.float64, ir.DoubleType())


@njit(**INLINED)
def uniform(stream):
    """``Generator.random()``."""
    return _call_double(stream[2], stream[0])


@njit(**INLINED)
def _exponential(stream):
    """``Generator.standard_exponential()``: the ziggurat of Marsaglia and Tsang, with NumPy's tables."""
    while True:
        bits = _call_uint64(stream[1], stream[0]) >> np.uint64(3)
        place = bits & np.uint64(0xFF)
        bits >>= np.uint64(8)
        x = np.float64(bits) * we_double[place]
        if bits < ke_double[place]:
            return x
        if place == np.uint64(0):
            return ziggurat_exp_r - np.log1p(-uniform(stream))
        below = fe_double[place]
        if (fe_double[place - np.uint64(1)] - below) * uniform(stream) + below < np.exp(-x):
            return x


@njit(**INLINED)
def draw(n, stream, settings, rates, values, cdf, guide, draws, arrival, deadline, length):
    """Draw ``n`` requests into the rows ``arrival``, ``deadline`` (float64) and ``length`` (int32).

    ``draws`` is scratch of n + `Law.draws` float64. Returns DRAWN, OUT_OF_RANGE or NO_SOJOURNS.
    """
    load = settings[LOAD_LOW]
    if settings[LOAD_HIGH] > load:
        load += (settings[LOAD_HIGH] - load) * uniform(stream)
    rate = load * settings[THROUGHPUT]
    kind = settings[KIND]
    times = arrival[:n]
    if kind == MODULATED:
        rate_pair = (settings[RATE], settings[BURST_RATE])
        sojourns = (settings[SOJOURN], settings[BURST_SOJOURN])
        block = np.int64(settings[BLOCK])
        drawn, enough = 0, False
        for size in range(1 + n + block, 1 + n + (BLOCKS + 1) * block, block):
            for i in range(drawn, size):
                draws[i] = _exponential(stream)
            drawn = size
            enough = mmpp(draws[:size], times, settings[THRESHOLD], rate_pair, sojourns)
            if enough:
                break
        if not enough:
            return NO_SOJOURNS
    elif kind == POISSON:
        t = 0.0
        for i in range(n):
            t += _exponential(stream)
            times[i] = t
    elif kind == DAILY:
        phase = uniform(stream) * rates.size
        gaps = draws[:n]
        for i in range(n):
            gaps[i] = _exponential(stream)
        diurnal(gaps, phase, settings[WIDTH], rates, times)
    else:
        times[:] = 0.0
    constant = np.int32(settings[CONSTANT])
    if constant > 0:
        length[:n] = constant
    else:
        for i in range(n):
            length[i] = look_up(uniform(stream), values, cdf, guide)
    patience = settings[PATIENCE]
    for i in range(n):
        t = times[i] / rate
        times[i] = t
        deadline[i] = t + patience
    return DRAWN if deadline[n - 1] > times[n - 1] and times[n - 1] <= LARGEST else OUT_OF_RANGE
