"""The kernel: one decision of one simulated accelerator, as plain functions over that system's slices of arrays.

Everything the simulator does between two decisions happens here: shedding, the fill, the passes of a round with joins
and completion notifications, energy, the latency integral, deadlines, idle jumps. ``docs/model.md`` states the rules in
words. The same functions serve one system (`Simulator`) and thousands (the vector environment).

Arrays of one system; R requests, B lanes, n layers, T = ``max_time_steps``:

    f      float64 (N_F,)      scalars: clock, accumulators              index names below
    i      int64   (N_I,)      counters                                  index names below
    lanes  int32   (3, B)      request in the lane (-1: free), steps left and length (0 in a free lane)
    rf     float64 (4, R)      arrival, deadline, completion, start
    ri     int32   (4, R)      length, lane, next waiting request of that length, deadline order
    ends   int32   (2, L+1)    first and last waiting request of each length 1..L, -1: none
    bits   uint64  (W,)        64-ary tree over the lengths that wait, then one bit per free lane
    hist   int64   (B+1,)      time-steps of layer 0 run with a lanes active

and shared, read-only: ``machine`` (14 scalars), ``layers`` (5, n), ``step_s`` (n+1, B+1), row n being the sum over layers
1..n-2, ``step_j`` (B+1,) summed over layers, ``alone`` (3, T+1), see ``state.pack_machine``; ``levels`` (offsets of the
tree), ``bins`` (L+1,) length -> bin.
``scratch`` int32 and ``passes`` float64 (2, n) belong to the calling thread; after a round they hold its runs and pass
times. Memory traffic is what bounds thousands of systems, hence one row per quantity and no row touched in vain.

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
LAST_RUNS = 29  # runs of equal `a` in scratch after a round
DUE_SORTED = 30  # the deadlines are in the order of arrival
MIX = 31  # first of MIX_BINS counters: waiting requests by length bin
MIX_BINS = 8
N_I = MIX + MIX_BINS

# --- rows of lanes, rf, ri, ends ----------------------------------------------------------------------------------
REQUEST, LEFT, TOTAL = 0, 1, 2
ARRIVAL, DEADLINE, COMPLETION, START = 0, 1, 2, 3  # START is kept only with LOG
LENGTH, LANE, LATER, DUE_ORDER = 0, 1, 2, 3  # LATER only with ORDERED, DUE_ORDER only if not the order of arrival
NOT_STARTED, DROPPED = -1, -2  # values of the row LANE besides lane numbers
FIRST, LAST = 0, 1

# --- machine: float64 scalars; layers: rows -----------------------------------------------------------------------
STATIC_W, PREFETCH, NOTIFIES, WHOLE, MAX_T, HOLD_S, KNOWN, DRAIN, GEMM, FIXED_J, ORDERED, LOG = range(12)
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
    """Number of int32 a thread's scratch needs: lanes by end step, runs, lane links, completions, lanes that end."""
    return 3 * (max_time_steps + 2) + 2 * lanes + min(lanes * max_time_steps, requests)


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
        word = levels[level] + (p >> 6)
        before = bits[word]
        bits[word] = before | (_ONE << np.uint64(p & 63))
        if before != _ZERO:
            return
        p >>= 6


@njit(**INLINED)
def _tree_remove(bits, levels, p):
    for level in range(levels.size - 1):
        word = levels[level] + (p >> 6)
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
        found = bits[levels[level] + word] & (_FULL << np.uint64(p & 63))
        if found != _ZERO:
            p = (word << 6) + _lowest(found)
            for below in range(level - 1, -1, -1):
                p = (p << 6) + _lowest(bits[levels[below] + p])
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
        found = bits[levels[level] + word] & (_FULL >> np.uint64(63 - (p & 63)))
        if found != _ZERO:
            p = (word << 6) + _highest(found)
            for below in range(level - 1, -1, -1):
                p = (p << 6) + _highest(bits[levels[below] + p])
            return p
        p = word - 1
    return -1


