"""The bound is below every policy's cost, and exact where it can be worked out by hand."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils import seeding
from hypothesis import given, settings
from hypothesis import strategies as st

import ebatch_env.bounds
from ebatch_env.bounds import Freedom, episode_bounds, least_work, lower_bound, system_bound
from ebatch_env.costs import CostTable
from ebatch_env.environment.system import System
from ebatch_env.scenarios import SCENARIOS
from ebatch_env.scoring.jobs import PolicySpec, build_system, system_keywords
from ebatch_env.scoring.policy import policy_names
from ebatch_env.scoring.runner import play
from ebatch_env.simulator import Simulator
from ebatch_env.simulator.plan import RoundPlan
from ebatch_env.trace import RequestTrace
from tests.strategies import CycledPlans, Episode, episodes, float_episode

prices = st.lists(st.sampled_from([0.0, 0.25, 1.0, 4.0, 50.0]), min_size=4, max_size=4)


def cost_of(episode: Episode, price: list[float]) -> float:
    log = Simulator(*episode.system, **episode.options).run(episode.policy)
    units = (log.energy_j, log.latency_integral_s, log.missed, int(log.shed.sum()))
    return float(np.dot(price, units)) / episode.trace.requests


@settings(max_examples=100, deadline=None)
@given(episode=episodes(lowest_step=0), price=prices)
def test_no_plan_beats_the_bound(episode: Episode, price: list[float]) -> None:
    freedom = Freedom(lengths_known=episode.lengths_known)
    bound = lower_bound(*episode.system, price, freedom, ascents=8)
    cost = cost_of(episode, price)
    assert 0.0 <= bound <= cost * (1 + 1e-12) + 1e-12


@settings(max_examples=40, deadline=None)
@given(episode=episodes(), price=prices)
def test_what_a_policy_does_not_do_may_be_ruled_out(episode: Episode, price: list[float]) -> None:
    """Without joins, with the largest T that is planned, and with shedding only if some plan does."""
    plans = [RoundPlan(p.time_steps, p.admit, False, p.order, p.shed) for p in episode.policy.plans]
    longest = max(int(episode.trace.length.max()) if p.time_steps is None else p.time_steps for p in plans)
    quiet = Episode(episode.cost_table, episode.lanes, episode.trace, CycledPlans(tuple(plans)), episode.hold_s, True)
    freedom = Freedom(most_steps=longest, joins=False, sheds=any(p.shed for p in plans))
    bound = lower_bound(*quiet.system, price, freedom, ascents=8)
    assert bound <= cost_of(quiet, price) * (1 + 1e-12) + 1e-12
    assert bound >= lower_bound(*quiet.system, price, ascents=0) * (1 - 1e-9) - 1e-12


@pytest.mark.parametrize("seed", range(12))
def test_no_plan_beats_the_bound_near_capacity(seed: int) -> None:
    plan = RoundPlan(time_steps=(4, 16, None)[seed % 3], shed=seed % 2 == 0)
    episode = float_episode(seed, 300, (1, 4, 16)[seed % 3], [plan])
    price = [0.1, 0.01, 2.0, 1.5]
    bound = lower_bound(*episode.system, price, ascents=20)
    cost = cost_of(episode, price)
    assert 0.0 < bound <= cost


@pytest.mark.parametrize("env_id", SCENARIOS)
def test_no_baseline_beats_the_bound_in_any_episode(env_id: str) -> None:
    keywords = {**system_keywords(env_id), "requests": 20}
    system = build_system(keywords)
    seeds = [5]
    bounds = np.array(episode_bounds(system, seeds))
    assert (bounds > 0).all()
    for name in policy_names():
        try:
            policy = PolicySpec(name, name).make(system, env_id)
        except ValueError:
            continue
        costs = np.array([metrics.cost for metrics in play(system, policy, seeds)])
        assert (bounds <= costs).all(), name


def test_the_trace_is_the_one_that_is_played() -> None:
    """With one request there is nothing to decide but T: the bound is the cost."""
    system = build_system({**system_keywords("ebatch/Toy-v0"), "requests": 1, "load": 0.001})
    policy = PolicySpec("greedy", "greedy").make(system, "none")
    costs = [metrics.cost for metrics in play(system, policy, [1, 2, 3, 4])]
    lengths = [system.sample_trace(seeding.np_random(seed)[0]).length[0] for seed in (1, 2, 3, 4)]
    assert len(set(lengths)) > 1
    bounds = np.array(episode_bounds(system, [1, 2, 3, 4]))
    assert (bounds < costs).all()
    # What is missing is the first load, as if it could be joined, and energy, as if lanes and steps were all in use.
    per_j, per_s = system.cost_per_unit()[:2]
    table = system.table
    share_j = (table.load_j.sum() / 16 + table.step_j[0, 1:]) / [1, 2]
    gaps = [per_s * 2.0 + per_j * (table.load_j.sum() + n * table.step_j[0, 1] - n * share_j.min()) for n in lengths]
    assert np.subtract(costs, bounds) == pytest.approx(gaps)


def toy(**changes: Any) -> CostTable:
    given: dict[str, Any] = {"step_s": [[0, 1, 1]], "step_j": [[0, 1.5, 2.0]], "load_s": [2], "load_j": [5]}
    return CostTable(**{**given, **changes})


def test_hand_worked_requests_alone() -> None:
    trace = RequestTrace([0.0, 100.0], [3, 5])
    alone = Freedom(most_steps=4, joins=False)
    assert least_work(toy(), 2, trace.length, alone).alone_s.tolist() == [5.0, 9.0]  # a load per round of four
    assert lower_bound(toy(), 2, trace, [0, 1, 0, 0], alone) == pytest.approx(7.0)
    # Joiners do not wait for the load of the round they join.
    assert least_work(toy(), 2, trace.length, Freedom(most_steps=4)).alone_s.tolist() == [3.0, 7.0]
    two = toy(step_s=[[0, 1, 1]] * 2, step_j=[[0, 1.5, 2.0]] * 2, load_s=[2] * 2, load_j=[5] * 2)
    assert least_work(two, 2, [3], Freedom(most_steps=4)).alone_s.tolist() == [8.0]
    # A load of 5 J on four steps of two lanes, and 2 J a step of two lanes.
    assert least_work(toy(), 2, [3], alone).energy_j.tolist() == [3 * (5 / 4 + 2) / 2]
    assert lower_bound(toy(static_w=0.5), 2, trace, [1, 0, 0, 0], alone) == pytest.approx(
        (8 * (5 / 4 + 2) / 2 + 0.5 * 109.0) / 2
    )


def test_hand_worked_deadlines() -> None:
    """Alone it takes 5 s. A deadline after 4 s is missed, or the request dropped at once; after 8 s it is met."""
    quiet = Freedom(joins=False)

    def bound(patience: float, price: list[float], freedom: Freedom = quiet) -> float:
        return lower_bound(toy(), 2, RequestTrace([1.0], [3], [1.0 + patience]), price, freedom)

    assert bound(8.0, [0, 1, 7, 9]) == pytest.approx(5.0)
    assert bound(8.0, [0, 1, 7, 1]) == pytest.approx(4.0)  # dropped, see below
    assert bound(4.0, [0, 1, 7, 9]) == pytest.approx(9.0)
    assert bound(4.0, [0, 1, 7, 90]) == pytest.approx(12.0)
    assert bound(4.0, [0, 1, 7, 9], Freedom(joins=False, sheds=False)) == pytest.approx(12.0)
    # It cannot be dropped before there are only 5 s left, 3 s after it came.
    assert bound(8.0, [9, 0.1, 7, 1]) == pytest.approx(1.3)
    # With hidden lengths it is taken for one step, so there have to be less than 3 s left.
    assert bound(8.0, [9, 0.1, 7, 1], Freedom(joins=False, lengths_known=False)) == pytest.approx(1.5)


def test_overload_costs() -> None:
    """Forty requests at once on one lane, each 10 s: the k-th ends after 10 k s, and half can be on time."""
    table = CostTable(step_s=[[0, 1]], step_j=[[0, 0]])
    together = RequestTrace(np.zeros(40), np.full(40, 10))
    exact = 10 * np.arange(1, 41).mean()
    assert 0.97 * exact < lower_bound(table, 1, together, [0, 1, 0, 0]) <= exact
    assert lower_bound(table, 1, together, [0, 1, 0, 0], ascents=0) == pytest.approx(10.0)
    # Serve twenty; the others can be dropped after 190 s.
    due = RequestTrace(np.zeros(40), np.full(40, 10), np.full(40, 200.0))
    best = (0.01 * 10 * np.arange(1, 21).sum() + 20 * (1 + 0.01 * 190)) / 40
    assert 0.75 * best < lower_bound(table, 1, due, [0, 0.01, 1, 1]) <= best


def test_bad_input_is_named() -> None:
    trace = RequestTrace([0.0], [1])
    with pytest.raises(ValueError, match="lanes must be an integer in"):
        lower_bound(toy(), 3, trace, [1, 1, 1, 1])
    with pytest.raises(ValueError, match="ascents must be an integer"):
        lower_bound(toy(), 2, trace, [1, 1, 1, 1], ascents=-1)


def test_freedom_of_a_system() -> None:
    queue = System.build(**system_keywords("ebatch/Queue-v0"))
    assert Freedom.of(queue) == Freedom(most_steps=1, joins=False, sheds=False)
    live = System.build(**{**system_keywords("ebatch/EPUR-Translation-v0"), "lengths_known": False})
    assert Freedom.of(live) == Freedom(78, lengths_known=False)
    trace = live.sample_trace(np.random.default_rng(0))
    assert system_bound(live, trace) > 0


def test_examples_run() -> None:
    assert doctest.testmod(ebatch_env.bounds).failed == 0
    page = doctest.testfile(str(Path(__file__).parents[1] / "docs" / "bounds.md"), module_relative=False)
    assert page.attempted > 0
    assert page.failed == 0
