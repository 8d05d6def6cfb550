"""The batch queue's exact solver against closed forms, published values, and the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ebatch_baselines.batch_queue import OptimalQueue, not_a_batch_queue
from ebatch_baselines.optimum import (
    batch_queue_optimum,
    batch_queue_value,
    best_cap_rule,
    greedy_rule,
    tail_limit,
)
from ebatch_baselines.queue_section import QUEUES, queue_system, rules, simulate
from ebatch_env.machines.handmade import CURVES

# Mean time in system, B = 32: optimum, greedy up to 32, greedy with its best cap, best (cap, wait-for) and its values.
EXACT = {
    "affine": (4.95307, 4.95359, 4.95359, 4.95307, 23, 2),
    "knee": (1.93459, 2.17941, 1.94993, 1.93459, 8, 7),
    "stairs": (1.93459, 5.48820, 1.94993, 1.93459, 8, 7),
    "doubling": (3.90604, 5.78497, 4.14830, 4.14405, 16, 8),
}


def queue(curve: str, load: float) -> tuple[np.ndarray, float]:
    tau = np.append(0.0, CURVES[curve](np.arange(1, 33)))
    return tau, load * float((np.arange(1, 33) / tau[1:]).max())


@pytest.mark.parametrize(("curve", "load"), QUEUES)
def test_exact_values(curve: str, load: float) -> None:
    tau, rate = queue(curve, load)
    optimum, greedy, capped, *_ = EXACT[curve]
    solution = batch_queue_optimum(tau, rate)
    assert solution.mean_s == pytest.approx(optimum, rel=1e-5)
    assert solution.lower_s <= solution.mean_s * (1 + 1e-9)
    assert solution.mean_s <= solution.upper_s * (1 + 1e-9)
    assert batch_queue_value(tau, rate, greedy_rule(32, 1, tail_limit(tau, rate, 32))) == pytest.approx(
        greedy, rel=1e-5
    )
    assert best_cap_rule(tau, rate, wait=False)[0] == pytest.approx(capped, rel=1e-5)


@pytest.mark.parametrize("curve", ["knee", "doubling"])
def test_best_cap_and_wait(curve: str) -> None:
    value, cap, wait_for = best_cap_rule(*queue(curve, dict(QUEUES)[curve]))
    assert (round(value, 5), cap, wait_for) == EXACT[curve][3:]


def test_single_server_is_m_d_1() -> None:
    for load in (0.2, 0.9):
        value = batch_queue_value(
            [0.0, 2.0], load / 2.0, greedy_rule(1, 1, tail_limit(np.array([0.0, 2.0]), load / 2.0, 1))
        )
        assert value == pytest.approx(2.0 + load * 2.0 / (2 * (1 - load)), rel=1e-9)


def test_cutting_off_the_queue_does_not_matter() -> None:
    tau, rate = queue("stairs", 0.9)
    limit = tail_limit(tau, rate, 8)
    once = batch_queue_value(tau, rate, greedy_rule(8, 7, limit))
    assert batch_queue_value(tau, rate, greedy_rule(8, 7, 2 * limit)) == pytest.approx(once, rel=1e-10)


def test_restricted_sizes_cost_more() -> None:
    tau, rate = queue("affine", 0.7)
    free, bound = batch_queue_optimum(tau, rate), batch_queue_optimum(tau, rate, sizes=[4, 32])
    assert set(np.unique(bound.policy)) <= {0, 4, 32}
    assert bound.mean_s > free.mean_s


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_queue_optimum([0.0, 1.0], 1.0), "arrival_rate must be below 1, what the server can do, got 1.0"),
        (lambda: batch_queue_optimum([0.0, 1.0], 0.99999), "such that queues stay below"),
        (lambda: batch_queue_optimum([0.0, 0.0], 0.5), "tau must be service times > 0"),
        (lambda: batch_queue_optimum([0.0, 1.0], -0.5), "arrival_rate must be a finite number"),
        (lambda: batch_queue_optimum([0.0, 1.0], 0.5, sizes=[2]), "sizes must be batch sizes in 1..1"),
        (lambda: batch_queue_optimum([0.0, 1.0], 0.5, queue_limit=0), "queue_limit must be an integer >= 1"),
        (lambda: batch_queue_value([0.0, 1.0], 0.5, [0, 2]), "policy must be batches 0..min"),
        (lambda: batch_queue_value([0.0, 1.0], 0.5, [0, 0]), r"policy\[-1\] must be at least 1"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_queue_scenario_is_a_batch_queue(scenario_system: Any) -> None:
    policy = OptimalQueue(scenario_system("ebatch/Queue-v0", 16))
    assert policy.solution.mean_s == pytest.approx(EXACT["doubling"][0], rel=1e-5)
    assert not_a_batch_queue(policy.system) == ""


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"network": "IMDB", "accelerator": "epur"}, "its sequences have up to 9 time-steps, not 1"),
        ({"workload": {"lengths": {"kind": "fixed", "length": 1}, "arrivals": "all-at-once"}}, "not Poisson"),
        ({"load": (0.5, 0.6)}, "its load is drawn"),
        ({"objective": {"latency": 0.0}}, "its cost has no latency"),
        ({}, "energy is part of its cost"),
        ({}, "deadlines are part of its cost"),
        ({"controls": ["joins"]}, "its actions do not choose the admission"),
    ],
)
def test_only_batch_queues(toy: Any, keywords: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"policy 'optimal-queue' must act on a batch queue, but .*{reason}"):
        OptimalQueue(toy(**keywords))


@pytest.mark.slow
@pytest.mark.parametrize(("curve", "load"), QUEUES)
def test_simulation_agrees(curve: str, load: float) -> None:
    """Two million requests per rule; the standard error is 0.1-0.4 %."""
    for rule, exact_s, policy in rules(queue_system(curve, load), wait=False):
        assert simulate(policy, episodes=32, seed=0).mean() == pytest.approx(exact_s, rel=0.005), rule


def test_optimal_beats_greedy_on_the_same_traces() -> None:
    optimum, greedy = rules(queue_system("doubling", 0.7, requests=2000), wait=False)[:2]
    best = simulate(optimum[2], episodes=8, seed=1)
    assert (best < 0.9 * simulate(greedy[2], episodes=8, seed=1)).all()
    assert (simulate(optimum[2], episodes=8, seed=1) == best).all()
