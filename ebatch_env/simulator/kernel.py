"""The kernel: one decision of one simulated accelerator, as plain functions over that system's slices of arrays.

Everything the simulator does between two decisions happens here: shedding, the fill, the passes of a round with joins
and completion notifications, energy, the latency integral, deadlines, idle jumps. ``docs/model.md`` states the rules in
words. The same functions serve one system (`Simulator`) and thousands (the vector environment).

Arrays of one system; R requests, B lanes, n layers, T = ``max_time_steps``, W = words of 64 bits that hold B lanes:

    f      float64 (N_F,)      scalars: clock, accumulators              index names below
    i      int64   (N_I,)      counters                                  index names below
    lanes  int32   (3, B)      request in the lane (-1: free), steps left and length (0 in a free lane)
    rf     float64 (4, R+8)    arrival (NaN behind the last request), deadline, completion, start
    ri     int32   (4, R+8)    length, lane, next waiting request of that length, deadline order
    ends   int32   (2, L+1)    first and last waiting request of each length 1..L; none: -1 and the spare request R+7
    bits   uint64              64-ary tree over the lengths that wait; W words of free lanes; requests that wait; requests
                               that are neither complete nor shed
    hist   int64   (B+1,)      time-steps of layer 0 run with a lanes active

and shared, read-only: ``machine`` (14 scalars), ``layers`` (5, n), ``step_s`` (n+1, B+1), row n being the sum over layers
1..n-2, ``step_j`` (B+1,) summed over layers, ``alone`` (L+1,) `CostTable.alone_s` of
each length, see ``state.pack_machine``; ``levels`` (offsets of the tree), ``bins`` (L+1,) length -> bin.

``scratch`` int32, ``marks`` uint64 ((T+2) W,), ``times`` float64 (T+2,) and ``passes`` float64 (2, n) belong to the calling
thread; after a round they hold its a_1..a_S, who completed, and the times of its passes. Unpredictable branches and
memory traffic are what bounds thousands of systems: hence loops without branches, sets as bits, one row per quantity,
and no row touched in vain (``RECORD``).

All constants and functions are in this one file on purpose: numba's on-disk cache notices changes of the file a
function stands in, and of no other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# Without numba's run-time (``_nrt``) slices cost nothing: no reference is counted, and nothing can be allocated. Arrays are
# passed by value, so a call that is not inlined copies some hundred words: hence INLINED.
COMPILED: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False, "error_model": "numpy"}
INLINED: dict[str, Any] = {**COMPILED, "forceinline": True}

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
OLDEST = 28  # the oldest waiting request, -1: none (kept by `settle`)
DUE_SORTED = 29  # the deadlines are in the order of arrival
MIX = 30  # first of MIX_BINS counters: waiting requests by length bin
MIX_BINS = 8
N_I = MIX + MIX_BINS

# --- rows of lanes, rf, ri, ends ----------------------------------------------------------------------------------
REQUEST, LEFT, TOTAL = 0, 1, 2
ARRIVAL, DEADLINE, COMPLETION, START = 0, 1, 2, 3  # the last two are kept only with RECORD
LENGTH, LANE, LATER, DUE_ORDER = (
    0,
    1,
    2,
    3,
)  # LANE only with RECORD, LATER with ORDERED, DUE_ORDER if not the order of arrival
NOT_STARTED, DROPPED = -1, -2  # values of the row LANE besides lane numbers
FIRST, LAST = 0, 1

# --- machine: float64 scalars; layers: rows -----------------------------------------------------------------------
STATIC_W, PREFETCH, NOTIFIES, WHOLE, MAX_T, HOLD_S, KNOWN, DRAIN, GEMM, FIXED_J, ORDERED, RECORD = range(12)
MIDDLE_S, MIDDLE_GEMM = 12, 13  # of layers 1..n-2: sum of load_s; whether any has an input GEMM
LOAD_S, LOAD_J, FLOOR_S, ROW_S, INPUT_J = range(5)

# --- plan: int64 (5,) ---------------------------------------------------------------------------------------------
PLAN_T, PLAN_ADMIT, PLAN_JOINS, PLAN_ORDER, PLAN_SHED = range(5)
LONGEST = 0  # PLAN_T: to the end of the longest busy lane
NO_LIMIT = -1  # PLAN_ADMIT
FIRST_COME, SHORTEST, SIMILAR = 0, 1, 2

# --- what `decide` returns ----------------------------------------------------------------------------------------
RAN, HELD, EMPTIED = 0, 1, 2  # a round was run; the plan was to hold; shedding left nothing to do

_ONE, _ZERO, _FULL = np.uint64(1), np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)


def scratch_size(lanes: int, max_time_steps: int, requests: int) -> int:
    """Number of int32 a thread's scratch needs: busy lanes and sequences that end by step, who completes and when."""
    return 2 * (max_time_steps + 2) + 2 * min(lanes * max_time_steps, requests)