# --- the queue ----------------------------------------------------------------------------------------------------
# Waiting requests of one length form a list in order of arrival. Whatever the order of service, the next request is the
# first of some length's list: first come, first served takes the oldest of all, which is the first of its length. Only
# shedding takes requests from inside a list; it leaves them linked, and they are passed over when their turn comes.
@njit(**INLINED)
def _arrive(until, f, i, rf, ri, ends, bits, levels, machine, bins):
    """Put every request with arrival <= ``until`` in the queue."""
    r = i[NEXT]
    n = i[REQUESTS]
    if r == n or rf[ARRIVAL, r] > until:
        return
    first = r
    ordered = machine[ORDERED] > 0
    steps = 0
    arrivals = 0.0
    while r < n and rf[ARRIVAL, r] <= until:
        length = ri[LENGTH, r]
        steps += length
        arrivals += rf[ARRIVAL, r]
        i[MIX + bins[length]] += 1
        if ordered:
            ri[LATER, r] = -1
            if ends[FIRST, length] < 0:
                ends[FIRST, length] = r
                _tree_add(bits, levels, length)
            else:
                ri[LATER, ends[LAST, length]] = r
            ends[LAST, length] = r
        r += 1
    i[NEXT] = r
    i[WAITING] += r - first
    i[WAIT_STEPS] += steps
    f[WAIT_ARRIVALS] += arrivals


@njit(**INLINED)
def _leave(r, f, i, rf, ri, ends, bits, levels, machine, bins):
    """Take request ``r`` out of the queue."""
    length = ri[LENGTH, r]
    i[WAITING] -= 1
    i[WAIT_STEPS] -= length
    f[WAIT_ARRIVALS] -= rf[ARRIVAL, r]
    i[MIX + bins[length]] -= 1
    if i[WAIT_LATE] > 0:
        i[WAIT_LATE] -= rf[DEADLINE, r] <= f[SWEPT]
    if machine[ORDERED] > 0 and ends[FIRST, length] == r:
        later = ri[LATER, r]
        while later >= 0 and ri[LANE, later] == DROPPED:
            later = ri[LATER, later]
        ends[FIRST, length] = later
        if later < 0:
            _tree_remove(bits, levels, length)
    return length


@njit(**INLINED)
def _oldest(i, ri):
    """The oldest waiting request; there is one."""
    r = i[HEAD]
    while ri[LANE, r] != NOT_STARTED:
        r += 1
    i[HEAD] = r
    return r


@njit(**INLINED)
def _choose(order, anchor, i, ri, ends, bits, levels):
    """The waiting request that ``order`` takes next; there is one. ``anchor`` is a length."""
    if order == SHORTEST:
        return np.int64(ends[FIRST, _tree_next(bits, levels, 0)])
    if order == SIMILAR:
        above = _tree_next(bits, levels, anchor)
        below = _tree_previous(bits, levels, anchor - 1)
        if below < 0:
            return np.int64(ends[FIRST, above])
        shorter = np.int64(ends[FIRST, below])
        if above < 0:
            return shorter
        longer = np.int64(ends[FIRST, above])
        more, less = above - anchor, anchor - below
        return longer if more < less or (more == less and longer < shorter) else shorter
    return _oldest(i, ri)


@njit(**INLINED)
def _alone_s(length, alone, machine):
    """`CostTable.alone_s` of one length."""
    limit = np.int64(machine[MAX_T])
    whole = (length - 1) // limit
    rest = (length - 1) - whole * limit
    if whole == 0:
        return alone[0, rest + 1]
    return alone[2, 0] + (whole - 1) * alone[2, 1] + alone[1, rest + 1]


