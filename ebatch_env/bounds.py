"""A lower bound on the cost of any policy on a given trace, whatever it knows of the future.

What a policy may do is relaxed until the least cost can be worked out: each request is served or shed on its own, all that
ties them together is that the machine does one thing at a time, and that tie has a price (Lagrangian duality: every
price gives a bound). ``docs/bounds.md`` has the proof in steps, with the names used here.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

from ebatch_env.costs import CostTable
from ebatch_env.environment.fleet import AnySystem, Fleet
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray, check_integer
from ebatch_env.simulator import kernel as k
from ebatch_env.trace import RequestTrace

SLOTS = 256  # in which the price of the machine's time is constant
ASCENTS = 60  # prices tried
ROUNDING = 1e-9  # share by which sums in the simulator may differ from those here


@dataclass(frozen=True)
class Freedom:
    """What a policy may do on a system; the less, the higher the bound.

    Attributes:
        most_steps: the largest T of a round, at most the machine's own; None: that.
        joins: sequences may enter during a round (never on a machine that does not notify).
        sheds: requests with a deadline may be dropped.
        lengths_known: dropping looks at a request's length.
    """

    most_steps: int | None = None
    joins: bool = True
    sheds: bool = True
    lengths_known: bool = True

    @classmethod
    def of(cls, system: System) -> Freedom:
        """What the actions of ``system`` allow."""
        codec = system.actions

        def legal(control: str) -> npt.NDArray[np.int64]:
            return np.asarray(codec.levels[control][codec.legal[control]])

        steps = legal("time_steps")
        unlimited = system.table.whole_sequences or bool((steps == k.LONGEST).any())
        most = int(system.workload.lengths.max_length) if unlimited else 1
        return cls(
            most_steps=max(most, int(steps.max())),
            joins=bool(legal("joins").any()),
            sheds=bool(legal("shed").any()),
            lengths_known=system.lengths_known,
        )


@dataclass(frozen=True)
class Work:
    """The least that serving requests takes; arrays over the requests, shape (R,).

    Attributes:
        alone_s: least time from arrival to completion.
        machine_s: least machine time that a request needs for itself, between its arrival and its completion.
        tail_s: least time by which its completion is later than the mean moment of that machine time.
        energy_j: least energy, static power apart.
    """

    alone_s: FloatArray
    machine_s: FloatArray
    tail_s: FloatArray
    energy_j: FloatArray


def system_bound(system: System, trace: RequestTrace) -> float:
    """`lower_bound` for the policies of an environment: the least cost per request on one episode."""
    return lower_bound(system.table, system.lanes, trace, system.cost_per_unit()[:4], Freedom.of(system))


def episode_bounds(system: AnySystem, seeds: Sequence[int]) -> list[float]:
    """`system_bound` of the episodes that ``reset(seed=...)`` begins, each on its machine."""
    found = []
    for seed in seeds:
        rng = seeding.np_random(seed)[0]
        machine = system.machines[system.draw_machine(rng)] if isinstance(system, Fleet) else system
        found.append(system_bound(machine, machine.sample_trace(rng)))
    return found


def lower_bound(
    table: CostTable,
    lanes: int,
    trace: RequestTrace,
    price: npt.ArrayLike,
    freedom: Freedom | None = None,
    *,
    ascents: int = ASCENTS,
) -> float:
    """The least cost per request that a policy could have on ``trace``, or less.

    Args:
        table: the machine.
        lanes: its lanes B.
        trace: the requests.
        price: cost per joule, per second of latency, per miss, per shed request, shape (4,).
        freedom: what policies may do; None: all that the machine allows.
        ascents: prices of the machine's time that are tried; more can only raise the bound.

    Raises:
        ValueError: ``ascents`` or ``lanes`` out of range.

    >>> table = CostTable(step_s=[[0, 1, 1]], step_j=[[0, 1.5, 2.0]], load_s=[2], load_j=[5])
    >>> alone = RequestTrace(arrival_s=[0.0], length=[3])
    >>> round(lower_bound(table, 2, alone, [0.0, 1.0, 0.0, 0.0], Freedom(joins=False)), 6)
    5.0
    """
    check_integer("lanes", lanes, low=1, high=table.lanes)
    check_integer("ascents", ascents, low=0)
    freedom = freedom or Freedom()
    energy, latency, miss, shed = (float(value) for value in np.asarray(price, dtype=np.float64))
    work = least_work(table, lanes, trace.length, freedom)
    shed_wait = _least_wait(table, trace, freedom)
    can_be_dropped = np.isfinite(shed_wait)
    choices = _Choices(
        trace,
        work,
        latency=latency,
        miss=miss,
        served=energy * work.energy_j,
        dropped=np.where(can_be_dropped, shed + latency * np.where(can_be_dropped, shed_wait, 0.0), np.inf),
    )
    static = energy * table.static_w * _least_end_s(trace, work, shed_wait)
    return (choices.best(ascents) + static) * (1 - ROUNDING) / trace.requests


def least_work(table: CostTable, lanes: int, length: npt.ArrayLike, freedom: Freedom) -> Work:
    """What sequences of ``length`` steps take at the least."""
    steps = np.asarray(length, dtype=np.float64)
    most = table.max_time_steps
    if freedom.most_steps is not None:
        most = max(1, min(most, freedom.most_steps))
    joins = freedom.joins and table.notifies and not table.whole_sequences
    busy = np.arange(1, lanes + 1)
    step_s = table.step_s[:, 1 : lanes + 1]
    fastest_s = step_s.min(axis=1)  # (n,)
    share_s = (step_s / busy).min(axis=1)
    # What a pass takes before its steps. A joiner finds layer 0's weights there, and pays its GEMM's floor once more.
    load_s = np.zeros(table.n_layers) if table.prefetch else table.load_s
    before_s = load_s + table.input_floor_s
    after_join = before_s.copy()
    after_join[0] = table.input_floor_s[0] if joins else before_s[0]
    rounds = np.ceil(steps / most)
    alone = steps * fastest_s.sum() + after_join.sum() + (rounds - 1) * before_s.sum()
    # The same as shares of the machine's time: of each step, and of what comes before the steps of a full round.
    counted = before_s.copy()
    if joins:
        counted[0] = 0.0
    per_step = share_s + counted / (most * lanes)
    paces = [share / fastest for share, fastest in zip(share_s, fastest_s, strict=True) if fastest > 0]
    pace = max([*paces, 1.0 / lanes if counted.any() else 0.0], default=0.0)
    machine = steps * per_step.sum()
    fixed_j = float(table.load_j.sum() + table.input_j.sum())
    per_lane_j = ((fixed_j / most + table.step_j[:, 1 : lanes + 1].sum(axis=0)) / busy).min()
    return Work(alone, machine, 0.5 * machine / pace if pace > 0 else np.zeros_like(machine), steps * per_lane_j)


def _least_wait(table: CostTable, trace: RequestTrace, freedom: Freedom) -> FloatArray:
    """Seconds from arrival until a request can be dropped; infinite where it never can."""
    if not freedom.sheds:
        return np.full(trace.requests, np.inf)
    needed = table.alone_s(trace.length if freedom.lengths_known else np.ones_like(trace.length))
    due = trace.deadline_s - needed
    some = np.isfinite(trace.deadline_s)
    wait = due - trace.arrival_s - ROUNDING * np.where(some, trace.deadline_s, 0.0)
    return np.where(some, np.maximum(wait, 0.0), np.inf)


def _least_end_s(trace: RequestTrace, work: Work, shed_wait: FloatArray) -> float:
    """The earliest end of the episode: every request is there until it is served or dropped."""
    end = float((trace.arrival_s + np.minimum(work.alone_s, shed_wait)).max())
    if not np.isfinite(shed_wait).any():  # all that arrives from any moment on has to be done from then on
        end = max(end, float((trace.arrival_s + work.machine_s[::-1].cumsum()[::-1]).max()))
    return end


class _Choices:
    """Requests choose on their own between on time, late and dropped, at given prices of the machine's time.

    Args:
        trace, work: the requests and the least they take.
        latency: cost of a second of latency; ``miss``: of a miss.
        served: cost of serving each request, latency apart, shape (R,).
        dropped: cost of dropping it, infinite where that cannot be, shape (R,).
    """

    def __init__(
        self, trace: RequestTrace, work: Work, *, latency: float, miss: float, served: FloatArray, dropped: FloatArray
    ) -> None:
        self.work, self.latency, self.miss, self.served, self.dropped = work, latency, miss, served, dropped
        self.arrival = arrival = trace.arrival_s
        due = trace.deadline_s * (1 + ROUNDING)
        self.can_meet = arrival + work.alone_s <= due
        # The least cost of the latency of a request that is late; infinite for one that never can be.
        some = np.isfinite(trace.deadline_s)
        late_s = np.maximum(work.alone_s, np.where(some, trace.deadline_s, 0.0) - arrival)
        self.late = np.where(some, latency * late_s, np.inf)
        # Past the moment by which all could be done time costs nothing: a last slot without end.
        self.width = (_fluid_end(arrival, work.machine_s) - float(arrival[0])) / SLOTS
        self.begins = float(arrival[0]) + self.width * np.arange(SLOTS + 1)
        ends = np.append(self.begins[1:], np.inf)
        # The slots in which a request's machine time can be, (R,) each: from the first on, if on time up to the last.
        first = np.searchsorted(ends, arrival, side="right").clip(max=SLOTS)
        last = np.maximum(np.searchsorted(self.begins, due, side="right") - 1, first)
        slots = np.arange(SLOTS + 1)
        wait = latency * np.maximum(self.begins - arrival[:, None], 0.0)
        self.open = np.where(slots >= first[:, None], wait, np.inf)  # (R, slots)
        self.timely = np.where(slots <= last[:, None], self.open, np.inf)
        self.first, self.ranges = first, np.stack([first, last + 1], axis=1).ravel()

    def best(self, ascents: int) -> float:
        """The largest bound over some prices, times the number of requests."""
        best, served, where = self.value(np.zeros(SLOTS + 1))
        if ascents == 0 or self.width == 0.0:
            return best
        prices = np.zeros(SLOTS + 1)
        start = prices
        for _ in range(3):
            tried = self.prices_of(served)
            for scale in (1.0, 0.7, 0.4):
                value, chosen, places = self.value(scale * tried)
                if value > best:
                    best, start, served, where = value, scale * tried, chosen, places
        prices = start.copy()
        # How much more is hoped for: halved whenever it does not come.
        reach = 0.1 * best if best > 0.0 else 0.5 * self.miss * where.size
        stuck = 0
        for _ in range(ascents):
            load = np.bincount(where[served], self.work.machine_s[served], minlength=SLOTS + 1)
            slope = load - self.width
            slope[-1] = 0.0
            slope[(prices == 0) & (slope < 0)] = 0.0
            size = float(slope @ slope)
            if size == 0.0:
                break
            prices = np.maximum(prices + reach / size * slope, 0.0)
            value, served, where = self.value(prices)
            if value > best:
                best, start, stuck = value, prices.copy(), 0
            else:
                stuck += 1
                if stuck == 4:
                    reach, stuck, prices = reach / 2, 0, start.copy()
                    _, served, where = self.value(prices)
        return best

    def value(self, prices: FloatArray) -> tuple[float, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """The bound for ``prices`` (SLOTS + 1,) of a second of the machine, who is then served, and in which slot."""
        work, w = self.work, self.latency
        cost = work.machine_s[:, None] * prices
        paid, paid_timely = cost + self.open, cost + self.timely
        place, place_timely = paid.argmin(axis=1), paid_timely.argmin(axis=1)
        rows = np.arange(place.size)
        # Two bounds for a request that is served: latency counted from its machine time, or as if it were alone.
        cheapest = np.minimum.accumulate(prices[::-1])[::-1][self.first]
        cheapest_timely = np.minimum.reduceat(np.append(prices, np.inf), self.ranges)[::2]
        tail = w * work.tail_s
        on_time = np.maximum(
            paid_timely[rows, place_timely] + tail, work.machine_s * cheapest_timely + w * work.alone_s
        )
        late = np.maximum(paid[rows, place] + tail, work.machine_s * cheapest + self.late) + self.miss
        on_time = np.where(self.can_meet, on_time, np.inf)
        served_cost = self.served + np.minimum(on_time, late)
        chosen = np.minimum(served_cost, self.dropped)
        where = np.where(on_time <= late, place_timely, place)
        return float(chosen.sum() - self.width * prices[:SLOTS].sum()), served_cost <= self.dropped, where

    def prices_of(self, served: npt.NDArray[np.bool_]) -> FloatArray:
        """The prices that would be best if just ``served`` were, without deadlines: shortest first, interrupted."""
        w, needed = self.latency, self.work.machine_s
        jobs = np.flatnonzero(served & (needed > 0))
        points: list[tuple[float, float, float]] = []  # from, to, slope of the price
        waiting: list[tuple[float, int, float]] = []
        clock, n = 0.0, 0
        while n < jobs.size or waiting:
            if not waiting:
                clock = max(clock, float(self.arrival[jobs[n]]))
            while n < jobs.size and self.arrival[jobs[n]] <= clock:
                heapq.heappush(waiting, (float(needed[jobs[n]]), int(jobs[n]), float(needed[jobs[n]])))
                n += 1
            size, job, left = heapq.heappop(waiting)
            until = clock + left
            if n < jobs.size and self.arrival[jobs[n]] < until:
                until = float(self.arrival[jobs[n]])
                heapq.heappush(waiting, (size, job, left - (until - clock)))
            points.append((clock, until, w / size))
            clock = until
        middles = self.begins[:SLOTS] + 0.5 * self.width
        times, values = [math.inf], [0.0]
        price, after = 0.0, math.inf
        for begin, end, slope in reversed(points):
            if end < after:  # the machine was idle in between
                price = 0.0
                times.append(end)
                values.append(0.0)
            price += slope * (end - begin)
            times.append(begin)
            values.append(price)
            after = begin
        found = np.interp(middles, np.array(times[:0:-1]), np.array(values[:0:-1])) if points else np.zeros(SLOTS)
        return np.append(found, 0.0)


def _fluid_end(arrival: FloatArray, needed: FloatArray) -> float:
    """When a machine that is never idle with work at hand is done."""
    return float((arrival + needed[::-1].cumsum()[::-1]).max())