def tree_levels(members: int) -> np.ndarray:
    """Offsets of the levels of the 64-ary tree over ``members`` bits, and behind them its size in words."""
    offsets, size = [0], members
    while size > 1 or len(offsets) == 1:
        size = (size + 63) // 64
        offsets.append(offsets[-1] + size)
    return np.array(offsets, dtype=np.int64)


# --- bit sets -----------------------------------------------------------------------------------------------------
@intrinsic
def _lowest(typing: Any, word: Any) -> Any:
    """Place of the lowest bit of a uint64 that is not 0: one machine instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def _highest(typing: Any, word: Any) -> Any:
    """Place of the highest bit of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.xor(zeros, ir.Constant(ir.IntType(64), 63))

    return types.int64(types.uint64), generate


@intrinsic
def bit_length(typing: Any, word: Any) -> Any:
    """Bits that a uint64 needs, 0 for 0, as int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(ir.IntType(64), 64), zeros)

    return types.int64(types.uint64), generate


@intrinsic
def known(typing: Any, place: Any) -> Any:
    """``place`` itself, an index that is never negative: spares the check for one that counts from the end."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[0], signature.args[0], types.int64)
        assume = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [ir.IntType(1)]), "llvm.assume"
        )
        builder.call(assume, [builder.icmp_signed(">=", number, ir.Constant(ir.IntType(64), 0))])
        return number

    return types.int64(place), generate