@njit(**COMPILED)
def _shed_hopeless(f, i, rf, ri, ends, bits, levels, machine, alone, bins):
    """Drop the waiting requests that would miss their deadline even if they started now and alone."""
    t = f[CLOCK]
    dropped = 0
    last = i[NEXT]
    known = machine[KNOWN] > 0
    in_order = i[DUE_SORTED] > 0
    enough = t + _alone_s(ends.shape[1] - 1 if known else 1, alone, machine)
    for r in range(i[HEAD], last):
        if enough <= rf[DEADLINE, r]:  # even the longest sequence would make it
            if in_order:
                break
        elif ri[LANE, r] == NOT_STARTED:
            length = ri[LENGTH, r] if known else 1
            if t + _alone_s(length, alone, machine) > rf[DEADLINE, r]:
                ri[LANE, r] = DROPPED
                _leave(r, f, i, rf, ri, ends, bits, levels, machine, bins)
                dropped += 1
    i[SHED] += dropped
    i[STEP_SHED] += dropped
    return dropped


@njit(**INLINED)
def _sweep_deadlines(f, i, rf, ri):
    """Count the requests whose deadline has passed by now before they were complete or shed."""
    t = f[CLOCK]
    k = i[DUE]
    n = i[REQUESTS]
    in_order = i[DUE_SORTED] > 0
    missed, late = 0, 0
    while k < n:
        r = k if in_order else np.int64(ri[DUE_ORDER, k])
        if rf[DEADLINE, r] > t:
            break
        k += 1
        state = ri[LANE, r]
        missed += (state != DROPPED) & ~(rf[COMPLETION, r] <= rf[DEADLINE, r])  # free of branches
        late += state == NOT_STARTED
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
    f[:] = 0.0
    i[:] = 0
    hist[:] = 0
    bits[:] = _ZERO
    if machine[ORDERED] > 0:
        ends[:] = -1
    lanes[REQUEST, :] = -1
    lanes[LEFT, :] = 0
    lanes[TOTAL, :] = 0
    i[REQUESTS] = n
    free = levels[levels.size - 1]
    for lane in range(lanes.shape[1]):
        bits[free + (lane >> 6)] |= _ONE << np.uint64(lane & 63)
    f[READY] = layers[LOAD_S, 0]
    f[SWEPT] = -np.inf
    i[DUE_SORTED] = 1
    for r in range(n):
        rf[COMPLETION, r] = np.nan
        ri[LANE, r] = NOT_STARTED
        if rf[DEADLINE, r] < np.inf:
            i[HAS_DEADLINES] = 1
        if r > 0 and rf[DEADLINE, r] < rf[DEADLINE, r - 1]:
            i[DUE_SORTED] = 0
    if machine[LOG] > 0:
        rf[START, :n] = np.nan
    if i[DUE_SORTED] == 0:
        _order_by_deadline(n, rf, ri)
    _skip_idle(f, i, rf, ri, ends, bits, levels, machine, bins)
    i[OLDEST] = _oldest(i, ri)


@njit(**INLINED)
def _skip_idle(f, i, rf, ri, ends, bits, levels, machine, bins):
    """With no lane busy and nothing waiting the clock jumps to the next arrival, if there is one."""
    if i[BUSY] == 0 and i[WAITING] == 0 and i[NEXT] < i[REQUESTS]:
        arrival = rf[ARRIVAL, i[NEXT]]
        static_j = machine[STATIC_W] * (arrival - f[CLOCK])
        f[STEP_ENERGY] += static_j
        f[STATIC_J] += static_j
        f[CLOCK] = arrival
        _arrive(arrival, f, i, rf, ri, ends, bits, levels, machine, bins)


@njit(**INLINED)
def settle(f, i, rf, ri):
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
    i[OLDEST] = _oldest(i, ri) if i[WAITING] > 0 else -1
    return energy, integral, shed, missed, served


