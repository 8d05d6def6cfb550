"""What is observed after a decision or a reset, and what may be done next, in compiled code."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ebatch_env.environment.observations import END_BINS
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.bits import INLINED, ZERO, copy_from, known
from ebatch_env.simulator.vectors import COUNTERS, WORD, doublings, survey

SHORT_WINDOW, LONG_WINDOW = 1.0, 16.0  # reference latencies
N_STATE = 43  # fields the kernel writes; the machine's constants follow

# Rows of `track`, (E, 6): arrival rate estimates, their weights so far, clock and arrivals when last observed.
RATE_SHORT, RATE_LONG, WEIGHT_SHORT, WEIGHT_LONG, SEEN_CLOCK, SEEN_ARRIVALS = range(6)
# Entries of `scales`, (M, 3): the reference latency (s); decisions after which an episode is truncated; lanes.
LATENCY, MAX_DECISIONS, LANES = range(3)
# Rows of `forms`, (M, 3, N_STATE): an observed x is written as gain * x / (scale + bend * abs(x)).
GAIN, SCALE, BEND = range(3)
_HUGE = np.float32(1e30)
_FAR = 1 << 30
HALF = 2048  # of the most lanes there may be: a counter of 12 bits holds so many
EVEN = np.uint64(sum(0x3F << 6 * b for b in range(0, END_BINS, 2)))  # every other counter of 6 bits
assert END_BINS == COUNTERS
_DOUBLINGS = int(math.log2(LONG_WINDOW / SHORT_WINDOW))


@njit(**INLINED)
def observe(held, f, i, lanes, rf, ri, track, scales, out):
    """Write the quantities themselves; `give_form` does the rest."""
    t = f[k.CLOCK]
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
    left_of, total_of, request_of = lanes[k.LEFT], lanes[k.TOTAL], lanes[k.REQUEST]
    left_sum, left_most, left_less = 0, 0, _FAR
    done_sum, done_most, first = 0, 0, _FAR
    for lane in range(0, lanes.shape[1], WORD):
        found = survey(request_of, left_of, total_of, lane)
        left_sum += found[0]
        left_most = max(left_most, found[1])
        left_less = min(left_less, found[2])
        done_sum += found[3]
        done_most = max(done_most, found[4])
        first = min(first, found[5])
    per_lane = 1.0 / scales[LANES]
    out[n] = busy * per_lane
    out[n + 1] = left_less + 1 if busy > 0 else 0
    out[n + 2] = left_sum * per_busy
    out[n + 3] = left_most
    n += 4
    # Lanes that end within 2**b steps: counters of 6 bits, which then widen to 12.
    for half in range(0, lanes.shape[1], HALF):
        even, odd = ZERO, ZERO
        for lane in range(half, min(half + HALF, lanes.shape[1]), WORD):
            low, high = doublings(left_of, lane)
            even += (low & EVEN) + (high & EVEN)
            odd += ((low >> np.uint64(6)) & EVEN) + ((high >> np.uint64(6)) & EVEN)
        for b in range(0, END_BINS, 2):
            one = np.int64((even >> np.uint64(6 * b)) & np.uint64(0xFFF)) * per_lane
            other = np.int64((odd >> np.uint64(6 * b)) & np.uint64(0xFFF)) * per_lane
            if half == 0:
                out[n + b] = one
                out[n + b + 1] = other
            else:
                out[n + b] += one
                out[n + b + 1] += other
    n += END_BINS
    out[n] = done_sum * per_busy
    out[n + 1] = done_most
    earliest = np.inf
    if i[k.HAS_DEADLINES] > 0:
        if i[k.DUE_SORTED] > 0:  # the earliest request has the earliest deadline
            if busy > 0:
                earliest = rf[k.DEADLINE, known(first)]
        else:
            for lane in range(lanes.shape[1]):
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
