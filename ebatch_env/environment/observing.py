"""What is observed after a decision or a reset, and what may be done next, in compiled code."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ebatch_env.environment.observations import END_BINS
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.bits import INLINED, ZERO, bit_length, copy_from, known

SHORT_WINDOW, LONG_WINDOW = 1.0, 16.0  # reference latencies
N_STATE = 43  # fields the kernel writes; the machine's constants follow

# Rows of `track`, (E, 6): arrival rate estimates, their weights so far, clock and arrivals when last observed.
RATE_SHORT, RATE_LONG, WEIGHT_SHORT, WEIGHT_LONG, SEEN_CLOCK, SEEN_ARRIVALS = range(6)
# Entries of `scales`, (M, 2): the reference latency (s); decisions after which an episode is truncated.
LATENCY, MAX_DECISIONS = range(2)
# Rows of `forms`, (M, 3, N_STATE): an observed x is written as gain * x / (scale + bend * abs(x)).
GAIN, SCALE, BEND = range(3)
_HUGE = np.float32(1e30)
_FAR = 1 << 30
HALF = 2048  # of the most lanes there may be: a counter of 12 bits holds so many
COUNT_ALL = np.uint64(sum(1 << 6 * b for b in range(END_BINS)))  # 1 in each of the counters of 6 bits
EVEN = np.uint64(sum(0x3F << 6 * b for b in range(0, END_BINS, 2)))  # every other one of them
assert END_BINS == 10
_DOUBLINGS = int(math.log2(LONG_WINDOW / SHORT_WINDOW))


@njit(**INLINED)
def observe(held, f, i, lanes, rf, ri, track, scales, out):
    """Write the quantities themselves; `give_form` does the rest."""
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
    # Lanes that end within 2**b steps: those whose left - 1 has at most b bits; a free lane's has 32 and counts nowhere.
    # The counters of all b share a word, and one shift adds 1 to those from the number of bits on: 32 lanes fit into
    # counters of 6 bits, which then widen to 12.
    for half in range(0, n_lanes, HALF):
        even, odd = ZERO, ZERO
        for low in range(half, min(half + HALF, n_lanes), 32):
            counters = ZERO
            group = left_of[low : min(low + 32, n_lanes)]
            for lane in range(group.size):
                size = bit_length(np.uint32(group[lane] - np.int32(1)))
                counters += COUNT_ALL << np.uint64(min(size, np.uint32(END_BINS)) * np.uint32(6))
            even += counters & EVEN
            odd += (counters >> np.uint64(6)) & EVEN
        for b in range(0, END_BINS, 2):
            first = np.int64((even >> np.uint64(6 * b)) & np.uint64(0xFFF)) * per_lane
            second = np.int64((odd >> np.uint64(6 * b)) & np.uint64(0xFFF)) * per_lane
            if half == 0:
                out[n + b] = first
                out[n + b + 1] = second
            else:
                out[n + b] += first
                out[n + b + 1] += second
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
                earliest = rf[k.DEADLINE, known(first)]
        else:
            for lane in range(n_lanes):
                if left_of[lane] > 0:
                    earliest = min(earliest, rf[k.DEADLINE, known(request_of[lane])])
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


@njit(**INLINED)
def give_form(forms, constants, out):
    """Give an observation's fields their form, and add the machine's constants."""
    for m in range(N_STATE):
        x = min(max(out[m], -_HUGE), _HUGE)  # an infinite slack becomes 1
        out[m] = forms[GAIN, m] * x / (forms[SCALE, m] + forms[BEND, m] * abs(x))
    copy_from(constants, N_STATE, out)


@njit(**INLINED)
def write_mask(i, masks, out):
    """Write which indices are legal: the static mask, without holds where nothing is left to wait for."""
    nothing_to_wait_for = i[k.BUSY] == 0 and i[k.NEXT] == i[k.REQUESTS]
    row = 1 if nothing_to_wait_for else 0
    copy_from(masks[row], 0, out)
