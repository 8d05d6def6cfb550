"""Requests on their way into the lanes: arrivals, the queue and its orders, shedding, deadlines.

Waiting requests are bits, in order of arrival. If another order than that is possible, the requests of one length also
form a list, linked when the episode begins: it starts with the first one that still waits or, if none does, with the next
to arrive. Whatever the order of service, the next request is the first of some list. Only shedding, and only if the
deadlines are not in the order of arrival, takes requests from inside a list; it leaves them linked, and they are passed
over when their turn comes.

Counters of requests by length bin share a word while requests come or go: eight times 8 bits in a register, where the
next addition need not wait for the last one to have reached memory.

Argument names are those of `layout`; ``at`` says where things begin (`Places`), ``flags`` are the machine's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ebatch_env.simulator.bits import (
    COMPILED,
    INLINED,
    ONE,
    ZERO,
    bit,
    clear,
    count,
    count_range,
    fill_range,
    known,
    lowest,
    tree_add,
    tree_next,
    tree_previous,
    tree_remove,
)
from ebatch_env.simulator.layout import *
from ebatch_env.simulator.vectors import WORD, among

PACKED = 255  # the most that a counter of 8 bits takes


class Places(NamedTuple):
    """Where parts of ``bits`` and ``links`` begin: two sets, and the first places of the lists by length."""

    free: int  # lanes
    waiting: int  # requests
    firsts: int


@njit(**INLINED)
def places(lanes, ri, levels):
    """`Places` of a system."""
    free = levels[levels.size - 1]
    return Places(known(free), known(free + (lanes.shape[1] >> 6)), known(ri.shape[1]))


@njit(**COMPILED)
def link_lengths(n, at, ri, links):
    """Link the ``n`` requests of an episode by length; ``n`` itself, which never arrives, ends each list."""
    links[at.firsts :] = n
    for r in range(n - 1, -1, -1):
        first = known(at.firsts + ri[LENGTH, known(r)])
        links[known(r)] = links[first]
        links[first] = r


@njit(**INLINED)
def _count_bins(i, packed, sign):
    """Add the counters of a word, 8 bits for each bin, to those of the length bins, or with ``sign`` -1 take them off."""
    for b in range(MIX_BINS):
        i[MIX + b] += sign * np.int64((packed >> np.uint64(8 * b)) & np.uint64(0xFF))


@njit(**INLINED)
def arrive(until, origin, at, flags, f, i, rf, ri, links, bits, levels, bins):
    """Put every request with arrival <= ``until`` in the queue; return the sum of arrival - ``origin`` over them."""
    first = known(i[NEXT])
    r = first
    arrival = rf[ARRIVAL, r]
    if not arrival <= until:  # NaN behind the last one
        return 0.0
    ordered = (flags & ORDERED) != 0
    steps = 0
    arrivals = 0.0
    after = 0.0
    while arrival <= until:
        counts = ZERO
        stop = r + PACKED
        while arrival <= until and r < stop:
            length = known(ri[LENGTH, r])
            steps += length
            arrivals += arrival
            after += arrival - origin
            counts += ONE << np.uint64(bins[length])
            if ordered:
                tree_add(bits, levels, length)
            r += 1
            arrival = rf[ARRIVAL, known(r)]
        _count_bins(i, counts, 1)
    fill_range(bits, at.waiting, first, r)
    i[NEXT] = r
    i[WAITING] += r - first
    i[WAIT_STEPS] += steps
    f[WAIT_ARRIVALS] += arrivals
    return after


# Where few arrive and seldom: a copy less of it in the kernel leaves more room to what runs often.
arrive_apart = njit(**COMPILED)(arrive.py_func)


@njit(**INLINED)
def _unlink(r, length, stale, arrived, at, links, bits, levels):
    """Take the first request of a length's list, ``r``, off it; requests shed behind it go with it.

    ``stale`` says whether there may be such: not if deadlines are in the order of arrival, since then shedding takes
    the first ones of each length. ``arrived`` is the number of requests that have.
    """
    later = np.int64(links[known(r)])
    if stale:
        while later < arrived and bit(bits, at.waiting, later) == 0:
            later = np.int64(links[known(later)])
    links[known(at.firsts + length)] = later
    tree_remove(bits, levels, length, later >= arrived)


@njit(**INLINED)
def oldest(i, bits, waiting):
    """The oldest waiting request; there is one."""
    word = known(i[HEAD] >> 6)
    members = bits[known(waiting + word)]
    while members == ZERO:
        word += 1
        members = bits[known(waiting + word)]
    r = known((word << 6) + lowest(members))
    i[HEAD] = r
    return r


@njit(**INLINED)
def _choose(order, anchor, at, i, ri, links, bits, levels):
    """The waiting request that ``order`` takes next, and its length; there is one. ``anchor`` is a length."""
    if order == FIRST_COME:
        r = oldest(i, bits, at.waiting)
        return r, np.int64(ri[LENGTH, r])
    if order == SHORTEST:
        length = tree_next(bits, levels, 0)
    else:
        above = tree_next(bits, levels, anchor)
        length = tree_previous(bits, levels, anchor - 1)
        if above >= 0:
            more, less = above - anchor, anchor - length
            earlier = links[known(at.firsts + above)] < links[known(at.firsts + max(length, 0))]
            if length < 0 or more < less or (more == less and earlier):
                length = above
    return np.int64(links[known(at.firsts + length)]), length


@njit(**INLINED)
def enter(
    entering, order, register, steps_done, planned, time, at, flags, f, i, lanes, rf, ri, links, bits, levels, bins,
    marks, done, done_at, n_done,
):  # fmt: skip
    """Move ``entering`` waiting requests into the lowest free lanes.

    Steps left count from the round's start. With ``register`` those that end in the round are put down: by lane in
    ``marks``, and in ``done``. Returns the number in ``done``.
    """
    ordered, record = (flags & ORDERED) != 0, (flags & RECORD) != 0
    stale = (i[DUE_SORTED] == 0) & (i[SHED] > 0)
    arrived = i[NEXT]
    anchor = ri[LENGTH, oldest(i, bits, at.waiting)] if order == SIMILAR else np.int32(0)
    word = at.free
    words = lanes.shape[1] >> 6
    steps = 0
    arrivals = 0.0
    late = i[WAIT_LATE]
    swept = f[SWEPT]
    chosen = 0
    while chosen < entering:
        counts = ZERO
        stop = min(entering, chosen + PACKED)
        while chosen < stop:
            chosen += 1
            r, length = _choose(order, anchor, at, i, ri, links, bits, levels)
            r, length = known(r), known(length)
            clear(bits, at.waiting, r)
            if ordered:
                _unlink(r, length, stale, arrived, at, links, bits, levels)
            steps += length
            arrivals += rf[ARRIVAL, r]
            counts += ONE << np.uint64(bins[length])
            if late > 0:
                late -= rf[DEADLINE, r] <= swept
            members = bits[known(word)]
            while members == ZERO:
                word += 1
                members = bits[known(word)]
            lane = known(((word - at.free) << 6) + lowest(members))
            bits[known(word)] = members & (members - ONE)
            end = length + steps_done
            lanes[REQUEST, lane] = r
            lanes[LEFT, lane] = end
            lanes[TOTAL, lane] = length
            if register and end <= planned:
                end = known(end)
                marks[known(end * words + (lane >> 6))] |= ONE << np.uint64(lane & 63)
                done[known(n_done)] = r
                done_at[known(n_done)] = end
                n_done += 1
            if record:
                ri[LANE, r] = lane
                rf[START, r] = time
        _count_bins(i, counts, -1)
    i[WAITING] -= entering
    i[WAIT_STEPS] -= steps
    f[WAIT_ARRIVALS] -= arrivals
    i[WAIT_LATE] = late
    return n_done


@njit(**COMPILED)  # too large to be copied into where it may be called
def shed_hopeless(at, flags, f, i, rf, ri, links, bits, levels, alone, bins):
    """Drop the waiting requests that would miss their deadline even if they started now and alone."""
    t = f[CLOCK]
    lengths_known, ordered, record = (flags & KNOWN) != 0, (flags & ORDERED) != 0, (flags & RECORD) != 0
    in_order = i[DUE_SORTED] > 0
    doubtful = i[WAITING] > 0
    longest = alone.size - 1 if lengths_known else 1
    if ordered and lengths_known and doubtful:
        longest = tree_previous(bits, levels, longest)
    enough = t + alone[known(longest)]
    dropped, late = 0, 0
    steps = 0
    arrivals = 0.0
    word = known(i[HEAD] >> 6)
    last = (i[NEXT] - 1) >> 6
    while doubtful and word <= last:
        members = bits[known(at.waiting + word)]
        hopeless = ZERO
        while members != ZERO:
            r = known((word << 6) + lowest(members))
            flag = members & (ZERO - members)
            members ^= flag
            deadline = rf[DEADLINE, r]
            if in_order & (enough <= deadline):  # even the longest of them would make it
                doubtful = False
                break
            length = known(ri[LENGTH, r]) if lengths_known else 1
            hopeless |= flag & (ZERO - np.uint64(t + alone[length] > deadline))
        if hopeless != ZERO:
            bits[known(at.waiting + word)] &= ~hopeless
            dropped += count(hopeless)
            counts = ZERO
            while hopeless != ZERO:
                r = known((word << 6) + lowest(hopeless))
                hopeless &= hopeless - ONE
                length = known(ri[LENGTH, r])
                if ordered and links[known(at.firsts + length)] == r:
                    _unlink(r, length, not in_order, i[NEXT], at, links, bits, levels)
                steps += length
                arrivals += rf[ARRIVAL, r]
                counts += ONE << np.uint64(bins[length])
                late += rf[DEADLINE, r] <= f[SWEPT]
                if record:
                    ri[LANE, r] = DROPPED
            _count_bins(i, counts, -1)
        word += 1
    i[SHED] += dropped  # from now on lists may hold requests that were shed
    i[WAIT_LATE] -= late
    i[WAITING] -= dropped
    i[WAIT_STEPS] -= steps
    f[WAIT_ARRIVALS] -= arrivals
    i[STEP_SHED] += dropped
    return dropped


@njit(**INLINED)
def sweep_deadlines(at, f, i, lanes, rf, ri, bits):
    """Count the requests whose deadline has passed by now with them neither complete nor shed.

    Those wait or are in a lane: a deadline lies behind the arrival, so that all of them have arrived.
    """
    t = f[CLOCK]
    k = known(i[DUE])
    n = i[REQUESTS]
    request_of = lanes[REQUEST]
    missed, late = 0, 0
    if i[DUE_SORTED] > 0:
        first = k
        while k < n and rf[DEADLINE, known(k)] <= t:
            k += 1
        if k > first:
            late = count_range(bits, at.waiting, first, k)
            missed = late
            for lane in range(0, request_of.size, WORD):
                missed += count(among(request_of, lane, first, k - 1))
    else:
        first = k
        while k < n and rf[DEADLINE, known(ri[DUE_ORDER, known(k)])] <= t:
            r = known(ri[DUE_ORDER, known(k)])
            k += 1
            late += bit(bits, at.waiting, r)
        missed += late
        if k > first:
            for lane in range(request_of.size):
                r = request_of[lane]
                missed += r >= 0 and f[SWEPT] < rf[DEADLINE, known(r)] <= t
    i[MISSED] += missed
    i[STEP_MISSED] += missed
    i[WAIT_LATE] += late
    i[DUE] = k
    f[SWEPT] = t


@njit(**COMPILED)
def order_by_deadline(n, rf, ri):
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
