"""The dynamics that the single, the vector and the Stable-Baselines3 environment share: E systems in step.

`Dynamics.step` is one compiled call per thread (`Crew`): decode the action, let the simulator's kernel carry out the
decision, price it, observe, and where an episode is over begin the next one. Only work that is not a built-in
workload's is drawn in Python.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.actions import MaskArray
from ebatch_env.environment.compiled import AT_ONCE, BEGIN, LEAVE, PLAY, ROWS_AT_ONCE, restart
from ebatch_env.environment.crew import Crew
from ebatch_env.environment.fleet import AnySystem
from ebatch_env.environment.observing import GAIN, N_STATE
from ebatch_env.environment.system import System
from ebatch_env.errors import fail
from ebatch_env.metrics import EpisodeMetrics, episode_metrics
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.state import Int64Array, Machine, Scratch, Systems, pack_machine
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads.compiled import NO_LAW, Law, law_of
from ebatch_env.workloads.generators import StreamArray, stream_of

SYSTEMS_PER_THREAD = 24  # with fewer systems another thread does not pay


def _pack(system: System, *, record: bool) -> Machine:
    """A machine for the kernel, cut to the lanes in use: then those of a fleet have arrays of the same shapes."""
    known, lanes = system.lengths_known, system.lanes
    machine = pack_machine(
        system.table,
        hold_s=system.hold_s,
        longest=int(system.workload.lengths.max_length),
        lengths_known=known,
        drain=True,
        ordered=known and bool((system.actions.levels["order"] != k.FIRST_COME).any()),
        record=record,
    )
    return machine._replace(step_s=machine.step_s[:, : lanes + 1], step_j=machine.step_j[: lanes + 1])


def _law(system: System) -> Law | None:
    """How its work is drawn in compiled code, if it can be."""
    return law_of(
        system.workload,
        requests=system.requests,
        load=system.load,
        throughput_rps=system.saturation.throughput_rps,
        deadline_s=system.deadline_s,
    )


def _forms(system: System) -> npt.NDArray[np.float32]:
    """How each field is written, for the kernel's loop over all of them."""
    forms = np.zeros((3, N_STATE), np.float32)
    for n, field in enumerate(system.observations.fields[:N_STATE]):
        bent = field.form in ("squash", "signed")
        forms[:, n] = 1.0, field.scale if bent else 1.0, float(bent)
        if not system.lengths_known and field.tells_length:
            forms[GAIN, n] = 0.0
    return forms


