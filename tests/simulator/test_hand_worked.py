"""Tiny episodes worked by hand, on the simulator and on the slow reference, to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ebatch_env import CostTable, Order, RequestTrace, RoundPlan, Simulator
from tests.reference import simulate

NAN = float("nan")
INF = float("inf")


def on_simulator(table: CostTable, lanes: int, trace: RequestTrace, policy: Any, **options: Any) -> Any:
    return Simulator(table, lanes, trace, **options).run(policy)


@pytest.fixture(params=[simulate, on_simulator], ids=["reference", "simulator"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.param  # type: ignore[no-any-return]


def always(plan: RoundPlan) -> Callable[[Any], RoundPlan]:
    return lambda view: plan


def in_turn(*plans: RoundPlan) -> Callable[[Any], RoundPlan]:
    return lambda view: plans[view.decision]


def check_requests(log: Any, *, completion: list, start: list, lane: list, shed: list | None = None) -> None:
    np.testing.assert_array_equal(log.completion_s, completion)
    np.testing.assert_array_equal(log.start_s, start)
    np.testing.assert_array_equal(log.lane, lane)
    np.testing.assert_array_equal(log.shed, shed or [False] * len(lane))


def check_totals(log: Any, *, energy: float, integral: float, end: float, missed: int = 0, holds: int = 0) -> None:
    assert log.energy_j == energy
    assert sum(log.energy_parts.values()) == energy
    assert log.latency_integral_s == integral
    assert log.end_s == end
    assert log.missed == missed
    assert log.holds == holds
    assert not log.truncated


def check_round(
    record: Any, *, start: float, end: float, steps: int, active: list, passes: list, energy: float | None = None
) -> None:
    assert (record.start_s, record.end_s) == (start, end)
    assert record.time_steps == steps
    np.testing.assert_array_equal(record.active, active)
    np.testing.assert_array_equal(record.pass_start_s, [first for first, _ in passes])
    np.testing.assert_array_equal(record.pass_end_s, [last for _, last in passes])
    if energy is not None:
        assert record.energy_j == energy


def toy(layers: int, **options: Any) -> CostTable:
    """Two lanes, load 2 s and 5 J, a step 1 s and 1 J + 0.5 J a lane."""
    return CostTable(
        step_s=[[0, 1, 1]] * layers,
        step_j=[[0, 1.5, 2]] * layers,
        load_s=[2] * layers,
        load_j=[5] * layers,
        **options,
    )


TOY_TRACE = RequestTrace(arrival_s=[0, 0, 2.5, 9], length=[3, 1, 2, 1])  # A, B, C, D
FOUR = always(RoundPlan(time_steps=4))


def test_one_layer_without_prefetch(run: Callable[..., Any]) -> None:
    # Load 0-2; steps end at 3 (B), 4, 5 (A, and C that joined at 3): 5 + 3 * 2 = 11 J. D: 9 + 2 + 1: 5 + 1.5 J.
    # N: A 5 + B 3 + C 2.5 + D 3 = 13.5.
    log = run(toy(1), 2, TOY_TRACE, FOUR)
    check_requests(log, completion=[5, 3, 5, 12], start=[0, 0, 3, 9], lane=[0, 1, 1, 0])
    check_totals(log, energy=17.5, integral=13.5, end=12)
    assert len(log.rounds) == 2
    check_round(log.rounds[0], start=0, end=5, steps=4, active=[2, 2, 2], passes=[(2, 5)], energy=11)
    check_round(log.rounds[1], start=9, end=12, steps=4, active=[1], passes=[(11, 12)], energy=6.5)


def test_two_layers_without_prefetch(run: Callable[..., Any]) -> None:
    # Layer 1 loads 5-7 and replays: 8 (B), 9, 10 (A, C). D, waiting since 9, starts at 10: 13 in layer 0, 15 + 1 = 16.
    # N: 10 + 8 + 7.5 + 7 = 32.5.
    log = run(toy(2), 2, TOY_TRACE, FOUR)
    check_requests(log, completion=[10, 8, 10, 16], start=[0, 0, 3, 10], lane=[0, 1, 1, 0])
    check_totals(log, energy=35, integral=32.5, end=16)
    assert len(log.rounds) == 2
    check_round(log.rounds[0], start=0, end=10, steps=4, active=[2, 2, 2], passes=[(2, 5), (7, 10)], energy=22)
    check_round(log.rounds[1], start=10, end=16, steps=4, active=[1], passes=[(12, 13), (15, 16)], energy=13)


def test_two_layers_with_prefetch(run: Callable[..., Any]) -> None:
    # Layer 0 is there at 2; layer 1 loads 2-4, so it starts at 5; layer 0 loads again 5-7. D at 9 starts at once;
    # layer 1 loads 9-11, so D's second pass is 11-12. N: 8 + 6 + 5.5 + 3 = 22.5.
    log = run(toy(2, prefetch=True), 2, TOY_TRACE, FOUR)
    check_requests(log, completion=[8, 6, 8, 12], start=[0, 0, 3, 9], lane=[0, 1, 1, 0])
    check_totals(log, energy=35, integral=22.5, end=12)
    assert len(log.rounds) == 2
    check_round(log.rounds[0], start=0, end=8, steps=4, active=[2, 2, 2], passes=[(2, 5), (5, 8)], energy=22)
    check_round(log.rounds[1], start=9, end=12, steps=4, active=[1], passes=[(9, 10), (11, 12)], energy=13)


def test_prefetch_of_one_layer(run: Callable[..., Any]) -> None:
    # Length 5 by rounds of 2 steps, load 3 s: ready at 3; passes 3-5, 6-8 (loaded 3-6), 9-10 (loaded 6-9).
    # Energy 3 * 5 + 5 * 1.5 = 22.5 J, and 2 W * 10 s = 20 J.
    table = CostTable(
        step_s=[[0, 1, 1]], step_j=[[0, 1.5, 2]], load_s=[3], load_j=[5], static_w=2, prefetch=True, max_time_steps=2
    )
    log = run(table, 2, RequestTrace([0], [5]), always(RoundPlan()))
    check_requests(log, completion=[10], start=[0], lane=[0])
    check_totals(log, energy=42.5, integral=10, end=10)
    assert log.energy_parts == {"machine": 22.5, "static": 20}
    check_round(log.rounds[0], start=0, end=5, steps=2, active=[1, 1], passes=[(3, 5)], energy=12.5 - 4.5)
    check_round(log.rounds[1], start=5, end=8, steps=2, active=[1, 1], passes=[(6, 8)], energy=8)
    check_round(log.rounds[2], start=8, end=10, steps=1, active=[1], passes=[(9, 10)], energy=6.5)


def test_padding_without_notifications(run: Callable[..., Any]) -> None:
    # Round 1: A and B, load 0-2, the longest ends after 3 steps: 2-5, every step with 2 lanes though B ended at 3.
    # Both complete at 5: 5 + 3 * 2 = 11 J. C may not join at 3; it runs 5 + 2 + 2 = 9: 5 + 2 * 1.5 = 8 J.
    # D waits at 9: 9 + 2 + 1 = 12: 6.5 J. N: 5 + 5 + 6.5 + 3 = 19.5.
    log = run(toy(1, notifies=False), 2, TOY_TRACE, FOUR)
    check_requests(log, completion=[5, 5, 9, 12], start=[0, 0, 5, 9], lane=[0, 1, 0, 0])
    check_totals(log, energy=25.5, integral=19.5, end=12)
    assert len(log.rounds) == 3
    check_round(log.rounds[0], start=0, end=5, steps=4, active=[2, 2, 2], passes=[(2, 5)], energy=11)
    check_round(log.rounds[1], start=5, end=9, steps=4, active=[1, 1], passes=[(7, 9)], energy=8)
    check_round(log.rounds[2], start=9, end=12, steps=4, active=[1], passes=[(11, 12)], energy=6.5)


def test_input_gemm_and_the_cost_of_a_join(run: Callable[..., Any]) -> None:
    # Idle to 1. Round 1: A, B. Layer 0's GEMM: 2 lanes * 4 steps = 8 rows * 0.25 = 2 s: 1-3. C (3 s) waits at boundary
    # 1 but no lane is free. Step 1 to 4: B ends. C joins at 4, floor 1 s: 5. Steps to 6, 7 (C ends), 8 (A alone).
    # Layer 0: 3 + 3 (join) + 2 + 2 + 2 + 1 = 13 J. Layer 1: rows 2+2+2+1 = 7 * 0.5 = 3.5 s: 8-11.5; steps to 12 (B),
    # 12.5, 13 (C), 13.5: 2 + 1 + 1 + 1 + 0.5 = 5.5 J. A has 1 step left.
    # Round 2 at 13.5: rows 1 * 4 * 0.25 = floor 1: 14.5, step 15.5; layer 1: 1 * 0.5 = floor 0.5: 16, step 16.5.
    # 3 + 1 + 2 + 0.5 = 6.5 J. Static 0.25 * 16.5 = 4.125 J. N: 15.5 + 11 + 10 = 36.5.
    table = CostTable(
        step_s=[[0, 1, 1], [0, 0.5, 0.5]],
        step_j=[[0, 1, 2], [0, 0.5, 1]],
        input_floor_s=[1, 0.5],
        input_row_s=[0.25, 0.5],
        input_j=[3, 2],
        static_w=0.25,
    )
    log = run(table, 2, RequestTrace(arrival_s=[1, 1, 3], length=[5, 1, 2]), FOUR)
    check_requests(log, completion=[16.5, 12, 13], start=[1, 1, 4], lane=[0, 1, 1])
    check_totals(log, energy=13 + 5.5 + 6.5 + 4.125, integral=36.5, end=16.5)
    assert log.energy_parts == {"machine": 25, "static": 4.125}
    assert len(log.rounds) == 2
    first, second = log.rounds
    check_round(first, start=1, end=13.5, steps=4, active=[2, 2, 2, 1], passes=[(1, 8), (8, 13.5)], energy=18.5)
    check_round(second, start=13.5, end=16.5, steps=4, active=[1], passes=[(13.5, 15.5), (15.5, 16.5)], energy=6.5)


def test_shed_and_missed(run: Callable[..., Any]) -> None:
    # One lane, load 1 s and 2 J, step 1 s and 1 J, T at most 4; alone(L) = 1 + L up to 4 steps, alone(5) = 5 + 2 = 7.
    # t=0: A (2 steps, due 10) runs; B (3, due 6) could still do 0 + 4. A: load 1, steps 2, 3.
    # t=3: B 3 + 4 > 6 shed; C (1, due 4) 3 + 2 > 4 shed; D (4, due 8.5) 3 + 5 = 8 stays; E (1, due 5) 3 + 2 = 5 stays.
    #      D takes the lane: load 4, steps 5, 6. At 6 E's deadline is past: missed.
    # t=6: E 6 + 2 > 5 shed as well. D: load 7, steps 8, 9: late, missed. Misses: E, D.
    # Idle to 20: F (5, due 21) 20 + 7 > 21 shed; no time passes. F is not missed.
    # Energy 3 * (2 + 2) + 0.5 W * 20 s = 22 J. N: A 3 + B 3 + C 2 + D 7 + E 3.5 + F 0 = 18.5.
    table = CostTable(step_s=[[0, 1]], step_j=[[0, 1]], load_s=[1], load_j=[2], static_w=0.5, max_time_steps=4)
    trace = RequestTrace(
        arrival_s=[0, 0, 1, 2, 2.5, 20], length=[2, 3, 1, 4, 1, 5], deadline_s=[10, 6, 4, 8.5, 5, 21]
    )  # A, B, C, D, E, F
    log = run(table, 1, trace, always(RoundPlan(time_steps=2, joins=False, shed=True)))
    check_requests(
        log,
        completion=[3, NAN, NAN, 9, NAN, NAN],
        start=[0, NAN, NAN, 3, NAN, NAN],
        lane=[0, -1, -1, 0, -1, -1],
        shed=[False, True, True, False, True, True],
    )
    check_totals(log, energy=22, integral=18.5, end=20, missed=2)
    assert len(log.rounds) == 3
    check_round(log.rounds[0], start=0, end=3, steps=2, active=[1, 1], passes=[(1, 3)], energy=4)
    check_round(log.rounds[1], start=3, end=6, steps=2, active=[1, 1], passes=[(4, 6)], energy=4)
    check_round(log.rounds[2], start=6, end=9, steps=2, active=[1, 1], passes=[(7, 9)], energy=4)


def test_a_deadline_met_to_the_instant_is_not_missed(run: Callable[..., Any]) -> None:
    # Load 1, two steps: complete at 3 = the deadline; the next, due at 5.5, completes at 3 + 3 = 6.
    table = CostTable(step_s=[[0, 1]], step_j=[[0, 1]], load_s=[1])
    log = run(table, 1, RequestTrace([0, 0], [2, 2], [3, 5.5]), always(RoundPlan(joins=False)))
    check_requests(log, completion=[3, 6], start=[0, 3], lane=[0, 0])
    check_totals(log, energy=4, integral=9, end=6, missed=1)


def test_shedding_with_hidden_lengths_supposes_one_step(run: Callable[..., Any]) -> None:
    # alone(1) = 2: A (5 steps, due 2) stays as 0 + 2 = 2; B (1 step, due 1.5) is shed. A: load 1, steps to 6, missed.
    table = CostTable(step_s=[[0, 1, 1]], step_j=[[0, 1, 1]], load_s=[1])
    log = run(table, 2, RequestTrace([0, 0], [5, 1], [2, 1.5]), always(RoundPlan(shed=True)), lengths_known=False)
    check_requests(log, completion=[6, NAN], start=[0, NAN], lane=[0, -1], shed=[False, True])
    check_totals(log, energy=5, integral=6, end=6, missed=1)


def test_holding(run: Callable[..., Any]) -> None:
    # Step 1 s, 1 J; 2 W; hold time 0.5. A (1 s), B (1.25), C (10), one step each, one lane.
    # t=1: hold to min(1.25, 1.5). t=1.25: hold to min(10, 1.75). t=1.75: A alone (admit 1), to 2.75; B may not join.
    # t=2.75: hold to 3.25. t=3.25: B to 4.25. Idle to 10: hold; no arrival is left: 10.5. C to 11.5.
    # Energy 3 + 23 = 26 J. N: A 1.75 + B 3 + C 1.5 = 6.25.
    table = CostTable(step_s=[[0, 1]], step_j=[[0, 1]], static_w=2)
    hold, one, run_all = RoundPlan(admit=0), RoundPlan(time_steps=3, admit=1), RoundPlan(time_steps=3)
    policy = in_turn(hold, hold, one, hold, run_all, hold, run_all)
    log = run(table, 1, RequestTrace([1, 1.25, 10], [1, 1, 1]), policy, hold_s=0.5)
    check_requests(log, completion=[2.75, 4.25, 11.5], start=[1.75, 3.25, 10.5], lane=[0, 0, 0])
    check_totals(log, energy=26, integral=6.25, end=11.5, holds=4)
    assert len(log.rounds) == 3
    check_round(log.rounds[0], start=1.75, end=2.75, steps=3, active=[1], passes=[(1.75, 2.75)], energy=1)
    check_round(log.rounds[1], start=3.25, end=4.25, steps=3, active=[1], passes=[(3.25, 4.25)], energy=1)
    check_round(log.rounds[2], start=10.5, end=11.5, steps=3, active=[1], passes=[(10.5, 11.5)], energy=1)


def test_busy_lanes_run_on_when_nothing_is_admitted(run: Callable[..., Any]) -> None:
    # A (4 steps) by T = 2; B (0.5 s, 1 step) arrives meanwhile. Decision 1 admits nobody but A's lane is busy: a round
    # of A alone 2-4. Then B 4-5. N: 4 + 4.5.
    table = CostTable(step_s=[[0, 1, 1]], step_j=[[0, 1, 2]])
    two = RoundPlan(time_steps=2, joins=False)
    policy = in_turn(two, RoundPlan(time_steps=2, admit=0), two)
    log = run(table, 2, RequestTrace([0, 0.5], [4, 1]), policy, hold_s=0.5)
    check_requests(log, completion=[4, 5], start=[0, 4], lane=[0, 0])
    check_totals(log, energy=5, integral=8.5, end=5)
    check_round(log.rounds[1], start=2, end=4, steps=2, active=[1, 1], passes=[(2, 4)])


def test_whole_sequences(run: Callable[..., Any]) -> None:
    # Two layers, load 1 s and 2 J each, step 1 s and 1 J a lane. A (3 steps), B (5) run to their ends whatever T is;
    # C (1 s, 2 steps) cannot join A's lane. Load 1; 2,2,2,1,1 lanes to 6; load 7; A at 10, B at 12.
    # 2 * 2 + 2 * 8 = 20 J. C: load 13, to 15, load 16, to 18: 4 + 4 = 8 J. N: 10 + 12 + 17 = 39.
    table = CostTable(
        step_s=[[0, 1, 1]] * 2,
        step_j=[[0, 1, 2]] * 2,
        load_s=[1, 1],
        load_j=[2, 2],
        max_time_steps=8,
        whole_sequences=True,
    )
    policy = always(RoundPlan(time_steps=1))
    log = run(table, 2, RequestTrace([0, 0, 1], [3, 5, 2]), policy)
    check_requests(log, completion=[10, 12, 18], start=[0, 0, 12], lane=[0, 1, 0])
    check_totals(log, energy=28, integral=39, end=18)
    assert len(log.rounds) == 2
    check_round(log.rounds[0], start=0, end=12, steps=5, active=[2, 2, 2, 1, 1], passes=[(1, 6), (7, 12)], energy=20)
    check_round(log.rounds[1], start=12, end=18, steps=2, active=[1, 1], passes=[(13, 15), (16, 18)], energy=8)
    with pytest.raises(ValueError, match="whole sequences"):
        run(table, 2, RequestTrace([0], [9]), policy)


@pytest.mark.parametrize(
    ("order", "known", "lane", "start"),
    [
        # Lengths A 5, B 1, C 4, D 6, three lanes (0, 1, 2).
        # First come: A, B, C; B's lane is free at 1.
        (Order.FIRST_COME, True, [0, 1, 2, 1], [0, 0, 0, 1]),
        # Shortest: B, C, A; B's lane is free at 1.
        (Order.SHORTEST, True, [2, 0, 1, 0], [0, 0, 0, 1]),
        # Similar to A: A, then C and D, both 1 away, C first. B takes C's lane at 4.
        (Order.SIMILAR, True, [0, 1, 1, 2], [0, 4, 0, 0]),
        (Order.SHORTEST, False, [0, 1, 2, 1], [0, 0, 0, 1]),  # with hidden lengths: first come
        (Order.SIMILAR, False, [0, 1, 2, 1], [0, 0, 0, 1]),
    ],
)
def test_orders(run: Callable[..., Any], order: Order, known: bool, lane: list, start: list) -> None:
    table = CostTable(step_s=[[0, 1, 1, 1]], step_j=[[0, 1, 2, 3]])
    trace = RequestTrace([0, 0, 0, 0], [5, 1, 4, 6])
    log = run(table, 3, trace, always(RoundPlan(order=order)), lengths_known=known)
    # T is the longest of the three taken first: D, joining at 1, needs a second round only if T < 7.
    check = np.array(start) + np.array([5, 1, 4, 6])
    check_requests(log, completion=check.tolist(), start=start, lane=lane)
    check_totals(log, energy=16, integral=float(check.sum()), end=float(check.max()))


def test_the_anchor_is_the_oldest_at_each_boundary(run: Callable[..., Any]) -> None:
    # One lane, T = 9. A (1 step) runs alone. At 1 wait B 4 (0.25 s), C 7, D 5, E 6 (all 0.5 s). Anchor B: B, to 5.
    # At 5 wait C 7, D 5, E 6: the anchor is C: C, to 12 in two rounds (9 and 3 steps), then D, then E by age:
    # each boundary's anchor is the oldest, taken first with one lane.
    table = CostTable(step_s=[[0, 1]], step_j=[[0, 1]])
    trace = RequestTrace([0, 0.25, 0.5, 0.5, 0.5], [1, 4, 7, 5, 6])
    log = run(table, 1, trace, always(RoundPlan(time_steps=9, order=Order.SIMILAR)))
    check_requests(log, completion=[1, 5, 12, 17, 23], start=[0, 1, 5, 12, 17], lane=[0] * 5)
    # Two lanes: A and, at 1, lanes 0 and 1 are free: B, then by distance from 4: D (1) before E (2) before C (3).
    # D's lane falls free at 6, B's at 5: at 5 the anchor is C (7): C to 12; at 6: E alone, to 12.
    table = CostTable(step_s=[[0, 1, 1]], step_j=[[0, 1, 2]])
    log = run(table, 2, trace, always(RoundPlan(time_steps=9, order=Order.SIMILAR)))
    # B and D arrive in A's first step, so lane 1 was free at no boundary before 1.
    check_requests(log, completion=[1, 5, 12, 6, 12], start=[0, 1, 5, 1, 6], lane=[0, 0, 0, 1, 1])
    check_totals(log, energy=23, integral=1 + 4.75 + 11.5 + 5.5 + 11.5, end=12)
