"""The compiled entry points of `Dynamics`: a decision, a reset, and what is observed after either."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ebatch_env import errors
from ebatch_env.environment import atomics, observations
from ebatch_env.environment.atomics import (
    add,
    float32_table,
    float64_row,
    float64_table,
    int8_table,
    int64_table,
    load,
    pause,
    store,
    uint8_row,
    uint8_table,
    uint64_table,
)
from ebatch_env.environment.observations import END_BINS
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.bits import COMPILED, INLINED, ZERO, bit_length, copy_from, known, prefetch
from ebatch_env.simulator.entry import CACHED, checksum
from ebatch_env.workloads import compiled, generators, lengths, modulated
from ebatch_env.workloads.compiled import DRAWN, REQUESTS, draw
from ebatch_env.workloads.generators import close_stream, open_stream, uniform

SHORT_WINDOW, LONG_WINDOW = 1.0, 16.0  # reference latencies
N_STATE = 43  # fields the kernel writes; the machine's constants follow

# Rows of `track`, (E, 6): arrival rate estimates, their weights so far, clock and arrivals when last observed.
RATE_SHORT, RATE_LONG, WEIGHT_SHORT, WEIGHT_LONG, SEEN_CLOCK, SEEN_ARRIVALS = range(6)
# Entries of `scales`, (M, 2): the reference latency (s); decisions after which an episode is truncated.
LATENCY, MAX_DECISIONS = range(2)
# Rows of `forms`, (M, 3, N_STATE): an observed x is written as gain * x / (scale + bend * abs(x)).
GAIN, SCALE, BEND = range(3)
# Entries of `skip`, (E,): what a step does with a system.
STEP, LEAVE, BEGIN = range(3)
# Entries of `control`, int64: what the threads that share a step tell each other; those written often keep 8 apart, so
# that no two share a cache line. THREADS + 16 t: the first system of thread t's share that nobody has taken yet; 8 further on:
# whether thread t needs to be woken.
FINISHED, OVER, CUT, NOT_DRAWN, STOP, THREADS = 0, 8, 9, 10, 16, 40
# Addresses of a step's arrays.
RESTARTS, SKIP, ACTIONS, STREAMS, OBSERVATION, REWARD, TERMS, ENDED, MASK = range(24, 33)
WORK, SLEEP, END = range(3)  # what `_wait_for_work` returns
# A thread takes its share in this many parts, so that there is something left to take over and nobody waits long for the
# last one; but no fewer systems at a time than this.
CHUNKS, LEAST_CHUNK = 16, 8
_HUGE = np.float32(1e30)
_FAR = 1 << 30
HALF = 2048  # of the most lanes there may be: a counter of 12 bits holds so many
COUNT_ALL = np.uint64(sum(1 << 6 * b for b in range(END_BINS)))  # 1 in each of the counters of 6 bits
EVEN = np.uint64(sum(0x3F << 6 * b for b in range(0, END_BINS, 2)))  # every other one of them
assert END_BINS == 10
_DOUBLINGS = int(math.log2(LONG_WINDOW / SHORT_WINDOW))


@njit(**INLINED)
def _observe(held, f, i, lanes, rf, ri, track, scales, out):
    # The quantities themselves; `_give_form` does the rest.
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
    for b in range(END_BINS):
        out[n + b] = 0.0
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
            out[n + b] += np.int64((even >> np.uint64(6 * b)) & np.uint64(0xFFF)) * per_lane
            out[n + b + 1] += np.int64((odd >> np.uint64(6 * b)) & np.uint64(0xFFF)) * per_lane
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
def _give_form(forms, constants, out):
    for m in range(N_STATE):
        x = min(max(out[m], -_HUGE), _HUGE)  # an infinite slack becomes 1
        out[m] = forms[GAIN, m] * x / (forms[SCALE, m] + forms[BEND, m] * abs(x))
    copy_from(constants, N_STATE, out)


@njit(**INLINED)
def _write_mask(i, masks, out):
    nothing_to_wait_for = i[k.BUSY] == 0 and i[k.NEXT] == i[k.REQUESTS]
    row = 1 if nothing_to_wait_for else 0
    copy_from(masks[row], 0, out)


@njit(**INLINED)
def _fetch_ahead(e, high, fs, is_, lanes_, rfs, ris, links_, bitss, track):
    """Ask for the memory of the systems after ``e``: with thousands of systems none of it is in a cache near by."""
    if e + 2 < high:  # the counters and sets
        n = e + 2
        for place in range(0, k.N_F, 8):
            prefetch(fs[n], place)
        for place in range(0, k.N_I, 8):
            prefetch(is_[n], place)
        for place in range(0, min(bitss.shape[1], 48), 8):
            prefetch(bitss[n], place)
        prefetch(track[n], 0)
        for place in range(0, min(3 * lanes_.shape[2], 256), 16):
            prefetch(lanes_[n, 0], place)
        for place in range(ris.shape[2], min(links_.shape[1], ris.shape[2] + 256), 16):
            prefetch(links_[n], place)
    if e + 1 < high:  # what they point to: requests about to arrive, and those whose deadline is next
        n = e + 1
        place = is_[n, k.NEXT]
        prefetch(rfs[n, k.ARRIVAL], place)
        prefetch(rfs[n, k.ARRIVAL], place + 8)
        prefetch(ris[n, k.LENGTH], place)
        prefetch(ris[n, k.LENGTH], place + 16)
        prefetch(links_[n], place)
        place = is_[n, k.DUE]
        prefetch(rfs[n, k.DEADLINE], place)
        prefetch(rfs[n, k.DEADLINE], place + 8)
        place = is_[n, k.HEAD]
        prefetch(rfs[n, k.DEADLINE], place)
        prefetch(rfs[n, k.ARRIVAL], place)
        prefetch(ris[n, k.LENGTH], place)


@njit(**COMPILED)  # once per episode: not worth two copies
def _begin_one(
    e, count, choose, on, fs, is_, lanes_, rfs, ris, links_, bitss, levels, hists, bins, machine, layers, track,
    addresses, settings, rates, values, cdf, guide, draws,
):  # fmt: skip
    """Begin an episode in system e: on the ``count`` requests in place, or, with 0, on as many as fit, drawn now.

    With ``choose`` its machine is drawn first, as `Fleet.draw_machine` does; without, it is the one that e is on.
    Returns False if the requests could not be drawn.
    """
    machines = machine.shape[0]
    if choose and machines > 1:
        chance, state = uniform(addresses[e], open_stream(addresses[e]))
        close_stream(addresses[e], state)
        on[e] = np.int64(chance * machines)
    m = known(on[e])
    status = DRAWN
    if count == 0:
        count = np.int64(settings[m, REQUESTS])
        status = draw(
            count, addresses[e], settings[m], rates, values, cdf, guide, draws,
            rfs[e, k.ARRIVAL], rfs[e, k.DEADLINE], ris[e, k.LENGTH],
        )  # fmt: skip
    f = fs[e]
    k.begin(
        count, f, is_[e], lanes_[e], rfs[e], ris[e], links_[e], bitss[e], levels, hists[e], layers[m], machine[m], bins
    )
    track[e] = 0.0
    track[e, SEEN_CLOCK] = f[k.CLOCK]
    return status == DRAWN


@njit(**INLINED)
def _wait_for_work(control, mine, end, patience):
    """Wait until a thread's share, at ``mine`` in ``control``, has systems below ``end``: for ``patience`` looks at most.

    Returns WORK, END (the crew is dismissed) or SLEEP.
    """
    for _ in range(patience):
        if load(control, STOP) > 0:
            return END
        if load(control, mine) < end:
            return WORK
        pause()
    # Say so first and look once more: whoever puts up work from here on sees a sleeper and wakes it.
    store(control, mine + 8, 1)
    if load(control, mine) < end or load(control, STOP) > 0:
        store(control, mine + 8, 0)
        return WORK
    return SLEEP


def _compile(stamp: int) -> tuple[Any, ...]:
    """Compile the entry points; see `checksum`."""

    @njit(**CACHED)
    def restart(
        which, counts, choose, on, fs, is_, lanes_, rfs, ris, links_, bitss, levels, hists, bins, machine, layers, track, scales, forms,
        masks, constants, streams, settings, rates, values, cdf, guide, draws, observation, mask,
    ):  # fmt: skip
        """Begin an episode in each system of ``which``, on the ``counts`` requests in place or, with 0, on drawn ones.

        With ``choose`` each draws its machine, else it stays on that of ``on``.
        Returns False if some could not be drawn.
        """
        drawn = True
        if stamp < 0:  # keeps the closure value alive
            return drawn
        for place in range(which.size):
            e = which[place]
            drawn &= _begin_one(
                e, counts[place], choose, on, fs, is_, lanes_, rfs, ris, links_, bitss, levels, hists, bins, machine, layers, track,
                streams, settings, rates, values, cdf, guide, draws,
            )  # fmt: skip
            m = known(on[e])
            _observe(0.0, fs[e], is_[e], lanes_[e], rfs[e], ris[e], track[e], scales[m], observation[e])
            _give_form(forms[m], constants[m], observation[e])
            _write_mask(is_[e], masks[m], mask[e])
        return drawn

    @njit(**CACHED)
    def work(
        control, me, threads, patience, on, fs, is_, lanes_, rfs, ris, links_, bitss, levels, hists, bins, machine, layers, step_s, step_j,
        alone, track, scales, forms, price, address, limits, codes, masks, constants, settings, rates, values, cdf, guide, final_observation,
        final_mask, scratch, marks, times, passes, plan, draws, flags,
    ):  # fmt: skip
        """Take a few systems at a time and step them, until all have been taken: first those of thread ``me``'s share,
        which are in its core's cache, then what others have not come to. See `publish` for the rest.

        With ``patience`` the thread then waits for the next step and goes on, within compiled code because taking the
        interpreter's lock between steps costs more than a step of few systems. Returns END or SLEEP.
        """
        if stamp < 0:
            return END
        n = fs.shape[0]
        flat = address[3, 0] < 0
        share = me
        while True:
            end = (share + 1) * n // threads
            chunk = max((end - share * n // threads + CHUNKS - 1) // CHUNKS, LEAST_CHUNK)
            low = add(control, THREADS + 16 * share, chunk)
            if low >= end:
                share = (share + 1) % threads
                if share == me:
                    if patience == 0:
                        return END
                    call = _wait_for_work(control, THREADS + 16 * me, (me + 1) * n // threads, patience)
                    if call != WORK:
                        return call
                continue
            high = min(low + chunk, end)
            restarts = control[RESTARTS] > 0
            skip = uint8_row(control[SKIP], n)
            actions = int64_table(control[ACTIONS], n, limits.size)
            streams = uint64_table(control[STREAMS], n, 4)
            observation = float32_table(control[OBSERVATION], n, constants.shape[1])
            reward = float64_row(control[REWARD], n)
            terms = float64_table(control[TERMS], n, 5)
            ended = uint8_table(control[ENDED], 3, n)
            mask = int8_table(control[MASK], n, masks.shape[2])
            ends, cuts, drawn = 0, 0, True
            for e in range(low, high):
                _fetch_ahead(e, end, fs, is_, lanes_, rfs, ris, links_, bitss, track)
                if skip[e] == LEAVE:
                    continue
                f, i, lanes, rf, ri = fs[e], is_[e], lanes_[e], rfs[e], ris[e]
                m = known(on[e])
                over = False
                held = 0.0
                anew = skip[e] == BEGIN
                if not anew:
                    for c in range(5):
                        index = actions[e, known(address[0, c])]
                        index = (index // address[1, c]) % address[2, c] if flat else index * address[3, c]
                        plan[c] = codes[c, known(index)]
                    requests = i[k.REQUESTS]
                    result = k.EMPTIED
                    if i[k.SERVED] + i[k.SHED] < requests and i[k.DECISIONS] < scales[m, MAX_DECISIONS]:
                        result = k.decide(
                            plan, f, i, lanes, rf, ri, links_[e], bitss[e], levels, hists[e], layers[m], step_s[m], step_j[m], alone[m],
                            machine[m], bins, scratch, marks, times, passes,
                        )  # fmt: skip
                    energy, integral, shed, missed, served = k.settle(f, i, lanes, bitss[e], levels)
                    each = 1.0 / requests
                    terms[e, 0] = -price[m, 0] * energy * each
                    terms[e, 1] = -price[m, 1] * integral * each
                    terms[e, 2] = -price[m, 2] * missed * each
                    terms[e, 3] = -price[m, 3] * shed * each
                    terms[e, 4] = price[m, 4] * (served + shed) * each
                    reward[e] = terms[e, 0] + terms[e, 1] + terms[e, 2] + terms[e, 3] + terms[e, 4]
                    done = i[k.SERVED] + i[k.SHED] == requests
                    over = done or i[k.DECISIONS] >= scales[m, MAX_DECISIONS]
                    flags[0, e] = done
                    flags[1, e] = over and not done
                    flags[2, e] = over
                    ends += over
                    cuts += over and not done
                    held = np.float64(result == k.HELD)
                while True:
                    if anew:
                        drawn &= _begin_one(
                            e, 0, True, on, fs, is_, lanes_, rfs, ris, links_, bitss, levels, hists, bins, machine, layers, track,
                            streams, settings, rates, values, cdf, guide, draws,
                        )  # fmt: skip
                        m = known(on[e])
                    _observe(held, f, i, lanes, rf, ri, track[e], scales[m], observation[e])
                    _write_mask(i, masks[m], mask[e])
                    if restarts and not anew:
                        copy_from(mask[e], 0, final_mask[e])
                    if not (over and restarts):
                        break
                    _give_form(forms[m], constants[m], observation[e])
                    copy_from(observation[e], 0, final_observation[e])
                    over, anew, held = False, True, 0.0
            # Only now: right after they are written, one by one, fields could not be read as vectors without a wait.
            for e in range(low, high):
                if skip[e] != LEAVE:
                    m = known(on[e])
                    _give_form(forms[m], constants[m], observation[e])
            for e in range(low, high):  # at once: threads share cache lines of `ended`, and would pass them around
                if skip[e] == STEP:
                    ended[0, e] = flags[0, e]
                    ended[1, e] = flags[1, e]
                    ended[2, e] = flags[2, e]
            if ends > 0:
                add(control, OVER, ends)
                add(control, CUT, cuts)
            if not drawn:
                store(control, NOT_DRAWN, 1)
            add(control, FINISHED, high - low)

    @njit(**CACHED)
    def publish(control, threads, skip, actions, limits, streams, observation, reward, terms, ended, mask, restarts):
        """Put a step up for all threads. Returns the first system with an action out of range, none being stepped then, or -1.

        Systems whose ``skip`` is LEAVE stay as they are, those with BEGIN begin an episode. With ``restarts`` a system whose
        episode is over begins the next one at once; what was observed at the end is in ``final_observation`` and
        ``final_mask``. Afterwards ``control`` says how many ended, and were cut off, and whether some work could not be drawn.
        """
        if stamp < 0:
            return -1
        n = skip.size
        for e in range(n):
            outside = np.int64(0)  # the sign of either is set if an index is out of range
            for column in range(limits.size):
                outside |= actions[e, column] | (limits[column] - 1 - actions[e, column])
            if outside < 0 and skip[e] == STEP:
                return e
        control[RESTARTS] = restarts
        control[SKIP], control[ACTIONS], control[STREAMS] = skip.ctypes.data, actions.ctypes.data, streams.ctypes.data
        control[OBSERVATION], control[REWARD] = observation.ctypes.data, reward.ctypes.data
        control[TERMS], control[ENDED], control[MASK] = terms.ctypes.data, ended.ctypes.data, mask.ctypes.data
        control[OVER], control[CUT], control[NOT_DRAWN] = 0, 0, 0
        store(control, FINISHED, 0)
        for thread in range(threads):
            store(control, THREADS + 16 * thread, thread * n // threads)
        return -1

    @njit(**CACHED)
    def wait_for_all(control, n, patience):
        """Wait until all ``n`` systems are stepped, for ``patience`` looks at most; returns whether they are."""
        for _ in range(patience if stamp >= 0 else 0):
            if load(control, FINISHED) >= n:
                return True
            pause()
        return False

    return restart, work, publish, wait_for_all


restart, work, publish, wait_for_all = _compile(
    checksum(atomics, errors, observations, compiled, generators, lengths, modulated)
)