@njit(**INLINED)
def decide(
    plan, f, i, lanes, rf, ri, ends, bits, levels, hist, layers, step_s, step_j, alone, machine, bins, scratch, passes
):
    """Carry out one decision: shed, fill, then run a round or hold; then count deadlines and skip idle time.

    Returns RAN, HELD or EMPTIED.
    """
    i[DECISIONS] += 1
    i[LAST_SHED] = 0
    if plan[PLAN_SHED] > 0 and i[HAS_DEADLINES] > 0:
        i[LAST_SHED] = _shed_hopeless(f, i, rf, ri, ends, bits, levels, machine, alone, bins)
    limit = plan[PLAN_ADMIT]
    if limit < 0 or (machine[DRAIN] > 0 and i[BUSY] == 0 and limit == 0 and i[NEXT] == i[REQUESTS]):
        limit = np.int64(1) << 40
    room = min(limit, lanes.shape[1] - i[BUSY], i[WAITING])
    result = RAN
    t = f[CLOCK]
    if i[BUSY] + room > 0:
        _run_round(
            plan,
            limit,
            room,
            f,
            i,
            lanes,
            rf,
            ri,
            ends,
            bits,
            levels,
            hist,
            layers,
            step_s,
            step_j,
            machine,
            bins,
            scratch,
            passes,
        )
    elif i[WAITING] > 0:
        result = HELD
        i[HOLDS] += 1
        until = t + machine[HOLD_S]
        if i[NEXT] < i[REQUESTS]:
            until = min(until, rf[ARRIVAL, i[NEXT]])
        f[STEP_INTEGRAL] += i[WAITING] * (until - t)
        f[CLOCK] = until
        _arrive(until, f, i, rf, ri, ends, bits, levels, machine, bins)
    else:
        result = EMPTIED
    static_j = machine[STATIC_W] * (f[CLOCK] - t)
    f[STEP_ENERGY] += static_j
    f[STATIC_J] += static_j
    if i[HAS_DEADLINES] > 0:
        _sweep_deadlines(f, i, rf, ri)
    _skip_idle(f, i, rf, ri, ends, bits, levels, machine, bins)
    return result


