"""The dynamics that the single, the vector and the Stable-Baselines3 environment share: E systems in step.

`Dynamics.step` is one compiled call per thread: decode the action, let the simulator's kernel carry out the decision,
price it, observe. New episodes are the only part that runs Python per lane, because workloads are Python.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.actions import MaskArray
from ebatch_env.environment.compiled import GAIN, N_STATE, advance, restart
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray, fail
from ebatch_env.metrics import EpisodeMetrics, episode_metrics
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.state import Int64Array, Scratch, Systems, pack_machine
from ebatch_env.trace import RequestTrace

SYSTEMS_PER_THREAD = 128  # a second thread costs about 20 us to wake; with fewer systems it does not pay


def _forms(system: System) -> npt.NDArray[np.float32]:
    """How each field is written, for the kernel's loop over all of them."""
    forms = np.zeros((3, N_STATE), np.float32)
    for n, field in enumerate(system.observations.fields[:N_STATE]):
        bent = field.form in ("squash", "signed")
        forms[:, n] = 1.0, field.scale if bent else 1.0, float(bent)
        if not system.lengths_known and field.tells_length:
            forms[GAIN, n] = 0.0
    return forms


class Dynamics:
    """E systems of one kind.

    Args:
        system: what they all are.
        n: their number E.
        threads: threads to step them with; None: as many as pay, up to the cores.
        record: keep what `metrics` and pictures need: completions, lanes, starts (``Systems``).

    After `step` or `restart` these arrays hold the outcome; they are new at every call, so they may be handed out:
        observation float32 (E, D), mask int8 (E, M).
    After `step` also: reward float64 (E,), terms float64 (E, 5), terminated and truncated bool (E,).
    """

    def __init__(self, system: System, n: int, threads: int | None = None, *, record: bool = True) -> None:
        self.system = system
        self._records = record
        self.n = n
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.threads = max(1, min(cores, n // SYSTEMS_PER_THREAD)) if threads is None else max(1, min(threads, n))
        self._pool: ThreadPoolExecutor | None = None
        codec = system.actions
        known = system.lengths_known
        self.machine = pack_machine(
            system.table,
            hold_s=system.hold_s,
            longest=int(system.workload.lengths.max_length),
            lengths_known=known,
            drain=True,
            ordered=known and bool((codec.levels["order"] != k.FIRST_COME).any()),
            record=record,
        )
        self.systems = s = Systems.empty(
            n, system.lanes, system.requests, int(system.workload.lengths.max_length), system.mix_edges
        )
        self.scratch = [Scratch.of(system.lanes, system.table, system.requests) for _ in range(self.threads)]
        self._plans = np.zeros((self.threads, 5), np.int64)
        self._state = (s.f, s.i, s.lanes, s.rf, s.ri, s.ends, s.bits, s.levels, s.hist, s.bins)
        self._rules = tuple(self.machine)
        self._track = np.zeros((n, 6))
        self._scales = np.array([system.saturation.latency_s, system.max_decisions])
        self._forms = _forms(system)
        self._price = system.cost_per_unit()
        self._address, self._limits, self._codes = codec.addressing(), codec.limits(), codec.level_table()
        self._masks = np.stack([codec.mask(), codec.mask(hold=False)])
        # What every step hands to the compiled code: the same for all threads, and each thread's own.
        self._shared = (
            *self._state,
            *self._rules,
            self._track,
            self._scales,
            self._forms,
            self._price,
            self._address,
            self._limits,
            self._codes,
            self._masks,
            system.constants,
        )
        self._own = [(*scratch, plan) for scratch, plan in zip(self.scratch, self._plans, strict=True)]
        self._no_skip = np.zeros(n, np.uint8)
        self.observation = np.zeros((n, system.observations.size), np.float32)
        self.mask: MaskArray = np.zeros((n, self._masks.shape[1]), np.int8)

    def restart(self, which: Sequence[int] | Int64Array, rngs: Sequence[np.random.Generator]) -> None:
        """Begin new episodes in the systems ``which``, each drawing its work from its own generator of ``rngs`` (E)."""
        # Not shared among threads: workloads are Python, and threads that pass the interpreter lock around are slower.
        self.load([self.system.sample_trace(rngs[e]) for e in which], which)

    def load(self, traces: Sequence[RequestTrace], which: Sequence[int] | Int64Array) -> None:
        """Begin episodes on given ``traces`` in the systems ``which``."""
        self.observation = self.observation.copy()
        self.mask = self.mask.copy()
        which = np.asarray(which, np.int64)
        s = self.systems
        counts = np.zeros(which.size, np.int64)
        for place, (e, trace) in enumerate(zip(which.tolist(), traces, strict=True)):
            if not isinstance(trace, RequestTrace):
                raise fail("what the workload samples", trace, "a RequestTrace")
            counts[place] = n = trace.requests
            if not 1 <= n <= s.capacity:
                raise fail("trace.requests", n, f"in 1..{s.capacity}, the requests the environment was made with")
            shortest, longest = int(trace.length.min()), int(trace.length.max())
            if longest > s.max_length:  # the kernel would write outside its arrays
                raise fail("trace.length", longest, f"at most the workload's max_length = {s.max_length}")
            if shortest < 1:  # a lane would never end
                raise fail("trace.length", shortest, "at least 1")
            s.rf[e, k.ARRIVAL, :n] = trace.arrival_s
            s.rf[e, k.DEADLINE, :n] = trace.deadline_s
            s.ri[e, k.LENGTH, :n] = trace.length
        restart(
            which,
            counts,
            *self._state,
            self.machine.machine,
            self.machine.layers,
            self._track,
            self._scales,
            self._forms,
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

        arguments = (skipped, actions, *self._shared, *outputs)

        def play(thread: int) -> int:
            low, high = thread * n // self.threads, (thread + 1) * n // self.threads
            return int(advance(low, high, *arguments, *self._own[thread]))

        if self.threads == 1:
            bad = play(0)
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads - 1, "ebatch")
            others = [self._pool.submit(play, thread) for thread in range(1, self.threads)]
            bad = max([play(0), *(future.result() for future in others)])
        if bad >= 0:
            wrong = (actions[bad] < 0) | (actions[bad] >= self._limits)
            raise self.system.actions.out_of_range(actions[bad], int(np.argmax(wrong)))
        self.terminated, self.truncated = ended[0], ended[1]

    def metrics(self, e: int) -> EpisodeMetrics:
        """Metrics of system ``e``'s episode so far.

        Raises:
            ValueError: these dynamics keep no records.
        """
        if not self._records:
            raise fail("record", False, "True: these dynamics keep no records to work metrics out of")
        s, n = self.systems, int(self.systems.i[e, k.REQUESTS])
        return episode_metrics(
            self.system.table,
            self.system.lanes,
            self._price,
            f=s.f[e],
            i=s.i[e],
            rf=s.rf[e, :, :n],
            hist=s.hist[e],
        )

    def close(self) -> None:
        """Release the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
