"""Random machines, traces and plans whose numbers are all eighths, so that every sum is exact in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ebatch_env.costs import CostTable, EnergyPart
from ebatch_env.simulator.plan import Order, RoundPlan
from ebatch_env.trace import RequestTrace

MAX_LENGTH = 12


def eighths(low: int, high: int) -> st.SearchStrategy[float]:
    """Multiples of 1/8 between ``low`` and ``high`` eighths."""
    return st.integers(low, high).map(lambda n: n / 8)


mostly = st.sampled_from([True, True, True, False])
seldom = st.sampled_from([False, False, False, False, True])


@dataclass(frozen=True)
class CycledPlans:
    """A policy that cycles a list of plans by decision; every third admits all, so that an episode always ends."""

    plans: tuple[RoundPlan, ...]

    def __call__(self, view: Any) -> RoundPlan:
        plan = self.plans[view.decision % len(self.plans)]
        return replace(plan, admit=None) if view.decision % 3 == 2 else plan


@st.composite
def cost_tables(draw: Callable[..., Any], lowest_step: int = 1) -> CostTable:
    """1-4 layers, 1-6 lanes, every feature on or off."""
    n = draw(st.integers(1, 4))
    lanes = draw(st.integers(1, 6))

    def vector(high: int) -> np.ndarray:
        return np.array(draw(st.lists(eighths(0, high), min_size=n, max_size=n)))

    def steps(low: int) -> np.ndarray:
        row = st.lists(eighths(low, 24), min_size=lanes, max_size=lanes).map(lambda xs: [0.0, *xs])
        return np.array(draw(st.lists(row, min_size=n, max_size=n)))

    zeros = np.zeros(n)
    has_load, has_input, has_parts = draw(mostly), draw(st.booleans()), draw(st.booleans())
    load_j = vector(40) if has_load else zeros
    input_j = vector(24) if has_input else zeros
    step_j = steps(0)
    parts: dict[str, EnergyPart] = {}
    if has_parts:
        dram, rest = step_j.copy(), step_j.copy()
        dram[:, ::2] = 0.0
        rest[:, 1::2] = 0.0
        parts = {"dram": EnergyPart(load_j, zeros, dram), "rest": EnergyPart(zeros, input_j, rest)}
    whole = draw(seldom)
    return CostTable(
        step_s=steps(lowest_step),
        step_j=step_j,
        load_s=vector(40) if has_load else zeros,
        load_j=load_j,
        input_floor_s=vector(24) * draw(mostly) if has_input else zeros,
        input_row_s=vector(8) if has_input else zeros,
        input_j=input_j,
        static_w=draw(eighths(0, 16)),
        prefetch=draw(st.booleans()),
        notifies=draw(mostly),
        max_time_steps=draw(st.integers(MAX_LENGTH, 16) if whole else st.integers(1, 14)),
        whole_sequences=whole,
        parts=parts,
    )


@st.composite
def traces(draw: Callable[..., Any]) -> RequestTrace:
    """1-25 requests with ties among the arrivals, some with deadlines."""
    requests = draw(st.integers(1, 25) | st.integers(8, 25))

    def many(item: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(item, min_size=requests, max_size=requests))

    gaps = many(st.just(0.0) | eighths(0, 16) | eighths(0, 160))
    arrival = np.cumsum(gaps)
    deadline = None
    if draw(st.booleans()):
        patience = many(eighths(1, 400) | st.just(float("inf")))
        deadline = arrival + np.array(patience)
    return RequestTrace(arrival_s=arrival, length=many(st.integers(1, MAX_LENGTH)), deadline_s=deadline)


def plans() -> st.SearchStrategy[RoundPlan]:
    """Every field of a plan."""
    return st.builds(
        RoundPlan,
        time_steps=st.none() | st.integers(1, 14),
        admit=st.none() | st.integers(0, 7),
        joins=mostly,
        order=st.sampled_from(Order),
        shed=st.booleans(),
    )


def policies() -> st.SearchStrategy[CycledPlans]:
    """Deterministic plan sequences."""
    return st.lists(plans(), min_size=1, max_size=7).map(lambda chosen: CycledPlans(tuple(chosen)))


@dataclass(frozen=True)
class Episode:
    """All that an episode depends on."""

    cost_table: CostTable
    lanes: int
    trace: RequestTrace
    policy: CycledPlans
    hold_s: float
    lengths_known: bool

    @property
    def system(self) -> tuple[CostTable, int, RequestTrace]:
        """The positional arguments of both simulators."""
        return self.cost_table, self.lanes, self.trace

    @property
    def options(self) -> dict[str, Any]:
        """Their options."""
        return {"hold_s": self.hold_s, "lengths_known": self.lengths_known}

    def __repr__(self) -> str:  # arrays in full, so that a failing example can be typed in
        table, trace = self.cost_table, self.trace
        fields = ("step_s", "step_j", "load_s", "load_j", "input_floor_s", "input_row_s", "input_j")
        arrays = ", ".join(f"{name}={getattr(table, name).tolist()}" for name in fields)
        rest = ", ".join(
            f"{name}={getattr(table, name)}"
            for name in ("static_w", "prefetch", "notifies", "max_time_steps", "whole_sequences")
        )
        return (
            f"Episode(CostTable({arrays}, {rest}), lanes={self.lanes}, RequestTrace({trace.arrival_s.tolist()}, "
            f"{trace.length.tolist()}, {trace.deadline_s.tolist()}), {self.policy.plans}, hold_s={self.hold_s}, "
            f"lengths_known={self.lengths_known})"
        )


@st.composite
def episodes(draw: Callable[..., Any], lowest_step: int = 1) -> Episode:
    """A machine, some or all of its lanes, a trace and a policy."""
    table = draw(cost_tables(lowest_step))
    trace = draw(traces())
    if draw(seldom):  # deadlines that can just be met, or just not
        slack = draw(st.lists(eighths(0, 0) | eighths(1, 16), min_size=trace.requests, max_size=trace.requests))
        least = np.maximum(table.alone_s(trace.length), 1 / 8)
        trace = RequestTrace(trace.arrival_s, trace.length, trace.arrival_s + least + np.array(slack))
    return Episode(
        cost_table=table,
        lanes=draw(st.integers(1, table.lanes) | st.just(table.lanes)),
        trace=trace,
        policy=draw(policies()),
        hold_s=draw(eighths(1, 32)),
        lengths_known=draw(mostly),
    )


def float_episode(seed: int, requests: int, lanes: int, plan_list: Sequence[RoundPlan]) -> Episode:
    """A large episode of arbitrary floats, near the machine's capacity."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    climb = np.concatenate([np.zeros((n, 1)), np.cumsum(rng.uniform(0.0, 0.02, (n, lanes)), axis=1) + 0.3], axis=1)
    has_input, whole = bool(rng.random() < 0.5), bool(rng.random() < 0.15)
    length = rng.integers(1, 60, requests)
    table = CostTable(
        step_s=climb,
        step_j=climb * rng.uniform(0.5, 2.0, (n, 1)),
        load_s=rng.uniform(0.0, 4.0, n),
        load_j=rng.uniform(0.0, 9.0, n),
        input_floor_s=rng.uniform(0.0, 1.0, n) * has_input,
        input_row_s=rng.uniform(0.0, 0.01, n) * has_input,
        input_j=rng.uniform(0.0, 1.0, n) * has_input,
        static_w=float(rng.uniform(0.0, 2.0)),
        prefetch=bool(rng.random() < 0.5),
        notifies=bool(rng.random() < 0.75),
        max_time_steps=64 if whole else int(rng.integers(8, 64)),
        whole_sequences=whole,
    )
    work_s = float(table.step_s[:, lanes].sum()) * float(length.mean()) / lanes
    arrival = np.cumsum(rng.exponential(work_s * 1.1, requests))
    alone = table.alone_s(length)
    deadline = arrival + alone * rng.uniform(0.9, 8.0, requests)
    trace = RequestTrace(arrival_s=arrival, length=length, deadline_s=deadline)
    return Episode(table, lanes, trace, CycledPlans(tuple(plan_list)), float(rng.uniform(0.1, 3.0)), True)
