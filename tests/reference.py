"""A slow simulator written for being obviously right: one lane, one time-step and one addition at a time.

It shares no code with `ebatch_env.simulator`; it reads the same `CostTable`, `RequestTrace` and `RoundPlan`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ebatch_env.costs import CostTable
from ebatch_env.simulator.plan import Order, RoundPlan
from ebatch_env.trace import RequestTrace


@dataclass
class ReferenceView:
    """What a policy sees; the names are those of the simulator's own view."""

    clock_s: float
    waiting: np.ndarray
    lane_request: np.ndarray
    lane_left: np.ndarray
    trace: RequestTrace
    cost_table: CostTable
    decision: int


@dataclass
class ReferenceRound:
    start_s: float
    plan: RoundPlan
    time_steps: int
    shed: list[int]
    admitted: list[int]  # in the fill
    joined: list[int] = field(default_factory=list)
    join_boundaries: int = 0
    active: list[int] = field(default_factory=list)
    pass_start_s: list[float] = field(default_factory=list)
    pass_end_s: list[float] = field(default_factory=list)
    pass_energy_j: list[float] = field(default_factory=list)
    energy_j: float = 0.0  # without static power
    end_s: float = math.nan


@dataclass
class ReferenceLog:
    completion_s: list[float]
    start_s: list[float]
    lane: list[int]
    shed: list[bool]
    shed_s: list[float]
    missed: int
    energy_j: float
    energy_parts: dict[str, float]
    latency_integral_s: float
    end_s: float
    truncated: bool
    holds: int
    decisions: int
    lane_steps: int
    useful_lane_steps: int
    rounds: list[ReferenceRound]


Policy = Callable[[Any], RoundPlan]