@intrinsic
def prefetch(typing: Any, row: Any, place: Any) -> Any:
    """Ask for the cache line of ``row[place]``, which may lie outside the array: a hint that computes nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte = ir.IntType(8).as_pointer()
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), byte)
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(hint, [address, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(row, types.int64), generate


@njit(**INLINED)
def _tree_add(bits, levels, p):
    for level in range(levels.size - 1):
        word = known(levels[level] + (p >> 6))
        before = bits[word]
        bits[word] = before | (_ONE << np.uint64(p & 63))
        if before != _ZERO:
            return
        p >>= 6


@njit(**INLINED)
def _tree_remove(bits, levels, p):
    for level in range(levels.size - 1):
        word = known(levels[level] + (p >> 6))
        after = bits[word] & ~(_ONE << np.uint64(p & 63))
        bits[word] = after
        if after != _ZERO:
            return
        p >>= 6


@njit(**INLINED)
def _tree_next(bits, levels, p):
    """The smallest member >= p, -1: none."""
    for level in range(levels.size - 1):
        word = p >> 6
        if levels[level] + word >= levels[level + 1]:
            return -1
        found = bits[known(levels[level] + word)] & (_FULL << np.uint64(p & 63))
        if found != _ZERO:
            p = (word << 6) + _lowest(found)
            for below in range(level - 1, -1, -1):
                p = (p << 6) + _lowest(bits[known(levels[below] + p)])
            return p
        p = word + 1
    return -1


@njit(**INLINED)
def _tree_previous(bits, levels, p):
    """The largest member <= p, -1: none."""
    for level in range(levels.size - 1):
        if p < 0:
            return -1
        word = p >> 6
        found = bits[known(levels[level] + word)] & (_FULL >> np.uint64(63 - (p & 63)))
        if found != _ZERO:
            p = (word << 6) + _highest(found)
            for below in range(level - 1, -1, -1):
                p = (p << 6) + _highest(bits[known(levels[below] + p)])
            return p
        p = word - 1
    return -1


# --- the queue ----------------------------------------------------------------------------------------------------
# Waiting requests are bits, in order of arrival. If another order than that is possible, those of one length also form a
# list; whatever the order of service, the next request is the first of some list. Only shedding takes requests from
# inside a list; it leaves them linked, and they are passed over when their turn comes.
@njit(**INLINED)
def _sections(bits, levels, lanes):
    """Where in ``bits`` the free lanes, the waiting and the unresolved requests begin."""
    free = levels[levels.size - 1]
    waiting = free + ((lanes + 63) >> 6)
    return known(free), known(waiting), known((bits.size + waiting) >> 1)


@njit(**INLINED)
def _bit(bits, section, r):
    """1 if ``r`` is in the set, else 0."""
    return np.int64((bits[known(section + (r >> 6))] >> np.uint64(r & 63)) & _ONE)


@njit(**INLINED)
def _clear(bits, section, r):
    bits[known(section + (r >> 6))] &= ~(_ONE << np.uint64(r & 63))


@njit(**INLINED)
def _fill_range(bits, section, first, end):
    """Put first..end-1, at least one, into a set."""
    low, high = first >> 6, (end - 1) >> 6
    for word in range(low, high + 1):
        mask = _FULL
        if word == low:
            mask &= _FULL << np.uint64(first & 63)
        if word == high:
            mask &= _FULL >> np.uint64(63 - ((end - 1) & 63))
        bits[known(section + word)] |= mask


@njit(**INLINED)
def _arrive(until, origin, f, i, rf, ri, ends, bits, waiting, levels, machine, bins):
    """Put every request with arrival <= ``until`` in the queue; return the sum of arrival - ``origin`` over them."""
    first = known(i[NEXT])
    r = first
    arrival = rf[ARRIVAL, r]
    if not arrival <= until:  # NaN behind the last one
        return 0.0
    ordered = machine[ORDERED] > 0
    spare = ri.shape[1] - 1
    steps = 0
    arrivals = 0.0
    after = 0.0
    while arrival <= until:
        length = known(ri[LENGTH, r])
        steps += length
        arrivals += arrival
        after += arrival - origin
        i[known(MIX + bins[length])] += 1
        if ordered:
            last = known(ends[LAST, length])
            ri[LATER, last] = r
            ri[LATER, r] = -1
            ends[LAST, length] = r
            ends[FIRST, length] = r if last == spare else ends[FIRST, length]
            _tree_add(bits, levels, length)
        r += 1
        arrival = rf[ARRIVAL, known(r)]
    _fill_range(bits, waiting, first, r)
    i[NEXT] = r
    i[WAITING] += r - first
    i[WAIT_STEPS] += steps
    f[WAIT_ARRIVALS] += arrivals
    return after


@njit(**INLINED)
def _unlink(r, length, i, ri, ends, bits, waiting, levels):
    """Take the first request of a length's list, ``r``, off it; requests shed behind it go with it."""
    later = np.int64(ri[LATER, r])
    if i[SHED] > 0:
        while later >= 0 and _bit(bits, waiting, later) == 0:
            later = np.int64(ri[LATER, later])
    empty = later < 0
    ends[FIRST, length] = later
    ends[LAST, length] = ri.shape[1] - 1 if empty else ends[LAST, length]
    word = length >> 6
    left = bits[word] & ~(np.uint64(empty) << np.uint64(length & 63))
    bits[word] = left
    if left == _ZERO and empty:
        _tree_remove(bits, levels, length)


@njit(**INLINED)
def _oldest(i, bits, waiting):
    """The oldest waiting request; there is one."""
    word = known(i[HEAD] >> 6)
    members = bits[known(waiting + word)]
    while members == _ZERO:
        word += 1
        members = bits[known(waiting + word)]
    r = known((word << 6) + _lowest(members))
    i[HEAD] = r
    return r


@njit(**INLINED)
def _choose(order, anchor, i, ends, bits, waiting, levels):
    """The waiting request that ``order`` takes next; there is one. ``anchor`` is a length."""
    if order == SHORTEST:
        return known(ends[FIRST, _tree_next(bits, levels, 0)])
    if order == SIMILAR:
        above = _tree_next(bits, levels, anchor)
        below = _tree_previous(bits, levels, anchor - 1)
        if below < 0:
            return known(ends[FIRST, above])
        shorter = known(ends[FIRST, below])
        if above < 0:
            return shorter
        longer = known(ends[FIRST, above])
        more, less = above - anchor, anchor - below
        return longer if more < less or (more == less and longer < shorter) else shorter
    return _oldest(i, bits, waiting)


