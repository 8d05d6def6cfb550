"""The readable front of the kernel, for people and for traces of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ebatch_env.costs import CostTable
from ebatch_env.errors import LARGEST, IntArray, check_integer, check_number
from ebatch_env.simulator import entry
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.log import EpisodeLog, RoundRecord, energy_parts
from ebatch_env.simulator.plan import RoundPlan
from ebatch_env.simulator.state import Machine, Scratch, Systems, check_clock, check_fits, pack_machine
from ebatch_env.trace import RequestTrace

# With no lane busy and work waiting, a policy may hold through this many whole ``hold_s`` in a row before it is taken to
# be one that never admits. That is some 10 s of computing, and 1000 s of the simulated machine with the default hold.
MAX_HOLDS = 1_000_000


@dataclass(frozen=True)
class SystemView:
    """What a policy sees at a decision; good during the call only.

    The arrays are built when asked for, from the system as it is then; changing them changes nothing.
    """

    trace: RequestTrace
    cost_table: CostTable
    decision: int  # decisions taken before this one
    clock_s: float
    n_waiting: int
    n_busy: int
    _systems: Systems

    @property
    def waiting(self) -> IntArray:
        """Waiting requests as indices into the trace, in order of arrival."""
        head, arrived = int(self._systems.i[0, k.HEAD]), int(self._systems.i[0, k.NEXT])
        state = self._systems.ri[0, k.LANE, head:arrived]
        return (head + np.flatnonzero(state == k.NOT_STARTED)).astype(np.int32)

    @property
    def lane_request(self) -> IntArray:
        """Request in each lane, -1 in a free one, shape (B,)."""
        return np.asarray(self._systems.in_lanes(0)[k.REQUEST])

    @property
    def lane_left(self) -> IntArray:
        """Steps left in each lane, 0 in a free one, shape (B,)."""
        return np.asarray(self._systems.in_lanes(0)[k.LEFT])


Policy = Callable[[SystemView], RoundPlan]


def encode_plan(plan: RoundPlan) -> list[int]:
    """The kernel's form of ``plan``: T, admission, joins, order, shed."""
    if not isinstance(plan, RoundPlan):
        raise TypeError(f"a policy must return a RoundPlan, got {plan!r}")
    steps = k.LONGEST if plan.time_steps is None else min(plan.time_steps, 1 << 30)
    admit = k.NO_LIMIT if plan.admit is None else min(plan.admit, 1 << 30)
    return [steps, admit, int(plan.joins), int(plan.order), int(plan.shed)]


