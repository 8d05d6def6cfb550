"""The simulator against the slow reference, field by field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebatch_env import CostTable, Order, RequestTrace, RoundPlan, Simulator
from tests.reference import ReferenceLog, simulate
from tests.strategies import MAX_LENGTH, CycledPlans, Episode, cost_tables, episodes, float_episode


class Watched:
    """A policy that keeps a copy of what it was shown."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.seen: list[dict[str, Any]] = []

    def __call__(self, view: Any) -> RoundPlan:
        names = ("decision", "clock_s", "waiting", "lane_request", "lane_left")
        self.seen.append({name: np.array(getattr(view, name)).tolist() for name in names})
        return self.policy(view)


def both(episode: Episode, max_decisions: int | None = None) -> tuple[Any, ReferenceLog]:
    options = {**episode.options, "max_decisions": max_decisions}
    log = Simulator(*episode.system, **options).run(episode.policy)
    return log, simulate(*episode.system, episode.policy, **options)


def compare(log: Any, reference: ReferenceLog, rtol: float) -> None:
    """Equal up to ``rtol`` in what is measured, exactly in what is counted."""

    def close(name: str, found: Any, expected: Any) -> None:
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=0, equal_nan=True, err_msg=name)

    def same(name: str, found: Any, expected: Any) -> None:
        np.testing.assert_array_equal(found, expected, err_msg=name)

    for name in ("lane", "shed"):
        same(name, getattr(log, name), getattr(reference, name))
    for name in ("start_s", "completion_s", "end_s", "latency_integral_s", "energy_j"):
        close(name, getattr(log, name), getattr(reference, name))
    for name in ("missed", "holds", "decisions", "lane_steps", "useful_lane_steps", "truncated"):
        assert getattr(log, name) == getattr(reference, name), name
    assert set(log.energy_parts) == set(reference.energy_parts)
    for part, joules in reference.energy_parts.items():
        close(part, log.energy_parts[part], joules)
    assert len(log.rounds) == len(reference.rounds)
    for i, (found, expected) in enumerate(zip(log.rounds, reference.rounds, strict=True)):
        assert found.plan == expected.plan, f"round {i}"
        assert found.time_steps == expected.time_steps, f"round {i}"
        assert found.joined == len(expected.joined), f"round {i}"
        assert found.join_boundaries == expected.join_boundaries, f"round {i}"
        assert found.shed == len(expected.shed), f"round {i}"
        same(f"active, round {i}", found.active, expected.active)
        for name in ("start_s", "end_s", "energy_j", "pass_start_s", "pass_end_s", "pass_energy_j"):
            close(f"{name}, round {i}", getattr(found, name), getattr(expected, name))


@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(episodes())
def test_random_episodes_agree_exactly(episode: Episode) -> None:
    compare(*both(episode), rtol=0)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(episodes())
def test_policies_are_shown_the_same_system(episode: Episode) -> None:
    shown = Watched(episode.policy), Watched(episode.policy)
    Simulator(*episode.system, **episode.options).run(shown[0])
    simulate(*episode.system, shown[1], **episode.options)
    assert shown[0].seen == shown[1].seen


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(episodes(lowest_step=0))
def test_random_episodes_with_steps_that_take_no_time(episode: Episode) -> None:
    compare(*both(episode), rtol=0)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(episodes())
def test_truncated_episodes_agree_exactly(episode: Episode) -> None:
    compare(*both(episode, max_decisions=2), rtol=0)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cost_tables(), st.integers(1, MAX_LENGTH))
def test_alone_is_what_a_request_takes_on_an_idle_machine(table: CostTable, length: int) -> None:
    trace = RequestTrace([1000], [length])  # by then the first weights are ready
    for log in (
        simulate(table, table.lanes, trace, lambda view: RoundPlan()),
        Simulator(table, table.lanes, trace).run(lambda view: RoundPlan()),
    ):
        assert log.completion_s[0] - 1000 == table.alone_s(length)


PLANS = {
    "free joins": [RoundPlan(time_steps=16)],
    "to the end": [RoundPlan(), RoundPlan(joins=False, shed=True)],
    "mixed": [
        RoundPlan(time_steps=8, admit=5, order=Order.SHORTEST),
        RoundPlan(admit=0),
        RoundPlan(time_steps=24, order=Order.SIMILAR, shed=True),
        RoundPlan(time_steps=3, joins=False, order=Order.SIMILAR),
        RoundPlan(time_steps=1, admit=3),
    ],
}


@pytest.mark.parametrize("lanes", [1, 16, 63, 64, 65, 70])
@pytest.mark.parametrize("plans", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("seed", range(4))
def test_large_episodes_of_arbitrary_floats(seed: int, plans: list[RoundPlan], lanes: int) -> None:
    episode = float_episode(seed=1000 * seed + lanes, requests=250, lanes=lanes, plan_list=plans)
    compare(*both(episode), rtol=1e-12)


@pytest.mark.parametrize(("prefetch", "notifies"), [(False, True), (True, True), (True, False)])
def test_sequences_longer_than_the_machine_can_hold(prefetch: bool, notifies: bool) -> None:
    rng = np.random.default_rng(7)
    table = CostTable(
        step_s=[[0, 0.3, 0.31, 0.37], [0, 0.2, 0.23, 0.29]],
        step_j=[[0, 1.1, 1.2, 1.3], [0, 0.7, 0.8, 0.9]],
        load_s=[700.1, 500.3],
        load_j=[3.3, 4.4],
        prefetch=prefetch,
        notifies=notifies,
        max_time_steps=4096,
    )
    arrival = np.cumsum(rng.exponential(300.0, 30))
    trace = RequestTrace(arrival, rng.integers(1, 9000, 30), arrival + rng.uniform(100, 40_000, 30))
    policy = CycledPlans((RoundPlan(shed=True), RoundPlan(time_steps=5000, order=Order.SIMILAR), RoundPlan(admit=0)))
    compare(*both(Episode(table, 3, trace, policy, 50.0, True)), rtol=1e-12)
