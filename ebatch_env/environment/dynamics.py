"""The dynamics that the single, the vector and the Stable-Baselines3 environment share: E systems in step.

`Dynamics.step` is one compiled call per thread: decode the action, let the simulator's kernel carry out the decision,
price it, observe. New episodes are the only part that runs Python per lane, because workloads are Python.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ebatch_env.environment.actions import MaskArray
from ebatch_env.environment.observations import END_BINS
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray, fail
from ebatch_env.metrics import EpisodeMetrics, episode_metrics
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.state import Int64Array, Systems, make_scratch, pack_machine
from ebatch_env.trace import RequestTrace

SHORT_WINDOW, LONG_WINDOW = 1.0, 16.0  # reference latencies
SYSTEMS_PER_THREAD = 128  # a second thread costs about 20 us to wake; below this it does not pay

N_STATE = 43  # fields the kernel writes; the machine's constants follow

# Rows of `track`, (E, 6): arrival rate estimates, their weights so far, clock and arrivals when last observed.
RATE_SHORT, RATE_LONG, WEIGHT_SHORT, WEIGHT_LONG, SEEN_CLOCK, SEEN_ARRIVALS = range(6)
# Entries of `scales`, (8,): what squashed observations are measured in, and two settings.
LANES, WORK, STEPS, LATENCY, RATE, KNOWN, MAX_DECISIONS = range(7)


# Bin of 1, 2, ..., 2^(END_BINS-1) steps left: the exponent of the next power of two.
_END_BIN = np.array([(left - 1).bit_length() for left in range(1, (1 << (END_BINS - 1)) + 1)], np.int8)


def _compile(stamp: int) -> tuple[Any, Any]:
    """Compile the entry points.

    numba's on-disk cache watches this file only. The entry points hold the kernel's code as well, so ``stamp``, a
    checksum of the kernel's file, is a closure value and with that a part of the cache's key.
    """

    @njit(nogil=True, cache=True, _nrt=False, error_model="numpy")
    def squash(x, scale):
        return x / (scale + x)

    @njit(nogil=True, cache=True, _nrt=False, error_model="numpy")
    def signed(x, scale):
        return x / (scale + abs(x))

    # Without numba's run-time (``_nrt``) slices cost nothing: no reference is counted, and nothing can be allocated.
    @njit(nogil=True, cache=True, _nrt=False, error_model="numpy")
    def observe(held, f, i, lanes, rf, ri, track, scales, constants, out):
        for n in range(N_STATE, out.size):
            out[n] = constants[n]
        t = f[k.CLOCK]
        n_lanes = lanes.shape[1]
        known = scales[KNOWN]
        waiting = i[k.WAITING]
        per_waiting = 1.0 / max(waiting, 1)
        out[0] = squash(waiting, scales[LANES])
        out[1] = known * squash(i[k.WAIT_STEPS], scales[WORK])
        n = 2
        for b in range(k.MIX_BINS):
            out[n] = known * i[k.MIX + b] * per_waiting
            n += 1
        if waiting > 0:
            r = i[k.OLDEST]
            out[n] = squash(t - rf[k.ARRIVAL, r], scales[LATENCY])
            out[n + 1] = squash(max(0.0, t - f[k.WAIT_ARRIVALS] * per_waiting), scales[LATENCY])
            out[n + 2] = known * squash(ri[k.LENGTH, r], scales[STEPS])
            slack = rf[k.DEADLINE, r] - t
            out[n + 3] = signed(slack, scales[LATENCY]) if slack < np.inf else 1.0
            out[n + 4] = i[k.WAIT_LATE] * per_waiting
        else:
            out[n : n + 3] = 0.0
            out[n + 3] = 1.0
            out[n + 4] = 0.0
        n += 5
        ends = n + 4
        for b in range(END_BINS):
            out[ends + b] = 0.0
        busy = i[k.BUSY]
        left_sum, left_most, left_least = 0, 0, np.int64(1) << 40
        done_sum, done_most = 0, 0
        earliest = np.inf
        if busy > 0:
            deadlines = i[k.HAS_DEADLINES] > 0
            for lane in range(n_lanes):
                r = lanes[k.REQUEST, lane]
                if r < 0:
                    continue
                left = np.int64(lanes[k.LEFT, lane])
                left_sum += left
                left_most = max(left_most, left)
                left_least = min(left_least, left)
                done = lanes[k.TOTAL, lane] - left
                done_sum += done
                done_most = max(done_most, done)
                if left <= _END_BIN.size:
                    out[ends + _END_BIN[left - 1]] += 1.0
                if deadlines:
                    earliest = min(earliest, rf[k.DEADLINE, r])
        per_busy = 1.0 / max(busy, 1)
        out[n] = busy / n_lanes
        out[n + 1] = known * squash(left_least, scales[STEPS]) if busy > 0 else 0.0
        out[n + 2] = known * squash(left_sum * per_busy, scales[STEPS])
        out[n + 3] = known * squash(left_most, scales[STEPS])
        total = 0.0
        for b in range(END_BINS):
            total += out[ends + b]
            out[ends + b] = known * total / n_lanes
        n = ends + END_BINS
        out[n] = squash(done_sum * per_busy, scales[STEPS])
        out[n + 1] = squash(done_most, scales[STEPS])
        out[n + 2] = signed(earliest - t, scales[LATENCY]) if earliest < np.inf else 1.0
        n += 3
        passed = t - track[SEEN_CLOCK]
        if passed > 0.0:
            rate = (i[k.NEXT] - track[SEEN_ARRIVALS]) / passed
            for row, window in ((RATE_SHORT, SHORT_WINDOW), (RATE_LONG, LONG_WINDOW)):
                keep = np.exp(-passed / (window * scales[LATENCY]))
                track[row] = track[row] * keep + rate * (1.0 - keep)
                track[row + 2] = track[row + 2] * keep + (1.0 - keep)
            track[SEEN_CLOCK] = t
            track[SEEN_ARRIVALS] = i[k.NEXT]
        # The weights undo the bias of starting from an estimate of 0.
        out[n] = squash(track[RATE_SHORT] / track[WEIGHT_SHORT], scales[RATE]) if track[WEIGHT_SHORT] > 0 else 0.0
        out[n + 1] = squash(track[RATE_LONG] / track[WEIGHT_LONG], scales[RATE]) if track[WEIGHT_LONG] > 0 else 0.0
        out[n + 2] = held
        steps = i[k.LAST_S]
        out[n + 3] = squash(i[k.LAST_T], scales[STEPS])
        out[n + 4] = squash(steps, scales[STEPS])
        out[n + 5] = i[k.LAST_LANE_STEPS] / (max(steps, 1) * n_lanes)
        out[n + 6] = squash(f[k.LAST_END] - f[k.LAST_START], scales[LATENCY])
        out[n + 7] = squash(i[k.LAST_STARTED], scales[LANES])
        out[n + 8] = squash(i[k.LAST_JOINED], scales[LANES])
        out[n + 9] = squash(i[k.LAST_DONE], scales[LANES])
        out[n + 10] = squash(i[k.LAST_SHED], scales[LANES])

    @njit(nogil=True, cache=True, _nrt=False, error_model="numpy")
    def write_mask(i, masks, out):
        nothing_to_wait_for = i[k.BUSY] == 0 and i[k.NEXT] == i[k.REQUESTS]
        row = 1 if nothing_to_wait_for else 0
        for m in range(out.size):
            out[m] = masks[row, m]

    @njit(nogil=True, cache=True, _nrt=False, error_model="numpy")
    def advance(
        low, high, skip, actions, F, I, LANES_, RF, RI, ENDS, BITS, levels, HIST, bins, machine, layers, step_s, step_j, alone,
        track, scales, price, address, limits, codes, masks, constants, observation, reward, terms, ended, mask,
        scratch, passes, plan,
    ):  # fmt: skip
        """Step systems low..high-1 whose ``skip`` is 0; return the first with an action out of range, else -1."""
        if stamp < 0:  # keeps the closure value alive
            return low
        for e in range(low, high):
            for column in range(limits.size):
                if skip[e] == 0 and not (0 <= actions[e, column] < limits[column]):
                    return e
        for e in range(low, high):
            if skip[e] != 0:
                continue
            for c in range(5):
                plan[c] = codes[c, (actions[e, address[0, c]] // address[1, c]) % address[2, c]]
            f, i, lanes, rf, ri = F[e], I[e], LANES_[e], RF[e], RI[e]
            n = i[k.REQUESTS]
            result = k.EMPTIED
            if i[k.SERVED] + i[k.SHED] < n:
                result = k.decide(
                    plan, f, i, lanes, rf, ri, ENDS[e], BITS[e], levels, HIST[e], layers, step_s, step_j, alone, machine, bins,
                    scratch, passes,
                )  # fmt: skip
            energy, integral, shed, missed, served = k.settle(f, i, rf, ri)
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
            observe(np.float64(result == k.HELD), f, i, lanes, rf, ri, track[e], scales, constants, observation[e])
            write_mask(i, masks, mask[e])
        return -1

    @njit(nogil=True, cache=True, _nrt=False, error_model="numpy")
    def restart(
        which, counts, F, I, LANES_, RF, RI, ENDS, BITS, levels, HIST, bins, machine, layers, track, scales, masks, constants,
        observation, mask,
    ):  # fmt: skip
        """Begin an episode in each system of ``which``, whose trace of ``counts`` requests is in place."""
        if stamp < 0:
            return
        for place in range(which.size):
            e = which[place]
            f, i = F[e], I[e]
            k.begin(
                counts[place], f, i, LANES_[e], RF[e], RI[e], ENDS[e], BITS[e], levels, HIST[e], layers, machine, bins
            )
            track[e] = 0.0
            track[e, SEEN_CLOCK] = f[k.CLOCK]
            observe(0.0, f, i, LANES_[e], RF[e], RI[e], track[e], scales, constants, observation[e])
            write_mask(i, masks, mask[e])

    return advance, restart


_advance, _restart = _compile(zlib.crc32(Path(k.__file__).read_bytes()))


class Dynamics:
    """E systems of one kind.

    Args:
        system: what they all are.
        n: their number E.
        threads: threads to step them with; None: as many as pay, up to the cores.
        log: keep the time each request enters its lane (``systems.rf[:, START]``), for pictures.

    After `step` or `restart` these arrays hold the outcome; they are new at every call, so they may be handed out:
        observation float32 (E, D), mask int8 (E, M).
    After `step` also: reward float64 (E,), terms float64 (E, 5), terminated and truncated bool (E,).
    """

    def __init__(self, system: System, n: int, threads: int | None = None, *, log: bool = False) -> None:
        self.system = system
        self.n = n
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.threads = max(1, min(cores, n // SYSTEMS_PER_THREAD)) if threads is None else max(1, min(threads, n))
        self._pool: ThreadPoolExecutor | None = None
        codec = system.actions
        known = system.lengths_known
        self.machine = pack_machine(
            system.table,
            hold_s=system.hold_s,
            lengths_known=known,
            drain=True,
            ordered=known and bool((codec.levels["order"] != k.FIRST_COME).any()),
            log=log,
        )
        self.systems = s = Systems.empty(
            n, system.lanes, system.requests, int(system.workload.lengths.max_length), system.mix_edges
        )
        self._scratch, self.passes = make_scratch(self.threads, system.lanes, system.table, system.requests)
        self._plans = np.zeros((self.threads, 5), np.int64)
        self._state = (s.f, s.i, s.lanes, s.rf, s.ri, s.ends, s.bits, s.levels, s.hist, s.bins)
        self._rules = tuple(self.machine)
        self._track = np.zeros((n, 6))
        self._scales = np.array(
            [
                system.lanes,
                system.lanes * system.mean_length,
                system.mean_length,
                system.saturation.latency_s,
                system.saturation.throughput_rps,
                float(known),
                system.max_decisions,
                0.0,
            ]
        )
        self._price = system.cost_per_unit()
        self._address, self._limits, self._codes = codec.addressing(), codec.limits(), codec.level_table()
        self._masks = np.stack([codec.mask(), codec.mask(hold=False)])
        self._no_skip = np.zeros(n, np.uint8)
        self.observation = np.zeros((n, system.observations.size), np.float32)
        self.mask: MaskArray = np.zeros((n, self._masks.shape[1]), np.int8)

    def restart(self, which: Sequence[int] | Int64Array, rngs: Sequence[np.random.Generator]) -> None:
        """Begin new episodes in the systems ``which``, each drawing its work from its own generator of ``rngs`` (E)."""
        self.load([self.system.sample_trace(rngs[e]) for e in which], which)

    def load(self, traces: Sequence[RequestTrace], which: Sequence[int] | Int64Array) -> None:
        """Begin episodes on given ``traces`` in the systems ``which``."""
        s = self.systems
        for e, trace in zip(which, traces, strict=True):
            n = trace.requests
            if n > s.capacity:
                raise fail("trace.requests", n, f"at most requests = {s.capacity}, which the environment was made with")
            s.rf[e, k.ARRIVAL, :n] = trace.arrival_s
            s.rf[e, k.DEADLINE, :n] = trace.deadline_s
            s.ri[e, k.LENGTH, :n] = trace.length
        counts = np.array([trace.requests for trace in traces], np.int64)
        self.observation = self.observation.copy()
        self.mask = self.mask.copy()
        _restart(
            np.asarray(which, np.int64),
            counts,
            *self._state,
            self.machine.machine,
            self.machine.layers,
            self._track,
            self._scales,
            self._masks,
            self.system.constants,
            self.observation,
            self.mask,
        )

    def step(self, actions: npt.NDArray[np.int64], skip: npt.NDArray[np.uint8] | None = None) -> None:
        """Take one decision in every system whose ``skip`` (E,) is 0.

        Args:
            actions: int64 (E, C), C-contiguous; see `ActionCodec`.
            skip: systems to leave as they are, with reward 0; None: none.

        Raises:
            ValueError: an index out of range. The systems stepped by then are not restored: reset.
        """
        n = self.n
        self.observation = np.empty_like(self.observation) if skip is None else self.observation.copy()
        self.mask = np.empty_like(self.mask) if skip is None else self.mask.copy()
        self.reward: FloatArray = np.zeros(n)
        self.terms: FloatArray = np.zeros((n, 5))
        ended = np.zeros((2, n), np.bool_)
        skipped = self._no_skip if skip is None else skip
        outputs = (self.observation, self.reward, self.terms, ended, self.mask)

        def play(thread: int) -> int:
            low, high = thread * n // self.threads, (thread + 1) * n // self.threads
            return int(
                _advance(
                    low, high, skipped, actions, *self._state, *self._rules, self._track, self._scales, self._price,
                    self._address, self._limits, self._codes, self._masks, self.system.constants, *outputs,
                    self._scratch[thread], self.passes[thread], self._plans[thread],
                )
            )  # fmt: skip

        if self.threads == 1:
            bad = play(0)
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads - 1, "ebatch")
            others = [self._pool.submit(play, thread) for thread in range(1, self.threads)]
            bad = play(0)
            bad = max([bad, *(future.result() for future in others)])
        if bad >= 0:
            wrong = (actions[bad] < 0) | (actions[bad] >= self._limits)
            raise self.system.actions.out_of_range(actions[bad], int(np.argmax(wrong)))
        self.terminated, self.truncated = ended[0], ended[1]

    def metrics(self, e: int) -> EpisodeMetrics:
        """Metrics of system ``e``'s episode so far."""
        s, n = self.systems, int(self.systems.i[e, k.REQUESTS])
        return episode_metrics(
            self.system.table,
            self.system.lanes,
            self._price,
            f=s.f[e],
            i=s.i[e],
            rf=s.rf[e, :, :n],
            ri=s.ri[e, :, :n],
            hist=s.hist[e],
        )

    def close(self) -> None:
        """Release the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