@njit(**INLINED)
def _enter(
    count, order, register, steps_done, planned, time, f, i, lanes, rf, ri, ends, bits, levels, machine, bins,
    ends_at, marks, done, done_at, n_done,
):  # fmt: skip
    """Move ``count`` waiting requests into the lowest free lanes.

    Steps left count from the round's start. With ``register`` those that end in the round are put down: by lane in
    ``marks``, counted in ``ends_at``, and in ``done``. Returns the number in ``done``.
    """
    free, waiting, _ = _sections(bits, levels, lanes.shape[1])
    ordered, record = machine[ORDERED] > 0, machine[RECORD] > 0
    anchor = ri[LENGTH, _oldest(i, bits, waiting)] if order == SIMILAR else np.int32(0)
    word = free
    words = (lanes.shape[1] + 63) >> 6
    steps = 0
    arrivals = 0.0
    late = i[WAIT_LATE]
    swept = f[SWEPT]
    for _ in range(count):
        r = _choose(order, anchor, i, ends, bits, waiting, levels)
        length = known(ri[LENGTH, r])
        _clear(bits, waiting, r)
        if ordered:
            _unlink(r, length, i, ri, ends, bits, waiting, levels)
        steps += length
        arrivals += rf[ARRIVAL, r]
        i[known(MIX + bins[length])] -= 1
        if late > 0:
            late -= rf[DEADLINE, r] <= swept
        members = bits[word]
        while members == _ZERO:
            word = known(word + 1)
            members = bits[word]
        lane = known(((word - free) << 6) + _lowest(members))
        bits[word] = members & (members - _ONE)
        end = length + steps_done
        lanes[REQUEST, lane] = r
        lanes[LEFT, lane] = end
        lanes[TOTAL, lane] = length
        if register and end <= planned:
            end = known(end)
            ends_at[end] += 1
            marks[known(end * words + (lane >> 6))] |= _ONE << np.uint64(lane & 63)
            done[known(n_done)] = r
            done_at[known(n_done)] = end
            n_done += 1
        if record:
            ri[LANE, r] = lane
            rf[START, r] = time
    i[WAITING] -= count
    i[WAIT_STEPS] -= steps
    f[WAIT_ARRIVALS] -= arrivals
    i[WAIT_LATE] = late
    return n_done


@njit(**INLINED)
def _shed_hopeless(f, i, lanes, rf, ri, ends, bits, levels, machine, alone, bins):
    """Drop the waiting requests that would miss their deadline even if they started now and alone."""
    _, waiting, unresolved = _sections(bits, levels, lanes.shape[1])
    t = f[CLOCK]
    lengths_known, ordered, record = machine[KNOWN] > 0, machine[ORDERED] > 0, machine[RECORD] > 0
    in_order = i[DUE_SORTED] > 0
    enough = t + alone[known(ends.shape[1] - 1 if lengths_known else 1)]
    dropped = 0
    steps = 0
    arrivals = 0.0
    doubtful = i[WAITING] > 0
    word = known(i[HEAD] >> 6)
    last = (i[NEXT] - 1) >> 6
    while doubtful and word <= last:
        members = bits[waiting + word]
        while members != _ZERO:
            r = known((word << 6) + _lowest(members))
            members &= members - _ONE
            deadline = rf[DEADLINE, r]
            if enough <= deadline:  # even the longest sequence would make it
                if in_order:
                    doubtful = False
                    break
                continue
            length = known(ri[LENGTH, r])
            if t + alone[length if lengths_known else 1] > deadline:
                dropped += 1
                i[SHED] += 1  # from now on lists may hold requests that were shed
                _clear(bits, waiting, r)
                _clear(bits, unresolved, r)
                if ordered and ends[FIRST, length] == r:
                    _unlink(r, length, i, ri, ends, bits, waiting, levels)
                steps += length
                arrivals += rf[ARRIVAL, r]
                i[MIX + bins[length]] -= 1
                i[WAIT_LATE] -= deadline <= f[SWEPT]
                if record:
                    ri[LANE, r] = DROPPED
        word += 1
    i[WAITING] -= dropped
    i[WAIT_STEPS] -= steps
    f[WAIT_ARRIVALS] -= arrivals
    i[STEP_SHED] += dropped
    return dropped


