"""The arrays of the simulator and the names of their entries.

Arrays of one system; R requests, B lanes, n layers, T = ``max_time_steps``, W = words of 64 bits that hold B lanes:

    f      float64 (N_F,)      scalars: clock, accumulators              index names below
    i      int64   (N_I,)      counters                                  index names below
    lanes  int32   (3, 64 W)   request in the lane (-1: free), steps left and length (0 in a free lane); those behind B are
                               free and stay so: loops over lanes are loops over whole words
    rf     float64 (4, R+8)    arrival (NaN behind the last request), deadline, completion, start
    ri     int32   (3, R+8)    length, lane, deadline order
    links  int32   (R+8+L+1,)  requests of each length: the next one behind each request; the first one of each length 0..L
                               that waits or will arrive; R: none
    bits   uint64              64-ary tree over the lengths that wait; W words of free lanes; requests that wait
    hist   int64   (B+1,)      time-steps of layer 0 run with a lanes active

and shared, read-only: ``machine`` (N_MACHINE scalars), ``layers`` (5, n), ``step_s`` (n+1, B+1), row n being the sum over layers
1..n-2, ``step_j`` (B+1,) summed over layers, ``alone`` (L+1,) `CostTable.alone_s` of
each length, see ``state.pack_machine``; ``levels`` (offsets of the tree), ``bins`` (L+1,) eight times the bin of
each length.

``scratch`` int32, ``marks`` uint64 ((T+2) W,), ``times`` float64 (T+2,) and ``passes`` float64 (2, n) belong to the calling
thread; after a round they hold its a_1..a_S, who completed, and the times of its passes. Unpredictable branches and
memory traffic are what bounds thousands of systems: hence loops without branches, sets as bits, one row per quantity,
and no row touched in vain (``RECORD``).
"""

from __future__ import annotations

import numpy as np

# --- f: float64 scalars -------------------------------------------------------------------------------------------
CLOCK = 0  # s
READY = 1  # s, when layer 0's weights will be on chip (prefetch)
ENERGY = 2  # J, whole episode so far
INTEGRAL = 3  # s, integral of N dt so far
STEP_ENERGY = 4  # J since the last `settle`
STEP_INTEGRAL = 5  # s since the last `settle`
WAIT_ARRIVALS = 6  # s, sum of the arrival times of the waiting requests
LAST_START = 7  # s, the last round
LAST_END = 8  # s
SWEPT = 9  # s, deadlines up to here have been counted
STATIC_J = 10  # J, static part of ENERGY
N_F = 12

# --- i: int64 counters --------------------------------------------------------------------------------------------
REQUESTS = 0  # R of this trace
NEXT = 1  # requests arrived so far
HEAD = 2  # every request before this one has left the queue
WAITING = 3
BUSY = 4
SERVED = 5
SHED = 6
MISSED = 7
DUE = 8  # position in the deadline order
DECISIONS = 9
ROUNDS = 10
HOLDS = 11
JOIN_BOUNDARIES = 12
WAIT_STEPS = 13  # sum of the lengths of the waiting requests
WAIT_LATE = 14  # waiting requests whose deadline has passed
USEFUL_STEPS = 15  # lane-steps spent on sequences
LANE_STEPS = 16  # lane-steps executed, padding included
LAST_T = 17  # planned steps of the last round, 0 before the first
LAST_S = 18  # steps it ran
LAST_LANE_STEPS = 19
LAST_JOINED = 20
LAST_DONE = 21
LAST_STARTED = 22  # entered lanes in the fill
LAST_SHED = 23  # shed by the last decision
STEP_SHED = 24  # since the last `settle`
STEP_MISSED = 25
STEP_SERVED = 26
HAS_DEADLINES = 27
OLDEST = 28  # the oldest waiting request, -1: none (kept by `decide`)
DUE_SORTED = 29  # the deadlines are in the order of arrival
MIX = 30  # first of MIX_BINS counters: waiting requests by length bin
MIX_BINS = 8
N_I = MIX + MIX_BINS

# --- rows of lanes, rf, ri ----------------------------------------------------------------------------------------
REQUEST, LEFT, TOTAL = 0, 1, 2
ARRIVAL, DEADLINE, COMPLETION, START = 0, 1, 2, 3  # the last two are kept only with RECORD
LENGTH, LANE, DUE_ORDER = 0, 1, 2  # LANE only with RECORD, DUE_ORDER if not the order of arrival
NOT_STARTED, DROPPED = -1, -2  # values of the row LANE besides lane numbers

# --- machine: float64 scalars; layers: rows -----------------------------------------------------------------------
STATIC_W, MAX_T, HOLD_S, FIXED_J, MIDDLE_S, FLAGS = range(6)  # MIDDLE_S: sum of load_s of layers 1..n-2
N_MACHINE = 6
# Bits of FLAGS. MIDDLE_GEMM: any of layers 1..n-2 has an input GEMM.
PREFETCH, NOTIFIES, WHOLE, KNOWN, DRAIN, GEMM, MIDDLE_GEMM, ORDERED, RECORD = (1 << bit for bit in range(9))
LOAD_S, LOAD_J, FLOOR_S, ROW_S, INPUT_J = range(5)

# --- plan: int64 (5,) ---------------------------------------------------------------------------------------------
PLAN_T, PLAN_ADMIT, PLAN_JOINS, PLAN_ORDER, PLAN_SHED = range(5)
LONGEST = 0  # PLAN_T: to the end of the longest busy lane
NO_LIMIT = -1  # PLAN_ADMIT
FIRST_COME, SHORTEST, SIMILAR = 0, 1, 2

# --- what `decide` returns ----------------------------------------------------------------------------------------
RAN, HELD, EMPTIED = 0, 1, 2  # a round was run; the plan was to hold; shedding left nothing to do


def scratch_size(lanes: int, max_time_steps: int, requests: int) -> int:
    """Number of int32 a thread's scratch needs: busy lanes by step, who completes and when."""
    return max_time_steps + 2 + 2 * min(lanes * max_time_steps, requests)


def tree_levels(members: int) -> np.ndarray:
    """Offsets of the levels of the 64-ary tree over ``members`` bits, and behind them its size in words."""
    offsets, size = [0], members
    while size > 1 or len(offsets) == 1:
        size = (size + 63) // 64
        offsets.append(offsets[-1] + size)
    return np.array(offsets, dtype=np.int64)
