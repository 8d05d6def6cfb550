"""The compiled entry points of `Dynamics`: a decision, a reset, and what is observed after either."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from ebatch_env.environment import observations
from ebatch_env.environment.observations import END_BINS
from ebatch_env.simulator import kernel as k

SHORT_WINDOW, LONG_WINDOW = 1.0, 16.0  # reference latencies
N_STATE = 43  # fields the kernel writes; the machine's constants follow

# Rows of `track`, (E, 6): arrival rate estimates, their weights so far, clock and arrivals when last observed.
RATE_SHORT, RATE_LONG, WEIGHT_SHORT, WEIGHT_LONG, SEEN_CLOCK, SEEN_ARRIVALS = range(6)
# Entries of `scales`, (2,): the reference latency (s); decisions after which an episode is truncated.
LATENCY, MAX_DECISIONS = range(2)
# Rows of `forms`, (3, N_STATE): an observed x is written as gain * x / (scale + bend * abs(x)).
GAIN, SCALE, BEND = range(3)
_HUGE = np.float32(1e30)
_FAR = 1 << 30
GROUP = 32  # lanes counted at a time: a counter of 6 bits holds them
_DOUBLINGS = int(math.log2(LONG_WINDOW / SHORT_WINDOW))


@njit(**k.INLINED)
def _observe(held, f, i, lanes, rf, ri, track, scales, forms, constants, out):
    # First the quantities themselves; one loop at the end gives them all their form.
    t = f[k.CLOCK]
    n_lanes = lanes.shape[1]
    waiting = i[k.WAITING]
    per_waiting = 1.0 / max(waiting, 1)
    out[0] = waiting
    out[1] = i[k.WAIT_STEPS]
    n = 2
    for b in range(k.MIX_BINS):
        out[n + b] = i[k.MIX + b] * per_waiting
    n += k.MIX_BINS
    out[n + 3] = np.inf
    if waiting > 0:
        r = i[k.OLDEST]
        out[n] = t - rf[k.ARRIVAL, r]
        out[n + 1] = max(0.0, t - f[k.WAIT_ARRIVALS] * per_waiting)
        out[n + 2] = ri[k.LENGTH, r]
        if i[k.HAS_DEADLINES] > 0:
            out[n + 3] = rf[k.DEADLINE, r] - t
        out[n + 4] = i[k.WAIT_LATE] * per_waiting
    else:
        out[n] = 0.0
        out[n + 1] = 0.0
        out[n + 2] = 0.0
        out[n + 4] = 0.0
    n += 5
    busy = i[k.BUSY]
    per_busy = 1.0 / max(busy, 1)
    # Free lanes hold zeros: no branches, so these loops run on vector units.
    left_of, total_of, request_of = lanes[k.LEFT], lanes[k.TOTAL], lanes[k.REQUEST]
    left_sum, left_most, left_least = 0, np.int32(0), np.uint32(_FAR)
    done_sum, done_most = 0, np.int32(0)
    for lane in range(n_lanes):
        left = left_of[lane]
        left_sum += left
        left_most = max(left_most, left)
        left_least = min(left_least, np.uint32(left - np.int32(1)))  # a free lane's becomes huge
        done = np.int32(total_of[lane] - left)
        done_sum += done
        done_most = max(done_most, done)
    per_lane = 1.0 / n_lanes
    out[n] = busy * per_lane
    out[n + 1] = left_least + 1 if busy > 0 else 0
    out[n + 2] = left_sum * per_busy
    out[n + 3] = left_most
    n += 4
    # Lanes that end within 2**b steps: those whose left - 1 has at most b bits. Ten counters of 6 bits share a word, so
    # that a group of lanes is counted without branches; a free lane's left - 1 has 64 bits and counts nowhere.
    for b in range(END_BINS):
        out[n + b] = 0.0
    for low in range(0, n_lanes, GROUP):
        counts = np.uint64(0)
        group = left_of[low : min(low + GROUP, n_lanes)]
        for lane in range(group.size):
            size = k.bit_length(np.uint64(np.int64(group[lane]) - 1))
            counts += np.uint64(size < END_BINS) << np.uint64((6 * size) & 63)
        within = 0
        for b in range(END_BINS):
            within += np.int64((counts >> np.uint64(6 * b)) & np.uint64(63))
            out[n + b] += within * per_lane
    n += END_BINS
    out[n] = done_sum * per_busy
    out[n + 1] = done_most
    earliest = np.inf
    if i[k.HAS_DEADLINES] > 0:
        if i[k.DUE_SORTED] > 0:  # the earliest request has the earliest deadline
            first = np.uint32(_FAR)
            for lane in range(n_lanes):
                first = min(first, np.uint32(request_of[lane]))  # a free lane's -1 becomes huge
            if busy > 0:
                earliest = rf[k.DEADLINE, k.known(first)]
        else:
            for lane in range(n_lanes):
                if left_of[lane] > 0:
                    earliest = min(earliest, rf[k.DEADLINE, k.known(request_of[lane])])
    out[n + 2] = earliest - t
    n += 3
    passed = t - track[SEEN_CLOCK]
    if passed > 0.0:
        rate = (i[k.NEXT] - track[SEEN_ARRIVALS]) / passed
        keep = np.exp(-passed / (LONG_WINDOW * scales[LATENCY]))
        track[RATE_LONG] = rate + (track[RATE_LONG] - rate) * keep
        track[WEIGHT_LONG] = 1.0 + (track[WEIGHT_LONG] - 1.0) * keep
        for _ in range(_DOUBLINGS):  # exp(-x) of the short window is a power of that of the long one
            keep *= keep
        track[RATE_SHORT] = rate + (track[RATE_SHORT] - rate) * keep
        track[WEIGHT_SHORT] = 1.0 + (track[WEIGHT_SHORT] - 1.0) * keep
        track[SEEN_CLOCK] = t
        track[SEEN_ARRIVALS] = i[k.NEXT]
    # The weights undo the bias of starting from an estimate of 0.
    out[n] = track[RATE_SHORT] / track[WEIGHT_SHORT] if track[WEIGHT_SHORT] > 0 else 0.0
    out[n + 1] = track[RATE_LONG] / track[WEIGHT_LONG] if track[WEIGHT_LONG] > 0 else 0.0
    out[n + 2] = held
    steps = i[k.LAST_S]
    out[n + 3] = i[k.LAST_T]
    out[n + 4] = steps
    out[n + 5] = i[k.LAST_LANE_STEPS] * per_lane / max(steps, 1)
    out[n + 6] = f[k.LAST_END] - f[k.LAST_START]
    out[n + 7] = i[k.LAST_STARTED]
    out[n + 8] = i[k.LAST_JOINED]
    out[n + 9] = i[k.LAST_DONE]
    out[n + 10] = i[k.LAST_SHED]
    for m in range(N_STATE):
        x = min(max(out[m], -_HUGE), _HUGE)  # an infinite slack becomes 1
        out[m] = forms[GAIN, m] * x / (forms[SCALE, m] + forms[BEND, m] * abs(x))
    for m in range(N_STATE, out.size):
        out[m] = constants[m]


@njit(**k.INLINED)
def _write_mask(i, masks, out):
    nothing_to_wait_for = i[k.BUSY] == 0 and i[k.NEXT] == i[k.REQUESTS]
    row = 1 if nothing_to_wait_for else 0
    for m in range(out.size):
        out[m] = masks[row, m]


@njit(**k.INLINED)
def _fetch_ahead(e, high, fs, is_, lanes_, rfs, ris, endss, bitss, hists, track):
    """Ask for the memory of the systems after ``e``: with thousands of systems none of it is in a cache near by."""
    if e + 2 < high:  # the counters
        n = e + 2
        k.prefetch(fs[n], 0)
        k.prefetch(fs[n], 8)
        for place in range(0, k.N_I + 7, 8):
            k.prefetch(is_[n], place)
        k.prefetch(bitss[n], 0)
        k.prefetch(track[n], 0)
        for row in range(3):
            for place in range(0, lanes_.shape[2], 16):
                k.prefetch(lanes_[n, row], place)
        for row in range(2):
            for place in range(0, min(endss.shape[2], 128), 16):
                k.prefetch(endss[n, row], place)
        for place in range(0, min(hists.shape[1], 128), 8):
            k.prefetch(hists[n], place)
    if e + 1 < high:  # what they point to
        n = e + 1
        for place in (is_[n, k.NEXT], is_[n, k.HEAD], is_[n, k.DUE]):
            k.prefetch(rfs[n, k.ARRIVAL], place)
            k.prefetch(rfs[n, k.DEADLINE], place)
            k.prefetch(rfs[n, k.DEADLINE], place + 8)
            k.prefetch(rfs[n, k.COMPLETION], place)
            k.prefetch(rfs[n, k.COMPLETION], place + 8)
            k.prefetch(ris[n, k.LENGTH], place)
            k.prefetch(ris[n, k.LANE], place)
            k.prefetch(ris[n, k.LANE], place + 16)
            k.prefetch(ris[n, k.LATER], place)
        place = is_[n, k.NEXT]
        k.prefetch(rfs[n, k.ARRIVAL], place + 8)


def _compile(stamp: int) -> tuple[Any, Any]:
    """Compile the entry points.

    numba's on-disk cache watches this file only. The entry points hold code and constants of other files as well, so
    ``stamp``, a checksum of those, is a closure value and with that a part of the cache's key.
    """

    @njit(**k.COMPILED)
    def advance(
        low, high, skip, actions, fs, is_, lanes_, rfs, ris, endss, bitss, levels, hists, bins, machine, layers, step_s, step_j, alone,
        track, scales, forms, price, address, limits, codes, masks, constants, observation, reward, terms, ended, mask,
        scratch, marks, times, passes, plan,
    ):  # fmt: skip
        """Step systems low..high-1 whose ``skip`` is 0; return the first with an action out of range, else -1."""
        if stamp < 0:  # keeps the closure value alive
            return low
        for e in range(low, high):
            for column in range(limits.size):
                if skip[e] == 0 and not (0 <= actions[e, column] < limits[column]):
                    return e
        flat = limits.size == 1 and address[1, 0] > 1
        for e in range(low, high):
            _fetch_ahead(e, high, fs, is_, lanes_, rfs, ris, endss, bitss, hists, track)
            if skip[e] != 0:
                continue
            for c in range(5):
                index = actions[e, k.known(address[0, c])]
                if flat:
                    index = (index // address[1, c]) % address[2, c]
                plan[c] = codes[c, k.known(index * address[3, c])]
            f, i, lanes, rf, ri = fs[e], is_[e], lanes_[e], rfs[e], ris[e]
            n = i[k.REQUESTS]
            result = k.EMPTIED
            if i[k.SERVED] + i[k.SHED] < n:
                result = k.decide(
                    plan, f, i, lanes, rf, ri, endss[e], bitss[e], levels, hists[e], layers, step_s, step_j, alone, machine, bins,
                    scratch, marks, times, passes,
                )  # fmt: skip
            energy, integral, shed, missed, served = k.settle(f, i, lanes, bitss[e], levels)
            share = 1.0 / n
            terms[e, 0] = -price[0] * energy * share
            terms[e, 1] = -price[1] * integral * share
            terms[e, 2] = -price[2] * missed * share
            terms[e, 3] = -price[3] * shed * share
            terms[e, 4] = price[4] * (served + shed) * share
            reward[e] = terms[e, 0] + terms[e, 1] + terms[e, 2] + terms[e, 3] + terms[e, 4]
            over = i[k.SERVED] + i[k.SHED] == n
            ended[0, e] = over
            ended[1, e] = not over and i[k.DECISIONS] >= scales[MAX_DECISIONS]
            _observe(
                np.float64(result == k.HELD), f, i, lanes, rf, ri, track[e], scales, forms, constants, observation[e]
            )
            _write_mask(i, masks, mask[e])
        return -1

    @njit(**k.COMPILED)
    def restart(
        which, counts, fs, is_, lanes_, rfs, ris, endss, bitss, levels, hists, bins, machine, layers, track, scales, forms, masks, constants,
        observation, mask,
    ):  # fmt: skip
        """Begin an episode in each system of ``which``, whose trace of ``counts`` requests is in place."""
        if stamp < 0:
            return
        for place in range(which.size):
            e = which[place]
            f, i = fs[e], is_[e]
            k.begin(
                counts[place],
                f,
                i,
                lanes_[e],
                rfs[e],
                ris[e],
                endss[e],
                bitss[e],
                levels,
                hists[e],
                layers,
                machine,
                bins,
            )
            track[e] = 0.0
            track[e, SEEN_CLOCK] = f[k.CLOCK]
            _observe(0.0, f, i, lanes_[e], rfs[e], ris[e], track[e], scales, forms, constants, observation[e])
            _write_mask(i, masks, mask[e])

    return advance, restart


_SOURCES = (k.__file__, observations.__file__)
advance, restart = _compile(zlib.crc32(b"".join(Path(source).read_bytes() for source in _SOURCES)))