@njit(**INLINED)
def _sweep_deadlines(f, i, lanes, rf, ri, bits, levels):
    """Count the requests whose deadline has passed by now with them neither complete nor shed."""
    _, waiting, unresolved = _sections(bits, levels, lanes.shape[1])
    t = f[CLOCK]
    k = known(i[DUE])
    n = i[REQUESTS]
    in_order = i[DUE_SORTED] > 0
    missed, late = 0, 0
    while k < n:
        r = k if in_order else known(ri[DUE_ORDER, k])
        if rf[DEADLINE, r] > t:
            break
        k += 1
        missed += _bit(bits, unresolved, r)
        late += _bit(bits, waiting, r)
    i[MISSED] += missed
    i[STEP_MISSED] += missed
    i[WAIT_LATE] += late
    i[DUE] = k
    f[SWEPT] = t


# --- an episode ---------------------------------------------------------------------------------------------------
@njit(**COMPILED)
def _order_by_deadline(n, rf, ri):
    """Heapsort of the requests by deadline into the row DUE_ORDER: in place, since the kernel allocates nothing."""
    for r in range(n):
        ri[DUE_ORDER, r] = r
    for end in range(2 * n - 1, 0, -1):
        # The first n - 1 rounds build the heap from the middle down, the others move its top behind it.
        if end >= n:
            parent, size = end - n, n
        else:
            top = ri[DUE_ORDER, 0]
            ri[DUE_ORDER, 0] = ri[DUE_ORDER, end]
            ri[DUE_ORDER, end] = top
            parent, size = 0, end
        while 2 * parent + 1 < size:
            child = 2 * parent + 1
            if child + 1 < size and rf[DEADLINE, ri[DUE_ORDER, child + 1]] > rf[DEADLINE, ri[DUE_ORDER, child]]:
                child += 1
            if rf[DEADLINE, ri[DUE_ORDER, parent]] >= rf[DEADLINE, ri[DUE_ORDER, child]]:
                break
            swap = ri[DUE_ORDER, parent]
            ri[DUE_ORDER, parent] = ri[DUE_ORDER, child]
            ri[DUE_ORDER, child] = swap
            parent = child


@njit(**COMPILED)
def begin(n, f, i, lanes, rf, ri, ends, bits, levels, hist, layers, machine, bins):
    """Start an episode on the first ``n`` requests, already in place (arrival, deadline, length), at clock 0.

    The clock then jumps to the first arrival.
    """
    free, waiting, unresolved = _sections(bits, levels, lanes.shape[1])
    f[:] = 0.0
    i[:] = 0
    bits[:] = _ZERO
    if machine[ORDERED] > 0:
        ends[FIRST, :] = -1
        ends[LAST, :] = ri.shape[1] - 1
    lanes[REQUEST, :] = -1
    lanes[LEFT, :] = 0
    lanes[TOTAL, :] = 0
    i[REQUESTS] = n
    rf[ARRIVAL, n] = np.nan
    _fill_range(bits, free, 0, lanes.shape[1])
    _fill_range(bits, unresolved, 0, n)
    f[READY] = layers[LOAD_S, 0]
    f[SWEPT] = -np.inf
    due, disorder = 0, 0
    before = -np.inf
    for r in range(n):
        deadline = rf[DEADLINE, r]
        due += deadline < np.inf
        disorder += deadline < before
        before = deadline
    i[HAS_DEADLINES] = due > 0
    i[DUE_SORTED] = disorder == 0
    if disorder > 0:
        _order_by_deadline(n, rf, ri)
    if machine[RECORD] > 0:
        hist[:] = 0
        ri[LANE, :n] = NOT_STARTED
        rf[COMPLETION, :n] = np.nan
        rf[START, :n] = np.nan
    _skip_idle(f, i, rf, ri, ends, bits, waiting, levels, machine, bins)
    i[OLDEST] = _oldest(i, bits, waiting)