class _Episode:
    def __init__(self, cost_table: CostTable, lanes: int, trace: RequestTrace, hold_s: float, lengths_known: bool):
        self.table = cost_table
        self.trace = trace
        self.hold_s = hold_s
        self.lengths_known = lengths_known
        self.layers = len(cost_table.load_s)
        self.load_s = cost_table.load_s.tolist()
        self.input_floor_s = cost_table.input_floor_s.tolist()
        self.input_row_s = cost_table.input_row_s.tolist()
        self.step_s = cost_table.step_s.tolist()
        self.arrival_s = trace.arrival_s.tolist()
        self.length = trace.length.tolist()
        self.deadline_s = trace.deadline_s.tolist()
        self.requests = len(self.arrival_s)
        if cost_table.whole_sequences and max(self.length) > cost_table.max_time_steps:
            raise ValueError("a sequence is longer than max_time_steps of a machine that runs whole sequences")

        self.clock = 0.0
        self.ready = self.load_s[0]  # prefetch: when layer 0's next weights are on chip
        self.lane_request = [-1] * lanes
        self.lane_left = [0] * lanes
        self.waiting: list[int] = []
        self.arrived = 0

        self.completion_s = [math.nan] * self.requests
        self.start_s = [math.nan] * self.requests
        self.lane = [-1] * self.requests
        self.shed = [False] * self.requests
        self.shed_s = [math.nan] * self.requests
        self.missed = [False] * self.requests
        self.energy_j = 0.0
        self.parts = dict.fromkeys(cost_table.parts, 0.0)
        self.holds = 0
        self.lane_steps = 0
        self.useful_lane_steps = 0
        self.rounds: list[ReferenceRound] = []
        self.alone_s: dict[int, float] = {}

    # -- the queue and the lanes ------------------------------------------------------------------------------------

    def arrive(self, until: float) -> None:
        """Requests that have arrived by ``until`` wait."""
        while self.arrived < self.requests and self.arrival_s[self.arrived] <= until:
            self.waiting.append(self.arrived)
            self.arrived += 1

    def busy(self) -> int:
        return sum(1 for request in self.lane_request if request != -1)

    def over(self) -> bool:
        return self.arrived == self.requests and not self.waiting and self.busy() == 0

    def take(self, now: float, plan: RoundPlan, taken_before: int) -> list[int]:
        """Fill free lanes, lowest first, with waiting requests at ``now``; returns the requests taken."""
        taken: list[int] = []
        order = plan.order if self.lengths_known else Order.FIRST_COME
        anchor = self.length[self.waiting[0]] if self.waiting else 0
        while self.waiting and -1 in self.lane_request:
            if plan.admit is not None and taken_before + len(taken) >= plan.admit:
                break
            best = self.waiting[0]
            for request in self.waiting[1:]:  # strictly better only: ties go to the earlier arrival
                closer = abs(self.length[request] - anchor) < abs(self.length[best] - anchor)
                shorter = self.length[request] < self.length[best]
                if (order == Order.SHORTEST and shorter) or (order == Order.SIMILAR and closer):
                    best = request
            lane = self.lane_request.index(-1)
            self.waiting.remove(best)
            self.lane_request[lane] = best
            self.lane_left[lane] = self.length[best]
            self.start_s[best] = now
            self.lane[best] = lane
            taken.append(best)
        return taken

    def drop_hopeless(self) -> list[int]:
        """Shed the waiting requests that would be late even if started now and alone."""
        dropped = []
        for request in list(self.waiting):
            steps = self.length[request] if self.lengths_known else 1
            if steps not in self.alone_s:
                self.alone_s[steps] = float(self.table.alone_s(steps))
            if self.clock + self.alone_s[steps] > self.deadline_s[request]:
                self.waiting.remove(request)
                self.shed[request] = True
                self.shed_s[request] = self.clock
                dropped.append(request)
        return dropped

    def count_misses(self) -> None:
        """After the clock has moved: whose deadline has passed?"""
        for request in range(self.requests):
            in_time = self.completion_s[request] <= self.deadline_s[request]  # False while NaN
            if self.deadline_s[request] <= self.clock and not in_time and not self.shed[request]:
                self.missed[request] = True

    # -- energy -----------------------------------------------------------------------------------------------------

    def spend(self, record: ReferenceRound, layer: int, joules: float) -> None:
        record.energy_j += joules
        record.pass_energy_j[layer] += joules

    def spend_load(self, record: ReferenceRound, layer: int) -> None:
        self.spend(record, layer, float(self.table.load_j[layer]))
        for name, part in self.table.parts.items():
            self.parts[name] += float(part.load_j[layer])

    def spend_input(self, record: ReferenceRound, layer: int) -> None:
        self.spend(record, layer, float(self.table.input_j[layer]))
        for name, part in self.table.parts.items():
            self.parts[name] += float(part.input_j[layer])

    def spend_step(self, record: ReferenceRound, layer: int, active: int) -> None:
        self.spend(record, layer, float(self.table.step_j[layer, active]))
        for name, part in self.table.parts.items():
            self.parts[name] += float(part.step_j[layer, active])

    # -- one round --------------------------------------------------------------------------------------------------

    def run_round(self, plan: RoundPlan, shed: list[int], admitted: list[int]) -> None:
        table = self.table
        longest = max(left for request, left in zip(self.lane_request, self.lane_left, strict=True) if request != -1)
        asked = longest if table.whole_sequences or plan.time_steps is None else plan.time_steps
        time_steps = min(asked, table.max_time_steps)
        joins = plan.joins and table.notifies and not table.whole_sequences
        filled = self.busy()
        record = ReferenceRound(self.clock, plan, time_steps, shed, admitted)
        record.pass_energy_j = [0.0] * self.layers
        last_step: dict[int, int] = {}  # request -> the local step, from 1, that is its last

        # Layer 0.
        start = max(self.clock, self.ready) if table.prefetch else self.clock + self.load_s[0]
        record.pass_start_s.append(start)
        self.spend_load(record, 0)
        self.spend_input(record, 0)
        rows = filled * time_steps
        now = start + max(self.input_floor_s[0], rows * self.input_row_s[0])
        ends: list[float] = []
        for step in range(1, time_steps + 1):
            if joins:
                self.arrive(now)
                entering = self.take(now, plan, len(admitted) + len(record.joined))
                if entering:
                    record.joined += entering
                    record.join_boundaries += 1
                    if table.has_input_gemm:
                        now += self.input_floor_s[0]
                        self.spend_input(record, 0)
            if self.busy() == 0:
                break
            active = self.busy() if table.notifies else filled
            record.active.append(active)
            self.lane_steps += active
            self.useful_lane_steps += self.busy()
            now += self.step_s[0][active]
            self.spend_step(record, 0, active)
            ends.append(now)
            for lane, request in enumerate(self.lane_request):
                if request != -1:
                    self.lane_left[lane] -= 1
                    if self.lane_left[lane] == 0:
                        self.lane_request[lane] = -1
                        last_step[request] = step
        record.pass_end_s.append(now)
        load_done = self.ready

        # Layers 1..n-1 replay the same steps.
        for layer in range(1, self.layers):
            if table.prefetch:
                load_done = max(load_done, record.pass_start_s[layer - 1]) + self.load_s[layer]
                start = max(record.pass_end_s[layer - 1], load_done)
            else:
                start = record.pass_end_s[layer - 1] + self.load_s[layer]
            record.pass_start_s.append(start)
            self.spend_load(record, layer)
            self.spend_input(record, layer)
            now = start + max(self.input_floor_s[layer], sum(record.active) * self.input_row_s[layer])
            ends = []
            for active in record.active:
                now += self.step_s[layer][active]
                self.spend_step(record, layer, active)
                ends.append(now)
            record.pass_end_s.append(now)

        self.ready = max(load_done, record.pass_start_s[-1]) + self.load_s[0]
        record.end_s = now
        for request, step in last_step.items():
            self.completion_s[request] = ends[step - 1] if table.notifies else record.end_s
        self.energy_j += record.energy_j
        self.clock = record.end_s
        self.rounds.append(record)

    # -- the episode ------------------------------------------------------------------------------------------------

    def decide(self, plan: RoundPlan) -> None:
        shed = self.drop_hopeless() if plan.shed else []
        admitted = self.take(self.clock, plan, 0)
        if self.busy() > 0:
            self.run_round(plan, shed, admitted)
        elif self.waiting:
            self.holds += 1
            later = self.clock + self.hold_s
            if self.arrived < self.requests:
                later = min(later, self.arrival_s[self.arrived])
            self.clock = later
        self.count_misses()

    def skip_idle(self) -> None:
        """With nothing to do the clock jumps to the next arrival."""
        self.arrive(self.clock)
        if self.busy() == 0 and not self.waiting and self.arrived < self.requests:
            self.clock = max(self.clock, self.arrival_s[self.arrived])
            self.arrive(self.clock)

    def latency_integral(self) -> float:
        """Integral of N(t) from 0 to the end: between two events N is counted afresh."""
        gone_s = []
        for completion, shed in zip(self.completion_s, self.shed_s, strict=True):
            gone_s.append(min((x for x in (completion, shed) if not math.isnan(x)), default=math.inf))
        times = sorted({t for t in [0.0, *self.arrival_s, *gone_s, self.clock] if t <= self.clock})
        total = 0.0
        for left, right in itertools.pairwise(times):
            n = sum(1 for came, went in zip(self.arrival_s, gone_s, strict=True) if came <= left < went)
            total += n * (right - left)
        return total