@njit(**INLINED)
def _run_round(
    plan,
    limit,
    room,
    f,
    i,
    lanes,
    rf,
    ri,
    ends,
    bits,
    levels,
    hist,
    layers,
    step_s,
    step_j,
    machine,
    bins,
    scratch,
    passes,
):
    """Fill the lanes with ``room`` more sequences and run every layer's pass."""
    n_layers = layers.shape[1]
    n_lanes = lanes.shape[1]
    order = plan[PLAN_ORDER] if machine[KNOWN] > 0 else FIRST_COME
    notifies = machine[NOTIFIES] > 0
    whole = machine[WHOLE] > 0
    free = levels[levels.size - 1]
    top = np.int64(machine[MAX_T])
    # Scratch: lanes that end at step s are the list by_end[s] -> link[lane] -> ..., -1 ends it; runs; completions.
    by_end = scratch[: top + 2]
    run_a = scratch[top + 2 : 2 * (top + 2)]
    run_n = scratch[2 * (top + 2) : 3 * (top + 2)]
    link = scratch[3 * (top + 2) : 3 * (top + 2) + n_lanes]
    done = scratch[3 * (top + 2) + n_lanes : scratch.size - n_lanes]
    ending = scratch[scratch.size - n_lanes :]
    start_s, end_s = passes[0], passes[1]

    # 1. Fill.
    t = f[CLOCK]
    in_system = i[WAITING] + i[BUSY]
    arrived_before = i[NEXT]
    if room > 0:
        anchor = ri[LENGTH, _oldest(i, ri)] if order == SIMILAR else np.int32(0)
        for _ in range(room):
            r = _choose(order, anchor, i, ri, ends, bits, levels)
            _take_lane(r, 0, t, free, f, i, lanes, rf, ri, ends, bits, levels, machine, bins)
    admitted = room
    busy = i[BUSY] + room
    started = busy
    planned = plan[PLAN_T]
    if whole or planned == LONGEST:
        longest = np.int32(0)
        for lane in range(n_lanes):
            longest = max(longest, lanes[LEFT, lane])
        planned = np.int64(longest)
    planned = min(planned, top)
    by_end[: planned + 1] = -1
    n_ending = 0
    for lane in range(n_lanes):  # free of branches, which would be mispredicted
        left = lanes[LEFT, lane]
        ending[n_ending] = lane
        n_ending += (left > 0) & (left <= planned)
    for k in range(n_ending):
        lane = ending[k]
        left = lanes[LEFT, lane]
        link[lane] = by_end[left]
        by_end[left] = lane
    joins = plan[PLAN_JOINS] > 0 and notifies and not whole

    # 2. Pass of layer 0.
    ready = f[READY]
    b = max(t, ready) if machine[PREFETCH] > 0 else t + layers[LOAD_S, 0]
    start_s[0] = b
    b += max(layers[FLOOR_S, 0], busy * planned * layers[ROW_S, 0])
    energy = machine[FIXED_J]
    runs, run_length, last_active = 0, 0, -1
    n_done = 0
    early = 0.0  # s, sum over what is done of the time from the round's start to then
    joined = 0
    lane_steps = 0
    steps = 0
    only_layer = n_layers == 1
    for s in range(1, planned + 1):
        if joins and busy < n_lanes and admitted < limit:
            if i[NEXT] < i[REQUESTS] and rf[ARRIVAL, i[NEXT]] <= b:
                _arrive(b, f, i, rf, ri, ends, bits, levels, machine, bins)
            if i[WAITING] > 0:
                anchor = ri[LENGTH, _oldest(i, ri)] if order == SIMILAR else np.int32(0)
                while busy < n_lanes and admitted < limit and i[WAITING] > 0:
                    r = _choose(order, anchor, i, ri, ends, bits, levels)
                    lane = _take_lane(r, s - 1, b, free, f, i, lanes, rf, ri, ends, bits, levels, machine, bins)
                    last = lanes[LEFT, lane]
                    if last <= planned:
                        link[lane] = by_end[last]
                        by_end[last] = lane
                    busy += 1
                    admitted += 1
                    joined += 1
                if machine[GEMM] > 0:
                    b += layers[FLOOR_S, 0]
                    energy += layers[INPUT_J, 0]
                i[JOIN_BOUNDARIES] += 1
        if busy == 0:
            break
        i[USEFUL_STEPS] += busy
        active = busy if notifies else started
        same = active == last_active  # free of branches again
        last_active = active
        runs += not same
        run_length = run_length * same + 1
        run_a[runs - 1] = active
        run_n[runs - 1] = run_length
        lane_steps += active
        b += step_s[0, active]
        steps = s
        lane = np.int64(by_end[s])
        done_before = n_done
        while lane >= 0:
            r = lanes[REQUEST, lane]
            done[n_done] = r
            n_done += 1
            rf[COMPLETION, r] = b
            lanes[REQUEST, lane] = -1
            lanes[TOTAL, lane] = 0
            bits[free + (lane >> 6)] |= _ONE << np.uint64(lane & 63)
            busy -= 1
            lane = np.int64(link[lane])
        by_end[s] = n_done  # what is done by step s, for point 4
        early += (n_done - done_before) * (b - t)
    end_s[0] = b
    middle_s = machine[MIDDLE_S]
    for k in range(runs):
        hist[run_a[k]] += run_n[k]
        energy += run_n[k] * step_j[run_a[k]]
        middle_s += run_n[k] * step_s[n_layers, run_a[k]]

    # 3. Passes of the other layers replay the same a_1..a_S. Nothing happens in the middle ones: without prefetch they
    # need not be gone through one by one, except to log their times.
    prefetch = machine[PREFETCH] > 0
    loaded = ready
    before = b
    if prefetch or machine[LOG] > 0:
        for layer in range(1, n_layers - 1):
            if prefetch:
                loaded = max(loaded, start_s[layer - 1]) + layers[LOAD_S, layer]
                b = max(b, loaded)
            else:
                b += layers[LOAD_S, layer]
            start_s[layer] = b
            b += max(layers[FLOOR_S, layer], lane_steps * layers[ROW_S, layer])
            for k in range(runs):
                b += run_n[k] * step_s[layer, run_a[k]]
            end_s[layer] = b
    if not prefetch:
        if machine[MIDDLE_GEMM] > 0:
            for layer in range(1, n_layers - 1):
                middle_s += max(layers[FLOOR_S, layer], lane_steps * layers[ROW_S, layer])
        b = before + middle_s
    if not only_layer:  # 4. Completion notifications come from the last layer.
        layer = n_layers - 1
        if prefetch:
            loaded = max(loaded, start_s[layer - 1]) + layers[LOAD_S, layer]
            b = max(b, loaded)
        else:
            b += layers[LOAD_S, layer]
        start_s[layer] = b
        b += max(layers[FLOOR_S, layer], lane_steps * layers[ROW_S, layer])
        s = 0
        n_done = 0
        early = 0.0
        for k in range(runs):
            cost = step_s[layer, run_a[k]]
            for _ in range(run_n[k]):
                b += cost
                s += 1
                until = np.int64(by_end[s])
                early += (until - n_done) * (b - t)
                while n_done < until:
                    rf[COMPLETION, done[n_done]] = b
                    n_done += 1
        end_s[layer] = b
    if prefetch:
        f[READY] = start_s[n_layers - 1] + layers[LOAD_S, 0]

    # The clock moves on; what arrived meanwhile waits; lanes with steps left keep their state.
    _arrive(b, f, i, rf, ri, ends, bits, levels, machine, bins)
    integral = (in_system + i[NEXT] - arrived_before) * (b - t)
    for r in range(arrived_before, i[NEXT]):
        integral -= rf[ARRIVAL, r] - t
    if notifies:
        integral -= n_done * (b - t) - early
    else:
        for k in range(n_done):
            rf[COMPLETION, done[k]] = b
    for lane in range(n_lanes):
        lanes[LEFT, lane] = max(lanes[LEFT, lane] - np.int32(steps), np.int32(0))
    f[CLOCK] = b
    f[STEP_ENERGY] += energy
    f[STEP_INTEGRAL] += integral
    f[LAST_START] = t
    f[LAST_END] = b
    i[BUSY] = busy
    i[SERVED] += n_done
    i[STEP_SERVED] += n_done
    i[ROUNDS] += 1
    i[LANE_STEPS] += lane_steps
    i[LAST_T] = planned
    i[LAST_S] = steps
    i[LAST_LANE_STEPS] = lane_steps
    i[LAST_JOINED] = joined
    i[LAST_DONE] = n_done
    i[LAST_STARTED] = room
    i[LAST_RUNS] = runs