@njit(**INLINED)
def _skip_idle(f, i, rf, ri, ends, bits, waiting, levels, machine, bins):
    """With no lane busy and nothing waiting the clock jumps to the next arrival, if there is one."""
    if i[BUSY] == 0 and i[WAITING] == 0 and i[NEXT] < i[REQUESTS]:
        arrival = rf[ARRIVAL, i[NEXT]]
        static_j = machine[STATIC_W] * (arrival - f[CLOCK])
        f[STEP_ENERGY] += static_j
        f[STATIC_J] += static_j
        f[CLOCK] = arrival
        _arrive(arrival, arrival, f, i, rf, ri, ends, bits, waiting, levels, machine, bins)


@njit(**INLINED)
def settle(f, i, lanes, bits, levels):
    """Move what the last decision cost into the totals and return it: energy J, integral s, shed, missed, served."""
    energy, integral = f[STEP_ENERGY], f[STEP_INTEGRAL]
    shed, missed, served = i[STEP_SHED], i[STEP_MISSED], i[STEP_SERVED]
    f[ENERGY] += energy
    f[INTEGRAL] += integral
    f[STEP_ENERGY] = 0.0
    f[STEP_INTEGRAL] = 0.0
    i[STEP_SHED] = 0
    i[STEP_MISSED] = 0
    i[STEP_SERVED] = 0
    i[OLDEST] = _oldest(i, bits, _sections(bits, levels, lanes.shape[1])[1]) if i[WAITING] > 0 else -1
    return energy, integral, shed, missed, served


@njit(**INLINED)
def decide(
    plan, f, i, lanes, rf, ri, ends, bits, levels, hist, layers, step_s, step_j, alone, machine, bins,
    scratch, marks, times, passes,
):  # fmt: skip
    """Carry out one decision: shed, fill, then run a round or hold; then count deadlines and skip idle time.

    Returns RAN, HELD or EMPTIED.
    """
    _, waiting, _ = _sections(bits, levels, lanes.shape[1])
    i[DECISIONS] += 1
    i[LAST_SHED] = 0
    if plan[PLAN_SHED] > 0 and i[HAS_DEADLINES] > 0:
        i[LAST_SHED] = _shed_hopeless(f, i, lanes, rf, ri, ends, bits, levels, machine, alone, bins)
    limit = plan[PLAN_ADMIT]
    if limit < 0 or (machine[DRAIN] > 0 and i[BUSY] == 0 and limit == 0 and i[NEXT] == i[REQUESTS]):
        limit = np.int64(1) << 40
    room = min(limit, lanes.shape[1] - i[BUSY], i[WAITING])
    result = RAN
    t = f[CLOCK]
    if i[BUSY] + room > 0:
        _run_round(
            plan, limit, room, f, i, lanes, rf, ri, ends, bits, levels, hist, layers, step_s, step_j, machine, bins,
            scratch, marks, times, passes,
        )  # fmt: skip
    elif i[WAITING] > 0:
        result = HELD
        i[HOLDS] += 1
        until = t + machine[HOLD_S]
        if i[NEXT] < i[REQUESTS]:
            until = min(until, rf[ARRIVAL, i[NEXT]])
        f[STEP_INTEGRAL] += i[WAITING] * (until - t)
        f[CLOCK] = until
        _arrive(until, t, f, i, rf, ri, ends, bits, waiting, levels, machine, bins)
    else:
        result = EMPTIED
    static_j = machine[STATIC_W] * (f[CLOCK] - t)
    f[STEP_ENERGY] += static_j
    f[STATIC_J] += static_j
    if i[HAS_DEADLINES] > 0:
        _sweep_deadlines(f, i, lanes, rf, ri, bits, levels)
    _skip_idle(f, i, rf, ri, ends, bits, waiting, levels, machine, bins)
    return result