class Streams(Sequence[np.random.Generator]):
    """The generators of E systems, and where compiled code finds them: ``addresses`` uint64 (E, 4)."""

    def __init__(self, rngs: Sequence[np.random.Generator]) -> None:
        self._rngs = list(rngs)
        self.addresses: StreamArray = np.stack([stream_of(rng) for rng in self._rngs])

    def __getitem__(self, e: Any) -> Any:
        return self._rngs[e]

    def __len__(self) -> int:
        return len(self._rngs)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has generators of its own, and their addresses."""
        return Streams, (self._rngs,)

    def replace(self, e: int, rng: np.random.Generator) -> None:
        """Give system ``e`` another generator."""
        self._rngs[e] = rng
        self.addresses[e] = stream_of(rng)


class Dynamics:
    """E systems of one kind.

    What belongs to a machine is in arrays whose first axis counts the machines of ``system``: one or, in a `Fleet`, M.
    ``on``, int64 (E,), says which one each of the E is on. It is drawn anew at the beginning of an episode.

    Args:
        system: what they all are.
        n: their number E.
        threads: threads to step them with; None: as many as pay, up to the cores.
        record: keep what `metrics` and pictures need: completions, lanes, starts (``Systems``).
        lent: a learner works between steps, whose threads may share them (`openmp`).

    After `step` or `restart` these arrays hold the outcome; they are new at every call, so they may be handed out:
        observation float32 (E, D), mask int8 (E, M).
    After `step` also: reward float64 (E,), terms float64 (E, 5), terminated, truncated and over (either of
    them) bool (E,), and ``ended`` and ``cut``: how many episodes are over, and how many of them truncated.
    """

    def __init__(
        self, system: AnySystem, n: int, threads: int | None = None, *, record: bool = True, lent: bool = False
    ) -> None:
        self.system = system
        self._records = record
        self.n = n
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.threads = max(1, min(cores, n // SYSTEMS_PER_THREAD)) if threads is None else max(1, min(threads, n))
        codec, machines = system.actions, system.machines
        self.on: Int64Array = np.zeros(n, np.int64)
        self.systems = s = Systems.empty(
            n, system.lanes, system.requests, int(system.workload.lengths.max_length), system.mix_edges
        )
        largest = max((machine.table for machine in machines), key=lambda table: table.max_time_steps)
        self.scratch = [Scratch.of(system.lanes, largest, system.requests) for _ in range(self.threads)]
        self._state = (s.f, s.i, s.lanes, s.rf, s.ri, s.links, s.bits, s.levels, s.hist, s.bins)
        packed = [_pack(machine, record=record) for machine in machines]
        self._machines = Machine(*(np.stack(arrays) for arrays in zip(*packed, strict=True)))
        self._track = np.zeros((n, 6))
        self._scales = np.array(
            [(machine.saturation.latency_s, machine.max_decisions, machine.lanes) for machine in machines]
        )
        self._forms = np.stack([_forms(machine) for machine in machines])
        self._price = np.stack([machine.cost_per_unit() for machine in machines])
        self._constants = np.stack([machine.constants for machine in machines])
        self._address, self._limits, self._codes = codec.addressing(), codec.limits(), codec.level_table()
        self._masks = np.stack([(m.actions.mask(), m.actions.mask(hold=False)) for m in machines])
        laws = [_law(machine) for machine in machines]
        self.draws_itself = None not in laws  # no Python is needed to begin an episode
        known = [NO_LAW if law is None else law for law in laws]
        self._law = (np.stack([law.settings for law in known]), *known[0][1:])  # the rest is the workload's
        self._draws = np.zeros((self.threads, system.requests + known[0].draws))
        self._nobody = np.zeros(n, np.bool_)
        self._no_streams: StreamArray = np.zeros((n, 4), np.uint64)
        self.observation = np.zeros((n, system.observations.size), np.float32)
        self.mask: MaskArray = np.zeros((n, self._masks.shape[2]), np.int8)
        self._size, self._mask_size = self.observation.shape, self.mask.shape
        self.final_observation, self.final_mask = np.zeros_like(self.observation), np.zeros_like(self.mask)
        shared = (
            self.on,
            *self._state,
            *self._machines,
            self._track,
            self._scales,
            self._forms,
            self._price,
            self._address,
            np.tile(self._limits - 1, ROWS_AT_ONCE),
            self._codes,
            self._masks,
            self._constants,
            *self._law,
            self.final_observation,
            self.final_mask,
        )
        own = [
            (*scratch, np.zeros(5, np.int64), draws, np.zeros((3, n), np.uint8))
            for scratch, draws in zip(self.scratch, self._draws, strict=True)
        ]
        self._crew = Crew(n, shared, own, lent=lent)

    def restart(
        self, which: Sequence[int] | Int64Array, rngs: Sequence[np.random.Generator], machine: int | None = None
    ) -> None:
        """Begin new episodes in the systems ``which``, each drawing its work from its own generator of ``rngs`` (E).

        ``machine`` is the number of the one they are played on; None: each draws it too, before the work.
        """
        self._crew.finish()
        which = np.asarray(which, np.int64)
        if self.draws_itself and isinstance(rngs, Streams):
            if machine is not None:
                self.on[which] = machine
            self._begin(which, np.zeros(which.size, np.int64), rngs, choose=machine is None)
            return
        system, traces, on = self.system, [], []
        for e in which.tolist():
            on.append(system.draw_machine(rngs[e]) if machine is None else machine)
            traces.append(system.machines[on[-1]].sample_trace(rngs[e]))
        self.load(traces, which, on)

    def load(
        self,
        traces: Sequence[RequestTrace],
        which: Sequence[int] | Int64Array,
        machines: Sequence[int] | Int64Array | None = None,
    ) -> None:
        """Begin episodes on given ``traces`` in the systems ``which``, on these machines; None: where each is."""
        self._crew.finish()
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
        if machines is not None:
            self.on[which] = machines
        self._begin(which, counts, None, choose=False)

    def _begin(self, which: Int64Array, counts: Int64Array, streams: Streams | None, *, choose: bool) -> None:
        """Begin episodes in ``which`` on the ``counts`` requests in place, or with 0 on such as are drawn now.

        With ``choose`` the machines are drawn first.
        """
        self.observation = self.observation.copy()
        self.mask = self.mask.copy()
        drawn = restart(
            which,
            counts,
            choose,
            self.on,
            *self._state,
            self._machines.machine,
            self._machines.layers,
            self._track,
            self._scales,
            self._forms,
            self._masks,
            self._constants,
            self._no_streams if streams is None else streams.addresses,
            *self._law,
            self._draws[0],
            self.observation,
            self.mask,
        )
        if not drawn:
            raise self._not_drawn()

    def step(
        self,
        actions: npt.NDArray[np.int64],
        streams: Streams | None = None,
        waits: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Take one decision in every system.

        Args:
            actions: int64 (E, C), C-contiguous; see `ActionCodec`.
            streams: if `draws_itself`: where new episodes come from.
            waits: bool (E,), C-contiguous: systems that take no action: with ``streams`` each begins an episode instead, without it stays as it
                is. Reward 0 for both. None: all act; with ``streams`` systems whose episode is then over begin the next one
                at once; ``final_observation`` and ``final_mask`` keep what was there at the end, and ``final_mask`` is that
                of the others now.

        Raises:
            ValueError: an index out of range; nothing is stepped then.
        """
        n = self.n
        if waits is None and streams is None:
            mode = PLAY
        elif waits is None:
            mode = AT_ONCE
        elif streams is None:
            mode = LEAVE
        else:
            mode = BEGIN
        if mode == LEAVE:
            observation, mask = self.observation.copy(), self.mask.copy()
            reward, terms, ended = np.zeros(n), np.zeros((n, 5)), np.zeros((3, n), np.bool_)
        else:
            observation, mask = np.empty(self._size, np.float32), np.empty(self._mask_size, np.int8)
            reward, terms, ended = np.empty(n), np.empty((n, 5)), np.empty((3, n), np.bool_)
        bad = self._crew.step(
            mode,
            self._nobody if waits is None else waits,
            actions,
            self._no_streams if streams is None else streams.addresses,
            observation,
            reward,
            terms,
            ended,
            mask,
        )
        if bad >= 0:
            wrong = (actions[bad] < 0) | (actions[bad] >= self._limits)
            raise self.system.actions.out_of_range(actions[bad], int(np.argmax(wrong)))
        self.observation, self.mask, self.reward, self.terms = observation, mask, reward, terms
        self.terminated, self.truncated, self.over = ended
        self.ended, self.cut, drawn = self._crew.outcome()
        if not drawn:
            raise self._not_drawn()

    def _not_drawn(self) -> ValueError:
        """The error for work that could not be drawn: the workload itself says it best."""
        try:
            for machine in self.system.machines:
                machine.sample_trace(np.random.default_rng(0))
        except ValueError as error:
            return error
        return ValueError(f"workload must draw {self.system.requests} requests, and did not: {self.system.workload!r}")

    def playing(self, e: int) -> System:
        """The machine that system ``e``'s episode is played on."""
        return self.system.machines[int(self.on[e])]

    def metrics(self, e: int) -> EpisodeMetrics:
        """Metrics of system ``e``'s episode so far.

        Raises:
            ValueError: these dynamics keep no records.
        """
        if not self._records:
            raise fail("record", False, "True: these dynamics keep no records to work metrics out of")
        self._crew.finish()
        s, n, machine = self.systems, int(self.systems.i[e, k.REQUESTS]), self.playing(e)
        return episode_metrics(
            machine.table,
            self.system.lanes,
            self._price[self.on[e]],
            f=s.f[e],
            i=s.i[e],
            rf=s.rf[e, :, :n],
            hist=s.hist[e],
            machine=machine.accelerator.name,
        )

    def close(self) -> None:
        """Release the threads."""
        self._crew.close()
