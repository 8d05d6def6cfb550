"""The compiled entry points of `Dynamics`: a decision and a reset, by as many threads as share a step."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import cfunc, float32, float64, int8, int32, int64, njit, types, uint8, uint64

from ebatch_env import errors
from ebatch_env.environment import addresses, atomics, observations, observing
from ebatch_env.environment.addresses import (
    boolean_row,
    boolean_table,
    float32_table,
    float64_row,
    float64_table,
    int8_table,
    int64_row,
    int64_table,
    uint64_table,
    unpacker,
)
from ebatch_env.environment.atomics import add, load, pause, store
from ebatch_env.environment.observing import MAX_DECISIONS, SEEN_CLOCK, give_form, observe, write_mask
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.bits import COMPILED, INLINED, copy_from, known, prefetch
from ebatch_env.simulator.entry import CACHED, checksum
from ebatch_env.workloads import compiled, generators, lengths, modulated
from ebatch_env.workloads.compiled import DRAWN, REQUESTS, draw
from ebatch_env.workloads.generators import close_stream, open_stream, uniform

# What a step does with systems that are over: nothing in particular; those that end in it begin the next episode at once;
# those in ``waits``, (E,), begin one instead of taking their action; those that wait stay as they are. UNDER_WAY: there is
# a step to go on with.
PLAY, AT_ONCE, BEGIN, LEAVE, UNDER_WAY = range(5)
# Who else does a step that is put up: helpers that are awake, those that sleep as well, a team whose members return when
# nothing is left to take.
AWAKE, ALL, TEAM = range(3)
# What `work` returns, besides the first system with an action out of range: the step is done; others are not done yet;
# somebody needs to be woken; nothing has come for a while; the crew is dismissed.
DONE, LATE, WAKE, SLEEP, END = range(-1, -6, -1)
# Entries of `control`, int64: what the threads that share a step tell each other; those written often keep 8 apart, so
# that no two share a cache line. THREADS + 16 t: the first system of thread t's share that nobody has taken yet; 8 further on:
# whether thread t needs to be woken.
FINISHED, OVER, CUT, NOT_DRAWN, STOP, THREADS = 0, 8, 9, 10, 16, 40
# What to do with systems that are over; -1 or 1, see `work`; addresses of the step's arrays; and looks of a helper for the
# next step before it sleeps.
MODE, DIRECTION, WAITS, ACTIONS, STREAMS, OBSERVATION, REWARD, TERMS, ENDED, MASK, PATIENCE = range(24, 35)
# The arrays that a thread works on, in the order in which `work` unpacks them.
ARRAYS = (
    *((int64, 1), (float64, 2), (int64, 2), (int32, 3), (float64, 3), (int32, 3)),  # on, fs, is_, lanes_, rfs, ris
    *((int32, 2), (uint64, 2), (int64, 1), (int64, 2), (int8, 1)),  # links_, bitss, levels, hists, bins
    *((float64, 2), (float64, 3), (float64, 3), (float64, 2), (float64, 2)),  # machine, layers, step_s, step_j, alone
    *((float64, 2), (float64, 2), (float32, 3), (float64, 2)),  # track, scales, forms, price
    *((int64, 2), (int64, 1)),  # address, most: the largest legal indices of ROWS_AT_ONCE rows of actions
    *((int64, 2), (int8, 3), (float32, 2)),  # codes, masks, constants
    *((float64, 2), (float64, 1), (int32, 1), (uint64, 1), (int32, 1)),  # settings, rates, values, steps, guide
    *((float32, 2), (int8, 2)),  # final_observation, final_mask
    *((int32, 1), (uint64, 1), (float64, 1), (float64, 2)),  # scratch, marks, times, passes
    *((int64, 1), (float64, 1), (uint8, 2)),  # plan, draws, flags
)
unpack = unpacker(ARRAYS)
ROWS_AT_ONCE = 8  # of actions that are checked: enough to fill vectors
QUEUE_AHEAD = 64  # waiting requests whose memory is asked for ahead
LOOKS = 100_000  # of a caller for what others are about to finish
# A thread takes one of so many parts of what is left of a share, so that there is something left to take over and nobody
# waits long for the last one; but no fewer systems at a time than this.
PARTS, LEAST_CHUNK = 8, 8


@njit(**INLINED)
def _fetch_ahead(e, direction, low, high, fs, is_, lanes_, rfs, ris, links_, bitss, track, observation):
    """Ask for the memory of the systems after ``e``: with thousands of systems none of it is in a cache near by."""
    n = e + 2 * direction
    if low <= n < high:  # the counters and sets
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
    # What they point to, requests about to arrive, whose deadline is next, or that wait; and what is written.
    n = e + direction
    if low <= n < high:
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
        until = min(is_[n, k.NEXT], place + QUEUE_AHEAD)
        for r in range(place, until, 8):
            prefetch(rfs[n, k.ARRIVAL], r)
            prefetch(rfs[n, k.DEADLINE], r)
        for r in range(place, until, 16):
            prefetch(ris[n, k.LENGTH], r)
            prefetch(links_[n], r)
        for column in range(0, observation.shape[1], 16):
            prefetch(observation[n], column)


@njit(**COMPILED)  # once per episode: not worth two copies
def _begin_one(
    e, count, choose, on, fs, is_, lanes_, rfs, ris, links_, bitss, levels, hists, bins, machine, layers, track,
    streams, settings, rates, values, steps, guide, draws,
):  # fmt: skip
    """Begin an episode in system e: on the ``count`` requests in place, or, with 0, on as many as fit, drawn now.

    With ``choose`` its machine is drawn first, as `Fleet.draw_machine` does; without, it is the one that e is on.
    Returns False if the requests could not be drawn.
    """
    machines = machine.shape[0]
    if choose and machines > 1:
        chance, state = uniform(streams[e], open_stream(streams[e]))
        close_stream(streams[e], state)
        on[e] = np.int64(chance * machines)
    m = known(on[e])
    status = DRAWN
    if count == 0:
        count = np.int64(settings[m, REQUESTS])
        status = draw(
            count, streams[e], settings[m], rates, values, steps, guide, draws,
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
def _wait_for_work(control, mine, end):
    """Wait until a thread's share, at ``mine`` in ``control``, has systems below ``end``: for PATIENCE looks at most.

    Returns UNDER_WAY, END or SLEEP.
    """
    looks = control[PATIENCE]
    while load(control, STOP) == 0:
        if load(control, mine) < end:
            if looks < 0:
                store(control, mine + 8, 0)
            return UNDER_WAY
        if looks < 0:
            return SLEEP
        if looks == 0:  # say so and look once more: whoever puts up work from here on sees a sleeper and wakes it
            store(control, mine + 8, 1)
        looks -= 1
        pause()
    return END


@njit(**INLINED)
def _publish(
    control, threads, mode, waits, actions, most, streams, observation, reward, terms, ended, mask
):  # fmt: skip
    """Put a step up for all threads, or return the first system with an action out of range; DONE: there is none."""
    n = waits.size
    columns = most.size // ROWS_AT_ONCE
    indices = int64_row(actions.ctypes.data, n * columns)
    outside = np.int64(0)  # the sign is set if an index is out of range
    for first in range(0, indices.size, most.size):  # several rows at a time, so that they are compared as vectors
        rows = indices[first : first + most.size]
        for place in range(rows.size):
            outside |= rows[place] | (most[place] - rows[place])
    if outside < 0:
        for e in range(n):
            for column in range(columns):
                if not waits[e] and not 0 <= actions[e, column] <= most[column]:
                    return e
    control[MODE], control[DIRECTION] = mode, 1 if control[DIRECTION] < 0 else -1
    control[WAITS], control[ACTIONS], control[STREAMS] = waits.ctypes.data, actions.ctypes.data, streams.ctypes.data
    control[OBSERVATION], control[REWARD] = observation.ctypes.data, reward.ctypes.data
    control[TERMS], control[ENDED], control[MASK] = terms.ctypes.data, ended.ctypes.data, mask.ctypes.data
    control[OVER], control[CUT], control[NOT_DRAWN] = 0, 0, 0
    store(control, FINISHED, 0)
    for thread in range(threads):
        store(control, THREADS + 16 * thread, thread * n // threads)
    return DONE


@njit(**INLINED)
def _asleep(control, threads):
    """How many helpers would have to be woken."""
    asleep = 0
    for thread in range(1, threads):
        asleep += load(control, THREADS + 16 * thread + 8)
    return asleep


@njit(**INLINED)
def _wait_for_all(control, n):
    """Wait until all ``n`` systems are stepped, for `LOOKS` looks at most. Returns DONE or LATE."""
    for _ in range(LOOKS):
        if load(control, FINISHED) >= n:
            return DONE
        pause()
    return LATE


def _compile(stamp: int) -> tuple[Any, ...]:
    """Compile the entry points; see `checksum`."""

    @njit(**CACHED)
    def restart(
        which, counts, choose, on, fs, is_, lanes_, rfs, ris, links_, bitss, levels, hists, bins, machine, layers, track, scales, forms,
        masks, constants, streams, settings, rates, values, steps, guide, draws, observation, mask,
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
                streams, settings, rates, values, steps, guide, draws,
            )  # fmt: skip
            m = known(on[e])
            observe(0.0, fs[e], is_[e], lanes_[e], rfs[e], ris[e], track[e], scales[m], observation[e])
            give_form(forms[m], constants[m], observation[e])
            write_mask(is_[e], masks[m], mask[e])
        return drawn

    @njit(**CACHED)
    def work(
        control, me, threads, arrays, mode, others,
        waits, actions, streams, observation, reward, terms, ended, mask,
    ):  # fmt: skip
        """Step E systems, or help to: as thread ``me`` of so many ``threads``.

        The calling thread, number 0, puts up a step unless one is UNDER_WAY: ``mode``, and ``waits``, say what becomes of
        systems whose episode is over. With AT_ONCE what was observed at the end is in ``final_observation`` and
        ``final_mask``. Afterwards ``control`` says how many ended, and were cut off, and whether some work could not be drawn.
        With ALL ``others`` it returns to have helpers woken in Python if some sleep; with a TEAM it returns once the step is
        put up.

        Then take a few systems at a time and step them, until all have been taken: first those of the thread's own share,
        which are in its core's cache, then what others have not come to.

        Every other step goes through a share from its end, for the systems that came last are still in the cache. In one
        direction only, a share that is a little larger than the cache would find none of itself there.

        A helper then waits for the next step and goes on, within compiled code because taking the interpreter's lock
        between steps costs more than a step of few systems.

        Returns what stands at DONE, or the first system with an action out of range; none is stepped then.
        """
        if stamp < 0:
            return END
        (
            on, fs, is_, lanes_, rfs, ris, links_, bitss, levels, hists, bins, machine, layers, step_s, step_j, alone,
            track, scales, forms, price, address, most, codes, masks, constants, settings, rates, values, steps, guide,
            final_observation, final_mask, scratch, marks, times, passes, plan, draws, flags,
        ) = unpack(arrays)  # fmt: skip
        if mode != UNDER_WAY:
            wrong = _publish(
                control, threads, mode, waits, actions, most, streams, observation, reward, terms, ended, mask
            )  # fmt: skip
            if wrong >= 0:
                return wrong
            if others == TEAM or (others == ALL and _asleep(control, threads) > 0):
                return WAKE
        n = fs.shape[0]
        flat = address[3, 0] < 0
        share = me
        while True:
            begin, end = share * n // threads, (share + 1) * n // threads
            chunk = max((end - load(control, THREADS + 16 * share)) // PARTS, LEAST_CHUNK)
            low = add(control, THREADS + 16 * share, chunk)
            if low >= end:
                share = (share + 1) % threads
                if share == me:
                    if others == TEAM:
                        return DONE
                    if me == 0:
                        return _wait_for_all(control, n)
                    call = _wait_for_work(control, THREADS + 16 * me, (me + 1) * n // threads)
                    if call != UNDER_WAY:
                        return call
                continue
            high = min(low + chunk, end)
            direction = control[DIRECTION]
            if direction < 0:
                low, high = begin + end - high, begin + end - low
            todo = control[MODE]
            waits = boolean_row(control[WAITS], n)
            actions = int64_table(control[ACTIONS], n, most.size // ROWS_AT_ONCE)
            streams = uint64_table(control[STREAMS], n, 4)
            observation = float32_table(control[OBSERVATION], n, constants.shape[1])
            reward = float64_row(control[REWARD], n)
            terms = float64_table(control[TERMS], n, 5)
            ended = boolean_table(control[ENDED], 3, n)
            mask = int8_table(control[MASK], n, masks.shape[2])
            ends, cuts, drawn = 0, 0, True
            for place in range(low, high):
                e = place if direction > 0 else low + high - 1 - place
                _fetch_ahead(e, direction, begin, end, fs, is_, lanes_, rfs, ris, links_, bitss, track, observation)
                if todo == LEAVE and waits[e]:
                    continue
                f, i, lanes, rf, ri = fs[e], is_[e], lanes_[e], rfs[e], ris[e]
                m = known(on[e])
                over = False
                held = 0.0
                anew = todo == BEGIN and waits[e]
                if anew:
                    reward[e] = 0.0
                    terms[e] = 0.0
                    flags[0, e] = flags[1, e] = flags[2, e] = False
                else:
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
                    energy, integral, shed, missed, served = k.settle(f, i)
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
                            streams, settings, rates, values, steps, guide, draws,
                        )  # fmt: skip
                        m = known(on[e])
                    observe(held, f, i, lanes, rf, ri, track[e], scales[m], observation[e])
                    write_mask(i, masks[m], mask[e])
                    if todo == AT_ONCE and not anew:
                        copy_from(mask[e], 0, final_mask[e])
                    if not (over and todo == AT_ONCE):
                        break
                    give_form(forms[m], constants[m], observation[e])
                    copy_from(observation[e], 0, final_observation[e])
                    over, anew, held = False, True, 0.0
            # Only now: right after they are written, one by one, fields could not be read as vectors without a wait.
            for e in range(low, high):
                if todo != LEAVE or not waits[e]:
                    m = known(on[e])
                    give_form(forms[m], constants[m], observation[e])
            for e in range(low, high):  # at once: threads share cache lines of `ended`, and would pass them around
                if todo != LEAVE or not waits[e]:
                    ended[0, e] = flags[0, e] > 0
                    ended[1, e] = flags[1, e] > 0
                    ended[2, e] = flags[2, e] > 0
            if ends > 0:
                add(control, OVER, ends)
                add(control, CUT, cuts)
            if not drawn:
                store(control, NOT_DRAWN, 1)
            add(control, FINISHED, high - low)

    return restart, work


_STAMP = checksum(addresses, atomics, errors, observations, observing, compiled, generators, lengths, modulated)
restart, work = _compile(_STAMP)
# Entries of an int64 array that a team shares: members that have come so far; those that there is work for; address and
# size of ``control``; from MEMBERS on, the addresses of what each works on.
_COME, _WANTED, _CONTROL, _CONTROL_SIZE, MEMBERS = range(5)
_PACKED = sum(1 + dimensions for _, dimensions in ARRAYS)


@functools.cache
def member() -> Any:
    """The C function ``void (*)(void *)``, with its ``address``: a team's member steps systems until none is left to take."""
    return _compile_member(_STAMP)


def _compile_member(stamp: int) -> Any:
    @cfunc(types.void(types.intp), cache=True, error_model="numpy")
    def take_part(team):
        if stamp < 0:
            return
        wanted = int64_row(team, MEMBERS)[_WANTED]
        shared = int64_row(team, MEMBERS + wanted)
        me = add(shared, _COME, 1)
        if me >= wanted:
            return
        control = int64_row(shared[_CONTROL], shared[_CONTROL_SIZE])
        mine = int64_row(shared[known(MEMBERS + me)], _PACKED)
        work(
            control, me, wanted, mine, np.int64(UNDER_WAY), np.int64(TEAM),
            boolean_row(team, 0), int64_table(team, 0, 0), uint64_table(team, 0, 0), float32_table(team, 0, 0),
            float64_row(team, 0), float64_table(team, 0, 0), boolean_table(team, 0, 0), int8_table(team, 0, 0),
        )  # fmt: skip

    return take_part