@njit(**INLINED)
def _run_round(
    plan, limit, room, f, i, lanes, rf, ri, ends, bits, levels, hist, layers, step_s, step_j, machine, bins,
    scratch, marks, times, passes,
):  # fmt: skip
    """Fill the lanes with ``room`` more sequences and run every layer's pass."""
    n_layers = layers.shape[1]
    n_lanes = lanes.shape[1]
    words = (n_lanes + 63) >> 6
    free, waiting, unresolved = _sections(bits, levels, n_lanes)
    order = plan[PLAN_ORDER] if machine[KNOWN] > 0 else FIRST_COME
    notifies = machine[NOTIFIES] > 0
    whole = machine[WHOLE] > 0
    prefetches = machine[PREFETCH] > 0
    record = machine[RECORD] > 0
    top = np.int64(machine[MAX_T])
    # Scratch by step 0..T: lanes paid for, sequences that end; then who completes, and at which step.
    active_at = scratch[: top + 2]
    ends_at = scratch[top + 2 : 2 * (top + 2)]
    half = (scratch.size - 2 * (top + 2)) >> 1
    done = scratch[2 * (top + 2) : 2 * (top + 2) + half]
    done_at = scratch[2 * (top + 2) + half :]
    start_s, end_s = passes[0], passes[1]
    request_of, left_of, total_of = lanes[REQUEST], lanes[LEFT], lanes[TOTAL]

    # 1. Fill.
    t = f[CLOCK]
    in_system = i[WAITING] + i[BUSY]
    arrived_before = i[NEXT]
    n_done = 0
    if room > 0:
        _enter(
            room, order, False, 0, 0, t, f, i, lanes, rf, ri, ends, bits, levels, machine, bins,
            ends_at, marks, done, done_at, 0,
        )  # fmt: skip
    admitted = room
    busy = i[BUSY] + room
    started = busy
    planned = plan[PLAN_T]
    if whole or planned == LONGEST:
        longest = np.int32(0)
        for lane in range(n_lanes):
            longest = max(longest, left_of[lane])
        planned = np.int64(longest)
    planned = known(min(planned, top))
    planned_32 = np.int32(planned)
    for s in range(planned + 1):
        ends_at[s] = 0
    for place in range((planned + 1) * words):
        marks[place] = _ZERO
    for word in range(words):
        members = _ZERO
        group = left_of[word << 6 : min(n_lanes, (word + 1) << 6)]
        for lane in range(group.size):  # free of branches, so that it runs on vector units
            left = group[lane]
            members |= np.uint64((left > 0) & (left <= planned_32)) << np.uint64(lane)
        while members != _ZERO:
            lane = known((word << 6) + _lowest(members))
            lowest = members & (_ZERO - members)
            members ^= lowest
            left = known(left_of[lane])
            ends_at[left] += 1
            marks[known(left * words + word)] |= lowest
            done[known(n_done)] = request_of[lane]
            done_at[known(n_done)] = left
            n_done += 1
    joins = plan[PLAN_JOINS] > 0 and notifies and not whole

    # 2. Pass of layer 0: its course decides those of the others.
    ready = f[READY]
    b = max(t, ready) if prefetches else t + layers[LOAD_S, 0]
    start_s[0] = b
    b += max(layers[FLOOR_S, 0], busy * planned * layers[ROW_S, 0])
    energy = machine[FIXED_J]
    arrived_after = 0.0  # s, sum over the arrivals of the time from the round's start to then
    joined = 0
    lane_steps, useful = 0, 0
    last = known(n_layers - 1)
    # s, compute time of the layers in between, and of the last one up to each step.
    middle_s, last_s = machine[MIDDLE_S], 0.0
    steps = 0
    for s in range(1, planned + 1):
        if joins and busy < n_lanes and admitted < limit:
            arrived_after += _arrive(b, t, f, i, rf, ri, ends, bits, waiting, levels, machine, bins)
            count = min(n_lanes - busy, limit - admitted, i[WAITING])
            if count > 0:
                n_done = _enter(
                    count, order, True, s - 1, planned, b, f, i, lanes, rf, ri, ends, bits, levels, machine, bins,
                    ends_at, marks, done, done_at, n_done,
                )  # fmt: skip
                busy += count
                admitted += count
                joined += count
                if machine[GEMM] > 0:
                    b += layers[FLOOR_S, 0]
                    energy += layers[INPUT_J, 0]
                i[JOIN_BOUNDARIES] += 1
        if busy == 0:
            break
        active = known(busy if notifies else started)
        active_at[s] = active
        lane_steps += active
        useful += busy
        energy += step_j[active]
        middle_s += step_s[n_layers, active]
        last_s += step_s[last, active]
        b += step_s[0, active]
        times[s] = b if n_layers == 1 else last_s
        steps = s
        busy -= ends_at[s]
        for word in range(words):
            bits[known(free + word)] |= marks[known(s * words + word)]
    end_s[0] = b

    # 3. Passes of the other layers replay a_1..a_S. Nothing happens in the middle ones: without prefetch they need not
    # be gone through one by one, except to record their times.
    loaded = ready
    before = b
    if prefetches or record:
        for layer in range(1, n_layers - 1):
            if prefetches:
                loaded = max(loaded, start_s[layer - 1]) + layers[LOAD_S, layer]
                b = max(b, loaded)
            else:
                b += layers[LOAD_S, layer]
            start_s[layer] = b
            b += max(layers[FLOOR_S, layer], lane_steps * layers[ROW_S, layer])
            for s in range(1, steps + 1):
                b += step_s[layer, known(active_at[s])]
            end_s[layer] = b
    if not prefetches:
        if machine[MIDDLE_GEMM] > 0:
            for layer in range(1, n_layers - 1):
                middle_s += max(layers[FLOOR_S, layer], lane_steps * layers[ROW_S, layer])
        b = before + middle_s
    first_step = 0.0  # s, when the last layer's begins
    if n_layers > 1:
        if prefetches:
            loaded = max(loaded, start_s[last - 1]) + layers[LOAD_S, last]
            b = max(b, loaded)
        else:
            b += layers[LOAD_S, last]
        start_s[last] = b
        first_step = b + max(layers[FLOOR_S, last], lane_steps * layers[ROW_S, last])
        b = first_step + last_s
        end_s[last] = b
    if prefetches:
        f[READY] = start_s[n_layers - 1] + layers[LOAD_S, 0]

    # 4. Completion notifications come from the last layer, step by step; without them everybody waits for the end.
    early = 0.0  # s, sum over what is done of the time from the round's start to then
    missed = 0
    swept = f[SWEPT]
    for k in range(n_done):
        r = known(done[k])
        completion = first_step + times[known(done_at[k])] if notifies else b
        early += completion - t
        # Deadlines that pass from here on are counted by `_sweep_deadlines`, which sees who is unresolved by then.
        deadline = rf[DEADLINE, r]
        missed += (deadline > swept) & (deadline < completion)
        _clear(bits, unresolved, r)
        if record:
            rf[COMPLETION, r] = completion

    # The clock moves on; what arrived meanwhile waits; lanes with steps left keep their state.
    arrived_after += _arrive(b, t, f, i, rf, ri, ends, bits, waiting, levels, machine, bins)
    elapsed = b - t
    integral = (in_system + i[NEXT] - arrived_before - n_done) * elapsed - arrived_after + early
    steps_32 = np.int32(steps)
    for lane in range(n_lanes):
        left = max(np.int32(left_of[lane] - steps_32), np.int32(0))
        left_of[lane] = left
        stays = np.int32(-np.int32(left > 0))  # all bits set or none: no branches
        total_of[lane] &= stays
        request_of[lane] |= ~stays
    f[CLOCK] = b
    f[STEP_ENERGY] += energy
    f[STEP_INTEGRAL] += integral
    f[LAST_START] = t
    f[LAST_END] = b
    i[BUSY] = busy
    i[SERVED] += n_done
    i[STEP_SERVED] += n_done
    i[MISSED] += missed
    i[STEP_MISSED] += missed
    i[ROUNDS] += 1
    i[LANE_STEPS] += lane_steps
    i[USEFUL_STEPS] += useful
    i[LAST_T] = planned
    i[LAST_S] = steps
    i[LAST_LANE_STEPS] = lane_steps
    i[LAST_JOINED] = joined
    i[LAST_DONE] = n_done
    i[LAST_STARTED] = room
    if record:
        for s in range(1, steps + 1):
            hist[active_at[s]] += 1


@njit(**COMPILED)
def repeat(
    plan, dry, f, i, lanes, rf, ri, ends, bits, levels, hist, layers, step_s, step_j, alone, machine, bins,
    scratch, marks, times, passes,
):  # fmt: skip
    """Take the same decision until the episode is over, or, with ``dry``, until nothing waits."""
    while i[SERVED] + i[SHED] < i[REQUESTS] and not (dry and i[WAITING] == 0):
        decide(
            plan, f, i, lanes, rf, ri, ends, bits, levels, hist, layers, step_s, step_j, alone, machine, bins,
            scratch, marks, times, passes,
        )  # fmt: skip
    settle(f, i, lanes, bits, levels)
