"""What no episode may break, whatever the machine, the work and the plans."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ebatch_env import Order, RoundPlan, Simulator
from tests.reference import simulate
from tests.strategies import Episode, episodes, float_episode

some_examples = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def on_simulator(*args: Any, **options: Any) -> Any:
    *system, policy = args
    return Simulator(*system, **options).run(policy)


both = pytest.mark.parametrize("run", [simulate, on_simulator], ids=["reference", "simulator"])
Run = Callable[..., Any]


class Watched:
    """A policy that keeps what it was shown, and the plans it gave."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.clock: list[float] = []
        self.waiting: list[list[int]] = []
        self.lane_request: list[list[int]] = []
        self.lane_left: list[list[int]] = []

    def __call__(self, view: Any) -> RoundPlan:
        self.clock.append(view.clock_s)
        self.waiting.append(view.waiting.tolist())
        self.lane_request.append(view.lane_request.tolist())
        self.lane_left.append(view.lane_left.tolist())
        return self.policy(view)


def play(run: Run, episode: Episode) -> tuple[Any, Watched]:
    watched = Watched(episode.policy)
    return run(*episode.system, watched, **episode.options), watched


@both
@some_examples
@given(episode=episodes())
def test_nothing_is_lost(run: Run, episode: Episode) -> None:
    log, _ = play(run, episode)
    served = ~np.isnan(log.completion_s)
    shed = np.array(log.shed)
    ran = np.array(log.lane) >= 0
    assert not log.truncated
    assert served.sum() + shed.sum() == episode.trace.requests
    assert not (served & shed).any()
    np.testing.assert_array_equal(served, ran)
    np.testing.assert_array_equal(ran, ~np.isnan(log.start_s))
    assert np.max(log.lane) < episode.lanes


@both
@some_examples
@given(episode=episodes())
def test_the_integral_of_n_is_the_sum_of_all_latencies(run: Run, episode: Episode) -> None:
    log, watched = play(run, episode)
    # A shed request is last seen waiting at the decision that dropped it.
    gone = np.array(log.completion_s)
    for clock, waiting in zip(watched.clock, watched.waiting, strict=True):
        for request in waiting:
            if log.shed[request]:
                gone[request] = clock
    assert log.latency_integral_s == (gone - episode.trace.arrival_s).sum()


@both
@some_examples
@given(episode=episodes())
def test_energy_adds_up(run: Run, episode: Episode) -> None:
    log, _ = play(run, episode)
    table = episode.cost_table
    assert sum(log.energy_parts.values()) == log.energy_j
    assert log.energy_parts["static"] == table.static_w * log.end_s
    assert sum(record.energy_j for record in log.rounds) + log.energy_parts["static"] == log.energy_j
    for record in log.rounds:
        assert sum(record.pass_energy_j) == record.energy_j
        for layer in range(table.n_layers):
            steps = table.load_j[layer] + table.input_j[layer] + table.step_j[layer, list(record.active)].sum()
            joins = record.join_boundaries * table.input_j[0] if layer == 0 else 0.0
            assert record.pass_energy_j[layer] == steps + joins


@both
@some_examples
@given(episode=episodes())
def test_time_never_runs_back(run: Run, episode: Episode) -> None:
    log, watched = play(run, episode)
    table = episode.cost_table
    assert all(a < b for a, b in itertools.pairwise(watched.clock))
    now = 0.0
    for record in log.rounds:
        assert record.start_s >= now
        now = record.start_s
        for start, end in zip(record.pass_start_s, record.pass_end_s, strict=True):
            assert now <= start < end
            now = end
        assert record.end_s == now
        if not table.prefetch:
            starts = [record.start_s, *list(record.pass_end_s)[:-1]]
            np.testing.assert_array_equal(np.array(starts) + table.load_s, record.pass_start_s)
    assert log.end_s >= now
    served = ~np.isnan(log.completion_s)
    start, completion = np.array(log.start_s)[served], np.array(log.completion_s)[served]
    assert (start >= episode.trace.arrival_s[served]).all()
    least = table.step_s[:, 1:].min(1).sum()
    assert (completion >= start + least).all()
    assert (completion <= log.end_s).all()


