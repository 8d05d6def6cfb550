"""Exact and simulated mean times in system on the batch queues: ``python -m ebatch_baselines.queue_table``.

The simulation is the environment's own: `OptimalQueue`, `Greedy` and `Cap` play `ebatch/Queue-v0` with each service
curve. Episodes are long because they begin with an empty queue, which makes short ones look better than the stationary
value.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from ebatch_baselines.base import Baseline
from ebatch_baselines.batch_queue import Cap, Greedy, OptimalQueue
from ebatch_baselines.optimum import batch_queue_value, best_cap_rule, greedy_rule, tail_limit
from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.system import System
from ebatch_env.scenarios import scenario

# Service curve and load relative to the best rate b / tau(b).
QUEUES = (("affine", 0.7), ("knee", 0.9), ("stairs", 0.9), ("doubling", 0.7))


class Row(NamedTuple):
    """One queue under one rule; times in system in seconds."""

    curve: str
    load: float
    rule: str
    exact_s: float
    simulated_s: float
    error: float  # standard error of simulated_s over the episodes


def queue_system(curve: str, load: float, requests: int = 65536) -> System:
    """`ebatch/Queue-v0` with another service curve, load and episode length."""
    keywords = dict(scenario("ebatch/Queue-v0").keywords)
    keywords["accelerator"] = {"name": "batch-server", "curve": curve}
    return System.build(**{**keywords, "load": load, "requests": requests})


def simulate(policy: Baseline, episodes: int, seed: int) -> tuple[float, float]:
    """Mean time in system (s) of ``policy`` over ``episodes`` with seeds ``seed + i``, and its standard error."""
    dynamics = Dynamics(policy.system, episodes, threads=1)
    dynamics.restart(np.arange(episodes), [np.random.default_rng(seed + e) for e in range(episodes)])
    over = np.zeros(episodes, np.bool_)
    state = None
    while not over.all():
        actions, state = policy.predict(dynamics.observation, state)
        dynamics.step(actions, over.view(np.uint8))
        over = over | dynamics.terminated | dynamics.truncated
    means = np.array([dynamics.metrics(e).latency_mean_s for e in range(episodes)])
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(episodes)) if episodes > 1 else float("nan")


def rules(system: System, *, wait: bool = True) -> list[tuple[str, float, Baseline]]:
    """The rules with their exact mean times: optimum, greedy, greedy with its best cap, best (cap, wait-for).

    The search for the last takes seconds; it is left out without ``wait``.
    """
    optimal = OptimalQueue(system)
    tau = system.table.round_s(1, np.arange(system.lanes + 1))
    rate = system.load[0] * system.saturation.throughput_rps
    everybody = greedy_rule(system.lanes, 1, tail_limit(tau, rate, system.lanes))
    cap_s, cap, _ = best_cap_rule(tau, rate, wait=False)
    found: list[tuple[str, float, Baseline]] = [
        ("optimum", optimal.solution.mean_s, optimal),
        ("greedy", batch_queue_value(tau, rate, everybody), Greedy(system)),
        (f"cap {cap}", cap_s, Cap(system, cap=cap)),
    ]
    if wait:
        wait_s, cap, wait_for = best_cap_rule(tau, rate)
        found.append((f"cap {cap}, wait for {wait_for}", wait_s, Cap(system, cap=cap, wait_for=wait_for)))
    return found


def queue_rows(episodes: int = 32, requests: int = 65536, seed: int = 0) -> list[Row]:
    """Every rule on every queue of `QUEUES`."""
    rows = []
    for curve, load in QUEUES:
        for rule, exact_s, policy in rules(queue_system(curve, load, requests)):
            rows.append(Row(curve, load, rule, exact_s, *simulate(policy, episodes, seed)))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Exact and simulated mean times in system on the batch queues.")
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--requests", type=int, default=65536, help="per episode")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| service | load | rule | exact (s) | simulated (s) | standard error | difference |")
    print("|---|---|---|---|---|---|---|")
    for row in queue_rows(given.episodes, given.requests, given.seed):
        off = row.simulated_s / row.exact_s - 1.0
        shown = f"{row.exact_s:.5f} | {row.simulated_s:.4f} | {row.error / row.exact_s:.2%} | {off:+.2%}"
        print(f"| {row.curve} | {row.load:g} | {row.rule} | {shown} |")


if __name__ == "__main__":
    main()