def simulate(
    cost_table: CostTable,
    lanes: int,
    trace: RequestTrace,
    policy: Policy,
    hold_s: float = 1e-3,
    lengths_known: bool = True,
    max_decisions: int | None = None,
) -> ReferenceLog:
    """Run one episode."""
    episode = _Episode(cost_table, lanes, trace, hold_s, lengths_known)
    decisions = 0
    episode.skip_idle()
    while not episode.over() and (max_decisions is None or decisions < max_decisions):
        view = ReferenceView(
            clock_s=episode.clock,
            waiting=np.array(episode.waiting, dtype=np.int64),
            lane_request=np.array(episode.lane_request, dtype=np.int64),
            lane_left=np.array(episode.lane_left, dtype=np.int64),
            trace=trace,
            cost_table=cost_table,
            decision=decisions,
        )
        episode.decide(policy(view))
        decisions += 1
        episode.skip_idle()

    static_j = cost_table.static_w * episode.clock
    return ReferenceLog(
        completion_s=episode.completion_s,
        start_s=episode.start_s,
        lane=episode.lane,
        shed=episode.shed,
        shed_s=episode.shed_s,
        missed=sum(episode.missed),
        energy_j=episode.energy_j + static_j,
        energy_parts={**episode.parts, "static": static_j},
        latency_integral_s=episode.latency_integral(),
        end_s=episode.clock,
        truncated=not episode.over(),
        holds=episode.holds,
        decisions=decisions,
        lane_steps=episode.lane_steps,
        useful_lane_steps=episode.useful_lane_steps,
        rounds=episode.rounds,
    )