class Simulator:
    """One accelerator serving one trace.

    Args:
        cost_table: the machine.
        lanes: lanes B of the batch, 1..``cost_table.lanes``.
        trace: the work.
        hold_s: the longest a hold lasts, in (0, 1e12] s; the next arrival ends it earlier.
        lengths_known: False hides sequence lengths from `Order` (first come is used) and from shedding (every waiting
            request counts as one step long).
        max_decisions: the episode is truncated after this many; None: after `MAX_HOLDS` holds that lasted ``hold_s`` to
            the end, with no round run and no request shed among them. Rounds are at most as many as the trace has
            time-steps, and holds that an arrival ends as many as it has requests, so only a policy that never admits
            could go on for ever.

    Raises:
        TypeError: ``cost_table`` or ``trace`` of another type.
        ValueError: an argument outside its range, a sequence too long for a machine that runs whole sequences, or times
            so far apart that float64 cannot add them.

    >>> table = CostTable(step_s=[[0, 1, 1]], step_j=[[0, 1.5, 2.0]], load_s=[2], load_j=[5])
    >>> trace = RequestTrace(arrival_s=[0, 0, 2.5, 9], length=[3, 1, 2, 1])
    >>> log = Simulator(table, 2, trace, hold_s=1.0).run(lambda view: RoundPlan(time_steps=4))
    >>> log.completion_s.tolist(), log.energy_j, log.latency_integral_s
    ([5.0, 3.0, 5.0, 12.0], 17.5, 13.5)
    """

    def __init__(
        self,
        cost_table: CostTable,
        lanes: int,
        trace: RequestTrace,
        *,
        hold_s: float = 1e-3,
        lengths_known: bool = True,
        max_decisions: int | None = None,
    ) -> None:
        for name, value, kind in (("cost_table", cost_table, CostTable), ("trace", trace, RequestTrace)):
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}")
        self.cost_table = cost_table
        self.lanes = check_integer("lanes", lanes, low=1, high=cost_table.lanes)
        self.trace = trace
        self.hold_s = check_number("hold_s", hold_s, low=0.0, low_open=True, high=LARGEST)
        check_fits(cost_table, int(trace.length.max()))
        check_clock(cost_table, float(trace.arrival_s[-1]), self.hold_s)
        self._machine: Machine = pack_machine(
            cost_table, hold_s=self.hold_s, longest=int(trace.length.max()), lengths_known=lengths_known
        )
        self.max_decisions = None if max_decisions is None else check_integer("max_decisions", max_decisions, low=1)

    def run(self, policy: Policy) -> EpisodeLog:
        """Play the whole trace under ``policy``."""
        systems = Systems.empty(1, self.lanes, self.trace.requests, int(self.trace.length.max()))
        scratch = Scratch.of(self.lanes, self.cost_table, self.trace.requests)
        machine = self._machine
        systems.begin(0, self.trace, machine)
        views = systems.system(0)
        f, i, rf, ri = systems.f[0], systems.i[0], systems.rf[0], systems.ri[0]
        shared = (machine.layers, machine.step_s, machine.step_j, machine.alone, machine.machine, systems.bins)
        rounds: list[RoundRecord] = []
        truncated = False
        held = 0  # holds in a row that lasted to the end
        while i[k.SERVED] + i[k.SHED] < self.trace.requests:
            if held >= MAX_HOLDS if self.max_decisions is None else i[k.DECISIONS] >= self.max_decisions:
                truncated = True
                break
            view = SystemView(
                self.trace,
                self.cost_table,
                int(i[k.DECISIONS]),
                float(f[k.CLOCK]),
                int(i[k.WAITING]),
                int(i[k.BUSY]),
                systems,
            )
            plan = policy(view)
            boundaries, arrived = int(i[k.JOIN_BOUNDARIES]), int(i[k.NEXT])
            code = np.array(encode_plan(plan), np.int64)
            result = entry.decide(code, *views, *shared, *scratch)
            if result != k.HELD or i[k.LAST_SHED] > 0:
                held = 0
            elif i[k.NEXT] == arrived:
                held += 1
            if result == k.RAN:
                boundaries = int(i[k.JOIN_BOUNDARIES]) - boundaries
                rounds.append(self._record(plan, boundaries, f, i, scratch))
            entry.settle(f, i)
        rf, ri = rf[:, : self.trace.requests], ri[:, : self.trace.requests]
        counts = int(i[k.ROUNDS]), int(i[k.JOIN_BOUNDARIES])
        return EpisodeLog(
            trace=self.trace,
            completion_s=rf[k.COMPLETION].copy(),
            start_s=rf[k.START].copy(),
            lane=np.maximum(ri[k.LANE], -1),
            shed=ri[k.LANE] == k.DROPPED,
            missed=int(i[k.MISSED]),
            energy_j=float(f[k.ENERGY]),
            energy_parts=energy_parts(self.cost_table, *counts, systems.hist[0], float(f[k.STATIC_J])),
            latency_integral_s=float(f[k.INTEGRAL]),
            end_s=float(f[k.CLOCK]),
            rounds=tuple(rounds),
            holds=int(i[k.HOLDS]),
            decisions=int(i[k.DECISIONS]),
            lane_steps=int(i[k.LANE_STEPS]),
            useful_lane_steps=int(i[k.USEFUL_STEPS]),
            truncated=truncated,
        )

    def _record(self, plan: RoundPlan, boundaries: int, f: np.ndarray, i: np.ndarray, scratch: Scratch) -> RoundRecord:
        """Read the round just run out of the state and the scratch."""
        active = scratch.active(i)
        pass_j = self.cost_table.load_j + self.cost_table.input_j + self.cost_table.step_j[:, active].sum(1)
        pass_j[0] += boundaries * self.cost_table.input_j[0]
        return RoundRecord(
            start_s=float(f[k.LAST_START]),
            end_s=float(f[k.LAST_END]),
            plan=plan,
            time_steps=int(i[k.LAST_T]),
            active=active,
            joined=int(i[k.LAST_JOINED]),
            join_boundaries=boundaries,
            shed=int(i[k.LAST_SHED]),
            pass_start_s=scratch.passes[0].copy(),
            pass_end_s=scratch.passes[1].copy(),
            pass_energy_j=pass_j,
            energy_j=float(pass_j.sum()),
        )
