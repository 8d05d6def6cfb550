"""The kernel: one decision of one simulated accelerator, as plain functions over that system's slices of arrays.

Everything the simulator does between two decisions happens here: shedding, the fill, the passes of a round with joins
and completion notifications, energy, the latency integral, deadlines, idle jumps. ``docs/model.md`` states the rules in
words, `layout` the arrays. The same functions serve one system (`Simulator`) and thousands (the vector environment).

Its callers find the names of `layout` here as well.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ebatch_env.simulator.bits import COMPILED, INLINED, ZERO, count, fill_range, known, lowest, prefetch
from ebatch_env.simulator.layout import *
from ebatch_env.simulator.vectors import WORD, advance, among
from ebatch_env.simulator.waiting import (
    arrive,
    arrive_apart,
    enter,
    link_lengths,
    oldest,
    order_by_deadline,
    places,
    shed_hopeless,
    sweep_deadlines,
)


@njit(**COMPILED)
def begin(n, f, i, lanes, rf, ri, links, bits, levels, hist, layers, machine, bins):
    """Start an episode on the first ``n`` requests, already in place (arrival, deadline, length), at clock 0.

    The clock then jumps to the first arrival.
    """
    at, flags = places(lanes, ri, levels), np.int64(machine[FLAGS])
    f[:] = 0.0
    i[:] = 0
    bits[:] = ZERO
    if (flags & ORDERED) != 0:
        link_lengths(n, at, ri, links)
    lanes[REQUEST, :] = -1
    lanes[LEFT, :] = 0
    lanes[TOTAL, :] = 0
    i[REQUESTS] = n
    rf[ARRIVAL, n] = np.nan
    fill_range(bits, at.free, 0, hist.size - 1)
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
        order_by_deadline(n, rf, ri)
    if (flags & RECORD) != 0:
        hist[:] = 0
        ri[LANE, :n] = NOT_STARTED
        rf[COMPLETION, :n] = np.nan
        rf[START, :n] = np.nan
    _skip_idle(at, flags, f, i, rf, ri, links, bits, levels, machine, bins)
    i[OLDEST] = oldest(i, bits, at.waiting)


@njit(**INLINED)
def _skip_idle(at, flags, f, i, rf, ri, links, bits, levels, machine, bins):
    """With no lane busy and nothing waiting the clock jumps to the next arrival, if there is one."""
    if i[BUSY] == 0 and i[WAITING] == 0 and i[NEXT] < i[REQUESTS]:
        arrival = rf[ARRIVAL, i[NEXT]]
        static_j = machine[STATIC_W] * (arrival - f[CLOCK])
        f[STEP_ENERGY] += static_j
        f[STATIC_J] += static_j
        f[CLOCK] = arrival
        arrive_apart(arrival, arrival, at, flags, f, i, rf, ri, links, bits, levels, bins)


@njit(**INLINED)
def settle(f, i):
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
    return energy, integral, shed, missed, served


@njit(**INLINED)
def decide(
    plan, f, i, lanes, rf, ri, links, bits, levels, hist, layers, step_s, step_j, alone, machine, bins,
    scratch, marks, times, passes,
):  # fmt: skip
    """Carry out one decision: shed, fill, then run a round or hold; then count deadlines and skip idle time.

    Returns RAN, HELD or EMPTIED.
    """
    at, flags = places(lanes, ri, levels), np.int64(machine[FLAGS])
    i[DECISIONS] += 1
    i[LAST_SHED] = 0
    if plan[PLAN_SHED] > 0 and i[HAS_DEADLINES] > 0:
        i[LAST_SHED] = shed_hopeless(at, flags, f, i, rf, ri, links, bits, levels, alone, bins)
    limit = plan[PLAN_ADMIT]
    if limit < 0 or ((flags & DRAIN) != 0 and i[BUSY] == 0 and limit == 0 and i[NEXT] == i[REQUESTS]):
        limit = np.int64(1) << 40
    room = min(limit, hist.size - 1 - i[BUSY], i[WAITING])
    result = RAN
    t = f[CLOCK]
    if i[BUSY] + room > 0:
        _run_round(
            plan, limit, room, at, flags, f, i, lanes, rf, ri, links, bits, levels, hist, layers, step_s, step_j, machine,
            bins, scratch, marks, times, passes,
        )  # fmt: skip
    elif i[WAITING] > 0:
        result = HELD
        i[HOLDS] += 1
        until = t + machine[HOLD_S]
        if i[NEXT] < i[REQUESTS]:
            until = min(until, rf[ARRIVAL, i[NEXT]])
        f[STEP_INTEGRAL] += i[WAITING] * (until - t)
        f[CLOCK] = until
        arrive_apart(until, t, at, flags, f, i, rf, ri, links, bits, levels, bins)
    else:
        result = EMPTIED
    static_j = machine[STATIC_W] * (f[CLOCK] - t)
    f[STEP_ENERGY] += static_j
    f[STATIC_J] += static_j
    if i[HAS_DEADLINES] > 0:
        sweep_deadlines(at, f, i, lanes, rf, ri, bits)
    _skip_idle(at, flags, f, i, rf, ri, links, bits, levels, machine, bins)
    i[OLDEST] = oldest(i, bits, at.waiting) if i[WAITING] > 0 else -1
    return result


@njit(**INLINED)
def _take(marks, place):
    """The lanes in a word of ``marks``, which is cleared for the next round."""
    ended = marks[known(place)]
    marks[known(place)] = ZERO
    return ended


@njit(**INLINED)
def _run_round(
    plan, limit, room, at, flags, f, i, lanes, rf, ri, links, bits, levels, hist, layers, step_s, step_j, machine,
    bins, scratch, marks, times, passes,
):  # fmt: skip
    """Fill the lanes with ``room`` more sequences and run every layer's pass."""
    n_layers = layers.shape[1]
    n_lanes = hist.size - 1  # rows of lanes are longer
    words = lanes.shape[1] >> 6
    order = plan[PLAN_ORDER] if (flags & KNOWN) != 0 else FIRST_COME
    notifies = (flags & NOTIFIES) != 0
    whole = (flags & WHOLE) != 0
    prefetches = (flags & PREFETCH) != 0
    record = (flags & RECORD) != 0
    top = np.int64(machine[MAX_T])
    # Scratch: lanes paid for by step 0..T; then who completes, and at which step.
    active_at = scratch[: top + 2]
    half = (scratch.size - (top + 2)) >> 1
    done = scratch[top + 2 : top + 2 + half]
    done_at = scratch[top + 2 + half :]
    start_s, end_s = passes[0], passes[1]
    request_of, left_of, total_of = lanes[REQUEST], lanes[LEFT], lanes[TOTAL]

    # 1. Fill.
    t = f[CLOCK]
    in_system = i[WAITING] + i[BUSY]
    arrived_before = i[NEXT]
    n_done = 0
    if room > 0:
        enter(
            room, order, False, 0, 0, t, at, flags, f, i, lanes, rf, ri, links, bits, levels, bins,
            marks, done, done_at, 0,
        )  # fmt: skip
    admitted = room
    busy = i[BUSY] + room
    started = busy
    planned = plan[PLAN_T]
    if whole or planned == LONGEST:
        longest = np.int32(0)
        for lane in range(lanes.shape[1]):
            longest = max(longest, left_of[lane])
        planned = np.int64(longest)
    planned = known(min(planned, top))
    for word in range(words):
        members = among(left_of, word << 6, 1, planned)
        while members != ZERO:
            lane = known((word << 6) + lowest(members))
            flag = members & (ZERO - members)
            members ^= flag
            left = known(left_of[lane])
            marks[known(left * words + word)] |= flag
            r = request_of[lane]
            prefetch(rf[DEADLINE], r)  # looked at when the round is over
            done[known(n_done)] = r
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
    middle_s = machine[MIDDLE_S]  # s, the layers in between
    steps = 0
    while steps < planned:
        may_join = joins and admitted < limit
        if may_join and busy < n_lanes:
            arrived_after += arrive(b, t, at, flags, f, i, rf, ri, links, bits, levels, bins)
            more = min(n_lanes - busy, limit - admitted, i[WAITING])
            if more > 0:
                n_done = enter(
                    more, order, True, steps, planned, b, at, flags, f, i, lanes, rf, ri, links, bits, levels, bins,
                    marks, done, done_at, n_done,
                )  # fmt: skip
                busy += more
                admitted += more
                joined += more
                if (flags & GEMM) != 0:
                    b += layers[FLOOR_S, 0]
                    energy += layers[INPUT_J, 0]
                i[JOIN_BOUNDARIES] += 1
                may_join = admitted < limit
        if busy == 0:
            break
        # Until then nobody joins: when somebody waits or arrives, and a lane is free.
        joins_from = np.nan
        if may_join:
            joins_from = -np.inf if i[WAITING] > 0 else rf[ARRIVAL, known(i[NEXT])]
        freed = ZERO  # of the first word
        while True:
            steps += 1
            active = known(busy if notifies else started)
            active_at[known(steps)] = active
            lane_steps += active
            useful += busy
            energy += step_j[active]
            middle_s += step_s[n_layers, active]
            b += step_s[0, active]
            times[known(steps)] = b
            place = known(steps * words)
            ended = _take(marks, place)
            freed |= ended
            busy -= count(ended)
            for word in range(1, words):
                ended = _take(marks, place + word)
                bits[known(at.free + word)] |= ended
                busy -= count(ended)
            if steps == planned or busy == 0 or (joins_from <= b and busy < n_lanes):
                break
        bits[at.free] |= freed
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
        if (flags & MIDDLE_GEMM) != 0:
            for layer in range(1, n_layers - 1):
                middle_s += max(layers[FLOOR_S, layer], lane_steps * layers[ROW_S, layer])
        b = before + middle_s
    if n_layers > 1:
        if prefetches:
            loaded = max(loaded, start_s[last - 1]) + layers[LOAD_S, last]
            b = max(b, loaded)
        else:
            b += layers[LOAD_S, last]
        start_s[last] = b
        b += max(layers[FLOOR_S, last], lane_steps * layers[ROW_S, last])
        row = step_s[last]
        for s in range(1, steps + 1):
            b += row[known(active_at[s])]
            times[s] = b
        end_s[last] = b
    if prefetches:
        f[READY] = start_s[n_layers - 1] + layers[LOAD_S, 0]

    # 4. Completion notifications come from the last layer, step by step; without them everybody waits for the end.
    early = 0.0  # s, sum over what is done of the time from the round's start to then
    missed = 0
    swept = f[SWEPT]
    for k in range(n_done):
        r = known(done[k])
        completion = times[known(done_at[k])] if notifies else b
        early += completion - t
        # Deadlines that pass from here on are counted by `sweep_deadlines`, which sees who waits or runs by then.
        deadline = rf[DEADLINE, r]
        missed += (deadline > swept) & (deadline < completion)
        if record:
            rf[COMPLETION, r] = completion

    # The clock moves on; what arrived meanwhile waits; lanes with steps left keep their state.
    arrived_after += arrive(b, t, at, flags, f, i, rf, ri, links, bits, levels, bins)
    elapsed = b - t
    integral = (in_system + i[NEXT] - arrived_before - n_done) * elapsed - arrived_after + early
    for lane in range(0, lanes.shape[1], WORD):
        advance(request_of, left_of, total_of, lane, steps)
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
    plan, dry, f, i, lanes, rf, ri, links, bits, levels, hist, layers, step_s, step_j, alone, machine, bins,
    scratch, marks, times, passes,
):  # fmt: skip
    """Take the same decision until the episode is over, or, with ``dry``, until nothing waits."""
    while i[SERVED] + i[SHED] < i[REQUESTS] and not (dry and i[WAITING] == 0):
        decide(
            plan, f, i, lanes, rf, ri, links, bits, levels, hist, layers, step_s, step_j, alone, machine, bins,
            scratch, marks, times, passes,
        )  # fmt: skip
    settle(f, i)