@both
@some_examples
@given(episode=episodes())
def test_no_lane_runs_two_sequences_at_once(run: Run, episode: Episode) -> None:
    """Every lane-step is accounted for: by lane, by round and by request."""
    log, watched = play(run, episode)
    length = episode.trace.length.tolist()
    rounds = {record.start_s: record for record in log.rounds}
    steps_of = [0] * len(length)
    useful = 0
    shown = [*zip(watched.clock, watched.lane_request, watched.lane_left, strict=True)]
    shown.append((log.end_s, [-1] * episode.lanes, [0] * episode.lanes))
    for clock, request, left in shown:
        held = [r for r in request if r >= 0]
        assert len(held) == len(set(held))
        assert all((r < 0) == (x == 0) for r, x in zip(request, left, strict=True))
        assert all(log.lane[r] == lane and log.start_s[r] < clock for lane, r in enumerate(request) if r >= 0)
    for (clock, request, left), (_, request_after, left_after) in itertools.pairwise(shown):
        if clock not in rounds:  # held, or everything was shed
            assert set(request) == set(request_after) == {-1}
            continue
        record = rounds[clock]
        steps_in_round = 0
        for lane in range(episode.lanes):
            entered = [r for r in range(len(length)) if log.lane[r] == lane and clock <= log.start_s[r] < record.end_s]
            before = sum(length[r] for r in entered) + left[lane]
            steps = before - left_after[lane]
            assert 0 <= steps <= len(record.active)
            steps_in_round += steps
            for r in {*entered, request[lane]} - {-1}:
                first = left[lane] if r == request[lane] else length[r]
                steps_of[r] += first - (left_after[lane] if r == request_after[lane] else 0)
        useful += steps_in_round
        paid = sum(record.active)
        assert steps_in_round == paid if episode.cost_table.notifies else steps_in_round <= paid
        assert 1 <= len(record.active) <= record.time_steps <= episode.cost_table.max_time_steps
        assert all(1 <= a <= episode.lanes for a in record.active)
    served = [i for i in range(len(length)) if log.lane[i] >= 0]
    assert steps_of == [n if i in served else 0 for i, n in enumerate(length)]
    assert useful == log.useful_lane_steps == sum(length[i] for i in served)
    assert log.lane_steps == sum(sum(record.active) for record in log.rounds)


@both
@some_examples
@given(episode=episodes())
def test_one_layer_lane_is_free_before_the_next_sequence_enters(run: Run, episode: Episode) -> None:
    if episode.cost_table.n_layers > 1:  # deeper networks complete a sequence long after it left layer 0
        return
    log, _ = play(run, episode)
    for lane in range(episode.lanes):
        mine = sorted((log.start_s[i], log.completion_s[i]) for i in np.flatnonzero(np.array(log.lane) == lane))
        if episode.cost_table.notifies:
            assert all(done <= start for (_, done), (start, _) in itertools.pairwise(mine))


@both
@some_examples
@given(episode=episodes())
def test_misses_are_the_deadlines_that_passed(run: Run, episode: Episode) -> None:
    log, watched = play(run, episode)
    late = np.array(log.completion_s) > episode.trace.deadline_s
    for clock, waiting in zip(watched.clock, watched.waiting, strict=True):
        for request in waiting:  # late if it was still waiting when its deadline passed, shed afterwards or not
            late[request] |= clock >= episode.trace.deadline_s[request]
    assert log.missed == late.sum()


@both
@pytest.mark.parametrize("lanes", [16, 70])
@pytest.mark.parametrize("seed", range(3))
def test_large_episodes_of_arbitrary_floats(run: Run, seed: int, lanes: int) -> None:
    plans = [RoundPlan(time_steps=12, order=Order.SHORTEST), RoundPlan(shed=True), RoundPlan(time_steps=4, admit=6)]
    episode = float_episode(seed, requests=400, lanes=lanes, plan_list=plans)
    log, watched = play(run, episode)
    gone = np.array(log.completion_s)
    for clock, waiting in zip(watched.clock, watched.waiting, strict=True):
        for request in waiting:
            if log.shed[request]:
                gone[request] = clock
    latency = math.fsum(gone - episode.trace.arrival_s)
    np.testing.assert_allclose(log.latency_integral_s, latency, rtol=1e-12)
    np.testing.assert_allclose(sum(log.energy_parts.values()), log.energy_j, rtol=1e-12)
    assert np.isnan(log.completion_s).sum() == np.sum(log.shed)