@njit(**INLINED)
def _take_lane(r, steps_done, time, free, f, i, lanes, rf, ri, ends, bits, levels, machine, bins):
    """Move waiting request ``r`` into the lowest free lane; return the lane. Its steps left count from the round's start."""
    word = free
    while bits[word] == _ZERO:
        word += 1
    lane = ((word - free) << 6) + _lowest(bits[word])
    bits[word] &= bits[word] - _ONE
    ri[LANE, r] = lane
    length = _leave(r, f, i, rf, ri, ends, bits, levels, machine, bins)
    lanes[REQUEST, lane] = r
    lanes[LEFT, lane] = length + steps_done
    lanes[TOTAL, lane] = length
    if machine[LOG] > 0:
        rf[START, r] = time
    return lane


@njit(**COMPILED)
def repeat(
    plan,
    dry,
    f,
    i,
    lanes,
    rf,
    ri,
    ends,
    bits,
    levels,
    hist,
    layers,
    step_s,
    step_j,
    alone,
    machine,
    bins,
    scratch,
    passes,
):
    """Take the same decision until the episode is over, or, with ``dry``, until nothing waits."""
    while i[SERVED] + i[SHED] < i[REQUESTS] and not (dry and i[WAITING] == 0):
        decide(
            plan,
            f,
            i,
            lanes,
            rf,
            ri,
            ends,
            bits,
            levels,
            hist,
            layers,
            step_s,
            step_j,
            alone,
            machine,
            bins,
            scratch,
            passes,
        )
    settle(f, i, rf, ri)
